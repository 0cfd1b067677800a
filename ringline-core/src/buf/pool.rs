//! Spare blocks and parcels, so that a socket that has to wait costs no allocation in the steady
//! state; and where everything goes that an outbox lets go of.

use super::{Block, Body, Lease, Parcel, Piece};

/// Enough for the rest of a small reply.
const SMALL_BYTES: usize = 4 * 1024;
/// Large enough that the cost of an operation vanishes behind that of its bytes.
const LARGE_BYTES: usize = 64 * 1024;
/// What one class keeps for later; more goes back to the allocator.
const SPARE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How many parcels are kept for later.
const SPARE_PARCELS_MAX: usize = 1024;

/// Blocks of two sizes; spare ones are handed out last in, first out, because those are warm.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    small: Vec<Block>,
    large: Vec<Block>,
    lent: usize,
    parcels: Vec<Box<Parcel>>,
    /// Parcels that were taken and not put back.
    parcels_lent: usize,
    /// Leases that nobody needs any more, on their way to the backend.
    leases: Vec<Lease>,
}

impl Pool {
    /// An empty block for `bytes` or, if they are many, for the first part of them. The second
    /// value says whether the allocator had to be asked.
    pub(crate) fn take(&mut self, bytes: usize) -> (Block, bool) {
        let (spares, capacity) = if bytes <= SMALL_BYTES {
            (&mut self.small, SMALL_BYTES)
        } else {
            (&mut self.large, LARGE_BYTES)
        };
        self.lent += 1;
        match spares.pop() {
            Some(block) => (block, false),
            None => (Block::with_capacity(capacity), true),
        }
    }

    /// Takes a block back, sent or not.
    pub(crate) fn put(&mut self, mut block: Block) {
        self.lent -= 1;
        block.clear();
        let spares = if block.capacity() < LARGE_BYTES { &mut self.small } else { &mut self.large };
        if (spares.len() + 1) * block.capacity() <= SPARE_BYTES_MAX {
            spares.push(block);
        }
    }

    /// Takes back whatever a piece consists of. Drops a guard.
    pub(crate) fn put_piece(&mut self, piece: Piece) {
        match piece.into_body() {
            Body::Block(block) => self.put(block),
            Body::Guard(guard) => drop(guard),
            Body::Lease(lease) => self.leases.push(lease),
        }
    }

    /// An empty parcel.
    pub(crate) fn take_parcel(&mut self) -> Box<Parcel> {
        self.parcels_lent += 1;
        self.parcels.pop().unwrap_or_default()
    }

    /// Takes a parcel back with everything in it.
    pub(crate) fn put_parcel(&mut self, mut parcel: Box<Parcel>) {
        for piece in parcel.drain() {
            self.put_piece(piece);
        }
        self.parcels_lent -= 1;
        parcel.reset();
        if self.parcels.len() < SPARE_PARCELS_MAX {
            self.parcels.push(parcel);
        }
    }

    /// The next lease to give back to the backend.
    #[inline]
    pub(crate) fn take_lease(&mut self) -> Option<Lease> {
        self.leases.pop()
    }

    /// How many blocks and parcels are out, and how many leases are not back with the backend.
    pub(crate) fn lent(&self) -> usize {
        self.lent + self.parcels_lent + self.leases.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_and_are_used_again() {
        let mut pool = Pool::default();
        let (mut block, fresh) = pool.take(10);
        assert!(fresh);
        block.fill(b"0123456789");
        pool.put(block);
        let (block, fresh) = pool.take(1);
        assert!(!fresh);
        assert!(block.bytes().is_empty());
        assert_eq!(pool.lent(), 1);
        assert!(pool.take(SMALL_BYTES + 1).0.capacity() >= LARGE_BYTES);
    }

    #[test]
    fn a_parcel_comes_back_with_all_that_is_in_it() {
        let mut pool = Pool::default();
        let mut parcel = pool.take_parcel();
        let (mut block, _) = pool.take(3);
        block.fill(b"abc");
        parcel.push(Piece::new(Body::Block(block), 1));
        parcel.push(Piece::new(Body::Lease(Lease { buffer: 7, offset: 1, len: 2 }), 1));
        assert_eq!(pool.lent(), 2);
        pool.put_parcel(parcel);
        assert_eq!(pool.take_lease(), Some(Lease { buffer: 7, offset: 1, len: 2 }));
        assert_eq!(pool.take_lease(), None);
        assert_eq!(pool.lent(), 0);
        assert!(pool.take_parcel().is_empty());
    }

    #[test]
    fn spare_memory_is_bounded() {
        let mut pool = Pool::default();
        let blocks: Vec<_> =
            (0..2 * SPARE_BYTES_MAX / LARGE_BYTES).map(|_| pool.take(LARGE_BYTES).0).collect();
        for block in blocks {
            pool.put(block);
        }
        assert_eq!(pool.large.len(), SPARE_BYTES_MAX / LARGE_BYTES);
        assert_eq!(pool.lent(), 0);
    }
}
