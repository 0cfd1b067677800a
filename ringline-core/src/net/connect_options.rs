//! How a connection of our own is made.

use super::addr::Family;
use super::socket_options::{Moment, Setting};
use super::{Addr, OptionError, SocketOptions};
use std::net::SocketAddr;
use std::time::Duration;

/// The "Connection Attempt Delay" of RFC 8305, section 5, and its lower bound.
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
const ATTEMPT_DELAY_MIN: Duration = Duration::from_millis(10);

/// How [`Ctx::connect_with`](crate::Ctx::connect_with) makes a connection.
///
/// # Examples
///
/// ```
/// use ringline_core::net::{ConnectOptions, SocketOptions};
/// use std::time::Duration;
///
/// let options = ConnectOptions::new()
///     .timeout(Duration::from_millis(250))
///     .bind(([127, 0, 0, 2], 0))
///     .socket(SocketOptions::new().keep_alive(true));
/// assert_ne!(options, ConnectOptions::default());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectOptions {
    timeout: Option<Duration>,
    bind: Option<SocketAddr>,
    socket: SocketOptions,
    attempt_delay: Option<Duration>,
}

impl ConnectOptions {
    /// What [`Ctx::connect`](crate::Ctx::connect) uses.
    #[must_use]
    pub const fn new() -> Self {
        Self { timeout: None, bind: None, socket: SocketOptions::new(), attempt_delay: None }
    }

    /// How long the peer gets to answer, instead of
    /// [`connect_timeout`](crate::ConfigBuilder::connect_timeout). Less than 1 ms counts as 1 ms, and more
    /// than 24 days as 24 days.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Where the connection comes from: an address of this host, of the family that is connected to. Port 0
    /// leaves the port to the kernel, which then chooses it for the address that is connected to, so that
    /// two connections to different peers may share one (`IP_BIND_ADDRESS_NO_PORT`). An unspecified address,
    /// such as `0.0.0.0`, leaves the address to the kernel. A port that is given can be used again while
    /// earlier connections from it are waiting to be forgotten (`SO_REUSEADDR`).
    #[must_use]
    pub fn bind(mut self, local: impl Into<SocketAddr>) -> Self {
        self.bind = Some(local.into());
        self
    }

    /// Options of the socket, set before it is bound and connected.
    #[must_use]
    pub fn socket(mut self, options: SocketOptions) -> Self {
        self.socket = options;
        self
    }

    /// How long an address gets before the next one is tried beside it, when there are several: 250 ms unless
    /// set, as RFC 8305 recommends. Less than 10 ms counts as 10 ms.
    #[must_use]
    pub const fn attempt_delay(mut self, delay: Duration) -> Self {
        self.attempt_delay = Some(delay);
        self
    }

    pub(crate) fn get_attempt_delay(&self) -> Duration {
        self.attempt_delay.map_or(ATTEMPT_DELAY, |delay| delay.clamp(ATTEMPT_DELAY_MIN, Duration::MAX))
    }

    pub(crate) fn get_timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The local address; `Err` if a socket that is connected to `to` cannot have it.
    pub(crate) fn local(&self, to: Family) -> Result<Option<SocketAddr>, SocketAddr> {
        let fits = |local: &SocketAddr| Addr::from(*local).family() == to;
        match self.bind {
            Some(local) if !fits(&local) => Err(local),
            local => Ok(local),
        }
    }

    pub(crate) fn settings(&self, to: Family) -> Result<Vec<Setting>, OptionError> {
        self.socket.settings(to, Moment::Fresh)
    }
}

/// A connection to be made, checked as far as that goes without the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dial {
    pub(crate) addr: Addr,
    pub(crate) local: Option<SocketAddr>,
    pub(crate) settings: Vec<Setting>,
}

impl From<Addr> for Dial {
    fn from(addr: Addr) -> Self {
        Self { addr, local: None, settings: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::UnixAddr;

    #[test]
    fn a_local_address_is_of_the_family_that_is_connected_to() {
        let v4 = SocketAddr::from(([127, 0, 0, 1], 0));
        let options = ConnectOptions::new().bind(v4);
        assert_eq!(options.local(Family::V4), Ok(Some(v4)));
        assert_eq!(options.local(Family::V6), Err(v4));
        let unix = Addr::from(UnixAddr::abstract_name("x").unwrap());
        assert_eq!(options.local(unix.family()), Err(v4));
        assert_eq!(ConnectOptions::new().local(Family::Unix), Ok(None));
    }
}
