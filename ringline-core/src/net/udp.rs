//! Datagram sockets: made, bound and set up at once, without the ring.
//!
//! Binding is no operation that could be waited for, so it happens in the call that asks for it and
//! its error is that call's. What makes sockets is chosen by the backend, because the simulated
//! kernel has its own.

use super::{BindError, UdpOptions};
use crate::op::Fd;
use crate::sys::sock_opt;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Makes datagram sockets.
pub(crate) trait BindUdp: Debug {
    /// A socket that is bound to `addr`, connected if the options say so, and set up.
    fn bind(&mut self, addr: SocketAddr, options: &UdpOptions) -> Result<Box<dyn BoundUdp>, BindError>;
}

/// A datagram socket. Its drop closes it; by then no operation on it may be under way.
pub(crate) trait BoundUdp: Debug {
    /// How operations name it.
    fn fd(&self) -> Fd;

    /// The address it is bound to; a port that was given as 0 is the one the kernel chose.
    fn local_addr(&self) -> SocketAddr;

    /// How many datagrams the kernel has dropped on it, modulo 2^32.
    fn drops(&self) -> u32;

    /// Becomes a member of a multicast group, or is one no more.
    fn set_member(&self, group: IpAddr, interface: u32, is_member: bool) -> io::Result<()>;
}

/// The sockets of the real kernel.
#[derive(Debug, Default)]
pub(crate) struct KernelSockets;

impl BindUdp for KernelSockets {
    fn bind(&mut self, addr: SocketAddr, options: &UdpOptions) -> Result<Box<dyn BoundUdp>, BindError> {
        Ok(Box::new(KernelSocket::bind(addr, options)?))
    }
}

/// A descriptor of the process.
#[derive(Debug)]
pub(crate) struct KernelSocket {
    fd: OwnedFd,
    local_addr: SocketAddr,
}

impl KernelSocket {
    pub(crate) fn bind(addr: SocketAddr, options: &UdpOptions) -> Result<Self, BindError> {
        let other = |source| BindError::from_kernel(addr, source);
        let socket =
            Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP)).map_err(other)?;
        for (option, set) in settings(addr, options) {
            set(&socket, options).map_err(|source| BindError::Option { addr, option, source })?;
        }
        socket.bind(&addr.into()).map_err(other)?;
        if let Some(peer) = options.peer {
            socket.connect(&peer.into()).map_err(|source| BindError::Connect { peer, source })?;
        }
        let local_addr = socket.local_addr().map_err(other)?;
        let local_addr = local_addr.as_socket().expect("a UDP socket has an IP address");
        Ok(Self { fd: socket.into(), local_addr })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

impl BoundUdp for KernelSocket {
    fn fd(&self) -> Fd {
        Fd::plain(self.fd.as_raw_fd() as u32)
    }

    fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    fn drops(&self) -> u32 {
        sock_opt::drops(self.fd.as_fd()).unwrap_or(0)
    }

    fn set_member(&self, group: IpAddr, interface: u32, is_member: bool) -> io::Result<()> {
        let socket = SockRef::from(&self.fd);
        match (group, is_member) {
            (IpAddr::V4(group), true) => {
                socket.join_multicast_v4_n(&group, &socket2::InterfaceIndexOrAddress::Index(interface))
            }
            (IpAddr::V4(group), false) => {
                socket.leave_multicast_v4_n(&group, &socket2::InterfaceIndexOrAddress::Index(interface))
            }
            (IpAddr::V6(group), true) => socket.join_multicast_v6(&group, interface),
            (IpAddr::V6(group), false) => socket.leave_multicast_v6(&group, interface),
        }
    }
}

