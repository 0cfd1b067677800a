//! Bytes that wait for room in a socket: owned, so that they can move into an operation.

/// A buffer of fixed capacity, filled at the end and sent from the front.
///
/// Behind a pointer, because blocks travel with operations and completions, most of which have none.
#[derive(Debug)]
pub(crate) struct Block(Box<Contents>);

#[derive(Debug)]
struct Contents {
    bytes: Vec<u8>,
    sent: usize,
    ends: u64,
}

impl Block {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self(Box::new(Contents { bytes: Vec::with_capacity(bytes), sent: 0, ends: 0 }))
    }

    /// Takes as much of `bytes` as fits and says how much that was. Never reallocates.
    pub(crate) fn fill(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.0.bytes.capacity() - self.0.bytes.len());
        self.0.bytes.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Counts `bytes` more as sent.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.0.sent += bytes;
        assert!(self.0.sent <= self.0.bytes.len(), "no more was sent than there was");
    }

    /// Notes the number of the last send that ends in this block.
    pub(crate) fn set_ends(&mut self, sequence: u64) {
        self.0.ends = sequence;
    }

    /// Forgets the contents and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.0.bytes.clear();
        self.0.sent = 0;
        self.0.ends = 0;
    }

    /// What has not been sent yet.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.0.bytes[self.0.sent..]
    }

    /// The number of the last send that ends in this block, or zero.
    pub(crate) fn ends(&self) -> u64 {
        self.0.ends
    }

    pub(crate) fn capacity(&self) -> usize {
        self.0.bytes.capacity()
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
