//! Who is at the other end of an accepted connection.
//!
//! A `Peer` is made once, when the connection is accepted, from what the kernel returned with it:
//! asking for it later costs nothing.

use super::Addr;
use std::net::SocketAddr;

/// The other end of an accepted connection, and the listener it came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    addr: Addr,
    credentials: Option<Credentials>,
    listener: ListenerId,
}

impl Peer {
    /// A peer that `listener` has accepted.
    ///
    /// A listener on `[::]` sees an IPv4 client as an IPv6 address with the IPv4 one inside; here
    /// it becomes plain IPv4.
    pub(crate) fn new(remote: Remote, listener: ListenerId) -> Self {
        Self { addr: remote.addr.canonical(), credentials: remote.credentials, listener }
    }

    /// The peer's address. That of a client of a Unix socket is most often
    /// [unnamed](super::UnixAddr::is_unnamed).
    ///
    /// The address of an IPv4 client is an IPv4 address, whichever listener accepted it, so one
    /// comparison is enough for an access list or a log.
    pub const fn addr(&self) -> &Addr {
        &self.addr
    }

    /// The peer's IP address and port; `None` for a client of a Unix socket, which has none.
    pub const fn ip(&self) -> Option<SocketAddr> {
        self.addr.ip()
    }

    /// Which process has connected, as the kernel vouches for it; `None` for a client of a TCP socket.
    pub const fn credentials(&self) -> Option<Credentials> {
        self.credentials
    }

    /// The listener that accepted the connection.
    pub const fn listener(&self) -> ListenerId {
        self.listener
    }
}

/// The process at the other end of a Unix socket, as it was when it connected (`SO_PEERCRED`).
///
/// The ids are those of the server's own name spaces. A number that has no counterpart there is 0 for a
/// process, and the overflow id of the system (65534 as a rule) for a user or a group. By the time the
/// server looks, the process may be gone and its number in use again; user and group stay what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// The process.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

impl Credentials {
    pub(crate) const fn new(pid: u32, uid: u32, gid: u32) -> Self {
        Self { pid, uid, gid }
    }
}

/// What the kernel says about the other end of a connection that it has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Remote {
    pub(crate) addr: Addr,
    pub(crate) credentials: Option<Credentials>,
}

impl From<SocketAddr> for Remote {
    fn from(addr: SocketAddr) -> Self {
        Self { addr: addr.into(), credentials: None }
    }
}

/// Names one of the server's listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(u32);

impl ListenerId {
    /// The listener that was added as number `index`.
    pub(crate) const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The place of the listener among those of its server, from 0, in the order in which they were
    /// added.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::UnixAddr;
    use std::net::SocketAddrV6;

    fn peer(addr: SocketAddr) -> Peer {
        Peer::new(addr.into(), ListenerId::new(0))
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_listener_has_an_ipv4_address() {
        let peer = peer("[::ffff:192.0.2.7]:7000".parse().unwrap());
        assert_eq!(peer.ip(), "192.0.2.7:7000".parse().ok());
    }

    #[test]
    fn other_addresses_stay_as_they_are() {
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 7000, 1, 2);
        for addr in [SocketAddr::V6(scoped), "[::1]:1".parse().unwrap(), "192.0.2.7:7000".parse().unwrap()] {
            assert_eq!(*peer(addr).addr(), addr);
        }
    }

    #[test]
    fn a_peer_names_its_listener() {
        let peer = Peer::new(SocketAddr::from(([192, 0, 2, 7], 7000)).into(), ListenerId::new(3));
        assert_eq!(peer.listener().index(), 3);
        assert_ne!(peer.listener(), ListenerId::new(2));
    }

    #[test]
    fn who_comes_over_a_unix_socket_has_credentials_and_no_ip_address() {
        let credentials = Some(Credentials::new(1, 2, 3));
        let remote = Remote { addr: UnixAddr::unnamed().into(), credentials };
        let peer = Peer::new(remote, ListenerId::new(0));
        assert_eq!((peer.ip(), peer.credentials()), (None, credentials));
        assert!(peer.addr().unix().is_some_and(UnixAddr::is_unnamed));
    }
}
