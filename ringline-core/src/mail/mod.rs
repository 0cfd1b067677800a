//! Messages from other threads and other workers to a handler.
//!
//! Each worker has a channel of bounded length. Whoever has put something there rings the worker's
//! bell, which wakes it only if it sleeps (`sleep`). A server in which nobody posts pays for none of it:
//! channels are made by the first post, and so is the worker's habit of saying that it sleeps.

mod bell;
mod letters;
mod mailbox;
mod post_error;
mod sleep;

/// The atomics of this program. A test puts others in their place.
mod atomics {
    pub(super) use std::sync::atomic::{AtomicU8, Ordering, fence};
}

#[cfg(test)]
mod model;

pub use mailbox::Mailbox;
pub use post_error::{BroadcastError, PostError};

pub(crate) use bell::{Bell, Sleeper, Waker};
pub(crate) use letters::Letters;
