//! Options of sockets, checked before the kernel sees them.
//!
//! A `Setting` is what one system call sets. The options of one call become settings in one place, which
//! knows what each option is on each kind of socket.

use super::addr::Family;
use super::socket_option::{OptionError, SocketOption};
use std::ops::RangeInclusive;
use std::time::Duration;

/// Options of sockets: of a listener and of what it accepts, of a connection that is to be made, or of one
/// that is open. What is not set stays as it is.
///
/// Where an option goes:
/// [`ListenOptions::socket`](super::ListenOptions::socket) and
/// [`UnixListenOptions::socket`](super::UnixListenOptions::socket) for listeners,
/// [`ConnectOptions::socket`](super::ConnectOptions::socket) for connections of our own, and
/// [`Ctx::set_socket_options`](crate::Ctx::set_socket_options) for open ones. Values are checked there.
///
/// # Examples
///
/// ```
/// use ringline_core::net::{ListenOptions, SocketOptions};
/// use std::time::Duration;
///
/// let socket = SocketOptions::new()
///     .keep_alive(true)
///     .keep_alive_idle(Duration::from_secs(60))
///     .send_buffer_bytes(1 << 20);
/// let options = ListenOptions::default().socket(socket);
/// assert_ne!(options, ListenOptions::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Each option once, in the order in which they were first set.
    entries: Vec<(SocketOption, Value)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(i64),
    Bytes(Box<[u8]>),
}

impl SocketOptions {
    /// How many options may be given by their numbers, and how long their values may be.
    pub const RAW_MAX: usize = 16;
    /// How long the value of an option that is given by its numbers may be, in bytes.
    pub const RAW_BYTES_MAX: usize = 256;

    /// No options.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// Whether small segments leave at once (`TCP_NODELAY`). They do unless switched off.
    #[must_use]
    pub fn nodelay(self, on: bool) -> Self {
        self.number(SocketOption::Nodelay, on)
    }

    /// Whether the kernel asks an idle peer for a sign of life (`SO_KEEPALIVE`); it does not unless told
    /// to. A peer that gives none ends the connection with `ETIMEDOUT`.
    #[must_use]
    pub fn keep_alive(self, on: bool) -> Self {
        self.number(SocketOption::KeepAlive, on)
    }

    /// After how long without traffic it asks first: whole seconds, rounded up, 1 to 32767.
    #[must_use]
    pub fn keep_alive_idle(self, after: Duration) -> Self {
        self.number(SocketOption::KeepAliveIdle, seconds(after))
    }

    /// How long it waits for an answer before it asks again: whole seconds, rounded up, 1 to 32767.
    #[must_use]
    pub fn keep_alive_interval(self, interval: Duration) -> Self {
        self.number(SocketOption::KeepAliveInterval, seconds(interval))
    }

    /// How often it asks in vain before it gives the peer up, 1 to 127.
    #[must_use]
    pub fn keep_alive_count(self, times: u32) -> Self {
        self.number(SocketOption::KeepAliveCount, times)
    }

    /// How many bytes the kernel takes that the peer has not acknowledged (`SO_SNDBUF`), 1 to 1 GiB. It
    /// lowers what is above `net.core.wmem_max`, doubles the rest for its own needs, and stops adjusting.
    #[must_use]
    pub fn send_buffer_bytes(self, bytes: u32) -> Self {
        self.number(SocketOption::SendBuffer, bytes)
    }

    /// How many bytes the kernel keeps for us (`SO_RCVBUF`), 1 to 1 GiB, as with
    /// [`send_buffer_bytes`](Self::send_buffer_bytes) and `net.core.rmem_max`. On a listener it also decides
    /// how large the window can become.
    #[must_use]
    pub fn receive_buffer_bytes(self, bytes: u32) -> Self {
        self.number(SocketOption::ReceiveBuffer, bytes)
    }

