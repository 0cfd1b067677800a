//! One side of a TLS connection, fed with whatever the input wants: bytes of nobody, bytes of a real peer, and such
//! bytes changed, left out and repeated, in any pieces.
//!
//! Nothing panics, what has failed stays so, the answers are few, and what comes out is what the peer has put in.
//!
//! The first byte says which side it is, which version is spoken and how far the handshake has come. Each further
//! step is a byte that says what to do and one that says to how many bytes.

#![no_main]

#[path = "../../ringline-tls/tests/interop/certificates.rs"]
#[allow(dead_code)]
mod certificates;
#[path = "../sides.rs"]
mod sides;

use libfuzzer_sys::{Corpus, fuzz_target};
use ringline_core::layer::Layer;
use ringline_tls::TlsFault;

/// The most that a side answers to one input, of which a certificate is the largest part by far.
const ANSWERS_MAX: usize = 32 * 1024;
const INPUT_MAX: usize = 4096;
const PLAIN: &[u8] = b"what the peer has to say, and no more than that";

/// Takes bytes and steps from the input.
struct Tape<'a>(&'a [u8]);

impl<'a> Tape<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The side under test and the real one, with what is on its way from that.
struct Pair {
    tested: Box<dyn Layer>,
    real: Box<dyn Layer>,
    there: Vec<u8>,
    plain: Vec<u8>,
    answers: usize,
    has_failed: bool,
}

impl Pair {
    fn feed(&mut self, bytes: &[u8]) {
        let (mut incoming, mut answer) = (bytes.to_vec(), Vec::new());
        let read = self.tested.read(&mut incoming, &mut self.plain, &mut answer);
        match read {
            Ok(through) => {
                assert!(!self.has_failed, "what has failed stays so");
                assert_eq!(through, bytes.len(), "all of it is taken");
            }
            Err(error) => {
                assert!(TlsFault::from_layer(error).is_some(), "{error:?} has a meaning");
                self.has_failed = true;
            }
        }
        self.answers += answer.len();
        assert!(self.answers < ANSWERS_MAX, "{} bytes of answers", self.answers);
        assert!(PLAIN.repeat(300).starts_with(&self.plain), "only what the real peer has said");
        // The real side goes on as long as it understands.
        let (mut said, mut more) = (Vec::new(), Vec::new());
        if self.real.read(&mut answer, &mut said, &mut more).is_ok() {
            self.there.append(&mut more);
        }
    }

    fn speak(&mut self) {
        if !self.real.is_handshaking() {
            let at = self.there.len();
            self.there.resize(at + self.real.wire_len(PLAIN.len()), 0);
            let len = self.real.write(PLAIN, &mut self.there[at..]).unwrap_or(0);
            self.there.truncate(at + len);
        }
    }
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let mut tape = Tape(&input[..input.len().min(INPUT_MAX)]);
    let Some(kind) = tape.byte() else { return Corpus::Reject };
    let sides = sides::sides(kind & 1 == 0);
    let (mut client, mut server, mut there) = sides.begin();
    if kind & 2 == 0 {
        sides::shake_hands(&mut *client, &mut *server, &mut there);
    }
    let mut pair = if kind & 4 == 0 {
        Pair { tested: server, real: client, there, plain: Vec::new(), answers: 0, has_failed: false }
    } else {
        // The client has begun: what it said is for the real server, which answers.
        let mut pair =
            Pair { tested: client, real: server, there: Vec::new(), plain: Vec::new(), answers: 0, has_failed: false };
        let mut none = Vec::new();
        let _ = pair.real.read(&mut there, &mut none, &mut pair.there);
        pair
    };
    let mut speeches = 0;
    while let (Some(what), Some(count)) = (tape.byte(), tape.byte()) {
        let count = usize::from(count);
        let real = count.min(pair.there.len());
        match what % 8 {
            0 => pair.feed(tape.bytes(count)),
            1 | 2 => {
                let bytes: Vec<u8> = pair.there.drain(..real).collect();
                pair.feed(&bytes);
            }
            3 => {
                let mut bytes: Vec<u8> = pair.there.drain(..real).collect();
                if let Some(byte) = bytes.last_mut() {
                    *byte ^= what | 1;
                }
                pair.feed(&bytes);
            }
            4 => drop(pair.there.drain(..real)),
            5 => pair.feed(&pair.there[..real].to_vec()),
            6 if speeches < 200 => {
                speeches += 1;
                pair.speak();
            }
            _ => {
                let mut mark = Vec::new();
                pair.tested.close(&mut mark);
                assert!(mark.len() < 100);
                // With debug assertions, rustls panics over what is broken behind a mark of its own; the core
                // ends the connection for that, too.
                break;
            }
        }
    }
    Corpus::Keep
});
