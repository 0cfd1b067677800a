//! Bytes that wait for room in a socket: owned, so that they can move into an operation.

/// A buffer of fixed capacity, filled at the end and sent from the front.
#[derive(Debug, Default)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    sent: usize,
    /// The number of the last send that ends in this block, or zero.
    pub(crate) ends: u64,
}

impl Block {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), sent: 0, ends: 0 }
    }

    /// Takes as much of `bytes` as fits and says how much that was. Never reallocates.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.bytes.capacity() - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Counts `bytes` more as sent.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        assert!(self.sent <= self.bytes.len(), "no more was sent than there was");
    }

    /// Forgets the contents and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        self.ends = 0;
    }

    /// What has not been sent yet.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling_stops_at_the_capacity_and_sending_starts_at_the_front() {
        let mut block = Block::with_capacity(4);
        let capacity = block.capacity();
        assert_eq!(block.fill(b"abc"), 3);
        let taken = block.fill(&vec![b'x'; capacity]);
        assert_eq!(taken, capacity - 3);
        assert_eq!(block.fill(b"z"), 0);
        block.advance(2);
        assert_eq!(block.unsent()[0], b'c');
        block.clear();
        assert!(block.unsent().is_empty());
        assert_eq!(block.capacity(), capacity);
    }
}