    /// Whether closing the socket drops what the peer has not acknowledged, and tells it by a reset
    /// (`SO_LINGER` with no time). It takes `Closed` its meaning: use it for peers that are beyond help.
    ///
    /// There is no option that lets a close wait, because the worker would wait with it:
    /// [`linger`](crate::ConfigBuilder::linger) does that without.
    #[must_use]
    pub fn reset_on_close(self, on: bool) -> Self {
        self.number(SocketOption::ResetOnClose, on)
    }

    /// For how long sent data may stay unacknowledged before the kernel ends the connection with
    /// `ETIMEDOUT` (`TCP_USER_TIMEOUT`): whole milliseconds, rounded up; zero is the system's default.
    #[must_use]
    pub fn user_timeout(self, timeout: Duration) -> Self {
        let whole = timeout.saturating_add(Duration::from_nanos(999_999));
        self.number(SocketOption::UserTimeout, i64::try_from(whole.as_millis()).unwrap_or(i64::MAX))
    }

    /// The congestion control, such as `cubic` or `bbr` (`TCP_CONGESTION`), 1 to 15 bytes. The kernel
    /// refuses one that is not loaded or not allowed.
    #[must_use]
    pub fn congestion(self, name: &str) -> Self {
        self.bytes(SocketOption::Congestion, name.as_bytes())
    }

    /// The traffic class of packets (`IP_TOS`, `IPV6_TCLASS`). The lowest two bits are the kernel's.
    #[must_use]
    pub fn traffic_class(self, class: u8) -> Self {
        self.number(SocketOption::TrafficClass, class)
    }

    /// The mark that routing and filters see (`SO_MARK`); takes `CAP_NET_ADMIN`.
    #[must_use]
    pub fn mark(self, mark: u32) -> Self {
        self.number(SocketOption::Mark, mark)
    }

    /// For how long the kernel polls the device before it sleeps (`SO_BUSY_POLL`), in whole microseconds;
    /// to raise it takes `CAP_NET_ADMIN`.
    #[must_use]
    pub fn busy_poll(self, time: Duration) -> Self {
        self.number(SocketOption::BusyPoll, i64::try_from(time.as_micros()).unwrap_or(i64::MAX))
    }

    /// The priority of packets in the queues of a device (`SO_PRIORITY`); above 6 it takes `CAP_NET_ADMIN`.
    #[must_use]
    pub fn priority(self, priority: u32) -> Self {
        self.number(SocketOption::Priority, priority)
    }

    /// Whether an IPv6 socket is for IPv6 only (`IPV6_V6ONLY`). Nothing for others. For listeners and
    /// connections to be made; of a listener it replaces [`ListenOptions::v6_only`](super::ListenOptions::v6_only).
    #[must_use]
    pub fn v6_only(self, on: bool) -> Self {
        self.number(SocketOption::V6Only, on)
    }

    /// Whether the socket may bind to an address that this host does not have, or not yet (`IP_FREEBIND`).
    /// For listeners and connections to be made.
    #[must_use]
    pub fn free_bind(self, on: bool) -> Self {
        self.number(SocketOption::FreeBind, on)
    }

    /// The network interface that the socket is bound to (`SO_BINDTODEVICE`), 1 to 15 bytes. For listeners
    /// and connections to be made.
    #[must_use]
    pub fn device(self, name: &str) -> Self {
        self.bytes(SocketOption::Device, name.as_bytes())
    }

    /// Any other option, by its numbers and the bytes of its value, as in `setsockopt(2)`. Nobody checks
    /// what it does to the socket. Options whose values hold addresses, such as `SO_ATTACH_FILTER` and those
    /// of netfilter, are refused: no safe call may have the kernel follow a pointer. Of a listener,
    /// accepted sockets have it if the kernel passes it on.
    /// Values have 1 to [`RAW_BYTES_MAX`](Self::RAW_BYTES_MAX) bytes, and there may be
    /// [`RAW_MAX`](Self::RAW_MAX) of them.
    #[must_use]
    pub fn raw(self, level: i32, name: i32, value: &[u8]) -> Self {
        self.bytes(SocketOption::Raw { level, name }, value)
    }

