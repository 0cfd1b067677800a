//! Jobs by name, and what can become of them beside their result.

use std::fmt;

/// What the handler calls a job or a name to be resolved; comes back with the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobKey(pub u64);

/// Names one job of one worker, also long after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub(super) u64);

/// Why a job was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// All threads work, and as many jobs wait as may.
    #[error("{limit} jobs wait already; try again later or raise blocking_queue or blocking_threads")]
    QueueFull {
        /// The limit in force: `blocking_queue`.
        limit: usize,
    },
    /// There is no thread, and none could be started.
    #[error("no thread could be started (errno {errno}); look at the limit of threads")]
    NoThread {
        /// What the system said.
        errno: i32,
    },
    /// The connection that the job is for is closing or gone.
    #[error("the connection is closing or gone")]
    NotOpen,
    /// The server shuts down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

/// A job that was not accepted: why, and the job.
#[derive(Clone, Copy)]
pub struct JobRejected<F> {
    /// Why not.
    pub error: JobError,
    /// The job, as it was given.
    pub job: F,
}

impl<F> fmt::Debug for JobRejected<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobRejected").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for JobRejected<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<F> std::error::Error for JobRejected<F> {}

/// Why an accepted job has no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JobFailed {
    /// It panicked.
    #[error("the job panicked: {text}")]
    Panicked {
        /// What it panicked with, if that was a text.
        text: String,
    },
    /// It was cancelled, by [`Ctx::cancel_job`](crate::Ctx::cancel_job) or because the server shut down.
    #[error("the job was cancelled")]
    Cancelled,
}