/// One option: the name of its setter, and how the kernel is told.
type Setting = (&'static str, fn(&Socket, &UdpOptions) -> io::Result<()>);

/// What has to be set for these options.
fn settings(addr: SocketAddr, options: &UdpOptions) -> Vec<Setting> {
    let is_v6 = addr.is_ipv6();
    let set: [(bool, Setting); 15] = [
        // Said either way, because the default is a setting of the host (`net.ipv6.bindv6only`).
        (is_v6, ("v6_only", |socket, options| socket.set_only_v6(options.v6_only))),
        (options.reuse_address, ("reuse_address", |socket, _| socket.set_reuse_address(true))),
        (options.reuse_port, ("reuse_port", |socket, _| socket.set_reuse_port(true))),
        (options.broadcast, ("broadcast", |socket, _| socket.set_broadcast(true))),
        (options.receive_buffer_bytes.is_some(), ("receive_buffer_bytes", set_receive_buffer)),
        (options.send_buffer_bytes.is_some(), ("send_buffer_bytes", set_send_buffer)),
        (true, ("drops", |socket, _| set_int(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, 1))),
        (
            options.timestamps,
            ("timestamps", |socket, _| set_int(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)),
        ),
        (options.gro, ("gro", |socket, _| set_int(socket, libc::SOL_UDP, libc::UDP_GRO, 1))),
        (wants_local_address(addr, options), ("local_address", set_local_address)),
        (options.tos, ("tos", set_tos)),
        (options.dont_fragment, ("dont_fragment", set_dont_fragment)),
        (options.ttl.is_some(), ("ttl", set_ttl)),
        (options.multicast_ttl.is_some(), ("multicast_ttl", set_multicast_ttl)),
        (options.multicast_loop.is_some(), ("multicast_loop", set_multicast_loop)),
    ];
    set.into_iter().filter_map(|(wanted, setting)| wanted.then_some(setting)).collect()
}

/// Whether the kernel is asked where each datagram went to.
fn wants_local_address(addr: SocketAddr, options: &UdpOptions) -> bool {
    options.local_address.unwrap_or_else(|| addr.ip().is_unspecified() && options.peer.is_none())
}

fn set_int(socket: &Socket, level: i32, name: i32, value: i32) -> io::Result<()> {
    sock_opt::set_int(socket.as_fd(), level, name, value)
}

fn is_v6(socket: &Socket) -> io::Result<bool> {
    Ok(socket.domain()? == Domain::IPV6)
}

fn set_receive_buffer(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    socket.set_recv_buffer_size(options.receive_buffer_bytes.unwrap_or_default())
}

fn set_send_buffer(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    socket.set_send_buffer_size(options.send_buffer_bytes.unwrap_or_default())
}

fn set_local_address(socket: &Socket, _: &UdpOptions) -> io::Result<()> {
    if is_v6(socket)? {
        set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)
    } else {
        set_int(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)
    }
}

/// An IPv6 socket is told for both, because IPv4 peers may come to it, too.
fn set_tos(socket: &Socket, _: &UdpOptions) -> io::Result<()> {
    if is_v6(socket)? {
        set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
    }
    set_int(socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)
}

fn set_dont_fragment(socket: &Socket, _: &UdpOptions) -> io::Result<()> {
    if is_v6(socket)? {
        set_int(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)?;
    }
    set_int(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
}

fn set_ttl(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    let hops = options.ttl.unwrap_or_default().into();
    if is_v6(socket)? { socket.set_unicast_hops_v6(hops) } else { socket.set_ttl_v4(hops) }
}

fn set_multicast_ttl(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    let hops = options.multicast_ttl.unwrap_or_default().into();
    if is_v6(socket)? { socket.set_multicast_hops_v6(hops) } else { socket.set_multicast_ttl_v4(hops) }
}

fn set_multicast_loop(socket: &Socket, options: &UdpOptions) -> io::Result<()> {
    let loops = options.multicast_loop.unwrap_or_default();
    if is_v6(socket)? { socket.set_multicast_loop_v6(loops) } else { socket.set_multicast_loop_v4(loops) }
}

/// The address that stands for all of the same family, with a port of the kernel's choice.
pub(crate) fn any_for(peer: SocketAddr) -> SocketAddr {
    let ip = if peer.is_ipv4() {
        IpAddr::from(Ipv4Addr::UNSPECIFIED)
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    (ip, 0).into()
}