    /// What to set on a socket of this family.
    pub(crate) fn settings(&self, family: Family, moment: Moment) -> Result<Vec<Setting>, OptionError> {
        let is_raw = |(option, _): &&(SocketOption, Value)| matches!(option, SocketOption::Raw { .. });
        let raw = self.entries.iter().filter(is_raw).count();
        if raw > Self::RAW_MAX {
            return Err(OptionError::TooManyRaw { count: raw, max: Self::RAW_MAX });
        }
        let mut settings = Vec::new();
        for (option, value) in &self.entries {
            check(*option, value)?;
            if family == Family::Unix && !option.is_for_unix() {
                return Err(OptionError::NotForUnix { option: *option });
            }
            if moment == Moment::Open && option.is_for_binding() {
                return Err(OptionError::TooLate { option: *option });
            }
            for (level, name) in numbers(*option, family).into_iter().flatten() {
                settings.push(Setting { option: *option, level, name, value: value.to_kernel(*option) });
            }
        }
        Ok(settings)
    }

    fn number(self, option: SocketOption, value: impl Into<i64>) -> Self {
        self.set(option, Value::Number(value.into()))
    }

    fn bytes(self, option: SocketOption, value: &[u8]) -> Self {
        self.set(option, Value::Bytes(value.into()))
    }

    fn set(mut self, option: SocketOption, value: Value) -> Self {
        match self.entries.iter_mut().find(|(other, _)| *other == option) {
            Some((_, place)) => *place = value,
            None => self.entries.push((option, value)),
        }
        self
    }
}

/// When options are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Before the socket has an address.
    Fresh,
    /// On a connection.
    Open,
}

/// One option of one socket, as the kernel takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setting {
    pub(crate) option: SocketOption,
    pub(crate) level: i32,
    pub(crate) name: i32,
    pub(crate) value: Box<[u8]>,
}

impl Setting {
    /// Whether a socket that is accepted has what its listener was given. Sockets of the TCP family are
    /// copies of their listener, but for the priority; a Unix socket is made anew by whoever connects.
    pub(crate) fn is_inherited(&self, family: Family) -> bool {
        match family {
            Family::V4 | Family::V6 => self.option != SocketOption::Priority,
            Family::Unix => self.option != SocketOption::SendBuffer,
        }
    }
}

impl Value {
    fn to_kernel(&self, option: SocketOption) -> Box<[u8]> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Number(number) if option == SocketOption::ResetOnClose => {
                // `struct linger`: whether, and for how many seconds.
                [(*number as i32).to_ne_bytes(), 0_i32.to_ne_bytes()].concat().into()
            }
            // A mark uses all of its 32 bits.
            Self::Number(number) => (*number as i32).to_ne_bytes().into(),
        }
    }
}

