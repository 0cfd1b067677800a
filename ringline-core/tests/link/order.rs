//! What a client says first: what it is going to send, and what it wants to get.
//!
//! Every byte of either direction follows from the order and the place, so that one that is lost,
//! doubled, changed or another connection's is seen.

use crate::dice;

/// The length of an order.
pub(crate) const HEAD_BYTES: usize = 25;

/// What the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Sends while it receives, as much at a time as there is room for, and ends its direction.
    Stream,
    /// Sends back what it receives.
    Echo,
    /// Sends everything at once, and then waits.
    Stay,
    /// Sends everything at once and closes.
    Leave,
}

const MANNERS: [Manner; 4] = [Manner::Stream, Manner::Echo, Manner::Stay, Manner::Leave];

/// An order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Different for each connection.
    pub(crate) salt: u64,
    pub(crate) manner: Manner,
    /// How many bytes the client sends after the order, and how many the server sends.
    pub(crate) up_bytes: u64,
    pub(crate) down_bytes: u64,
}

impl Order {
    pub(crate) fn stream(salt: u64, up_bytes: u64, down_bytes: u64) -> Self {
        Self { salt, manner: Manner::Stream, up_bytes, down_bytes }
    }

    pub(crate) fn echo(salt: u64, bytes: u64) -> Self {
        Self { salt, manner: Manner::Echo, up_bytes: bytes, down_bytes: bytes }
    }

    /// An order at the beginning of what was received.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
        let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let manner = *MANNERS.get(usize::from(bytes[24]))?;
        Some(Self { salt: word(0), manner, up_bytes: word(8), down_bytes: word(16) })
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        for word in [self.salt, self.up_bytes, self.down_bytes] {
            head.extend_from_slice(&word.to_be_bytes());
        }
        head.push(self.manner as u8);
        head
    }

    /// Bytes that the client sends after the order.
    pub(crate) fn up(&self, from: u64, len: usize) -> Vec<u8> {
        dice::bytes(2 * self.salt, from as usize, len)
    }

    /// Bytes that the server sends.
    pub(crate) fn down(&self, from: u64, len: usize) -> Vec<u8> {
        let name = 2 * self.salt + u64::from(self.manner != Manner::Echo);
        dice::bytes(name, from as usize, len)
    }
}
