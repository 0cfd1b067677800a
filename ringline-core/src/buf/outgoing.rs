//! A datagram on its way out: where it goes, what it says, and who owns the bytes.

use super::{Block, Body, Guard, Piece, Pool};
use std::net::{IpAddr, SocketAddr};

/// The longest datagrams that are put together: those that every path carries whole, because the kernel
/// does not cut a run in two ways.
const APPEND_BYTES_MAX: usize = 1232;
/// How many are put together.
const APPEND_MAX: usize = 64;

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

    /// Makes a run of this and one more datagram to the same peer. False, and nothing has changed, if
    /// the two do not make one, or if there is no room.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> bool {
        let (len, count) = (self.len(), self.count());
        let size = if self.segment_bytes == 0 { len } else { self.segment_bytes.into() };
        // Only the last datagram of a run may be shorter than the others, and none may be empty.
        let continues = (1..=size).contains(&bytes.len()) && len == count * size;
        if !continues || size > APPEND_BYTES_MAX || count >= APPEND_MAX {
            return false;
        }
        match &mut self.body {
            Some(Body::Block(block)) if block.capacity() - len >= bytes.len() => {
                self.segment_bytes = size as u16;
                block.fill(bytes) == bytes.len()
            }
            _ => false,
        }
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
        assert!(datagram.fill(b"abc", &mut pool));
        assert_eq!((datagram.bytes(), datagram.count()), (b"abc".as_slice(), 1));
        assert_eq!(pool.lent(), 1);
        datagram.empty(&mut pool);
        assert_eq!((pool.lent(), datagram.len(), datagram.segment_bytes), (0, 0, 0));
    }

    #[test]
    fn datagrams_make_a_run_until_one_is_shorter() {
        let mut pool = Pool::default();
        let mut run = Outgoing::default();
        assert!(!run.append(b"x"), "there is nothing to append to");
        run.fill(b"abcd", &mut pool);
        assert!(!run.append(b"") && !run.append(b"12345"));
        assert!(run.append(b"efgh") && run.append(b"ij"));
        assert_eq!((run.bytes(), run.segment_bytes, run.count()), (b"abcdefghij".as_slice(), 4, 3));
        assert!(!run.append(b"klmn") && !run.append(b"kl"), "the shorter one was the last");
        run.empty(&mut pool);
        run.fill(&[1; 10], &mut pool);
        assert_eq!((0..100).filter(|_| run.append(&[2; 10])).count(), 63);
        run.empty(&mut pool);
        run.fill(&[1; 1300], &mut pool);
        assert!(!run.append(&[2; 1300]), "too long for some paths");
        run.empty(&mut pool);
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
        datagram.fill(&vec![7; 65_527], &mut pool);
        assert_eq!(datagram.len(), 65_527);
        datagram.empty(&mut pool);
    }
}
