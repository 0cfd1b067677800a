//! Two sides of a TLS connection that talk to one another, from the first byte of the handshake on, in whatever pieces
//! and whatever order the input wants: every byte arrives, in order, and every end is marked behind the last of them.

#![no_main]

#[path = "../../ringline-tls/tests/interop/certificates.rs"]
#[allow(dead_code)]
mod certificates;
#[path = "../sides.rs"]
mod sides;

use libfuzzer_sys::{Corpus, fuzz_target};
use ringline_core::layer::Layer;

const INPUT_MAX: usize = 4096;
/// How much one side says at most.
const SAID_MAX: usize = 300_000;

/// One side.
struct End {
    layer: Box<dyn Layer>,
    /// What is on its way to the other, and what that was told in plain.
    wire: Vec<u8>,
    said: usize,
    heard: usize,
    has_ended: bool,
    salt: u8,
}

impl End {
    fn new(layer: Box<dyn Layer>, wire: Vec<u8>, salt: u8) -> Self {
        Self { layer, wire, said: 0, heard: 0, has_ended: false, salt }
    }

    fn say(&mut self, len: usize) {
        if self.layer.is_handshaking() || self.has_ended || self.said + len > SAID_MAX {
            return;
        }
        let bytes: Vec<u8> = (self.said..self.said + len).map(|at| byte(self.salt, at)).collect();
        for chunk in bytes.chunks(ringline_core::layer::CHUNK_BYTES) {
            let at = self.wire.len();
            self.wire.resize(at + self.layer.wire_len(chunk.len()), 0);
            let wrote = self.layer.write(chunk, &mut self.wire[at..]).expect("the bound is enough");
            self.wire.truncate(at + wrote);
        }
        self.said += len;
    }

    fn end(&mut self) {
        if !self.layer.is_handshaking() && !self.has_ended {
            self.layer.close(&mut self.wire);
            self.has_ended = true;
        }
    }

    fn hear(&mut self, from: &mut Self, len: usize) {
        let mut bytes: Vec<u8> = from.wire.drain(..len.min(from.wire.len())).collect();
        let mut plain = Vec::new();
        let through = self.layer.read(&mut bytes, &mut plain, &mut self.wire).expect("both keep the rules");
        assert_eq!(through, bytes.len(), "all of it is taken");
        for got in plain {
            assert_eq!(got, byte(from.salt, self.heard), "at {}", self.heard);
            self.heard += 1;
        }
        assert!(self.heard <= from.said);
        assert!(!self.layer.is_read_closed() || from.has_ended && self.heard == from.said, "the mark is the last");
    }
}

fn byte(salt: u8, at: usize) -> u8 {
    (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()[0] ^ salt
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let input = &input[..input.len().min(INPUT_MAX)];
    let Some((&kind, steps)) = input.split_first() else { return Corpus::Reject };
    let (client, server, hello) = sides::sides(kind & 1 == 0).begin();
    let (mut client, mut server) = (End::new(client, hello, 0x5A), End::new(server, Vec::new(), 0xA5));
    for step in steps.chunks_exact(3) {
        let len = usize::from(u16::from_be_bytes([step[1], step[2]]));
        match step[0] % 8 {
            0 | 1 => client.hear(&mut server, len),
            2 | 3 => server.hear(&mut client, len),
            4 => client.say(len),
            5 => server.say(len),
            6 if len % 16 == 0 => client.end(),
            7 if len % 16 == 0 => server.end(),
            _ => {}
        }
    }
    for _ in 0..6 {
        client.hear(&mut server, usize::MAX);
        server.hear(&mut client, usize::MAX);
    }
    assert!(!client.layer.is_handshaking() && !server.layer.is_handshaking());
    client.say(1);
    client.end();
    server.end();
    client.hear(&mut server, usize::MAX);
    server.hear(&mut client, usize::MAX);
    assert!(client.heard == server.said && server.heard == client.said);
    assert!(client.layer.is_read_closed() && server.layer.is_read_closed());
    Corpus::Keep
});
