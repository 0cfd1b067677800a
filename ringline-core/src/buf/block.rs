//! Copied bytes that wait for room in a socket: owned, so that they can move into an operation.

/// A buffer of fixed capacity, filled at the end.
#[derive(Debug)]
pub(crate) struct Block(Vec<u8>);

impl Block {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    /// Takes as much of `bytes` as fits and says how much that was. Never reallocates.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.0.capacity() - self.0.len());
        self.0.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Has `fill` write at most `room` bytes behind what is there and say how many it wrote. Nothing
    /// is there if it fails.
    pub(crate) fn fill_with<E>(
        &mut self,
        room: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let filled = self.0.len();
        assert!(room <= self.room(), "a block never grows");
        self.0.resize(filled + room, 0);
        let result = fill(&mut self.0[filled..]);
        self.0.truncate(filled + result.as_ref().map_or(0, |bytes| *bytes));
        result
    }

    /// How many more bytes fit.
    pub(crate) fn room(&self) -> usize {
        self.0.capacity() - self.0.len()
    }

    /// Forgets the contents and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.capacity()
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
}
