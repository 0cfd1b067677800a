//! Spare blocks, so that a socket that has to wait costs no allocation in the steady state.

use super::Block;

/// Enough for the rest of a small reply.
const SMALL_BYTES: usize = 4 * 1024;
/// Large enough that the cost of an operation vanishes behind that of its bytes.
const LARGE_BYTES: usize = 64 * 1024;
/// What one class keeps for later; more goes back to the allocator.
const SPARE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Blocks of two sizes; spare ones are handed out last in, first out, because those are warm.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    small: Vec<Block>,
    large: Vec<Block>,
    lent: usize,
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

    /// How many blocks are out.
    pub(crate) fn lent(&self) -> usize {
        self.lent
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
        assert!(block.unsent().is_empty());
        assert_eq!(pool.lent(), 1);
        assert!(pool.take(SMALL_BYTES + 1).0.capacity() >= LARGE_BYTES);
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
