//! A send whose links leave one after the other, as one.

use super::Parts;
use super::parts::Part;
use crate::buf::{LINKS_MAX, OnBreak, SendGuard};
use crate::conn::{Rejected, SendError};
use smallvec::SmallVec;

/// What follows a chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Then {
    #[default]
    Nothing,
    ShutdownWrite,
    Close,
}

/// Links that the kernel sends one after the other, without anything in between, and that complete
/// as one send.
///
/// Each link is a copy, a guard, or several [`Parts`]. Every link waits until all of its bytes are
/// out, and none begins before the one before it is through, so a chain never has a hole: it is out
/// whole, or up to a certain byte. Links that are copied anyway leave as one operation; those sent
/// from where they are become operations of their own, linked in the kernel.
///
/// # Examples
///
/// A response of three large pieces, after which the connection closes:
///
/// ```
/// use ringline_core::{Chain, ConnId, Ctx, EventHandler, OnBreak, SendError};
/// use std::sync::Arc;
///
/// fn serve<H: EventHandler>(cx: &mut Ctx<'_, H>, id: ConnId, pieces: &[Arc<[u8]>]) -> Result<(), SendError> {
///     let mut chain = Chain::new();
///     chain.copy(b"three pieces follow\n")?;
///     for piece in pieces {
///         chain.guard(Arc::clone(piece)).map_err(|rejected| rejected.error)?;
///     }
///     let chain = chain.on_break(OnBreak::Abort).then_close();
///     cx.send_chain(id, chain).map_err(|rejected| rejected.error)?;
///     Ok(())
/// }
/// ```
#[derive(Debug, Default)]
pub struct Chain<'a> {
    links: SmallVec<[Parts<'a>; 4]>,
    pub(crate) on_break: OnBreak,
    pub(crate) then: Then,
}

impl<'a> Chain<'a> {
    /// How many links a chain has at most.
    pub const MAX: usize = LINKS_MAX;

    /// No links yet. A chain without links is legal and completes like an empty send.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a link of bytes that are copied when the chain is sent.
    ///
    /// # Errors
    ///
    /// [`SendError::TooManyLinks`] if there are [`MAX`](Self::MAX) already.
    pub fn copy(&mut self, bytes: &'a [u8]) -> Result<(), SendError> {
        let mut parts = Parts::new();
        parts.copy(bytes)?;
        self.parts(parts).map_err(|rejected| rejected.error)
    }

    /// Adds a link of bytes that are sent from where they are.
    ///
    /// # Errors
    ///
    /// [`SendError::EmptyGuard`] for a guard without bytes, and [`SendError::TooManyLinks`] if there
    /// are [`MAX`](Self::MAX) links already; the guard comes back.
    pub fn guard<G: SendGuard>(&mut self, guard: G) -> Result<(), Rejected<G>> {
        if self.links.len() >= Self::MAX {
            return Err(Rejected::new(FULL, guard));
        }
        let mut parts = Parts::new();
        parts.guard(guard)?;
        self.links.push(parts);
        Ok(())
    }

    /// Adds a link of several parts.
    ///
    /// # Errors
    ///
    /// [`SendError::TooManyLinks`] if there are [`MAX`](Self::MAX) links already; the parts come back.
    pub fn parts(&mut self, parts: Parts<'a>) -> Result<(), Rejected<Parts<'a>>> {
        if self.links.len() >= Self::MAX {
            return Err(Rejected::new(FULL, parts));
        }
        self.links.push(parts);
        Ok(())
    }

    /// Says what becomes of the chain if the kernel stops in the middle of it for a passing reason,
    /// such as lack of memory, while the connection is fine.
    #[must_use]
    pub fn on_break(self, on_break: OnBreak) -> Self {
        Self { on_break, ..self }
    }

    /// Ends our direction behind the chain, as [`shutdown_write`](crate::Ctx::shutdown_write) does.
    #[must_use]
    pub fn then_shutdown(self) -> Self {
        Self { then: Then::ShutdownWrite, ..self }
    }

    /// Closes the connection behind the chain, as [`close`](crate::Ctx::close) does.
    #[must_use]
    pub fn then_close(self) -> Self {
        Self { then: Then::Close, ..self }
    }

    /// How many links there are.
    pub fn count(&self) -> usize {
        self.links.len()
    }

    /// How many bytes the links have together.
    pub fn bytes(&self) -> usize {
        self.links.iter().map(Parts::bytes).sum()
    }

    /// How many bytes each part of each link has.
    pub(crate) fn lens(&self) -> impl Iterator<Item = usize> + Clone {
        self.links.iter().flat_map(Parts::lens)
    }

    pub(crate) fn into_links(self) -> impl Iterator<Item = impl Iterator<Item = Part<'a>>> {
        self.links.into_iter().map(Parts::into_parts)
    }
}

const FULL: SendError = SendError::TooManyLinks { limit: Chain::MAX };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_limit_and_what_is_beyond_it_comes_back() {
        let mut chain = Chain::new();
        for _ in 0..Chain::MAX {
            chain.guard("ab").unwrap();
        }
        assert_eq!(chain.copy(b"c"), Err(FULL));
        let rejected = chain.guard(vec![1]).unwrap_err();
        assert_eq!((rejected.error, rejected.value), (FULL, vec![1]));
        assert_eq!(chain.parts(Parts::new()).unwrap_err().error, FULL);
        assert_eq!((chain.count(), chain.bytes()), (Chain::MAX, 2 * Chain::MAX));
    }
}
