//! Sockets, listeners and the connections between them and their peers.
//!
//! A socket whose state has changed is on the list of those to look at, and only those are looked
//! at, so that a turn costs what happens in it and not what is open.

use super::link::{Capacity, Link, ServerEnd};
use super::send::Sending;
use crate::net::{Addr, UnixAddr};
use crate::op::{Fd, UserData};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;

/// A peer: the far end of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PeerId(pub(crate) u32);

/// A receive that is armed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arm {
    pub(super) user_data: UserData,
    /// A cancel has missed it, so that it ends with what it reports next.
    pub(super) is_doomed: bool,
    /// It has not yet brought everything that had come.
    pub(super) is_fresh: bool,
    /// An end or an error that was there with the last of that is forgotten.
    pub(super) is_deaf: bool,
}

/// The server's end of a connection.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) peer: PeerId,
    pub(super) receive: Option<Arm>,
    pub(super) send: Option<Sending>,
    /// The close is to drop what the peer has not read.
    pub(super) resets: bool,
    is_touched: bool,
}

/// Where connections wait to be accepted, or accepts for connections.
#[derive(Debug)]
pub(super) struct Listener {
    number: RawFd,
    pub(super) is_unix: bool,
    pub(super) backlog: VecDeque<PeerId>,
    pub(super) accepts: VecDeque<UserData>,
}

/// Everything that is connected.
#[derive(Debug)]
pub(super) struct Network {
    links: Vec<Link>,
    sockets: Vec<Option<Socket>>,
    free: BinaryHeap<Reverse<u32>>,
    descriptors: usize,
    pub(super) listeners: Vec<Listener>,
    touched: Vec<Fd>,
    capacity: Capacity,
}

impl Network {
    pub(super) fn new(capacity: Capacity, descriptors: u32) -> Self {
        Self {
            links: Vec::new(),
            sockets: Vec::new(),
            free: BinaryHeap::new(),
            descriptors: descriptors as usize,
            listeners: Vec::new(),
            touched: Vec::new(),
            capacity,
        }
    }

    /// Makes `number` a listener, if it is not one yet.
    pub(super) fn listen(&mut self, number: RawFd, is_unix: bool) {
        if self.listener(number).is_none() {
            let (backlog, accepts) = (VecDeque::new(), VecDeque::new());
            self.listeners.push(Listener { number, is_unix, backlog, accepts });
        }
    }

    /// Puts a new peer into a backlog; `None` if `number` is no listener.
    pub(super) fn connect(&mut self, number: RawFd) -> Option<PeerId> {
        let peer = PeerId(self.links.len() as u32);
        let listener = self.listener(number)?;
        listener.backlog.push_back(peer);
        let address = if listener.is_unix { unix_address_of(peer) } else { address_of(peer).into() };
        self.links.push(Link::new(address, self.capacity));
        Some(peer)
    }

    /// Opens a socket whose connection is yet to be made; `None` if all descriptors are taken.
    pub(super) fn dial(&mut self, address: Addr) -> Option<Fd> {
        let peer = PeerId(self.links.len() as u32);
        self.links.push(Link::new(address, self.capacity));
        self.link(peer).is_made = false;
        self.open(peer)
    }

    /// Opens a socket that is connected, beyond the limit if need be: it has its descriptor already.
    pub(super) fn adopt(&mut self) -> (Fd, PeerId) {
        let peer = PeerId(self.links.len() as u32);
        self.links.push(Link::new(address_of(peer).into(), self.capacity));
        let limit = std::mem::replace(&mut self.descriptors, usize::MAX);
        let fd = self.open(peer).expect("there is no limit");
        self.descriptors = limit;
        (fd, peer)
    }

