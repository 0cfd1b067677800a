//! Why a name has no addresses.

/// No name is longer, as text.
pub(crate) const NAME_BYTES_MAX: usize = 253;

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// There is no such name, or it has no address.
    #[error("no such name")]
    NotFound,
    /// No server has answered, or not yet. Asking later may help.
    #[error("the name could not be resolved now; try again later")]
    TryAgain,
    /// The resolver cannot do it.
    #[error("the resolver failed (EAI {code}); look at the configuration of the system's resolver")]
    Failed {
        /// What `getaddrinfo` returned.
        code: i32,
    },
    /// It is empty, longer than a name may be, or holds a zero.
    #[error("a name has 1 to {NAME_BYTES_MAX} bytes, none of them zero")]
    BadName,
    /// As many names wait as may.
    #[error("{limit} names wait already; try again later or raise resolve_queue or resolve_threads")]
    QueueFull {
        /// The limit in force: `resolve_queue`.
        limit: usize,
    },
    /// There is no thread, and none could be started.
    #[error("no thread could be started (errno {errno}); look at the limit of threads")]
    NoThread {
        /// What the system said.
        errno: i32,
    },
    /// It was cancelled, by [`Ctx::cancel_job`](crate::Ctx::cancel_job) or because the server shut down.
    #[error("the resolution was cancelled")]
    Cancelled,
    /// The server shuts down.
    #[error("the server is shutting down")]
    ShuttingDown,
}
