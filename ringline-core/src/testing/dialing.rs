//! Peers that the worker connects to.

use super::{Kernel, PeerId, World};
use crate::backend::sim::{REFUSED_NAME, REFUSED_PORT, SILENT_NAME, SILENT_PORT};
use crate::handler::EventHandler;
use crate::net::{Addr, UnixAddr};
use std::net::{Ipv4Addr, SocketAddr};

impl<H: EventHandler> World<H> {
    /// Where the worker can connect to: see [`dialed`](Self::dialed). On the simulated kernel, every
    /// other address with a port above 2 does as well, and every Unix socket but the two that follow.
    ///
    /// # Panics
    ///
    /// On the real kernel, if there is no socket to listen on.
    pub fn dial_addr(&mut self) -> Addr {
        match &mut self.kernel {
            Kernel::Simulated { .. } => self.simulated_addr(7000, b"peer"),
            Kernel::Real { peers, .. } => peers.dial_addr(),
        }
    }

    /// Where nobody listens, so that connecting is refused.
    ///
    /// # Panics
    ///
    /// On the real kernel, if there is no socket to find a port with.
    pub fn refused_addr(&mut self) -> Addr {
        match &mut self.kernel {
            Kernel::Simulated { .. } => self.simulated_addr(REFUSED_PORT, REFUSED_NAME),
            Kernel::Real { peers, .. } => peers.refused_addr(),
        }
    }

    /// Where connecting is never answered.
    ///
    /// # Panics
    ///
    /// On the real kernel, if there is no socket to listen on.
    pub fn silent_addr(&mut self) -> Addr {
        match &mut self.kernel {
            Kernel::Simulated { .. } => self.simulated_addr(SILENT_PORT, SILENT_NAME),
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

    /// An address of a network set aside for examples, or a name, whatever this world is made of.
    fn simulated_addr(&self, port: u16, name: &[u8]) -> Addr {
        if self.is_unix {
            UnixAddr::abstract_name(name).expect("it is short").into()
        } else {
            SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port)).into()
        }
    }
}
