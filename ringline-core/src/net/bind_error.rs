//! Why a datagram socket could not be had, and what to do about it.

use crate::sys::limits;
use std::io;
use std::net::SocketAddr;

/// Why binding a datagram socket failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// The text is no address with a port, or the host name does not resolve.
    #[error(
        "cannot bind {given}: {source}; give an IP address or a host name that resolves, with a port, \
         such as 0.0.0.0:7000 or [::]:7000"
    )]
    BadAddress {
        /// What was given.
        given: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Another socket has this address and port.
    #[error(
        "cannot bind {addr}: the address is in use; stop the process that has it (`ss -lunp` names it) \
         or choose another port"
    )]
    AddressInUse {
        /// The address that was tried.
        addr: SocketAddr,
    },
    /// No network interface of this host has the address.
    #[error(
        "cannot bind {addr}: this host does not have that address; use one that `ip addr` lists, or \
         0.0.0.0 or [::] for all of them"
    )]
    AddressNotAvailable {
        /// The address that was tried.
        addr: SocketAddr,
    },
    /// The process may not use this port.
    #[error(
        "cannot bind {addr}: permission denied; choose a port from net.ipv4.ip_unprivileged_port_start \
         (1024) up, give the process CAP_NET_BIND_SERVICE, or look for a security policy that forbids it"
    )]
    PermissionDenied {
        /// The address that was tried.
        addr: SocketAddr,
    },
    /// The process has as many descriptors open as it may.
    #[error(
        "cannot bind {addr}: all {soft_limit} descriptors that the process may have open are in use; \
         raise the limit (`ulimit -n`, or LimitNOFILE= of the service)"
    )]
    TooManyOpenFiles {
        /// The address that was tried.
        addr: SocketAddr,
        /// The limit in force.
        soft_limit: u64,
    },
    /// The worker has as many datagram sockets as it may.
    #[error("cannot bind {addr}: this worker has {limit} datagram sockets, its limit; close one first")]
    TooManySockets {
        /// The address that was asked for.
        addr: SocketAddr,
        /// How many a worker may have.
        limit: u32,
    },
    /// The worker is shutting down.
    #[error("cannot bind {addr}: the worker is shutting down")]
    ShuttingDown {
        /// The address that was asked for.
        addr: SocketAddr,
    },
    /// An option was refused, or makes no sense for this address.
    #[error(
        "cannot bind {addr}: the option {option} was refused ({source}); leave it out or change its value"
    )]
    Option {
        /// The address that was tried.
        addr: SocketAddr,
        /// The setter of [`UdpOptions`](crate::net::UdpOptions).
        option: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket could not be connected to its peer.
    #[error(
        "cannot connect a datagram socket to {peer}: {source}; look at the routes of this host (`ip route`)"
    )]
    Connect {
        /// The peer.
        peer: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused for another reason.
    #[error(
        "cannot bind {addr}: {source}; check that the kernel has this address family switched on and \
         that the system is not out of descriptors or memory"
    )]
    Other {
        /// The address that was tried.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl BindError {
    /// Sorts what the kernel said about binding `addr`.
    pub(crate) fn from_kernel(addr: SocketAddr, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::AddressInUse { addr },
            Some(libc::EADDRNOTAVAIL) => Self::AddressNotAvailable { addr },
            Some(libc::EACCES | libc::EPERM) => Self::PermissionDenied { addr },
            Some(libc::EMFILE) => Self::TooManyOpenFiles {
                addr,
                soft_limit: limits::open_files().map_or(0, |limit| limit.soft),
            },
            _ => Self::Other { addr, source },
        }
    }
}
