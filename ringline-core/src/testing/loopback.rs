//! Peers on the real kernel: plain sockets of the standard library that never block.

use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

#[derive(Debug)]
struct Client {
    stream: Option<TcpStream>,
    saw_eof: bool,
    saw_reset: bool,
}

/// Clients of one listener.
#[derive(Debug)]
pub(super) struct Loopback {
    server: SocketAddr,
    clients: Vec<Client>,
}

impl Loopback {
    pub(super) fn new(server: SocketAddr) -> Self {
        Self { server, clients: Vec::new() }
    }

    pub(super) fn connect(&mut self) -> usize {
        let stream = TcpStream::connect(self.server).expect("the listener takes connections");
        stream.set_nodelay(true).expect("a socket option");
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
        match stream.peek(&mut [0]) {
            Ok(0) => client.saw_eof = true,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => client.saw_reset = true,
            Ok(_) | Err(_) => {}
        }
    }
}
