//! The datagram sockets that a server is to have, and how they are dealt out to its workers.
//!
//! The first socket of an address is bound when it is asked for, so that its error comes at once and
//! its port is known; the others, on the same port, when the number of workers is.

use super::{LaunchError, Server};
use crate::net::{self, BindError, KernelSocket, ListenError, UdpOptions};
use std::fmt::Debug;
use std::net::{SocketAddr, ToSocketAddrs};

#[derive(Debug)]
struct Planned {
    first: KernelSocket,
    options: UdpOptions,
}

/// The sockets asked for.
#[derive(Debug, Default)]
pub(super) struct UdpPlan {
    planned: Vec<Planned>,
}

/// The sockets of each worker.
#[derive(Debug)]
pub(super) struct Dealt {
    workers: Vec<Vec<(KernelSocket, UdpOptions)>>,
    pub(super) addrs: Vec<SocketAddr>,
}

impl Dealt {
    pub(super) fn take(&mut self, worker: usize) -> Vec<(KernelSocket, UdpOptions)> {
        std::mem::take(&mut self.workers[worker])
    }
}

impl UdpPlan {
    /// Makes the sockets that are missing.
    pub(super) fn deal(self, workers: usize) -> Result<Dealt, LaunchError> {
        let mut dealt = Dealt { workers: (0..workers).map(|_| Vec::new()).collect(), addrs: Vec::new() };
        for Planned { first, options } in self.planned {
            let addr = first.local_addr();
            dealt.addrs.push(addr);
            if let Some(worker) = options.worker {
                let place = dealt.workers.get_mut(worker);
                place.ok_or(LaunchError::NoSuchWorker { addr, worker, workers })?.push((first, options));
                continue;
            }
            for worker in 1..workers {
                let socket = KernelSocket::bind(addr, &options)
                    .map_err(|source| LaunchError::Bind { worker, source })?;
                dealt.workers[worker].push((socket, options.clone()));
            }
            dealt.workers[0].push((first, options));
        }
        Ok(dealt)
    }
}

impl Server {
    /// Binds datagram sockets to an address: one for each worker, with the peers dealt out between
    /// them, or one on one worker with [`UdpOptions::on_worker`]. What they receive comes to
    /// [`on_datagram`](crate::EventHandler::on_datagram); what arrives before the launch waits.
    ///
    /// `addr` is an address with a port, or a host name with one; of several addresses the first that
    /// works is taken. Port 0 lets the kernel choose: see [`Running::udp_addrs`](super::Running::udp_addrs).
    ///
    /// # Errors
    ///
    /// [`BindError`] says what is wrong and what to do.
    pub fn bind_udp(
        mut self,
        addr: impl ToSocketAddrs + Debug,
        options: &UdpOptions,
    ) -> Result<Self, BindError> {
        let options = options.clone();
        let options = if options.worker.is_none() { options.reuse_port(true) } else { options };
        let addresses = net::resolve(addr).map_err(|error| match error {
            ListenError::BadAddress { given, source } => BindError::BadAddress { given, source },
            _ => unreachable!("looking a name up fails with its name"),
        })?;
        let (last, others) = addresses.split_last().expect("a name that resolves has an address");
        let first = others.iter().find_map(|addr| KernelSocket::bind(*addr, &options).ok());
        let first = first.map_or_else(|| KernelSocket::bind(*last, &options), Ok)?;
        self.udp.planned.push(Planned { first, options });
        Ok(self)
    }
}
