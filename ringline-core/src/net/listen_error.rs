//! Why a server cannot listen where it was told to.

use super::{Addr, OptionError, OptionRefused, UnixListenError};
use crate::sys::limits;
use std::io;
use std::net::SocketAddr;

/// Why listening on an address failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The text is no address with a port, or the host name does not resolve.
    #[error(
        "cannot listen on {given}: {source}; give an IP address or a host name that resolves, with \
         a port, such as 0.0.0.0:7000 or [::]:7000"
    )]
    BadAddress {
        /// What was given.
        given: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Another socket listens on this address and port.
    #[error(
        "cannot listen on {addr}: the address is in use; stop the process that listens there (`ss \
         -ltnp` names it) or choose another port"
    )]
    AddressInUse {
        /// The address that was tried.
        addr: SocketAddr,
    },
    /// No network interface of this host has the address.
    #[error(
        "cannot listen on {addr}: this host does not have that address; use one that `ip addr` \
         lists, or 0.0.0.0 or [::] for all of them"
    )]
    AddressNotAvailable {
        /// The address that was tried.
        addr: SocketAddr,
    },
    /// The process may not listen on this port.
    #[error(
        "cannot listen on {addr}: permission denied; choose a port from \
         net.ipv4.ip_unprivileged_port_start (1024) up, give the process CAP_NET_BIND_SERVICE, or \
         look for a security policy that forbids it"
    )]
    PermissionDenied {
        /// The address that was tried.
        addr: SocketAddr,
    },
    /// The process has as many descriptors open as it may.
    #[error(
        "cannot listen on {addr}: all {soft_limit} descriptors that the process may have open are \
         in use; raise the limit (`ulimit -n`, or LimitNOFILE= of the service)"
    )]
    TooManyOpenFiles {
        /// The address that was tried.
        addr: SocketAddr,
        /// The limit in force.
        soft_limit: u64,
    },
    /// An option of the socket cannot be set; the kernel has not been asked.
    #[error("cannot listen on {addr}: {source}")]
    Option {
        /// The address that was tried.
        addr: Addr,
        /// What is wrong with it.
        source: OptionError,
    },
    /// The kernel refused an option of the socket.
    #[error("cannot listen on {addr}: {source}; leave it out, or see to what it needs")]
    OptionRefused {
        /// The address that was tried.
        addr: Addr,
        /// Which one, and why.
        source: OptionRefused,
    },
    /// A Unix socket cannot listen there.
    #[error(transparent)]
    Unix(#[from] UnixListenError),
    /// The kernel refused for another reason.
    #[error(
        "cannot listen on {addr}: {source}; check that the kernel has this address family switched \
         on and that the system is not out of descriptors or memory"
    )]
    Other {
        /// The address that was tried.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ListenError {
    /// Sorts what the kernel said about listening on `addr`.
    pub(super) fn from_kernel(addr: SocketAddr, source: io::Error) -> Self {
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
