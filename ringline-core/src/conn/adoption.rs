//! Why a socket that was made elsewhere does not become a connection.

use std::os::fd::OwnedFd;
use std::{fmt, io};

/// Why [`Ctx::adopt`](crate::Ctx::adopt) did not take a socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AdoptError {
    /// The worker serves as many connections as it may. Close some, or raise
    /// `connections_per_worker`.
    #[error("the worker has {limit} connections already; close some or raise connections_per_worker")]
    Full {
        /// The limit in force.
        limit: u32,
    },
    /// The server shuts down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// It is no socket that carries a stream of bytes: a file, a pipe, a socket for datagrams.
    #[error("the descriptor is no stream socket; a connection is one of TCP or a Unix stream")]
    NotStream,
    /// It is a listener, was never connected, or has lost its connection.
    #[error("the socket is not connected ({source}); connect it first")]
    NotConnected {
        /// What the system said.
        source: io::Error,
    },
    /// It could not be made ready.
    #[error("the socket could not be prepared: {source}")]
    Failed {
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that was not adopted: why, and everything that was given.
pub struct NotAdopted<C> {
    /// Why not.
    pub error: AdoptError,
    /// The socket, open.
    pub socket: OwnedFd,
    /// The state, as it was given.
    pub state: C,
}

impl<C> fmt::Debug for NotAdopted<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotAdopted").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<C> fmt::Display for NotAdopted<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<C> std::error::Error for NotAdopted<C> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
