//! What the far ends do: clients of the server under test.

use super::Sim;
use super::faults::Fault;
use super::network::PeerId;
use std::os::fd::RawFd;

impl Sim {
    /// Makes `number` a listener, which an accept may name.
    pub(crate) fn listener(&mut self, number: RawFd) {
        self.network.listen(number, false);
    }

    /// Makes `number` a listening Unix socket.
    pub(crate) fn unix_listener(&mut self, number: RawFd) {
        self.network.listen(number, true);
    }

    /// Connects to a listener: the peer waits in the backlog and may write at once.
    ///
    /// # Panics
    ///
    /// If `listener` is none.
    pub(crate) fn connect(&mut self, listener: RawFd) -> PeerId {
        let peer = self.network.connect(listener).expect("peers connect to listeners");
        self.trace.note(|| format!("{peer:?} connects"));
        peer
    }

    /// Writes what the receive window has room for and returns how much that was; nothing on a
    /// connection that has ended or is dead.
    pub(crate) fn write(&mut self, peer: PeerId, bytes: &[u8]) -> usize {
        let taken = self.network.link(peer).peer_write(bytes);
        if taken > 0 {
            self.trace.note(|| format!("{peer:?} writes {taken} of {}", bytes.len()));
            self.network.touch_peer(peer);
        }
        taken
    }

    /// Reads everything that has arrived. A peer that never reads leaves the server's socket full.
    #[cfg(test)]
    pub(crate) fn read(&mut self, peer: PeerId) -> Vec<u8> {
        self.read_at_most(peer, usize::MAX)
    }

    /// Reads at most `len` bytes.
    pub(crate) fn read_at_most(&mut self, peer: PeerId, len: usize) -> Vec<u8> {
        let bytes = self.network.link(peer).peer_read(len);
        if !bytes.is_empty() {
            self.trace.note(|| format!("{peer:?} reads {}", bytes.len()));
            self.network.touch_peer(peer);
        }
        bytes
    }

    /// Ends the peer's direction; it may still read.
    pub(crate) fn end(&mut self, peer: PeerId) {
        if self.network.link(peer).peer_end() {
            self.trace.note(|| format!("{peer:?} ends"));
            self.network.touch_peer(peer);
        }
    }

    /// Closes the peer's socket: an orderly end, or a reset if bytes are unread or arrive later.
    pub(crate) fn close(&mut self, peer: PeerId) {
        self.trace.note(|| format!("{peer:?} closes"));
        let discard = self.dice.strikes(Fault::ResetDiscards);
        self.network.link(peer).peer_close(discard);
        self.network.touch_peer(peer);
    }

    /// Resets the connection.
    pub(crate) fn reset(&mut self, peer: PeerId) {
        self.trace.note(|| format!("{peer:?} resets"));
        let discard = self.dice.strikes(Fault::ResetDiscards);
        self.network.link(peer).reset_server(discard);
        self.network.touch_peer(peer);
    }

    /// The address that an accept reports.
    #[cfg(test)]
    pub(crate) fn address(&self, peer: PeerId) -> std::net::SocketAddr {
        self.network.link_ref(peer).address.ip().expect("a peer of a TCP listener")
    }

    /// How many bytes the peer could read.
    #[cfg(test)]
    pub(crate) fn arrived(&self, peer: PeerId) -> usize {
        self.network.link_ref(peer).arrived()
    }

    /// How many bytes of the peer's the server has not received.
    #[cfg(test)]
    pub(crate) fn unreceived(&self, peer: PeerId) -> usize {
        self.network.link_ref(peer).to_server.len()
    }

    /// Whether the peer has read everything there was and then the end.
    pub(crate) fn saw_eof(&self, peer: PeerId) -> bool {
        self.network.link_ref(peer).saw_eof()
    }

    /// Whether a reset has come to the peer.
    pub(crate) fn saw_reset(&self, peer: PeerId) -> bool {
        self.network.link_ref(peer).saw_reset()
    }

    /// Whether the server has, or had, a socket for this connection.
    #[cfg(test)]
    pub(crate) fn is_accepted(&self, peer: PeerId) -> bool {
        matches!(
            self.network.link_ref(peer).server,
            super::link::ServerEnd::Open(_) | super::link::ServerEnd::Closed
        )
    }

    /// Whether the connection waits in the backlog or the server has not closed its socket.
    #[cfg(test)]
    pub(crate) fn is_open(&self, peer: PeerId) -> bool {
        matches!(
            self.network.link_ref(peer).server,
            super::link::ServerEnd::Open(_) | super::link::ServerEnd::Backlog
        )
    }

    /// Whether a fault has broken the connection, so that the server cannot be held to its bytes.
    pub(crate) fn is_broken(&self, peer: PeerId) -> bool {
        self.network.link_ref(peer).is_broken
    }
}
