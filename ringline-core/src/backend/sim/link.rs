//! One connection: a stream of bytes each way between a peer and a socket of the server.
//!
//! Bytes count as delivered when the peer has read them. A reset loses everything that was not, for
//! good; this is what a server learns the hard way that closes a socket with unread bytes in it.

use crate::net::Addr;
use crate::op::Fd;
use std::collections::VecDeque;

/// The server's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServerEnd {
    Backlog,
    Open(Fd),
    Closed,
    /// It was dead before it was accepted, and left the backlog so.
    Dropped,
}

/// How many bytes a connection holds each way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Capacity {
    pub(super) to_server_bytes: usize,
    pub(super) to_peer_bytes: usize,
}

/// A connection, dead or alive.
#[derive(Debug)]
pub(super) struct Link {
    capacity: Capacity,
    pub(super) address: Addr,
    pub(super) server: ServerEnd,
    pub(super) to_server: VecDeque<u8>,
    to_peer: VecDeque<u8>,
    /// How many bytes the server has put in, and the peer has taken out.
    put_in: u64,
    taken_out: u64,
    server_ended: bool,
    peer_ended: bool,
    peer_closed: bool,
    is_dead: bool,
    /// What the server's next operation on the socket fails with.
    error: Option<i32>,
    saw_eof: bool,
    saw_reset: bool,
    /// It exists. One that the server asks for does not before it is answered.
    pub(super) is_made: bool,
    /// A fault has broken it.
    pub(super) is_broken: bool,
}

impl Link {
    pub(super) fn new(address: Addr, capacity: Capacity) -> Self {
        Self {
            capacity,
            address,
            server: ServerEnd::Backlog,
            to_server: VecDeque::new(),
            to_peer: VecDeque::new(),
            put_in: 0,
            taken_out: 0,
            server_ended: false,
            peer_ended: false,
            peer_closed: false,
            is_dead: false,
            error: None,
            saw_eof: false,
            saw_reset: false,
            is_made: true,
            is_broken: false,
        }
    }

    /// The peer writes; returns how much the window had room for.
    pub(super) fn peer_write(&mut self, bytes: &[u8]) -> usize {
        if self.is_dead || self.peer_ended {
            return 0;
        }
        let taken = bytes.len().min(self.capacity.to_server_bytes - self.to_server.len());
        if taken > 0 && self.server == ServerEnd::Closed {
            self.reset_peer();
        } else {
            self.to_server.extend(&bytes[..taken]);
        }
        taken
    }

    /// The peer reads at most `len` bytes.
    pub(super) fn peer_read(&mut self, len: usize) -> Vec<u8> {
        let len = len.min(self.to_peer.len());
        self.taken_out += len as u64;
        self.to_peer.drain(..len).collect()
    }

    /// The peer ends its direction; false if it had done so before.
    pub(super) fn peer_end(&mut self) -> bool {
        !std::mem::replace(&mut self.peer_ended, true)
    }

    /// The peer closes its socket.
    pub(super) fn peer_close(&mut self, discard: bool) {
        if self.to_peer.is_empty() {
            self.peer_end();
        } else {
            self.reset_server(discard);
        }
        self.peer_closed = true;
    }

    /// The peer resets the connection.
    pub(super) fn reset_server(&mut self, discard: bool) {
        if self.is_dead {
            return;
        }
        self.die();
        self.peer_closed = true;
        self.error = Some(if self.peer_ended { libc::EPIPE } else { libc::ECONNRESET });
        if discard {
            self.to_server.clear();
        }
    }

    /// The network loses the connection: a reset on both sides.
    pub(super) fn sever(&mut self, discard: bool) {
        if !self.is_dead {
            self.is_broken = true;
            self.reset_server(discard);
            self.peer_closed = false;
            self.saw_reset = true;
        }
    }

    /// What a send may put in, which is nothing if the socket is full, or its errno.
    pub(super) fn room(&mut self) -> Result<usize, i32> {
        if self.is_dead {
            return Err(self.error.take().unwrap_or(libc::EPIPE));
        }
        if self.server_ended {
            return Err(libc::EPIPE);
        }
        Ok(self.capacity.to_peer_bytes - self.to_peer.len())
    }

    /// The server sends what there is [room](Link::room) for. A peer that has closed answers with a
    /// reset.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if self.peer_closed {
            self.reset_server(false);
        } else {
            self.put_in += bytes.len() as u64;
            self.to_peer.extend(bytes);
        }
    }

    /// Takes the error that a receive without bytes ends with.
    pub(super) fn take_error(&mut self) -> Option<i32> {
        self.error.take()
    }

    /// The server ends its direction; false if there is no connection any more.
    pub(super) fn server_end(&mut self) -> bool {
        self.server_ended |= !self.is_dead;
        !self.is_dead
    }

    /// The server closes its socket: an orderly end, or a reset if it had unread bytes or wants one.
    pub(super) fn server_close(&mut self, resets: bool) {
        self.server = ServerEnd::Closed;
        if self.is_dead {
            return;
        }
        if self.to_server.is_empty() && !resets {
            self.server_ended = true;
        } else {
            self.reset_peer();
        }
    }

    /// Whether a receive that finds no bytes has found the end.
    pub(super) fn is_at_end(&self) -> bool {
        self.is_dead || self.peer_ended
    }

    /// Whether there is an end that a receive may forget to tell.
    pub(super) fn ends_unheard(&self) -> bool {
        self.error.is_some() || matches!(self.address, Addr::Unix(_)) && self.is_at_end()
    }

    pub(super) fn is_dead(&self) -> bool {
        self.is_dead
    }

    /// How many bytes the server has ever put in.
    pub(super) fn put_in(&self) -> u64 {
        self.put_in
    }

    /// How many of them the peer has read.
    pub(super) fn taken_out(&self) -> u64 {
        self.taken_out
    }

    /// Bytes that the peer could read.
    #[cfg(test)]
    pub(super) fn arrived(&self) -> usize {
        self.to_peer.len()
    }

    pub(super) fn saw_eof(&self) -> bool {
        self.saw_eof || self.is_at_peers_end()
    }

    pub(super) fn saw_reset(&self) -> bool {
        self.saw_reset
    }

    fn reset_peer(&mut self) {
        self.die();
        self.saw_reset = true;
        self.to_server.clear();
    }

    fn die(&mut self) {
        self.saw_eof = self.saw_eof();
        self.is_dead = true;
        self.to_peer.clear();
    }

    fn is_at_peers_end(&self) -> bool {
        self.server_ended && self.to_peer.is_empty() && !self.is_dead
    }
}
