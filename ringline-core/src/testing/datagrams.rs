//! Peers that send datagrams to the worker under test, and receive from it.

use super::{Kernel, World};
use crate::handler::EventHandler;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

/// The far end of datagrams of the worker under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UdpPeerId(usize);

/// The far ends.
#[derive(Debug, Default)]
pub(super) struct UdpPeers {
    /// Their addresses, and on the real kernel their sockets.
    peers: Vec<(SocketAddr, Option<UdpSocket>)>,
}

impl<H: EventHandler> World<H> {
    /// From now on, connections that are accepted tell when their bytes were received, as with
    /// [`ListenOptions::timestamps`](crate::net::ListenOptions::timestamps).
    ///
    /// # Panics
    ///
    /// On the real kernel, if it refuses.
    pub fn stamp_accepted(&mut self) {
        match &mut self.kernel {
            Kernel::Simulated { worker, .. } => worker.stamp_accepted(),
            Kernel::Real { worker, .. } => worker.stamp_accepted(),
        }
        .expect("a socket option");
    }

    /// Makes a peer that sends and receives datagrams.
    ///
    /// # Panics
    ///
    /// On the real kernel, if there is no socket for it.
    pub fn udp_peer(&mut self) -> UdpPeerId {
        let peer = match &mut self.kernel {
            Kernel::Simulated { worker, .. } => (worker.backend.udp_peer(), None),
            Kernel::Real { .. } => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
                socket.set_nonblocking(true).expect("a socket option");
                (socket.local_addr().expect("a bound socket has an address"), Some(socket))
            }
        };
        self.udp_peers.peers.push(peer);
        UdpPeerId(self.udp_peers.peers.len() - 1)
    }

    /// The address of a peer.
    pub fn udp_peer_addr(&self, peer: UdpPeerId) -> SocketAddr {
        self.udp_peers.peers[peer.0].0
    }

    /// Has a peer send a datagram to a socket of the worker's; nobody can say whether it arrives.
    pub fn udp_send(&mut self, peer: UdpPeerId, to: SocketAddr, bytes: &[u8]) {
        match (&mut self.kernel, &self.udp_peers.peers[peer.0]) {
            (Kernel::Simulated { worker, .. }, (from, _)) => worker.backend.udp_send(*from, to, bytes),
            (Kernel::Real { .. }, (_, Some(socket))) => {
                // A peer that is told that nobody is there goes on.
                let _ = socket.send_to(bytes, to);
            }
            (Kernel::Real { .. }, (_, None)) => {}
        }
    }

    /// The next datagram that has come to a peer, and from where.
    pub fn udp_receive(&mut self, peer: UdpPeerId) -> Option<(SocketAddr, Vec<u8>)> {
        match (&mut self.kernel, &self.udp_peers.peers[peer.0]) {
            (Kernel::Simulated { worker, .. }, (address, _)) => worker.backend.udp_receive(*address),
            (Kernel::Real { .. }, (_, socket)) => {
                let mut bytes = vec![0; 1 << 16];
                let (len, from) = socket.as_ref()?.recv_from(&mut bytes).ok()?;
                bytes.truncate(len);
                Some((from, bytes))
            }
        }
    }
}
