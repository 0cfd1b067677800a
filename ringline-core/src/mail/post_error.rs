//! Why a message did not go where it was meant to go.

use std::fmt;

/// A message that was not posted. It comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PostError<M> {
    /// As many messages wait for the worker as may.
    Full {
        /// The message.
        message: M,
        /// The limit in force: `mailbox_messages`.
        limit: usize,
    },
    /// The worker has ended.
    Gone {
        /// The message.
        message: M,
    },
    /// There is no worker with this number.
    NoSuchWorker {
        /// The message.
        message: M,
        /// How many workers there are, the first with the number 0.
        workers: usize,
    },
}

impl<M> PostError<M> {
    /// The message.
    pub fn into_message(self) -> M {
        match self {
            Self::Full { message, .. } | Self::Gone { message } | Self::NoSuchWorker { message, .. } => {
                message
            }
        }
    }
}

impl<M> fmt::Debug for PostError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { limit, .. } => f.debug_struct("Full").field("limit", limit).finish_non_exhaustive(),
            Self::Gone { .. } => f.debug_struct("Gone").finish_non_exhaustive(),
            Self::NoSuchWorker { workers, .. } => {
                f.debug_struct("NoSuchWorker").field("workers", workers).finish_non_exhaustive()
            }
        }
    }
}

impl<M> fmt::Display for PostError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { limit, .. } => write!(
                f,
                "{limit} messages wait for the worker already; post again later or raise mailbox_messages"
            ),
            Self::Gone { .. } => f.write_str("the worker has ended"),
            Self::NoSuchWorker { workers, .. } => {
                write!(f, "there is no such worker; choose one from 0 to {}", workers - 1)
            }
        }
    }
}

impl<M> std::error::Error for PostError<M> {}

/// Workers that did not get a message for all. The others did.
pub struct BroadcastError<M> {
    /// Each of them, with the reason and its copy of the message.
    pub missed: Vec<(usize, PostError<M>)>,
    /// How many workers there are.
    pub workers: usize,
}

impl<M> fmt::Debug for BroadcastError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BroadcastError")
            .field("missed", &self.missed)
            .field("workers", &self.workers)
            .finish()
    }
}

impl<M> fmt::Display for BroadcastError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} workers did not get the message", self.missed.len(), self.workers)?;
        match self.missed.first() {
            Some((worker, error)) => write!(f, "; worker {worker}: {error}"),
            None => Ok(()),
        }
    }
}

impl<M> std::error::Error for BroadcastError<M> {}
