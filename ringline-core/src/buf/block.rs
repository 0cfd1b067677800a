//! Copied bytes that wait for room in a socket: owned, so that they can move into an operation.

/// A buffer of fixed capacity, filled at the end.
#[derive(Debug)]
pub(crate) struct Block {
    /// What was ever filled, so that memory which is used again need not be cleared first.
    memory: Vec<u8>,
    filled: usize,
}

impl Block {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { memory: Vec::with_capacity(bytes), filled: 0 }
    }

    /// Takes as much of `bytes` as fits and says how much that was. Never reallocates.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        let (over, behind) = bytes[..taken].split_at(taken.min(self.memory.len() - self.filled));
        self.memory[self.filled..][..over.len()].copy_from_slice(over);
        self.memory.extend_from_slice(behind);
        self.filled += taken;
        taken
    }

    /// Has `fill` write at most `room` bytes behind what is there and say how many it wrote. Nothing
    /// is there if it fails.
    pub(crate) fn fill_with<E>(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        assert!(room <= self.room(), "a block never grows");
        let end = self.filled + room;
        if self.memory.len() < end {
            self.memory.resize(end, 0);
        }
        let bytes = fill(&mut self.memory[self.filled..end])?;
        assert!(bytes <= room, "no more is filled than there is room for");
        self.filled += bytes;
        Ok(bytes)
    }

    /// How many more bytes fit.
    pub(crate) fn room(&self) -> usize {
        self.memory.capacity() - self.filled
    }

    /// Forgets the contents and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[..self.filled]
    }

    pub(crate) fn capacity(&self) -> usize {
        self.memory.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling_stops_at_the_capacity() {
        let mut block = Block::with_capacity(4);
        let capacity = block.capacity();
        assert_eq!(block.fill(b"abc"), 3);
        let taken = block.fill(&vec![b'x'; capacity]);
        assert_eq!(taken, capacity - 3);
        assert_eq!(block.fill(b"z"), 0);
        assert_eq!(&block.bytes()[..3], b"abc");
        block.clear();
        assert!(block.bytes().is_empty());
        assert_eq!(block.capacity(), capacity);
    }

    #[test]
    fn what_was_there_before_is_written_over() {
        let mut block = Block::with_capacity(8);
        block.fill(b"12345");
        block.clear();
        assert_eq!(block.fill(b"ab"), 2);
        assert_eq!(block.fill_with(2, |room| Ok::<_, ()>(room.len() - 1)), Ok(1));
        assert_eq!(block.bytes(), b"ab3");
        assert_eq!(block.fill_with(4, |_| Err(())), Err(()));
        assert_eq!(block.fill(b"cdef"), 4);
        assert_eq!(block.bytes(), b"ab3cdef");
    }
}
