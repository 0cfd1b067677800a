//! Where a socket is: an IP address with a port, or the address of a Unix socket.
//!
//! An `Addr` always becomes an address of the kernel: what cannot be one is refused when it is made.

use super::UnixAddr;
use socket2::{Domain, SockAddr};
use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStrExt;

/// The address of one end of a connection.
///
/// # Examples
///
/// ```
/// use ringline_core::net::{Addr, UnixAddr};
/// use std::net::SocketAddr;
///
/// let tcp = SocketAddr::from(([127, 0, 0, 1], 7000));
/// assert_eq!(Addr::from(tcp), tcp);
/// assert_eq!(Addr::from(tcp).to_string(), "127.0.0.1:7000");
/// let unix = Addr::from(UnixAddr::path("/run/app.sock")?);
/// assert_eq!((unix.ip(), unix.to_string().as_str()), (None, "unix:/run/app.sock"));
/// # Ok::<(), ringline_core::net::UnixAddrError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Addr {
    /// A TCP socket.
    Ip(SocketAddr),
    /// A Unix socket.
    Unix(UnixAddr),
}

impl Addr {
    /// The IP address and port, unless it is a Unix socket.
    pub const fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(addr) => Some(*addr),
            Self::Unix(_) => None,
        }
    }

    /// The address of the Unix socket, unless it is an IP address.
    pub const fn unix(&self) -> Option<&UnixAddr> {
        match self {
            Self::Ip(_) => None,
            Self::Unix(addr) => Some(addr),
        }
    }

    pub(crate) fn family(&self) -> Family {
        match self {
            Self::Ip(SocketAddr::V4(_)) => Family::V4,
            Self::Ip(SocketAddr::V6(_)) => Family::V6,
            Self::Unix(_) => Family::Unix,
        }
    }

    /// With an IPv4 address that an IPv6 socket has seen as plain IPv4.
    pub(crate) fn canonical(self) -> Self {
        match self {
            Self::Ip(addr) => match addr.ip().to_canonical() {
                ip @ IpAddr::V4(_) => Self::Ip(SocketAddr::new(ip, addr.port())),
                IpAddr::V6(_) => Self::Ip(addr),
            },
            unix @ Self::Unix(_) => unix,
        }
    }

    /// In the form that system calls take.
    pub(crate) fn to_sock_addr(&self) -> SockAddr {
        match self {
            Self::Ip(addr) => (*addr).into(),
            Self::Unix(addr) => {
                SockAddr::unix(OsStr::from_bytes(&addr.to_kernel())).expect("its length was checked")
            }
        }
    }

    /// What a system call has returned; `None` if it is of another family.
    pub(crate) fn from_sock_addr(addr: &SockAddr) -> Option<Self> {
        if let Some(addr) = addr.as_socket() {
            return Some(Self::Ip(addr));
        }
        if addr.is_unnamed() {
            return Some(Self::Unix(UnixAddr::unnamed()));
        }
        let name = addr.as_abstract_namespace().map(UnixAddr::abstract_name);
        let addr = name.or_else(|| addr.as_pathname().map(UnixAddr::path))?;
        addr.ok().map(Self::Unix)
    }
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        Self::Ip(addr)
    }
}

impl From<UnixAddr> for Addr {
    fn from(addr: UnixAddr) -> Self {
        Self::Unix(addr)
    }
}

impl From<&Self> for Addr {
    fn from(addr: &Self) -> Self {
        addr.clone()
    }
}

impl PartialEq<SocketAddr> for Addr {
    fn eq(&self, other: &SocketAddr) -> bool {
        self.ip() == Some(*other)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(addr) => fmt::Display::fmt(addr, f),
            Self::Unix(addr) => fmt::Display::fmt(addr, f),
        }
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What kind of socket it takes to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
    Unix,
}

impl Family {
    pub(crate) fn domain(self) -> Domain {
        match self {
            Self::V4 => Domain::IPV4,
            Self::V6 => Domain::IPV6,
            Self::Unix => Domain::UNIX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_way_through_the_form_of_system_calls() {
        let unix = [
            UnixAddr::path("/run/x.sock").unwrap(),
            UnixAddr::path("x".repeat(107)).unwrap(),
            UnixAddr::abstract_name("x".repeat(107)).unwrap(),
            UnixAddr::abstract_name("a\0b").unwrap(),
            UnixAddr::unnamed(),
        ];
        let ip = ["192.0.2.7:7000", "[2001:db8::1]:1"].map(|addr| addr.parse::<SocketAddr>().unwrap());
        for addr in unix.into_iter().map(Addr::from).chain(ip.into_iter().map(Addr::from)) {
            assert_eq!(Addr::from_sock_addr(&addr.to_sock_addr()), Some(addr));
        }
    }

    #[test]
    fn an_ipv4_address_inside_of_an_ipv6_one_comes_out() {
        let mapped: SocketAddr = "[::ffff:192.0.2.7]:7000".parse().unwrap();
        assert_eq!(Addr::from(mapped).family(), Family::V6);
        assert_eq!(Addr::from(mapped).canonical(), "192.0.2.7:7000".parse::<SocketAddr>().unwrap());
    }
}
