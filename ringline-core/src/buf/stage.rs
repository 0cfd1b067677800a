//! Where the bytes of this turn's sends lie, densely, until the kernel has copied them.
//!
//! A staged span lives from the `send` that made it to the end of the next `Backend::enter`, so the
//! stage is emptied once a turn and stays small and hot. There are two halves: while one is on its
//! way, callbacks fill the other, and a half starts over when its last span has retired.

use crate::sys::Region;
use std::io;

/// A range of staged bytes. Handed back by [`Stage::retire`] exactly once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

#[derive(Debug, Default)]
struct Half {
    used: u32,
    live: u32,
}

/// Two halves of memory that is reused every turn.
#[derive(Debug)]
pub(crate) struct Stage {
    memory: Region,
    half_bytes: u32,
    halves: [Half; 2],
    filling: usize,
}

impl Stage {
    /// `half_bytes` is how much one turn can stage. The memory is touched only as it is used.
    pub(crate) fn new(half_bytes: u32) -> io::Result<Self> {
        Ok(Self {
            memory: Region::new(2 * half_bytes as usize)?,
            half_bytes,
            halves: Default::default(),
            filling: 0,
        })
    }

    /// Stages `bytes`, or says that this turn has no room for them.
    #[inline]
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Option<Span> {
        let start = self.write(bytes)?;
        self.halves[self.filling].live += 1;
        Some(Span { start, len: bytes.len() as u32 })
    }

    /// Grows `span` by `bytes` if it is the last that was staged and there is room.
    #[inline]
    pub(crate) fn extend(&mut self, span: Span, bytes: &[u8]) -> Option<Span> {
        let tail = self.filling as u32 * self.half_bytes + self.halves[self.filling].used;
        if span.start + span.len != tail || self.half_of(span) != self.filling {
            return None;
        }
        self.write(bytes)?;
        Some(Span { len: span.len + bytes.len() as u32, ..span })
    }

    /// Room for `bytes` more behind `span`, which is empty or the last that was staged. What is written
    /// there counts once it is [committed](Self::commit).
    pub(crate) fn room(&mut self, span: Span, bytes: usize) -> Option<&mut [u8]> {
        let half = &self.halves[self.filling];
        let tail = self.filling as u32 * self.half_bytes + half.used;
        let is_last = span.len == 0 || span.start + span.len == tail && self.half_of(span) == self.filling;
        if !is_last || bytes > (self.half_bytes - half.used) as usize {
            return None;
        }
        Some(self.memory.slice_mut(tail as usize, bytes))
    }

    /// Grows `span` by the first `bytes` bytes of the room that was given for it last.
    pub(crate) fn commit(&mut self, span: Span, bytes: usize) -> Span {
        let half = &mut self.halves[self.filling];
        let tail = self.filling as u32 * self.half_bytes + half.used;
        half.used += bytes as u32;
        if span.len > 0 {
            return Span { len: span.len + bytes as u32, ..span };
        }
        half.live += u32::from(bytes > 0);
        Span { start: tail, len: bytes as u32 }
    }

    /// Gives a span's memory back.
    #[inline]
    pub(crate) fn retire(&mut self, span: Span) {
        let half = self.half_of(span);
        let half = &mut self.halves[half];
        half.live -= 1;
        if half.live == 0 {
            half.used = 0;
        }
    }

    /// Lets callbacks fill the other half from now on, if that one is empty.
    #[inline]
    pub(crate) fn flip(&mut self) {
        if self.halves[self.filling].live != 0 && self.halves[self.filling ^ 1].live == 0 {
            self.filling ^= 1;
        }
    }

    /// The staged bytes themselves.
    #[inline]
    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        self.memory.slice(span.start as usize, span.len as usize)
    }

    /// The memory, for a backend whose operations name it by address.
    pub(crate) fn memory(&self) -> &Region {
        &self.memory
    }

    /// Whether nothing is staged, neither waiting nor on its way.
    pub(crate) fn is_empty(&self) -> bool {
        self.halves.iter().all(|half| half.live == 0)
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Option<u32> {
        let half = &mut self.halves[self.filling];
        if bytes.len() > (self.half_bytes - half.used) as usize {
            return None;
        }
        let start = self.filling as u32 * self.half_bytes + half.used;
        self.memory.slice_mut(start as usize, bytes.len()).copy_from_slice(bytes);
        half.used += bytes.len() as u32;
        Some(start)
    }

    #[inline]
    fn half_of(&self, span: Span) -> usize {
        usize::from(span.start >= self.half_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_dense_and_only_the_last_one_grows() {
        let mut stage = Stage::new(64).unwrap();
        let first = stage.append(b"one").unwrap();
        let second = stage.append(b"two").unwrap();
        assert_eq!(second.start, first.start + first.len);
        assert_eq!(stage.extend(first, b"x"), None);
        let second = stage.extend(second, b"three").unwrap();
        assert_eq!(stage.bytes(first), b"one");
        assert_eq!(stage.bytes(second), b"twothree");
    }

    #[test]
    fn a_half_starts_over_when_its_last_span_retires() {
        let mut stage = Stage::new(8).unwrap();
        let first = stage.append(b"12345678").unwrap();
        assert_eq!(stage.append(b"9"), None);
        stage.flip();
        let second = stage.append(b"abc").unwrap();
        assert_eq!(stage.bytes(first), b"12345678");
        stage.flip();
        assert_eq!(stage.append(b"123456"), None, "the other half is still on its way");
        stage.retire(first);
        stage.retire(second);
        assert!(stage.is_empty());
        assert!(stage.append(b"12345678").is_some());
    }

    #[test]
    fn a_span_of_the_half_on_its_way_never_grows() {
        let mut stage = Stage::new(8).unwrap();
        let flying = stage.append(b"1234").unwrap();
        stage.flip();
        assert_eq!(stage.extend(flying, b"5"), None);
    }
}
