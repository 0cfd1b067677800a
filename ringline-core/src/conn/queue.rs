//! What waits for its turn on one connection: pieces and chains, in order.
//!
//! A parcel takes as many pieces from the front as may leave together, or one chain. What comes back
//! unsent goes to the front again.

use crate::buf::{Body, PIECES_MAX, Parcel, Piece, Pool};
use std::collections::VecDeque;

#[derive(Debug)]
enum Queued {
    Piece(Piece),
    Chain(Box<Parcel>),
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub(super) struct Queue {
    queued: VecDeque<Queued>,
    /// How many bytes of receive buffers are kept, also by the parcel that is in flight.
    held: usize,
}

impl Queue {
    /// Adds copied bytes of a send that ends with them. Returns how often the allocator had to be asked
    /// for a block.
    pub(super) fn append(&mut self, mut bytes: &[u8], ends: u64, pool: &mut Pool) -> u32 {
        let mut fresh = 0;
        if let Some(Queued::Piece(last)) = self.queued.back_mut() {
            bytes = &bytes[last.fill(bytes)..];
        }
        while !bytes.is_empty() {
            let (mut block, is_new) = pool.take(bytes.len());
            fresh += u32::from(is_new);
            bytes = &bytes[block.fill(bytes)..];
            self.queued.push_back(Queued::Piece(Piece::new(Body::Block(block), 0)));
        }
        if let Some(Queued::Piece(last)) = self.queued.back_mut() {
            last.set_ends(ends);
        }
        fresh
    }

    /// Adds what `fill` writes into `room` bytes, no more than a large block has. Returns how many bytes
    /// that is and whether the allocator had to be asked for a block.
    pub(super) fn append_with<E>(
        &mut self,
        room: usize,
        ends: u64,
        pool: &mut Pool,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(usize, bool), E> {
        if let Some(Queued::Piece(last)) = self.queued.back_mut()
            && let Some(block) = last.block_with_room(room)
        {
            let bytes = block.fill_with(room, fill)?;
            last.set_ends(ends);
            return Ok((bytes, false));
        }
        let (mut block, is_new) = pool.take(room);
        match block.fill_with(room, fill) {
            Ok(bytes) if bytes > 0 => {
                self.queued.push_back(Queued::Piece(Piece::new(Body::Block(block), ends)));
                Ok((bytes, is_new))
            }
            nothing => {
                pool.put(block);
                nothing.map(|bytes| (bytes, is_new))
            }
        }
    }

    /// Adds the unsent rest of one send, and then all of another, before everything else.
    pub(super) fn prepend(
        &mut self,
        (rest, ends): (&[u8], u64),
        (next, next_ends): (&[u8], u64),
        pool: &mut Pool,
    ) -> u32 {
        // Usually nothing has come after it, and the queue keeps its memory.
        let mut later =
            if self.queued.is_empty() { VecDeque::new() } else { std::mem::take(&mut self.queued) };
        let mut fresh = self.append(rest, ends, pool);
        if !next.is_empty() {
            fresh += self.append(next, next_ends, pool);
        }
        self.queued.append(&mut later);
        fresh
    }

    pub(super) fn push(&mut self, piece: Piece) {
        self.held += held_by(&piece);
        self.queued.push_back(Queued::Piece(piece));
    }

    pub(super) fn push_chain(&mut self, chain: Box<Parcel>) {
        self.queued.push_back(Queued::Chain(chain));
    }

    /// Takes what leaves next.
    pub(super) fn next(&mut self, zero_copy: bool, pool: &mut Pool) -> Option<Box<Parcel>> {
        match self.queued.pop_front()? {
            Queued::Chain(chain) => Some(chain),
            Queued::Piece(piece) => Some(self.gather(piece, zero_copy, pool)),
        }
    }

    /// Puts what did not leave to the front again.
    pub(super) fn put_back(&mut self, mut parcel: Box<Parcel>, pool: &mut Pool) {
        if parcel.chain.is_some() {
            self.queued.push_front(Queued::Chain(parcel));
            return;
        }
        for piece in parcel.drain().rev() {
            self.queued.push_front(Queued::Piece(piece));
        }
        pool.put_parcel(parcel);
    }

    /// Lets go of a piece that has left.
    pub(super) fn release(&mut self, piece: Piece, pool: &mut Pool) {
        self.held -= held_by(&piece);
        pool.put_piece(piece);
    }

    /// Drops everything and returns how many bytes that was.
    pub(super) fn clear(&mut self, pool: &mut Pool) -> usize {
        let mut dropped = 0;
        for queued in std::mem::take(&mut self.queued) {
            match queued {
                Queued::Piece(piece) => {
                    dropped += piece.len();
                    self.release(piece, pool);
                }
                Queued::Chain(chain) => {
                    dropped += chain.len();
                    pool.put_parcel(chain);
                }
            }
        }
        dropped
    }

    /// Notes that a send without bytes ends with what is queued last. False if nothing is.
    pub(super) fn set_ends(&mut self, sequence: u64) -> bool {
        match self.queued.back_mut() {
            Some(Queued::Piece(last)) => last.set_ends(sequence),
            Some(Queued::Chain(last)) => last.set_ends(sequence),
            None => return false,
        }
        true
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }

    /// Bytes of receive buffers that are kept.
    #[inline]
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes as many pieces as may leave together. Receive buffers are not lent for as long as it
    /// takes a peer to acknowledge them.
    fn gather(&mut self, first: Piece, zero_copy: bool, pool: &mut Pool) -> Box<Parcel> {
        let mut parcel = pool.take_parcel();
        let is_lent = |piece: &Piece| matches!(piece.body(), Body::Guard(_));
        let is_held = |piece: &Piece| matches!(piece.body(), Body::Lease(_));
        let (mut lent, mut held) = (is_lent(&first), is_held(&first));
        parcel.push(first);
        while parcel.pieces().len() < PIECES_MAX
            && let Some(Queued::Piece(next)) = self.queued.front()
        {
            lent |= is_lent(next);
            held |= is_held(next);
            if zero_copy && lent && held {
                break;
            }
            if let Some(Queued::Piece(next)) = self.queued.pop_front() {
                parcel.push(next);
            }
        }
        parcel
    }
}

/// How many bytes of a piece lie in a receive buffer.
fn held_by(piece: &Piece) -> usize {
    match piece.body() {
        Body::Lease(lease) => lease.len as usize,
        _ => 0,
    }
}
