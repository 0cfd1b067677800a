//! What is sent: a head with the length, and a part of one long random text.
//!
//! The part begins somewhere else for each connection and round, so no two of them are alike at
//! any position.

use std::io::{self, ErrorKind, Read, Write};

/// Bytes of the length before each message.
pub(crate) const HEAD_BYTES: usize = 4;

/// How far apart the messages of two neighbours begin.
const STRIDE_BYTES: usize = 64;
/// How far apart the messages of two rounds begin.
const ROUND_BYTES: usize = 1;
/// More rounds than any test has.
const ROUNDS_MAX: usize = 64;

/// The text that all messages are parts of.
pub(crate) struct Pattern {
    text: Vec<u8>,
}

impl Pattern {
    /// Enough for this many connections and messages of this length.
    pub(crate) fn new(connections: usize, longest: usize) -> Self {
        let len = connections * STRIDE_BYTES + ROUNDS_MAX * ROUND_BYTES + longest;
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut next = || {
            // A step of xorshift64, whose high bits are good enough for a text.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 56) as u8
        };
        Self { text: (0..len).map(|_| next()).collect() }
    }

    /// The message of a connection in a round.
    pub(crate) fn message(&self, connection: usize, round: u32, len: usize) -> Message<'_> {
        let round = round as usize;
        assert!(round < ROUNDS_MAX && len > 0, "round {round} of {len} bytes");
        let start = connection * STRIDE_BYTES + round * ROUND_BYTES;
        let body = &self.text[start..start + len];
        Message { head: u32::try_from(len).expect("messages are short").to_be_bytes(), body }
    }
}

/// One message on its way out and back.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    head: [u8; HEAD_BYTES],
    body: &'a [u8],
}

impl Message<'_> {
    /// Bytes of head and body together.
    pub(crate) fn len(&self) -> usize {
        HEAD_BYTES + self.body.len()
    }

    /// Everything in one piece.
    pub(crate) fn to_vec(self) -> Vec<u8> {
        [&self.head, self.body].concat()
    }

    /// What comes at a position: not empty before the end, but perhaps not everything.
    fn rest(&self, at: usize) -> &[u8] {
        if at < HEAD_BYTES { &self.head[at..] } else { &self.body[at - HEAD_BYTES..] }
    }

    /// Whether these bytes are what belongs at a position.
    fn matches(&self, at: usize, bytes: &[u8]) -> bool {
        let head = bytes.len().min(HEAD_BYTES.saturating_sub(at));
        let (of_head, of_body) = bytes.split_at(head);
        let body = (at + head).saturating_sub(HEAD_BYTES);
        self.head[at.min(HEAD_BYTES)..].starts_with(of_head)
            && (of_body.is_empty() || self.body[body..].starts_with(of_body))
    }
}

/// A message that is written and read back over a socket that never blocks.
pub(crate) struct Exchange<'a, S> {
    stream: S,
    message: Message<'a>,
    written: usize,
    read: usize,
}

impl<'a, S: Read + Write> Exchange<'a, S> {
    pub(crate) fn new(stream: S, message: Message<'a>) -> Self {
        Self { stream, message, written: 0, read: 0 }
    }

    /// Goes as far as the socket lets it; false if that was nowhere.
    pub(crate) fn step(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        let before = (self.written, self.read);
        while self.written < self.message.len() {
            match unblocked(self.stream.write(self.message.rest(self.written)))? {
                None => break,
                Some(bytes) => self.written += bytes,
            }
        }
        while self.read < self.message.len() {
            let Some(bytes) = unblocked(self.stream.read(scratch))? else { break };
            if bytes == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if self.read + bytes > self.written || !self.message.matches(self.read, &scratch[..bytes]) {
                let message = format!("wrong bytes between {} and {}", self.read, self.read + bytes);
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
            self.read += bytes;
            if bytes < scratch.len() {
                break;
            }
        }
        Ok((self.written, self.read) != before)
    }

    /// Whether everything has come back.
    pub(crate) fn is_done(&self) -> bool {
        self.read == self.message.len()
    }

    /// How far it got, for whoever wants to know why it is not done.
    pub(crate) fn progress(&self) -> String {
        format!("{} bytes written, {} read back, of {}", self.written, self.read, self.message.len())
    }
}

/// `None` if the socket would have had to wait.
pub(crate) fn unblocked(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
