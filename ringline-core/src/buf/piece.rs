//! A stretch of bytes on its way out, whoever owns them: copied, lent by a guard, or as received.

use super::{Block, Guard, Lease};

/// Who owns the bytes of a [`Piece`].
#[derive(Debug)]
pub(crate) enum Body {
    /// Copied; ours.
    Block(Block),
    /// The sender's own, kept alive by a guard.
    Guard(Guard),
    /// A part of a backend's receive buffer.
    Lease(Lease),
}

/// Bytes that have not all been sent.
#[derive(Debug)]
pub(crate) struct Piece {
    body: Body,
    /// How many of the first bytes have left.
    sent: usize,
    /// The number of the last send that ends in this piece, or zero.
    ends: u64,
}

/// Where the unsent bytes of a piece are.
#[derive(Debug)]
pub(crate) enum Unsent<'a> {
    Here(&'a [u8]),
    /// In the backend: all of the lease but this many of its first bytes.
    Leased(&'a Lease, usize),
}

impl Piece {
    pub(crate) fn new(body: Body, ends: u64) -> Self {
        Self { body, sent: 0, ends }
    }

    /// Takes as much of `bytes` as fits behind what is there: nothing, unless the piece is a block.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        match &mut self.body {
            Body::Block(block) => block.fill(bytes),
            _ => 0,
        }
    }

    /// The block behind which `room` more bytes fit, if the piece is one.
    pub(crate) fn block_with_room(&mut self, room: usize) -> Option<&mut Block> {
        match &mut self.body {
            Body::Block(block) if block.room() >= room => Some(block),
            _ => None,
        }
    }

    /// Counts `bytes` more as sent.
    pub(crate) fn advance(&mut self, bytes: usize) {
        assert!(bytes <= self.len(), "no more was sent than there was");
        self.sent += bytes;
    }

    /// Notes the number of the last send that ends in this piece.
    pub(crate) fn set_ends(&mut self, sequence: u64) {
        self.ends = sequence;
    }

    pub(crate) fn into_body(self) -> Body {
        self.body
    }

    pub(crate) fn body(&self) -> &Body {
        &self.body
    }

    pub(crate) fn ends(&self) -> u64 {
        self.ends
    }

    /// How many bytes have not been sent.
    pub(crate) fn len(&self) -> usize {
        let whole = match &self.body {
            Body::Block(block) => block.bytes().len(),
            Body::Guard(guard) => guard.len(),
            Body::Lease(lease) => lease.len as usize,
        };
        whole - self.sent
    }

    /// The bytes that have not been sent.
    pub(crate) fn unsent(&self) -> Unsent<'_> {
        match &self.body {
            Body::Block(block) => Unsent::Here(&block.bytes()[self.sent..]),
            Body::Guard(guard) => Unsent::Here(&guard.bytes()[self.sent..]),
            Body::Lease(lease) => Unsent::Leased(lease, self.sent),
        }
    }
}
