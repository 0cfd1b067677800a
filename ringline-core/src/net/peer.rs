//! Who is at the other end of an accepted connection.
//!
//! A `Peer` is made once, when the connection is accepted, from what the kernel returned with it:
//! asking for it later costs nothing.

use std::net::{IpAddr, SocketAddr};

/// The other end of an accepted connection, and the listener it came through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    addr: SocketAddr,
    listener: ListenerId,
}

impl Peer {
    /// A peer at `addr` that `listener` has accepted.
    ///
    /// A listener on `[::]` sees an IPv4 client as an IPv6 address with the IPv4 one inside; here
    /// it becomes plain IPv4.
    pub(crate) fn new(addr: SocketAddr, listener: ListenerId) -> Self {
        let addr = match addr.ip().to_canonical() {
            ip @ IpAddr::V4(_) => SocketAddr::new(ip, addr.port()),
            IpAddr::V6(_) => addr,
        };
        Self { addr, listener }
    }

    /// The peer's address and port.
    ///
    /// The address of an IPv4 client is an IPv4 address, whichever listener accepted it, so one
    /// comparison is enough for an access list or a log.
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The listener that accepted the connection.
    pub const fn listener(&self) -> ListenerId {
        self.listener
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
    use std::net::SocketAddrV6;

    #[test]
    fn an_ipv4_client_of_an_ipv6_listener_has_an_ipv4_address() {
        let peer = Peer::new("[::ffff:192.0.2.7]:7000".parse().unwrap(), ListenerId::new(0));
        assert_eq!(peer.addr(), "192.0.2.7:7000".parse().unwrap());
    }

    #[test]
    fn other_addresses_stay_as_they_are() {
        let scoped = SocketAddrV6::new("fe80::1".parse().unwrap(), 7000, 1, 2);
        for addr in [SocketAddr::V6(scoped), "[::1]:1".parse().unwrap(), "192.0.2.7:7000".parse().unwrap()] {
            assert_eq!(Peer::new(addr, ListenerId::new(0)).addr(), addr);
        }
    }

    #[test]
    fn a_peer_names_its_listener() {
        let peer = Peer::new("192.0.2.7:7000".parse().unwrap(), ListenerId::new(3));
        assert_eq!(peer.listener().index(), 3);
        assert_ne!(peer.listener(), ListenerId::new(2));
    }
}
