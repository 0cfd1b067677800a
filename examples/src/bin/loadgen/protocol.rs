//! What a request looks like, and how much of an answer has come.
//!
//! Invariant: a reader looks at every byte once, in the order of the requests, and keeps none of them.

use super::http;
use super::options::{Plan, Request};
use super::tally::Failure;

/// After how many bytes the payload repeats itself: a prime, so that requests of any length begin
/// anywhere in it.
const PERIOD: usize = 65_521;

/// How a worker speaks to the server.
#[derive(Debug)]
pub(crate) enum Protocol {
    /// A stretch of these bytes goes out and comes back. There are [`PERIOD`] of them and a request more.
    Echo { payload: Vec<u8>, size: usize, verify: bool },
    /// These bytes go out, and an answer of HTTP/1.1 comes back.
    Http { request: Vec<u8> },
}

/// The answers of one connection.
#[derive(Debug)]
pub(crate) struct Reader {
    lane: u64,
    /// Which answer is awaited.
    number: u64,
    /// How much of it was seen.
    seen: usize,
    body: Option<http::Body>,
    /// The server has announced that this answer is the connection's last.
    pub(crate) is_last: bool,
}

/// What the bytes that have come amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// With so many bytes the awaited answer is whole; it may still be a refusal.
    Answered { bytes: usize, refusal: Option<Failure> },
    /// So many bytes are dealt with, and the answer goes on.
    Partial { bytes: usize },
    /// The connection is of no more use.
    Wrong(Failure),
}

impl Reader {
    /// A connection's reader; no two connections of a run have the same lane.
    pub(crate) fn new(lane: u64) -> Self {
        Self { lane, number: 0, seen: 0, body: None, is_last: false }
    }
}

impl Protocol {
    pub(crate) fn new(plan: &Plan) -> Self {
        match &plan.request {
            Request::Echo { size, verify } => {
                let mut state = plan.seed;
                let words = (PERIOD + size).div_ceil(8);
                let payload = (0..words).flat_map(|_| next(&mut state).to_le_bytes()).collect();
                Self::Echo { payload, size: *size, verify: *verify }
            }
            Request::Http { path, host } => {
                let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: loadgen\r\n\r\n");
                Self::Http { request: request.into_bytes() }
            }
        }
    }

    /// The bytes of a request: those of different lanes, and different ones of a lane, differ.
    pub(crate) fn request(&self, lane: u64, number: u64) -> &[u8] {
        match self {
            Self::Echo { payload, size, .. } => {
                let mut state = lane.wrapping_add(number);
                let from = next(&mut state) as usize % PERIOD;
                &payload[from..from + size]
            }
            Self::Http { request } => request,
        }
    }

    /// Reads on; `data` begins at the first byte that was not dealt with.
    pub(crate) fn read(&self, reader: &mut Reader, data: &[u8]) -> Read {
        match self {
            Self::Echo { size, verify, .. } => {
                let bytes = (size - reader.seen).min(data.len());
                let expected = &self.request(reader.lane, reader.number)[reader.seen..][..bytes];
                if *verify && data[..bytes] != *expected {
                    return Read::Wrong(Failure::Mismatch);
                }
                reader.seen += bytes;
                if reader.seen < *size {
                    return Read::Partial { bytes };
                }
                reader.seen = 0;
                reader.number += 1;
                Read::Answered { bytes, refusal: None }
            }
            Self::Http { .. } => {
                let read = http::read(&mut reader.body, data);
                if let Read::Answered { .. } = read
                    && let Some(body) = reader.body.take()
                {
                    reader.is_last |= body.is_last;
                }
                read
            }
        }
    }
}

/// A stream of numbers that look random: a Weyl sequence and a mix of its bits.
pub(crate) fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut bits = *state;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn echo(size: usize, seed: u64) -> Protocol {
        let mut state = seed;
        let payload = (0..PERIOD + size).map(|_| next(&mut state) as u8).collect();
        Protocol::Echo { payload, size, verify: true }
    }

    #[test]
    fn requests_differ() {
        let protocol = echo(64, 1);
        let mut all: Vec<_> =
            (0..100).flat_map(|lane| [0, 1].map(|number| protocol.request(lane << 32, number))).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 200);
        assert_ne!(protocol.request(7, 7), echo(64, 2).request(7, 7), "the seed chooses");
    }

    #[test]
    fn an_echo_is_read_in_any_pieces() {
        let protocol = echo(10, 1);
        let answers = [protocol.request(5, 0), protocol.request(5, 1)].concat();
        for piece in 1..=20 {
            let mut reader = Reader::new(5);
            let (mut done, mut answered) = (0, 0);
            while done < answers.len() {
                let end = (done + piece).min(answers.len());
                match protocol.read(&mut reader, &answers[done..end]) {
                    Read::Answered { bytes, refusal: None } => {
                        done += bytes;
                        answered += 1;
                    }
                    Read::Partial { bytes } => done += bytes,
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!(answered, 2, "in pieces of {piece}");
        }
    }

    #[test]
    fn every_byte_is_compared() {
        let protocol = echo(10, 1);
        for at in 0..10 {
            let mut answer = protocol.request(5, 0).to_vec();
            answer[at] ^= 1;
            let mut reader = Reader::new(5);
            assert_eq!(protocol.read(&mut reader, &answer[..]), Read::Wrong(Failure::Mismatch), "byte {at}");
        }
        let mut reader = Reader::new(5);
        let second = protocol.request(5, 1).to_vec();
        assert_eq!(protocol.read(&mut reader, &second), Read::Wrong(Failure::Mismatch), "it is not its turn");
    }

    #[test]
    fn bytes_that_are_not_compared_are_counted() {
        let Protocol::Echo { payload, size, .. } = echo(10, 1) else { unreachable!("it is one") };
        let protocol = Protocol::Echo { payload, size, verify: false };
        let mut reader = Reader::new(5);
        assert_eq!(protocol.read(&mut reader, &[0; 9]), Read::Partial { bytes: 9 });
        assert_eq!(protocol.read(&mut reader, &[0; 9]), Read::Answered { bytes: 1, refusal: None });
    }
}
