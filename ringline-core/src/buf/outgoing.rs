//! A datagram on its way out: where it goes, what it says, and who owns the bytes.

use super::{Block, Body, Guard, Piece, Pool};
use std::net::{IpAddr, SocketAddr};

/// One datagram, or a run of datagrams of the same size that the kernel cuts apart.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// `None` on a socket that is connected.
    pub(crate) to: Option<SocketAddr>,
    /// Which of the host's addresses it comes from, unless the kernel is to choose.
    pub(crate) source: Option<IpAddr>,
    /// The size of the datagrams of a run, the last of which may be shorter; zero for a single one.
    pub(crate) segment_bytes: u16,
    body: Option<Body>,
}

impl Outgoing {
    /// Takes a copy of `bytes`, in memory of the pool's. True if the allocator had to be asked.
    pub(crate) fn fill(&mut self, bytes: &[u8], pool: &mut Pool) -> bool {
        if bytes.is_empty() {
            return false;
        }
        let (mut block, is_fresh) = pool.take(bytes.len());
        let filled = block.fill(bytes);
        assert_eq!(filled, bytes.len(), "a block holds the largest datagram");
        self.body = Some(Body::Block(block));
        is_fresh
    }

    /// Takes bytes that stay where they are.
    pub(crate) fn lend(&mut self, guard: Guard) {
        self.body = Some(Body::Guard(guard));
    }

    /// Gives its bytes back to their owner and forgets the rest.
    pub(crate) fn empty(&mut self, pool: &mut Pool) {
        if let Some(body) = std::mem::take(self).body {
            pool.put_piece(Piece::new(body, 0));
        }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.body {
            Some(Body::Block(block)) => Block::bytes(block),
            Some(Body::Guard(guard)) => guard.bytes(),
            Some(Body::Lease(_)) => unreachable!("received bytes are not sent as they are"),
            None => &[],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes().len()
    }

    /// How many datagrams it stands for.
    pub(crate) fn count(&self) -> usize {
        match usize::from(self.segment_bytes) {
            0 => 1,
            segment => self.len().div_ceil(segment).max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_from_the_pool_and_go_back() {
        let mut pool = Pool::default();
        let mut datagram = Outgoing::default();
        assert!(datagram.fill(b"abcdef", &mut pool));
        assert_eq!((datagram.bytes(), datagram.count()), (b"abcdef".as_slice(), 1));
        datagram.segment_bytes = 4;
        assert_eq!(datagram.count(), 2);
        assert_eq!(pool.lent(), 1);
        datagram.empty(&mut pool);
        assert_eq!((pool.lent(), datagram.len(), datagram.segment_bytes), (0, 0, 0));
    }

    #[test]
    fn an_empty_datagram_needs_no_memory() {
        let mut pool = Pool::default();
        let mut datagram = Outgoing::default();
        assert!(!datagram.fill(b"", &mut pool));
        assert_eq!((pool.lent(), datagram.len(), datagram.count()), (0, 0, 1));
    }

    #[test]
    fn the_largest_datagram_fits_a_block() {
        let mut pool = Pool::default();
        let mut datagram = Outgoing::default();
        datagram.fill(&[7; 65_527], &mut pool);
        assert_eq!(datagram.len(), 65_527);
        datagram.empty(&mut pool);
    }
}
