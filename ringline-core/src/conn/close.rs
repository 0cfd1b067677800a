//! Why a connection ended.

use crate::layer::LayerError;
use crate::net::resolve_error::ResolveError;
use std::fmt;
use std::io;

/// Whose doing the end of a connection was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Initiator {
    /// The handler, or the program that stops the server.
    Local,
    /// The other side.
    Peer,
    /// A configured limit or deadline.
    Limit,
    /// The kernel, or the network between the two.
    System,
}

/// A limit that a connection ran into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Limit {
    /// More unread bytes than [`inbox_bytes`](crate::ConfigBuilder::inbox_bytes) allows, or a
    /// handler that asked for more than that with [`need`](crate::Consumed::need).
    Inbox {
        /// The limit in force, in bytes.
        bytes: usize,
    },
    /// Closing made no progress for [`close_timeout`](crate::ConfigBuilder::close_timeout).
    CloseTimeout,
    /// The peer did not answer within [`connect_timeout`](crate::ConfigBuilder::connect_timeout).
    ConnectTimeout,
    /// No byte came for [`first_byte`](crate::Deadlines::first_byte).
    FirstByte,
    /// Nothing was received or sent for [`idle`](crate::Deadlines::idle).
    Idle,
    /// A message was left unfinished for [`read`](crate::Deadlines::read).
    Read,
    /// The peer took nothing of what waited for [`write_stall`](crate::Deadlines::write_stall).
    WriteStall,
    /// Getting everything out took longer than [`drain`](crate::Deadlines::drain).
    Drain,
    /// The layers of both sides did not agree within
    /// [`handshake_timeout`](crate::ConfigBuilder::handshake_timeout).
    Handshake,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Inbox { bytes } => return write!(f, "more than {bytes} unread bytes"),
            Self::CloseTimeout => "closing made no progress in time",
            Self::FirstByte => "no byte received in time",
            Self::Idle => "idle for too long",
            Self::Read => "a message was not finished in time",
            Self::WriteStall => "the peer took nothing in time",
            Self::Drain => "closing took too long",
            Self::ConnectTimeout => "the peer did not answer in time",
            Self::Handshake => "the handshake was not finished in time",
        };
        f.write_str(text)
    }
}

/// Why a connection ended, said once, in [`on_close`](crate::EventHandler::on_close).
///
/// The reason is the first cause of the end. If the bytes queued at that moment could not be
/// delivered in full, it is the cause of that instead: `Closed` means that everything the handler
/// had sent was handed to the kernel before the connection closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// The handler called [`close`](crate::Ctx::close), and everything sent went out.
    Closed,
    /// The handler called [`abort`](crate::Ctx::abort).
    Aborted,
    /// The peer ended its direction and the handler had nothing more to say.
    PeerClosed {
        /// How many received bytes the handler had not consumed: above zero, the peer stopped in
        /// the middle of a message.
        unread: usize,
    },
    /// The peer ended its direction, and its layer had not said that it would: what it sent may have
    /// been cut off on the way, at any place. Never for a connection without a layer.
    Truncated {
        /// How many received bytes the handler had not consumed.
        unread: usize,
    },
    /// The layer could not go on: a handshake that failed, or bytes that nobody could have sent who
    /// knew the keys.
    LayerFailed(LayerError),
    /// The peer reset the connection.
    ///
    /// Or the kernel has given it up, for whatever reason, in the middle of a chain or of a send without
    /// copying: then it keeps its error to itself and reports a broken pipe afterwards, as after a reset.
    PeerReset,
    /// A limit was reached.
    LimitExceeded(Limit),
    /// The server was shut down, and everything sent went out.
    Shutdown,
    /// The server was shut down, and the deadline came first.
    ShutdownDeadline,
    /// The kernel stopped a chain that was to be sent whole or not at all, with
    /// [`OnBreak::Abort`](crate::OnBreak::Abort).
    ChainBroken {
        /// How many bytes of the chain, from its beginning on, are with the kernel.
        sent: u64,
        /// How many the chain had.
        of: u64,
    },
    /// A callback for this connection panicked, or consumed more bytes than there were.
    HandlerPanicked,
    /// A connection that the handler asked for with [`connect`](crate::Ctx::connect) was not made: no
    /// peer took it, or there was no socket for it.
    ConnectFailed {
        /// The error number, as in `errno(3)`: `ECONNREFUSED`, `EHOSTUNREACH`, `EMFILE` and so on.
        /// [`connect_failure`](Self::connect_failure) says it in words.
        errno: i32,
    },
    /// A connection that the handler asked for by a name was not made, because the name has no address.
    Unresolved {
        /// Why not.
        error: ResolveError,
    },
    /// The kernel reported an error.
    Failed {
        /// The error number, as in `errno(3)`.
        errno: i32,
    },
}

impl CloseReason {
    /// Whether both sides had said everything: nothing queued was lost and nothing received was
    /// left unread.
    pub fn is_clean(self) -> bool {
        matches!(self, Self::Closed | Self::Shutdown | Self::PeerClosed { unread: 0 })
    }

    /// Whose doing it was.
    pub fn initiator(self) -> Initiator {
        match self {
            Self::PeerClosed { .. } | Self::Truncated { .. } | Self::PeerReset => Initiator::Peer,
            Self::LayerFailed(error) if error.is_peers_doing() => Initiator::Peer,
            Self::Closed
            | Self::Aborted
            | Self::Shutdown
            | Self::ShutdownDeadline
            | Self::HandlerPanicked
            | Self::LayerFailed(_) => Initiator::Local,
            Self::LimitExceeded(_) => Initiator::Limit,
            Self::ChainBroken { .. }
            | Self::ConnectFailed { .. }
            | Self::Unresolved { .. }
            | Self::Failed { .. } => Initiator::System,
        }
    }

    /// The reason behind an error of a receive or a send.
    pub(crate) fn from_errno(errno: i32) -> Self {
        match errno {
            libc::ECONNRESET | libc::EPIPE => Self::PeerReset,
            errno => Self::Failed { errno },
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("closed by the handler"),
            Self::Aborted => f.write_str("aborted by the handler"),
            Self::PeerClosed { unread: 0 } => f.write_str("closed by the peer"),
            Self::PeerClosed { unread } => {
                write!(f, "closed by the peer with {unread} bytes left unread")
            }
            Self::Truncated { unread } => {
                write!(f, "cut off, with {unread} bytes left unread")
            }
            Self::LayerFailed(error) => error.fmt(f),
            Self::PeerReset => f.write_str("reset by the peer"),
            Self::LimitExceeded(limit) => limit.fmt(f),
            Self::Shutdown => f.write_str("server shut down"),
            Self::ShutdownDeadline => f.write_str("shutdown deadline reached"),
            Self::ChainBroken { sent, of } => write!(f, "a chain broke after {sent} of {of} bytes"),
            Self::HandlerPanicked => f.write_str("handler panicked"),
            Self::ConnectFailed { errno } => {
                write!(f, "could not connect: {}", io::Error::from_raw_os_error(*errno))
            }
            Self::Unresolved { error } => write!(f, "could not connect: {error}"),
            Self::Failed { errno } => io::Error::from_raw_os_error(*errno).fmt(f),
        }
    }
}
