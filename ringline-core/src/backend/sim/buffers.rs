//! The receive buffers that all connections share, and who has borrowed what of them.
//!
//! A part of a buffer is lent at most once, and the kernel writes a buffer again only when it was
//! given up and every part of it came home. Released bytes are scribbled over at once, so that
//! reading them later shows.

use super::ledger::Breach;
use crate::buf::Lease;
use std::collections::VecDeque;

/// What released memory is filled with.
pub(super) const SCRIBBLE: u8 = 0xDD;

#[derive(Debug, Default)]
struct Buffer {
    /// Empty until the buffer is used for the first time.
    memory: Vec<u8>,
    used: u32,
    is_posted: bool,
    /// Offset and length of each part on loan.
    lent: Vec<(u32, u32)>,
}

/// Buffers of one size, filled in the order in which they came home.
#[derive(Debug)]
pub(super) struct Buffers {
    all: Vec<Buffer>,
    posted: VecDeque<u16>,
    size: u32,
    lent: usize,
}

impl Buffers {
    pub(super) fn new(count: u16, size: u32) -> Self {
        Self {
            all: (0..count).map(|_| Buffer { is_posted: true, ..Buffer::default() }).collect(),
            posted: (0..count).collect(),
            size,
            lent: 0,
        }
    }

    /// Moves the first `len` of `bytes` into the buffer at the front, which has
    /// [room](Buffers::room) for them, and lends them. What is left of the buffer serves the next
    /// call if it `stays`.
    pub(super) fn fill(&mut self, bytes: &mut VecDeque<u8>, len: u32, stays: bool) -> Lease {
        let number = *self.posted.front().expect("there is room");
        let buffer = &mut self.all[usize::from(number)];
        buffer.memory.resize(self.size as usize, 0);
        let offset = buffer.used;
        let target = &mut buffer.memory[offset as usize..(offset + len) as usize];
        let (front, back) = bytes.as_slices();
        let split = front.len().min(target.len());
        target[..split].copy_from_slice(&front[..split]);
        let rest = target.len() - split;
        target[split..].copy_from_slice(&back[..rest]);
        bytes.drain(..len as usize);
        buffer.used += len;
        buffer.lent.push((offset, len));
        self.lent += 1;
        if !stays || buffer.used == self.size {
            buffer.is_posted = false;
            self.posted.pop_front();
        }
        Lease { buffer: number, offset, len }
    }

    /// Lends a part of what is on loan once more.
    pub(super) fn share(&mut self, part: &Lease) -> Result<(), Breach> {
        let end = part.offset + part.len;
        let buffer = self.all.get_mut(usize::from(part.buffer));
        let is_lent = |buffer: &&mut Buffer| {
            buffer.lent.iter().any(|&(offset, len)| offset <= part.offset && end <= offset + len)
        };
        let Some(buffer) = buffer.filter(is_lent) else {
            return Err(Breach(format!("only what is on loan is shared: {part:?}")));
        };
        buffer.lent.push((part.offset, part.len));
        self.lent += 1;
        Ok(())
    }

    /// How many buffers were given up and are not all home.
    pub(super) fn held(&self) -> usize {
        self.all.len() - self.posted.len()
    }

    /// Whether at least half of the buffers, and two, can still be filled.
    pub(super) fn has_spare(&self) -> bool {
        self.posted.len() >= 2 && 2 * self.posted.len() >= self.all.len()
    }

    /// Takes a lease back.
    pub(super) fn release(&mut self, lease: &Lease) -> Result<(), Breach> {
        let at = self.find(lease, "a lease comes back exactly once, as it was lent")?;
        let buffer = &mut self.all[usize::from(lease.buffer)];
        buffer.lent.swap_remove(at);
        let end = lease.offset + lease.len;
        let is_shared = buffer.lent.iter().any(|&(offset, len)| offset < end && lease.offset < offset + len);
        if !is_shared {
            buffer.memory[lease.offset as usize..end as usize].fill(SCRIBBLE);
        }
        self.lent -= 1;
        if buffer.lent.is_empty() && !buffer.is_posted {
            buffer.used = 0;
            buffer.is_posted = true;
            self.posted.push_back(lease.buffer);
        }
        Ok(())
    }

