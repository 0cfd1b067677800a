//! The options of a socket by name, and what can be wrong with them.

use std::fmt;

/// An option of a socket, as [`SocketOptions`](super::SocketOptions) sets it and as errors name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SocketOption {
    /// `TCP_NODELAY`
    Nodelay,
    /// `SO_KEEPALIVE`
    KeepAlive,
    /// `TCP_KEEPIDLE`
    KeepAliveIdle,
    /// `TCP_KEEPINTVL`
    KeepAliveInterval,
    /// `TCP_KEEPCNT`
    KeepAliveCount,
    /// `SO_SNDBUF`
    SendBuffer,
    /// `SO_RCVBUF`
    ReceiveBuffer,
    /// `SO_LINGER`
    ResetOnClose,
    /// `TCP_USER_TIMEOUT`
    UserTimeout,
    /// `TCP_CONGESTION`
    Congestion,
    /// `IP_TOS` and `IPV6_TCLASS`
    TrafficClass,
    /// `SO_MARK`
    Mark,
    /// `SO_BUSY_POLL`
    BusyPoll,
    /// `SO_PRIORITY`
    Priority,
    /// `IPV6_V6ONLY`
    V6Only,
    /// `IP_FREEBIND`
    FreeBind,
    /// `SO_BINDTODEVICE`
    Device,
    /// An option that was given by its numbers.
    Raw {
        /// As in `setsockopt(2)`.
        level: i32,
        /// As in `setsockopt(2)`.
        name: i32,
    },
}

impl SocketOption {
    /// Whether it has an effect on the way a socket gets its address only.
    pub(crate) fn is_for_binding(self) -> bool {
        matches!(self, Self::V6Only | Self::FreeBind | Self::Device)
    }

    /// Whether it has an effect on Unix sockets.
    pub(crate) fn is_for_unix(self) -> bool {
        matches!(self, Self::SendBuffer | Self::Raw { .. })
    }
}

impl fmt::Display for SocketOption {
    /// The name of its setter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nodelay => "nodelay",
            Self::KeepAlive => "keep_alive",
            Self::KeepAliveIdle => "keep_alive_idle",
            Self::KeepAliveInterval => "keep_alive_interval",
            Self::KeepAliveCount => "keep_alive_count",
            Self::SendBuffer => "send_buffer_bytes",
            Self::ReceiveBuffer => "receive_buffer_bytes",
            Self::ResetOnClose => "reset_on_close",
            Self::UserTimeout => "user_timeout",
            Self::Congestion => "congestion",
            Self::TrafficClass => "traffic_class",
            Self::Mark => "mark",
            Self::BusyPoll => "busy_poll",
            Self::Priority => "priority",
            Self::V6Only => "v6_only",
            Self::FreeBind => "free_bind",
            Self::Device => "device",
            Self::Raw { level, name } => return write!(f, "raw option {name} of level {level}"),
        })
    }
}

/// Why [`SocketOptions`](super::SocketOptions) cannot be set. The kernel has not been asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// A number is outside its range.
    #[error("{option} is {value}: choose a value from {min} to {max}")]
    OutOfRange {
        /// Which one.
        option: SocketOption,
        /// What was asked for, in the unit that the kernel counts in.
        value: i64,
        /// The lowest value allowed.
        min: i64,
        /// The highest value allowed.
        max: i64,
    },
    /// A name or a value has the wrong length.
    #[error("{option} has {len} bytes: give 1 to {max}")]
    Length {
        /// Which one.
        option: SocketOption,
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// A name has a zero byte in it.
    #[error("{option} has a zero byte in it: leave it out")]
    ZeroByte {
        /// Which one.
        option: SocketOption,
    },
    /// Too many options that are given by their numbers.
    #[error("there are {count} raw options: set {max} at a time at most")]
    TooManyRaw {
        /// How many there are.
        count: usize,
        /// How many there may be.
        max: usize,
    },
    /// A raw option whose value holds an address, which the kernel would follow wherever it leads.
    #[error(
        "{option} takes an address in its value, which nobody could vouch for: set it on a socket of your own, and adopt that"
    )]
    HoldsAddress {
        /// Which one.
        option: SocketOption,
    },
    /// A raw option that would make closing a socket wait, and the worker with it.
    #[error(
        "SO_LINGER would let a close block the worker: use reset_on_close, or linger of the configuration"
    )]
    Blocks,
    /// The option has no effect on a Unix socket.
    #[error("{option} means nothing to a Unix socket: leave it out there")]
    NotForUnix {
        /// Which one.
        option: SocketOption,
    },
    /// The option has an effect only before a socket has its address.
    #[error("{option} comes too late for an open connection: set it on the listener or in ConnectOptions")]
    TooLate {
        /// Which one.
        option: SocketOption,
    },
    /// The connection is not open.
    #[error("the connection is not open; to set options before that, use ConnectOptions")]
    NotOpen,
    /// So much is being set on this connection already.
    #[error("{max} options of the connection are being set already: wait for on_socket_options")]
    Busy {
        /// How many may be on their way.
        max: usize,
    },
}

/// An option that the kernel has refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionRefused {
    /// Which one. Those before it were set, and those behind it were not tried.
    pub option: SocketOption,
    /// The error number, as in `errno(3)`: `EPERM`, `ENOENT`, `ENOPROTOOPT` and so on.
    pub errno: i32,
}

impl fmt::Display for OptionRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { option, errno } = self;
        write!(f, "{option} could not be set: {}", std::io::Error::from_raw_os_error(*errno))
    }
}

impl std::error::Error for OptionRefused {}
