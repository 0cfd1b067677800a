//! A send of several parts, some copied and some not.

use crate::buf::{Guard, PIECES_MAX, SendGuard};
use crate::conn::{Rejected, SendError};
use smallvec::SmallVec;

/// A stretch of bytes to send.
#[derive(Debug)]
pub(crate) enum Part<'a> {
    Copy(&'a [u8]),
    Guard(Guard),
}

impl Part<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Copy(bytes) => bytes,
            Self::Guard(guard) => guard.bytes(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Copy(bytes) => bytes.len(),
            Self::Guard(guard) => guard.len(),
        }
    }
}

/// The parts of one send, in order: bytes that are copied, and guards whose bytes are not.
///
/// [`Ctx::send_parts`](crate::Ctx::send_parts) takes them all or none. Up to four parts need no
/// allocation.
///
/// # Examples
///
/// A head that is copied and a body that is not:
///
/// ```
/// use ringline_core::{Ctx, ConnId, EventHandler, Parts, SendError};
/// use std::sync::Arc;
///
/// fn respond<H: EventHandler>(cx: &mut Ctx<'_, H>, id: ConnId, body: &Arc<[u8]>) -> Result<(), SendError> {
///     let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
///     let mut parts = Parts::new();
///     parts.copy(head.as_bytes())?;
///     parts.guard(Arc::clone(body)).map_err(|rejected| rejected.error)?;
///     cx.send_parts(id, parts).map_err(|rejected| rejected.error)?;
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
pub struct Parts<'a> {
    parts: SmallVec<[Part<'a>; 4]>,
}

impl<'a> Parts<'a> {
    /// How many parts one send has at most.
    pub const MAX: usize = PIECES_MAX;

    /// No parts yet. Sending none is legal, like sending no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes that are copied when the parts are sent.
    ///
    /// # Errors
    ///
    /// [`SendError::TooManyParts`] if there are [`MAX`](Self::MAX) already.
    pub fn copy(&mut self, bytes: &'a [u8]) -> Result<(), SendError> {
        if self.is_full() {
            return Err(FULL);
        }
        self.parts.push(Part::Copy(bytes));
        Ok(())
    }

    /// Adds bytes that are sent from where they are. Few bytes are copied all the same: see
    /// [`zero_copy_threshold`](crate::ConfigBuilder::zero_copy_threshold).
    ///
    /// # Errors
    ///
    /// [`SendError::EmptyGuard`] for a guard without bytes, and [`SendError::TooManyParts`] if there
    /// are [`MAX`](Self::MAX) parts already; the guard comes back.
    pub fn guard<G: SendGuard>(&mut self, guard: G) -> Result<(), Rejected<G>> {
        if self.is_full() {
            return Err(Rejected::new(FULL, guard));
        }
        if guard.bytes().is_empty() {
            return Err(Rejected::new(SendError::EmptyGuard, guard));
        }
        self.parts.push(Part::Guard(Guard::new(guard)));
        Ok(())
    }

    /// How many parts there are.
    pub fn count(&self) -> usize {
        self.parts.len()
    }

    /// How many bytes the parts have together.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(Part::len).sum()
    }

    /// How many bytes each part has.
    pub(crate) fn lens(&self) -> impl Iterator<Item = usize> + Clone {
        self.parts.iter().map(Part::len)
    }

    pub(crate) fn into_parts(self) -> impl Iterator<Item = Part<'a>> {
        self.parts.into_iter()
    }

    fn is_full(&self) -> bool {
        self.parts.len() >= Self::MAX
    }
}

const FULL: SendError = SendError::TooManyParts { limit: Parts::MAX };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_limit_and_what_is_beyond_it_comes_back() {
        let mut parts = Parts::new();
        for _ in 0..Parts::MAX {
            parts.copy(b"ab").unwrap();
        }
        assert_eq!(parts.copy(b"c"), Err(SendError::TooManyParts { limit: Parts::MAX }));
        let rejected = parts.guard(vec![1, 2, 3]).unwrap_err();
        assert_eq!(rejected.error, SendError::TooManyParts { limit: Parts::MAX });
        assert_eq!(rejected.value, [1, 2, 3]);
        assert_eq!((parts.count(), parts.bytes()), (Parts::MAX, 2 * Parts::MAX));
    }

    #[test]
    fn a_guard_has_bytes() {
        let rejected = Parts::new().guard(Vec::new()).unwrap_err();
        assert_eq!(rejected.error, SendError::EmptyGuard);
    }
}
