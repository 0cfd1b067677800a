//! What can go wrong with datagrams, and how a socket ends.

use std::io;
use std::net::SocketAddr;

/// Why a datagram was not accepted for sending. Nothing of it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UdpSendError {
    /// The socket has closed, or is another worker's.
    #[error("the socket is gone")]
    Gone,
    /// The socket is closing.
    #[error("the socket is closing")]
    Closing,
    /// As many datagrams or bytes wait to be sent as may: drop this one, or try again in a later
    /// turn.
    #[error(
        "the socket has {datagrams} datagrams with {bytes} bytes waiting, its limit; send less, or raise \
         queue_datagrams and queue_bytes of its options"
    )]
    Full {
        /// How many wait.
        datagrams: usize,
        /// How many bytes they have.
        bytes: usize,
    },
    /// No datagram can be that long.
    #[error("{bytes} bytes are more than the {limit} that a datagram can have")]
    TooLong {
        /// How many bytes there were.
        bytes: usize,
        /// How many there can be.
        limit: usize,
    },
    /// A run of datagrams has one at least and [`SEGMENTS_MAX`](Self::SEGMENTS_MAX) at most, of one
    /// byte at least each.
    #[error(
        "{bytes} bytes in datagrams of {segment_bytes} are {segments} datagrams, and a run has 1 to 64; \
         choose another size"
    )]
    BadSegments {
        /// How many bytes there were.
        bytes: usize,
        /// The size asked for.
        segment_bytes: u16,
        /// How many datagrams that would be.
        segments: usize,
    },
    /// The socket is not connected, so it has to be told where to.
    #[error("the socket is not connected; use send_to, or connect it with its options")]
    NotConnected,
    /// An IPv4 socket does not reach an IPv6 address.
    #[error("{to} is an IPv6 address and the socket is an IPv4 one; bind an IPv6 socket for it")]
    WrongFamily {
        /// Where it was to go.
        to: SocketAddr,
    },
}

impl UdpSendError {
    /// How many datagrams a run can have: what every kernel can cut apart.
    pub const SEGMENTS_MAX: usize = 64;
}

/// A guard whose bytes were not accepted for sending, and why.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Undelivered<G> {
    /// Why.
    pub error: UdpSendError,
    /// What was to be sent.
    pub guard: G,
}

/// What the kernel reports about a datagram socket that goes on working.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UdpError {
    /// Something came back for an earlier datagram of a connected socket: above all `ECONNREFUSED`,
    /// nobody is there.
    Receive {
        /// The error number.
        errno: i32,
    },
    /// A datagram that was accepted has not left.
    Send {
        /// The error number.
        errno: i32,
        /// Where it was to go; `None` on a connected socket.
        to: Option<SocketAddr>,
        /// How many datagrams: more than one for a run.
        datagrams: usize,
    },
}

impl UdpError {
    /// The error number.
    pub fn errno(self) -> i32 {
        match self {
            Self::Receive { errno } | Self::Send { errno, .. } => errno,
        }
    }

    /// Whether nobody is there: the peer's host says that the port is not in use.
    pub fn is_refused(self) -> bool {
        self.errno() == libc::ECONNREFUSED
    }
}

impl From<UdpError> for io::Error {
    fn from(error: UdpError) -> Self {
        Self::from_raw_os_error(error.errno())
    }
}

/// Why a datagram socket has closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UdpClosed {
    /// The handler has closed it.
    Closed,
    /// The server is shutting down.
    Shutdown,
    /// The server's time to shut down was over with datagrams still queued.
    ShutdownDeadline,
    /// The kernel cannot receive on it any more.
    Failed {
        /// The error number.
        errno: i32,
    },
}
