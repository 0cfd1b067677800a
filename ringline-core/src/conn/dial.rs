//! Why a connection that the handler asks for is not begun.

use crate::layer::Layer;
use crate::net::{OptionError, ResolveError};
use std::fmt;
use std::net::SocketAddr;

/// Why [`Ctx::connect`](crate::Ctx::connect) did not begin to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
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
    /// The local address is of another family than the address to connect to.
    #[error(
        "cannot connect from {local}: the other end has an address of another family; bind to one of its own"
    )]
    LocalAddr {
        /// What was asked for.
        local: SocketAddr,
    },
    /// An unnamed Unix socket is nowhere.
    #[error("cannot connect to an unnamed Unix socket; give a path or an abstract name")]
    Unnamed,
    /// There is no address to connect to.
    #[error("there is no address to connect to")]
    NoAddress,
    /// The name cannot be resolved.
    #[error("cannot connect: {0}")]
    Resolve(#[from] ResolveError),
    /// An option of the socket cannot be set.
    #[error(transparent)]
    Option(#[from] OptionError),
}

/// A connection that was not begun: why, and the state that was meant for it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NotConnected<C> {
    /// Why not.
    pub error: ConnectError,
    /// The state, as it was given.
    pub state: C,
}

impl<C> fmt::Debug for NotConnected<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotConnected").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<C> fmt::Display for NotConnected<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<C> std::error::Error for NotConnected<C> {}

/// Why [`Ctx::secure`](crate::Ctx::secure) did not put a layer on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecureError {
    /// The connection does not exist any more, or is another worker's.
    #[error("the connection is gone")]
    Gone,
    /// The connection is not open yet, is closing, or one of its directions has ended.
    #[error("the connection is not open in both directions")]
    NotOpen,
    /// The connection has a layer already.
    #[error("the connection has a layer already")]
    Layered,
}

/// A layer that was not put on a connection, and why.
#[derive(Debug)]
pub struct NotSecured {
    /// Why not.
    pub error: SecureError,
    /// The layer, as it was given.
    pub layer: Box<dyn Layer>,
}

impl fmt::Display for NotSecured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for NotSecured {}
