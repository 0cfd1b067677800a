//! What the far ends of connections do, whichever kernel they are on.

use super::{Kernel, LISTENER, World};
use crate::handler::EventHandler;

/// The far end of a connection of the worker under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerId(pub(super) usize);

impl<H: EventHandler> World<H> {
    /// Connects a peer. It is accepted in one of the next turns and may write at once.
    ///
    /// # Panics
    ///
    /// On the real kernel, if the connection cannot be made.
    pub fn connect(&mut self) -> PeerId {
        match &mut self.kernel {
            Kernel::Simulated { worker, peers } => {
                peers.push(worker.backend.connect(LISTENER));
                PeerId(peers.len() - 1)
            }
            Kernel::Real { peers, .. } => PeerId(peers.connect()),
        }
    }

    /// Has a peer write as much of `bytes` as goes without waiting; returns how much that was.
    pub fn write(&mut self, peer: PeerId, bytes: &[u8]) -> usize {
        match &mut self.kernel {
            Kernel::Simulated { worker, peers } => worker.backend.write(peers[peer.0], bytes),
            Kernel::Real { peers, .. } => peers.write(peer.0, bytes),
        }
    }

    /// What has arrived at a peer, `at_most` that many bytes.
    pub fn read(&mut self, peer: PeerId, at_most: usize) -> Vec<u8> {
        match &mut self.kernel {
            Kernel::Simulated { worker, peers } => worker.backend.read_at_most(peers[peer.0], at_most),
            Kernel::Real { peers, .. } => peers.read(peer.0, at_most),
        }
    }

    /// Turns until a peer has written all of `bytes`.
    ///
    /// # Panics
    ///
    /// If it never can.
    pub fn write_all(&mut self, peer: PeerId, bytes: &[u8]) {
        let mut written = 0;
        let done = self.run_until(|world| {
            written += world.write(peer, &bytes[written..]);
            written == bytes.len()
        });
        assert!(done, "the peer could write only {written} of {} bytes", bytes.len());
    }

    /// Turns until `count` bytes have arrived at a peer.
    ///
    /// # Panics
    ///
    /// If they never do.
    pub fn read_exactly(&mut self, peer: PeerId, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let done = self.run_until(|world| {
            let more = world.read(peer, count - bytes.len());
            bytes.extend(more);
            bytes.len() == count
        });
        assert!(done, "only {} of {count} bytes have arrived", bytes.len());
        bytes
    }

    /// Ends a peer's sending direction; it may still read.
    pub fn end(&mut self, peer: PeerId) {
        match &mut self.kernel {
            Kernel::Simulated { worker, peers } => worker.backend.end(peers[peer.0]),
            Kernel::Real { peers, .. } => peers.end(peer.0),
        }
    }

    /// Closes a peer's socket.
    pub fn close(&mut self, peer: PeerId) {
        match &mut self.kernel {
            Kernel::Simulated { worker, peers } => worker.backend.close(peers[peer.0]),
            Kernel::Real { peers, .. } => peers.close(peer.0),
        }
    }

    /// Has a peer reset its connection.
    pub fn reset(&mut self, peer: PeerId) {
        match &mut self.kernel {
            Kernel::Simulated { worker, peers } => worker.backend.reset(peers[peer.0]),
            Kernel::Real { peers, .. } => peers.reset(peer.0),
        }
    }

    /// Whether a peer has read everything and then the end of the server's direction.
    pub fn saw_eof(&mut self, peer: PeerId) -> bool {
        match &mut self.kernel {
            Kernel::Simulated { worker, peers } => worker.backend.saw_eof(peers[peer.0]),
            Kernel::Real { peers, .. } => peers.saw_eof(peer.0),
        }
    }

    /// Whether a peer's connection was reset.
    pub fn saw_reset(&mut self, peer: PeerId) -> bool {
        match &mut self.kernel {
            Kernel::Simulated { worker, peers } => worker.backend.saw_reset(peers[peer.0]),
            Kernel::Real { peers, .. } => peers.saw_reset(peer.0),
        }
    }

    /// Whether a simulated fault has broken a peer's connection, so that the server cannot be held
    /// to its bytes. Always false on the real kernel.
    pub fn is_broken(&self, peer: PeerId) -> bool {
        match &self.kernel {
            Kernel::Simulated { worker, peers } => worker.backend.is_broken(peers[peer.0]),
            Kernel::Real { .. } => false,
        }
    }
}