/// The calls that it takes to set an option on a socket of this family: none, one or two.
fn numbers(option: SocketOption, family: Family) -> [Option<(i32, i32)>; 2] {
    let one = |level, name| [Some((level, name)), None];
    match option {
        SocketOption::Nodelay => one(libc::IPPROTO_TCP, libc::TCP_NODELAY),
        SocketOption::KeepAlive => one(libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        SocketOption::KeepAliveIdle => one(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
        SocketOption::KeepAliveInterval => one(libc::IPPROTO_TCP, libc::TCP_KEEPINTVL),
        SocketOption::KeepAliveCount => one(libc::IPPROTO_TCP, libc::TCP_KEEPCNT),
        SocketOption::SendBuffer => one(libc::SOL_SOCKET, libc::SO_SNDBUF),
        SocketOption::ReceiveBuffer => one(libc::SOL_SOCKET, libc::SO_RCVBUF),
        SocketOption::ResetOnClose => one(libc::SOL_SOCKET, libc::SO_LINGER),
        SocketOption::UserTimeout => one(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
        SocketOption::Congestion => one(libc::IPPROTO_TCP, libc::TCP_CONGESTION),
        // An IPv6 socket may talk to an IPv4 peer, whose packets carry the other one.
        SocketOption::TrafficClass if family == Family::V6 => {
            [Some((libc::IPPROTO_IPV6, libc::IPV6_TCLASS)), Some((libc::IPPROTO_IP, libc::IP_TOS))]
        }
        SocketOption::TrafficClass => one(libc::IPPROTO_IP, libc::IP_TOS),
        SocketOption::Mark => one(libc::SOL_SOCKET, libc::SO_MARK),
        SocketOption::BusyPoll => one(libc::SOL_SOCKET, libc::SO_BUSY_POLL),
        SocketOption::Priority => one(libc::SOL_SOCKET, libc::SO_PRIORITY),
        SocketOption::V6Only if family == Family::V6 => one(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
        SocketOption::V6Only => [None, None],
        SocketOption::FreeBind => one(libc::IPPROTO_IP, libc::IP_FREEBIND),
        SocketOption::Device => one(libc::SOL_SOCKET, libc::SO_BINDTODEVICE),
        SocketOption::Raw { level, name } => one(level, name),
    }
}

/// Names of congestion controls and of interfaces end with a zero byte within this many.
const NAME_ROOM_BYTES: usize = 16;

fn check(option: SocketOption, value: &Value) -> Result<(), OptionError> {
    match value {
        Value::Number(value) => {
            let range = range(option);
            let (min, max) = (*range.start(), *range.end());
            let error = OptionError::OutOfRange { option, value: *value, min, max };
            if range.contains(value) { Ok(()) } else { Err(error) }
        }
        Value::Bytes(bytes) => {
            let is_raw = matches!(option, SocketOption::Raw { .. });
            let max = if is_raw { SocketOptions::RAW_BYTES_MAX } else { NAME_ROOM_BYTES - 1 };
            if bytes.is_empty() || bytes.len() > max {
                return Err(OptionError::Length { option, len: bytes.len(), max });
            }
            if option == (SocketOption::Raw { level: libc::SOL_SOCKET, name: libc::SO_LINGER }) {
                return Err(OptionError::Blocks);
            }
            if holds_address(option) {
                return Err(OptionError::HoldsAddress { option });
            }
            if !is_raw && bytes.contains(&0) { Err(OptionError::ZeroByte { option }) } else { Ok(()) }
        }
    }
}

/// Whether the value of a raw option holds an address of this process, as programs for packet filters and
/// tables of netfilter do. No safe call may hand such a value to the kernel.
fn holds_address(option: SocketOption) -> bool {
    let SocketOption::Raw { level, name } = option else { return false };
    match level {
        libc::SOL_SOCKET => matches!(name, libc::SO_ATTACH_FILTER | libc::SO_ATTACH_REUSEPORT_CBPF),
        // The tables of IPv4, ARP and bridges begin at 64, 96 and 128; IP itself ends before.
        libc::IPPROTO_IP => name >= 64,
        // The tables of IPv6 have two numbers in the middle of its own.
        libc::IPPROTO_IPV6 => matches!(name, 64 | 65),
        _ => false,
    }
}

fn range(option: SocketOption) -> RangeInclusive<i64> {
    match option {
        SocketOption::KeepAliveIdle | SocketOption::KeepAliveInterval => 1..=32_767,
        SocketOption::KeepAliveCount => 1..=127,
        SocketOption::SendBuffer | SocketOption::ReceiveBuffer => 1..=1 << 30,
        SocketOption::Mark => 0..=i64::from(u32::MAX),
        _ => 0..=i64::from(i32::MAX),
    }
}

fn seconds(time: Duration) -> i64 {
    let whole = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
    i64::try_from(whole).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
