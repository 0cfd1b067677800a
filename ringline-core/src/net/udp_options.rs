//! How a datagram socket is set up.

use std::net::SocketAddr;

/// How a datagram socket is set up.
///
/// # Examples
///
/// ```
/// use ringline_core::net::UdpOptions;
///
/// let options = UdpOptions::default().timestamps(true).receive_buffer_bytes(4 << 20);
/// assert_ne!(options, UdpOptions::default());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpOptions {
    pub(crate) worker: Option<usize>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) receive_buffer_bytes: Option<usize>,
    pub(crate) send_buffer_bytes: Option<usize>,
    pub(crate) gro: bool,
    pub(crate) timestamps: bool,
    pub(crate) tos: bool,
    pub(crate) local_address: Option<bool>,
    pub(crate) v6_only: bool,
    pub(crate) reuse_address: bool,
    pub(crate) reuse_port: bool,
    pub(crate) broadcast: bool,
    pub(crate) dont_fragment: bool,
    pub(crate) ttl: Option<u8>,
    pub(crate) multicast_ttl: Option<u8>,
    pub(crate) multicast_loop: Option<bool>,
    pub(crate) coalesce: bool,
    pub(crate) queue_datagrams: usize,
    pub(crate) queue_bytes: usize,
}

impl Default for UdpOptions {
    /// A socket for each worker, IPv4 peers welcome on an IPv6 wildcard address, 1024 datagrams and
    /// 4 MiB waiting to be sent at most, and nothing asked of the kernel that costs time.
    fn default() -> Self {
        Self {
            worker: None,
            peer: None,
            receive_buffer_bytes: None,
            send_buffer_bytes: None,
            gro: false,
            timestamps: false,
            tos: false,
            local_address: None,
            v6_only: false,
            reuse_address: false,
            reuse_port: false,
            broadcast: false,
            dont_fragment: false,
            ttl: None,
            multicast_ttl: None,
            multicast_loop: None,
            coalesce: false,
            queue_datagrams: 1024,
            queue_bytes: 4 << 20,
        }
    }
}

impl UdpOptions {
    /// Has [`Server::bind_udp`](crate::Server::bind_udp) make one socket, on this worker, instead of
    /// one for each worker. No effect on a socket that a handler binds.
    ///
    /// With a socket for each worker the kernel deals the peers out by a hash of their address
    /// (`SO_REUSEPORT`), so that a peer stays with its worker.
    #[must_use]
    pub const fn on_worker(mut self, worker: usize) -> Self {
        self.worker = Some(worker);
        self
    }

    /// Connects the socket: it receives from this peer alone, sends to it without being told where,
    /// and hears of it when nobody is there.
    #[must_use]
    pub const fn connect(mut self, peer: SocketAddr) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Sets how many bytes the kernel keeps for the socket until they are received (`SO_RCVBUF`). The
    /// kernel counts its own overhead, too, and lowers this to `net.core.rmem_max`. What finds it full
    /// is dropped, and counted.
    #[must_use]
    pub const fn receive_buffer_bytes(mut self, bytes: usize) -> Self {
        self.receive_buffer_bytes = Some(bytes);
        self
    }

    /// Sets how many bytes the kernel keeps for the socket until they have left (`SO_SNDBUF`), up to
    /// `net.core.wmem_max`. Sends that find it full wait.
    #[must_use]
    pub const fn send_buffer_bytes(mut self, bytes: usize) -> Self {
        self.send_buffer_bytes = Some(bytes);
        self
    }

    /// Lets the kernel put datagrams of one sender together that arrive at the same time
    /// (`UDP_GRO`): see [`Datagram::segments`](crate::net::Datagram::segments). Pays for large
    /// transfers and costs time for small datagrams.
    #[must_use]
    pub const fn gro(mut self, on: bool) -> Self {
        self.gro = on;
        self
    }

    /// Has the kernel note when it received each datagram. Costs it some time for each.
    #[must_use]
    pub const fn timestamps(mut self, on: bool) -> Self {
        self.timestamps = on;
        self
    }

    /// Asks for service class and congestion mark of each datagram.
    #[must_use]
    pub const fn tos(mut self, on: bool) -> Self {
        self.tos = on;
        self
    }

    /// Sets whether the local address of each datagram is asked for. By default that is so where it
    /// is not certain: on a socket that is bound to `0.0.0.0` or `[::]` and not connected.
    #[must_use]
    pub const fn local_address(mut self, on: bool) -> Self {
        self.local_address = Some(on);
        self
    }

    /// Sets whether an IPv6 address takes IPv6 peers only. No effect on an IPv4 address.
    #[must_use]
    pub const fn v6_only(mut self, on: bool) -> Self {
        self.v6_only = on;
        self
    }

    /// Lets other sockets have the same address (`SO_REUSEADDR`), as several receivers of one
    /// multicast group on a host need. Unicast datagrams then go to the one that was bound last.
    #[must_use]
    pub const fn reuse_address(mut self, on: bool) -> Self {
        self.reuse_address = on;
        self
    }

    /// Lets other sockets of this user share the address, each with its share of the peers
    /// (`SO_REUSEPORT`). Always on for sockets that [`Server::bind_udp`](crate::Server::bind_udp)
    /// makes for each worker.
    #[must_use]
    pub const fn reuse_port(mut self, on: bool) -> Self {
        self.reuse_port = on;
        self
    }

    /// Permits sending to broadcast addresses.
    #[must_use]
    pub const fn broadcast(mut self, on: bool) -> Self {
        self.broadcast = on;
        self
    }

    /// Forbids that datagrams are cut up on the way. One that is too large for the path then fails,
    /// which [`on_udp_error`](crate::EventHandler::on_udp_error) reports.
    #[must_use]
    pub const fn dont_fragment(mut self, on: bool) -> Self {
        self.dont_fragment = on;
        self
    }

    /// Sets how many routers a datagram may pass.
    #[must_use]
    pub const fn ttl(mut self, hops: u8) -> Self {
        self.ttl = Some(hops);
        self
    }

    /// The same for datagrams to multicast groups; 1 unless set, so that they stay in the network.
    #[must_use]
    pub const fn multicast_ttl(mut self, hops: u8) -> Self {
        self.multicast_ttl = Some(hops);
        self
    }

    /// Sets whether members of a group on this host receive what it sends to the group; they do
    /// unless switched off.
    #[must_use]
    pub const fn multicast_loop(mut self, on: bool) -> Self {
        self.multicast_loop = Some(on);
        self
    }

    /// Puts datagrams of one size together that one turn sends to the same peer one after the other, up
    /// to 4 KiB and 1232 bytes each, so that the kernel gets them as runs
    /// ([`send_segments`](crate::Ctx::send_segments)). They arrive as they would otherwise. Pays where a
    /// peer gets many datagrams at once; if sending a run fails, all of it has failed.
    #[must_use]
    pub const fn coalesce(mut self, on: bool) -> Self {
        self.coalesce = on;
        self
    }

    /// Sets how many datagrams may wait to be sent; 1024 unless set. One more is refused, and counted.
    #[must_use]
    pub const fn queue_datagrams(mut self, datagrams: usize) -> Self {
        self.queue_datagrams = datagrams;
        self
    }

    /// Sets how many bytes may wait to be sent, 4 MiB unless set. What would exceed it is refused, and
    /// counted.
    #[must_use]
    pub const fn queue_bytes(mut self, bytes: usize) -> Self {
        self.queue_bytes = bytes;
        self
    }
}