    /// The bytes of a lease.
    pub(super) fn bytes(&self, lease: &Lease) -> Result<&[u8], Breach> {
        self.find(lease, "only bytes on loan are read")?;
        let end = lease.offset + lease.len;
        Ok(&self.all[usize::from(lease.buffer)].memory[lease.offset as usize..end as usize])
    }

    /// The same, to be changed, which nobody else may have a lease of.
    pub(super) fn bytes_mut(&mut self, lease: &mut Lease) -> Result<&mut [u8], Breach> {
        let rule = "only bytes that are on loan once are changed";
        self.find(lease, rule)?;
        let end = lease.offset + lease.len;
        let buffer = &mut self.all[usize::from(lease.buffer)];
        let is_overlapping = |&&(offset, len): &&(u32, u32)| offset < end && lease.offset < offset + len;
        if buffer.lent.iter().filter(is_overlapping).count() != 1 {
            return Err(Breach(format!("{rule}: {lease:?}")));
        }
        Ok(&mut buffer.memory[lease.offset as usize..end as usize])
    }

    /// How much the next receive can take; `None` if every buffer is out.
    pub(super) fn room(&self) -> Option<u32> {
        self.posted.front().map(|&number| self.size - self.all[usize::from(number)].used)
    }

    /// How many leases are out.
    pub(super) fn lent(&self) -> usize {
        self.lent
    }

    fn find(&self, lease: &Lease, rule: &str) -> Result<usize, Breach> {
        let part = (lease.offset, lease.len);
        self.all
            .get(usize::from(lease.buffer))
            .and_then(|buffer| buffer.lent.iter().position(|&lent| lent == part))
            .ok_or_else(|| Breach(format!("{rule}: {lease:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> VecDeque<u8> {
        text.bytes().collect()
    }

    #[test]
    fn a_buffer_that_stays_is_continued_and_comes_home_as_a_whole() {
        let mut buffers = Buffers::new(1, 8);
        let mut stream = bytes("abcdefgh");
        let first = buffers.fill(&mut stream, 3, true);
        let second = buffers.fill(&mut stream, 5, true);
        assert_eq!((second.buffer, second.offset, second.len), (0, 3, 5));
        assert_eq!(buffers.room(), None, "it is full");
        assert_eq!(buffers.bytes(&first).unwrap(), b"abc");
        buffers.release(&first).unwrap();
        assert_eq!(buffers.room(), None, "a part of it is still out");
        assert_eq!(buffers.bytes(&second).unwrap(), b"defgh");
        buffers.release(&second).unwrap();
        assert_eq!((buffers.room(), buffers.lent()), (Some(8), 0));
    }

    #[test]
    fn a_buffer_that_is_given_up_leaves_its_rest_unused() {
        let mut buffers = Buffers::new(2, 8);
        let mut stream = bytes("abcdef");
        let first = buffers.fill(&mut stream, 3, false);
        let second = buffers.fill(&mut stream, 3, false);
        assert_eq!((first.buffer, second.buffer), (0, 1));
        assert_eq!(buffers.room(), None);
        buffers.release(&second).unwrap();
        buffers.release(&first).unwrap();
        assert_eq!(*buffers.posted.front().unwrap(), 1, "first home, first used");
    }

    #[test]
    fn released_bytes_are_scribbled_over() {
        let mut buffers = Buffers::new(1, 8);
        let lease = buffers.fill(&mut bytes("abcd"), 4, true);
        buffers.release(&lease).unwrap();
        assert_eq!(buffers.all[0].memory[..4], [SCRIBBLE; 4]);
        assert!(buffers.bytes(&lease).is_err());
        assert!(buffers.release(&lease).is_err());
    }
}
