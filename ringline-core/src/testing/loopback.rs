//! Peers on the real kernel: plain sockets that never block.

use crate::net::{Addr, Family, UnixAddr};
use socket2::{SockAddr, SockRef, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

#[derive(Debug)]
struct Client {
    stream: Option<Socket>,
    saw_eof: bool,
    saw_reset: bool,
}

/// Clients of one listener.
#[derive(Debug)]
pub(super) struct Loopback {
    server: Addr,
    clients: Vec<Client>,
    /// Takes connections of the server's; made when it is asked for.
    listener: Option<Socket>,
    /// Bound, and not listening.
    refusing: Vec<Socket>,
    /// Listens, and its queue is full.
    silent: Option<Silent>,
}

#[derive(Debug)]
struct Silent {
    listener: Socket,
    _fill: Vec<Socket>,
}

impl Loopback {
    pub(super) fn new(server: Addr) -> Self {
        Self { server, clients: Vec::new(), listener: None, refusing: Vec::new(), silent: None }
    }

    pub(super) fn dial_addr(&mut self) -> Addr {
        let family = self.server.family();
        let listener = self.listener.get_or_insert_with(|| {
            let listener = bound(family);
            listener.listen(128).expect("a bound socket can listen");
            listener.set_nonblocking(true).expect("a socket option");
            listener
        });
        address_of(listener)
    }

    /// The address stays bound, so that nobody else comes to listen on it.
    pub(super) fn refused_addr(&mut self) -> Addr {
        let socket = bound(self.server.family());
        let address = address_of(&socket);
        // A socket that is bound and does not listen refuses, and costs little.
        self.refusing.push(socket);
        address
    }

    pub(super) fn silent_addr(&mut self) -> Addr {
        let family = self.server.family();
        let silent = self.silent.get_or_insert_with(|| {
            let listener = bound(family);
            listener.listen(0).expect("a bound socket can listen");
            let address = address_of(&listener).to_sock_addr();
            // The first of these stays in the queue for good. What comes later the kernel drops, or, for a
            // Unix socket, keeps waiting.
            let fill = (0..4).map(|_| {
                let socket = socket(family);
                socket.set_nonblocking(true).expect("a socket option");
                let _ = socket.connect(&address);
                socket
            });
            Silent { _fill: fill.collect(), listener }
        });
        address_of(&silent.listener)
    }

    /// A socket that is connected to what [`dialed`](Self::dialed) gives.
    pub(super) fn adoptable(&mut self) -> OwnedFd {
        let address = self.dial_addr().to_sock_addr();
        let stream = socket(self.server.family());
        stream.connect(&address).expect("the listener takes connections");
        stream.into()
    }

    pub(super) fn dialed(&mut self) -> Option<usize> {
        let (stream, _) = self.listener.as_ref()?.accept().ok()?;
        Some(self.add(stream))
    }

    pub(super) fn connect(&mut self) -> usize {
        let stream = socket(self.server.family());
        stream.connect(&self.server.to_sock_addr()).expect("the listener takes connections");
        self.add(stream)
    }

    fn add(&mut self, stream: Socket) -> usize {
        if self.server.family() != Family::Unix {
            stream.set_tcp_nodelay(true).expect("a socket option");
        }
        stream.set_nonblocking(true).expect("a socket option");
        self.clients.push(Client { stream: Some(stream), saw_eof: false, saw_reset: false });
        self.clients.len() - 1
    }

    pub(super) fn write(&mut self, client: usize, bytes: &[u8]) -> usize {
        let client = &mut self.clients[client];
        let Some(stream) = &mut client.stream else { return 0 };
        match stream.write(bytes) {
            Ok(count) => count,
            Err(error) => {
                client.saw_reset |= error.kind() != ErrorKind::WouldBlock;
                0
            }
        }
    }

    pub(super) fn read(&mut self, client: usize, at_most: usize) -> Vec<u8> {
        let client = &mut self.clients[client];
        let mut bytes = vec![0; at_most.min(1 << 20)];
        let Some(stream) = &mut client.stream else { return Vec::new() };
        let count = match stream.read(&mut bytes) {
            Ok(0) if at_most > 0 => {
                client.saw_eof = true;
                0
            }
            Ok(count) => count,
            Err(error) => {
                client.saw_reset |= error.kind() == ErrorKind::ConnectionReset;
                0
            }
        };
        bytes.truncate(count);
        bytes
    }

    pub(super) fn end(&mut self, client: usize) {
        if let Some(stream) = &self.clients[client].stream {
            // A connection that is reset already has no direction to end.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    pub(super) fn close(&mut self, client: usize) {
        self.clients[client].stream = None;
    }

    pub(super) fn reset(&mut self, client: usize) {
        if let Some(stream) = self.clients[client].stream.take() {
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
        }
    }

    /// Looks without taking anything, so that an end behind unread bytes is not seen yet.
    pub(super) fn saw_eof(&mut self, client: usize) -> bool {
        self.look(client);
        self.clients[client].saw_eof
    }

    pub(super) fn saw_reset(&mut self, client: usize) -> bool {
        self.look(client);
        self.clients[client].saw_reset
    }

    fn look(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let Some(stream) = &client.stream else { return };
        match stream.peek(&mut [MaybeUninit::uninit()]) {
            Ok(0) => client.saw_eof = true,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => client.saw_reset = true,
            Ok(_) | Err(_) => {}
        }
    }
}

fn socket(family: Family) -> Socket {
    Socket::new(family.domain(), Type::STREAM, None).expect("a socket")
}

fn bound(family: Family) -> Socket {
    let socket = socket(family);
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let any: SockAddr =
        if family == Family::Unix { Addr::from(UnixAddr::unnamed()).to_sock_addr() } else { any.into() };
    socket.bind(&any).expect("a free address");
    socket
}

fn address_of(socket: &Socket) -> Addr {
    let address = socket.local_addr().expect("a bound socket has an address");
    Addr::from_sock_addr(&address).expect("it is of a family that was asked for")
}
