//! What a send is answered with: at once, and when it is over.

use super::CloseReason;
use std::error::Error;
use std::fmt;

/// What a send was accepted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The number of this send: sends of one connection are numbered from 1. [`Sent::through`]
    /// reaches it when the send has completed.
    pub sequence: u64,
    /// Whether the connection's outbox is above its high mark.
    pub pressure: Pressure,
}

/// How full a connection's outbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// Below the high mark: carry on.
    Low,
    /// At or above [`outbox_high_bytes`](crate::ConfigBuilder::outbox_high_bytes): better stop until
    /// [`on_writable`](crate::EventHandler::on_writable) says that it is down to the low mark.
    High,
}

/// Sends that have completed, all up to one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Every send up to this number is covered by this or an earlier completion.
    pub through: u64,
    /// How many bytes went to the kernel since the last completion.
    pub bytes: u64,
    /// Whether the covered sends went out whole.
    pub result: Result<(), SendFailure>,
}

/// Why sends did not go out whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendFailure {
    /// The connection ended first; some or all of the covered sends were dropped, and
    /// [`on_close`](crate::EventHandler::on_close) follows.
    #[error("the connection ended first: {0}")]
    Ended(CloseReason),
    /// The last of the covered sends is a chain that the kernel stopped, with
    /// [`OnBreak::Report`](crate::OnBreak::Report). The connection goes on.
    #[error("the chain broke after {sent} of {of} bytes")]
    Broken {
        /// How many bytes of the chain, from its beginning on, are with the kernel.
        sent: u64,
        /// How many the chain had.
        of: u64,
    },
}

/// Why a send was not accepted. Nothing of it was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection does not exist any more, or is another worker's.
    #[error("the connection is gone")]
    Gone,
    /// The connection is not open yet, is closing, or its sending direction has ended.
    #[error("the connection does not take sends any more")]
    Closing,
    /// The connection's outbox would grow beyond its limit. Wait for `on_writable`, or raise
    /// `outbox_bytes`.
    #[error(
        "{pending} bytes are waiting already and {limit} is the limit; wait for on_writable or raise outbox_bytes"
    )]
    Full {
        /// Bytes waiting in this connection's outbox.
        pending: usize,
        /// The limit in force.
        limit: usize,
    },
    /// All outboxes of the worker together would grow beyond their limit. Slow peers hold the
    /// memory; close some, or raise `worker_outbox_bytes`.
    #[error("{pending} bytes are waiting on this worker and {limit} is the limit; raise worker_outbox_bytes")]
    WorkerFull {
        /// Bytes waiting in all outboxes of the worker.
        pending: usize,
        /// The limit in force.
        limit: usize,
    },
    /// A guard has no bytes, so nothing would ever release it. Leave it out.
    #[error("a guard has no bytes; leave it out")]
    EmptyGuard,
    /// One send has too many parts. Join some of them, or send the rest with another call.
    #[error("a send has at most {limit} parts; join some of them or send the rest with another call")]
    TooManyParts {
        /// The limit.
        limit: usize,
    },
    /// A chain has too many links. Join some of them, or send the rest in another chain.
    #[error("a chain has at most {limit} links; join some of them or send the rest in another chain")]
    TooManyLinks {
        /// The limit.
        limit: usize,
    },
}

/// A send that was not accepted, with what was to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Rejected<T> {
    /// Why.
    pub error: SendError,
    /// The guard, the parts or the chain, as they were.
    pub value: T,
}

impl<T> Rejected<T> {
    pub(crate) fn new(error: SendError, value: T) -> Self {
        Self { error, value }
    }
}

impl<T> fmt::Debug for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rejected").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for Rejected<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T> Error for Rejected<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// The outbox limits of one connection, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) full: usize,
}
