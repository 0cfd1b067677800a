//! Peers that the worker connects to.

use super::{Kernel, PeerId, World};
use crate::backend::sim::{REFUSED_PORT, SILENT_PORT};
use crate::handler::EventHandler;
use std::net::{Ipv4Addr, SocketAddr};

impl<H: EventHandler> World<H> {
    /// Where the worker can connect to: see [`dialed`](Self::dialed). On the simulated kernel, every
    /// other address with a port above 2 does as well.
    ///
    /// # Panics
    ///
    /// On the real kernel, if there is no socket to listen on.
    pub fn dial_addr(&mut self) -> SocketAddr {
        match &mut self.kernel {
            Kernel::Simulated { .. } => simulated(7000),
            Kernel::Real { peers, .. } => peers.dial_addr(),
        }
    }

    /// Where nobody listens, so that connecting is refused.
    ///
    /// # Panics
    ///
    /// On the real kernel, if there is no socket to find a port with.
    pub fn refused_addr(&mut self) -> SocketAddr {
        match &mut self.kernel {
            Kernel::Simulated { .. } => simulated(REFUSED_PORT),
            Kernel::Real { peers, .. } => peers.refused_addr(),
        }
    }

    /// Where connecting is never answered.
    ///
    /// # Panics
    ///
    /// On the real kernel, if there is no socket to listen on.
    pub fn silent_addr(&mut self) -> SocketAddr {
        match &mut self.kernel {
            Kernel::Simulated { .. } => simulated(SILENT_PORT),
            Kernel::Real { peers, .. } => peers.silent_addr(),
        }
    }

    /// The next peer that the worker has connected to, each once.
    pub fn dialed(&mut self) -> Option<PeerId> {
        match &mut self.kernel {
            Kernel::Simulated { worker, peers } => {
                peers.push(worker.backend.dialed()?);
                Some(PeerId(peers.len() - 1))
            }
            Kernel::Real { peers, .. } => peers.dialed().map(PeerId),
        }
    }
}

/// An address of a network set aside for examples.
fn simulated(port: u16) -> SocketAddr {
    (Ipv4Addr::new(192, 0, 2, 1), port).into()
}