    /// Gives a connection the lowest free descriptor; `None` if all are taken.
    pub(super) fn open(&mut self, peer: PeerId) -> Option<Fd> {
        let fd = match self.free.pop() {
            Some(Reverse(number)) => Fd(number),
            None if self.sockets.len() < self.descriptors => {
                self.sockets.push(None);
                Fd(self.sockets.len() as u32 - 1)
            }
            None => return None,
        };
        let socket = Socket { peer, receive: None, send: None, resets: false, is_touched: false };
        self.sockets[fd.0 as usize] = Some(socket);
        self.link(peer).server = ServerEnd::Open(fd);
        Some(fd)
    }

    /// Closes a socket; its descriptor is free at once.
    pub(super) fn close(&mut self, fd: Fd) {
        let socket = self.sockets[fd.0 as usize].take().expect("it is open");
        self.link(socket.peer).server_close(socket.resets);
        self.free.push(Reverse(fd.0));
    }

    /// Has a socket looked at.
    pub(super) fn touch(&mut self, fd: Fd) {
        let socket = self.sockets[fd.0 as usize].as_mut().expect("it is open");
        if !socket.is_touched {
            socket.is_touched = true;
            self.touched.push(fd);
        }
    }

    /// Has the server's end of a connection looked at, if it is open.
    pub(super) fn touch_peer(&mut self, peer: PeerId) {
        if let ServerEnd::Open(fd) = self.link(peer).server {
            self.touch(fd);
        }
    }

    /// The sockets to look at. Those that were closed meanwhile are not among them.
    pub(super) fn take_touched(&mut self, list: &mut Vec<Fd>) {
        list.clear();
        for fd in self.touched.drain(..) {
            if let Some(socket) = &mut self.sockets[fd.0 as usize]
                && std::mem::take(&mut socket.is_touched)
            {
                list.push(fd);
            }
        }
    }

    /// A socket that is open, with its connection.
    pub(super) fn socket(&mut self, fd: Fd) -> Option<(&mut Socket, &mut Link)> {
        let socket = self.sockets.get_mut(fd.0 as usize)?.as_mut()?;
        let link = &mut self.links[socket.peer.0 as usize];
        Some((socket, link))
    }

    pub(super) fn listener(&mut self, number: RawFd) -> Option<&mut Listener> {
        self.listeners.iter_mut().find(|listener| listener.number == number)
    }

    pub(super) fn link(&mut self, peer: PeerId) -> &mut Link {
        &mut self.links[peer.0 as usize]
    }

    pub(super) fn link_ref(&self, peer: PeerId) -> &Link {
        &self.links[peer.0 as usize]
    }

    /// Descriptors are below this.
    pub(super) fn descriptors_used(&self) -> u32 {
        self.sockets.len() as u32
    }

    pub(super) fn sockets_open(&self) -> usize {
        self.sockets.len() - self.free.len()
    }

    /// Whether a connection waits for an accept that waits for a connection, or a socket is to be
    /// looked at.
    pub(super) fn has_work(&self) -> bool {
        let can_accept = |listener: &Listener| !listener.backlog.is_empty() && !listener.accepts.is_empty();
        !self.touched.is_empty() || self.listeners.iter().any(can_accept)
    }
}

/// Every fourth peer has a name, as few clients of a Unix socket have.
fn unix_address_of(peer: PeerId) -> Addr {
    let name = UnixAddr::abstract_name(peer.0.to_be_bytes());
    let name = name.ok().filter(|_| peer.0.is_multiple_of(4));
    name.unwrap_or_else(UnixAddr::unnamed).into()
}

/// Every other peer comes by IPv6, from a network set aside for examples.
fn address_of(peer: PeerId) -> SocketAddr {
    let [_, high, middle, low] = peer.0.to_be_bytes();
    let address = if peer.0.is_multiple_of(2) {
        IpAddr::V4(Ipv4Addr::new(10, high, middle, low))
    } else {
        let [upper, lower] = [u16::from(high), u16::from_be_bytes([middle, low])];
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, upper, lower))
    };
    SocketAddr::new(address, 40_000 + (peer.0 % 20_000) as u16)
}
