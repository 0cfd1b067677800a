//! Running a handler without a server: one worker, turned by hand, on a simulated kernel or on the
//! real one.
//!
//! A [`World`] holds one worker with your handler, and the peers that talk to it. On the simulated
//! kernel everything is deterministic: the same seed, faults and calls give the same run, time
//! passes only while the worker waits, and [`Faults`] make the kernel as unpleasant as you like. The
//! simulated kernel also checks the framework's own half of the contract and panics if it is broken.
//! The same test runs on the real kernel with [`World::loopback`].
//!
//! # Examples
//!
//! ```
//! use ringline_core::testing::{Faults, World};
//! use ringline_core::{Admit, Config, ConnId, Consumed, Ctx, EventHandler, Peer};
//!
//! struct Shout;
//!
//! impl EventHandler for Shout {
//!     type Conn = ();
//!     type Message = ();
//!
//!     fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
//!         Admit::Accept(())
//!     }
//!
//!     fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
//!         cx.send(id, &data.to_ascii_uppercase()).expect("a short message");
//!         Consumed::all(data)
//!     }
//! }
//!
//! // Whatever the kernel does that a kernel may do, the bytes come back.
//! for seed in 0..10 {
//!     let mut world = World::simulated(&Config::default(), seed, Faults::none(), Shout);
//!     let peer = world.connect();
//!     assert_eq!(world.write(peer, b"hello"), 5);
//!     assert_eq!(world.read_exactly(peer, 5), b"HELLO");
//!     world.end(peer);
//!     assert!(world.run_until(|world| world.saw_eof(peer)));
//!     world.finish();
//! }
//! ```

mod children;
mod datagrams;
mod dialing;
mod layered;
mod loopback;
mod peers;
mod posting;
mod veil;
mod working;

pub use crate::backend::sim::{Fault, Faults};
pub use children::SimulatedChild;
pub use datagrams::UdpPeerId;
pub use peers::PeerId;
pub use veil::{Veil, Veils};

use crate::backend::Backend;
use crate::backend::sim::{self, Sim};
use crate::backend::uring::{RingError, Setup, Uring};
use crate::config::Config;
use crate::ctx::{Ctx, Seat};
use crate::handler::EventHandler;
use crate::job::Pools;
use crate::mail::{Mailbox, Waker};
use crate::metrics::{self, Metrics, Snapshot};
use crate::net::{self, ListenError, ListenOptions, ListenerId, UnixAddr, UnixListenOptions};
use crate::sys::EventFd;
use crate::worker::{AcceptFrom, Shared, Worker};
use datagrams::UdpPeers;
use layered::Listening;
use loopback::Loopback;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The simulated listener's number.
const LISTENER: RawFd = 1000;
/// How long a step on the real kernel waits for something to happen.
const REAL_WAIT: Duration = Duration::from_millis(2);
/// When waiting for a condition gives up: simulated turns, and real time.
const TURNS_MAX: u64 = 200_000;
const REAL_MAX: Duration = Duration::from_secs(30);

/// Why a [`World`] on the real kernel could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// The ring.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The listening socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Memory or a descriptor.
    #[error(transparent)]
    Io(#[from] io::Error),
}

enum Kernel<H: EventHandler> {
    Simulated { worker: Box<Worker<H, Sim>>, peers: Vec<sim::PeerId> },
    Real { worker: Box<Worker<H, Uring>>, peers: Loopback },
}

/// Runs one expression on the worker, whichever backend it has.
macro_rules! on_worker {
    ($world:expr, $worker:ident => $then:expr) => {
        match &mut $world.kernel {
            Kernel::Simulated { worker: $worker, .. } => $then,
            Kernel::Real { worker: $worker, .. } => $then,
        }
    };
}

/// One worker with a handler, its kernel and its peers.
pub struct World<H: EventHandler> {
    kernel: Kernel<H>,
    mailbox: Mailbox<H::Message>,
    udp_peers: UdpPeers,
    pools: Pools,
    metrics: Metrics,
    turns: u64,
    is_unix: bool,
}

impl<H: EventHandler> World<H> {
    /// A worker on a simulated kernel. `on_start` has run.
    ///
    /// # Panics
    ///
    /// If `on_start` panics or calls [`fail_start`](Ctx::fail_start).
    pub fn simulated(config: &Config, seed: u64, faults: Faults, handler: H) -> Self {
        Self::on_sim(config, seed, faults, handler, Listening::default())
    }

    /// The same with peers that come over a Unix socket.
    ///
    /// # Panics
    ///
    /// If `on_start` panics or calls [`fail_start`](Ctx::fail_start).
    pub fn simulated_unix(config: &Config, seed: u64, faults: Faults, handler: H) -> Self {
        let listening = Listening { is_unix: true, layers: None };
        Self::on_sim(config, seed, faults, handler, listening)
    }

    fn on_sim(config: &Config, seed: u64, faults: Faults, handler: H, listening: Listening) -> Self {
        let Listening { is_unix, layers } = listening;
        let mut backend = Sim::new(seed, faults);
        if is_unix {
            backend.unix_listener(LISTENER);
        } else {
            backend.listener(LISTENER);
        }
        let id = ListenerId::new(0);
        let listeners =
            vec![AcceptFrom { fd: LISTENER, id, is_unix, is_stamped: false, socket: None, layers }];
        let shard = metrics::register();
        let metrics = Metrics::new(vec![shard.reader()]);
        let pools = Pools::for_test(config, true);
        let common = Shared::new(vec![Waker::noted()], pools.clone(), config);
        let mailbox = common.mailbox.clone();
        let company = backend.company();
        let mut worker = Worker::new(handler, backend, config, SEAT, shard, listeners, common)
            .expect("memory for one worker");
        worker.io.children.simulate(company);
        let mut world = Self {
            kernel: Kernel::Simulated { worker: Box::new(worker), peers: Vec::new() },
            mailbox,
            udp_peers: UdpPeers::default(),
            pools,
            metrics,
            turns: 0,
            is_unix,
        };
        world.start();
        world
    }

    /// A worker on the real kernel, with peers that connect over the loopback interface.
    ///
    /// # Errors
    ///
    /// What kept the ring or the listening socket from being made.
    ///
    /// # Panics
    ///
    /// If `on_start` panics or calls [`fail_start`](Ctx::fail_start).
    pub fn loopback(config: &Config, handler: H) -> Result<Self, WorldError> {
        Self::on_loopback(config, &Setup::new(config), handler, Listening::default())
    }

    /// The same without the features that kernels before 6.12 and 6.13 lack, whatever kernel runs.
    ///
    /// # Errors
    ///
    /// What kept the ring or the listening socket from being made.
    ///
    /// # Panics
    ///
    /// If `on_start` panics or calls [`fail_start`](Ctx::fail_start).
    pub fn loopback_as_on_old_kernels(config: &Config, handler: H) -> Result<Self, WorldError> {
        Self::on_loopback(config, &Setup::as_on_old_kernels(config), handler, Listening::default())
    }

    /// A worker on the real kernel, with peers that connect over a Unix socket.
    ///
    /// # Errors
    ///
    /// What kept the ring or the listening socket from being made.
    ///
    /// # Panics
    ///
    /// If `on_start` panics or calls [`fail_start`](Ctx::fail_start).
    pub fn loopback_unix(config: &Config, handler: H) -> Result<Self, WorldError> {
        let listening = Listening { is_unix: true, layers: None };
        Self::on_loopback(config, &Setup::new(config), handler, listening)
    }

    fn on_loopback(
        config: &Config,
        setup: &Setup,
        handler: H,
        listening: Listening,
    ) -> Result<Self, WorldError> {
        let Listening { is_unix, layers } = listening;
        let wake = Arc::new(EventFd::new()?);
        let pools = Pools::for_test(config, false);
        let common = Shared::new(vec![Waker::Event(Arc::downgrade(&wake))], pools.clone(), config);
        let mailbox = common.mailbox.clone();
        let backend = Uring::new(setup, wake)?;
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let listener = if is_unix {
            net::bind_unix(UnixAddr::unnamed(), &UnixListenOptions::default())?
        } else {
            net::bind_first(&[any], &ListenOptions::default())?
        };
        let listener = Arc::new(listener);
        let peers = Loopback::new(listener.local_addr().clone());
        let fd = listener.as_fd().as_raw_fd();
        let id = ListenerId::new(0);
        let listeners =
            vec![AcceptFrom { fd, id, is_unix, is_stamped: false, socket: Some(listener), layers }];
        let shard = metrics::register();
        let metrics = Metrics::new(vec![shard.reader()]);
        let worker = Worker::new(handler, backend, config, SEAT, shard, listeners, common)?;
        let kernel = Kernel::Real { worker: Box::new(worker), peers };
        let udp_peers = UdpPeers::default();
        let mut world = Self { kernel, mailbox, pools, udp_peers, metrics, turns: 0, is_unix };
        world.start();
        Ok(world)
    }

    /// One turn of the worker. On the simulated kernel it waits as long as it likes, in simulated
    /// time; on the real one for two milliseconds at most.
    ///
    /// # Panics
    ///
    /// If the backend fails, or, simulated, if the framework breaks its side of the contract.
    pub fn turn(&mut self) {
        self.turn_for(None);
    }

    /// Turns until `condition` holds, and says whether it came to that. Gives up after 200,000
    /// simulated turns, when nothing can happen any more, or after half a minute of real time.
    pub fn run_until(&mut self, mut condition: impl FnMut(&mut Self) -> bool) -> bool {
        let (until, last) = (Instant::now() + REAL_MAX, self.turns + TURNS_MAX);
        loop {
            if condition(self) {
                return true;
            }
            let over = match &mut self.kernel {
                Kernel::Simulated { worker, .. } => {
                    worker.backend.is_idle()
                        && worker.is_waiting()
                        && !worker.has_mail()
                        && !self.pools.has_runnable()
                }
                Kernel::Real { .. } => Instant::now() > until,
            };
            if over || self.turns >= last {
                return false;
            }
            self.turn();
        }
    }

    /// Turns until this much time has passed, simulated or real.
    pub fn sleep(&mut self, duration: Duration) {
        let until = self.elapsed() + duration;
        while self.elapsed() < until {
            let left = until.saturating_sub(self.elapsed());
            self.turn_for(Some(left));
        }
    }

    /// The worker's time since its start.
    pub fn elapsed(&mut self) -> Duration {
        match &mut self.kernel {
            Kernel::Simulated { worker, .. } => Duration::from_millis(worker.backend.time_ms().unwrap_or(0)),
            Kernel::Real { worker, .. } => {
                worker.io.clock.turn(None);
                worker.io.clock.elapsed()
            }
        }
    }

    /// How many turns there have been.
    pub fn turns(&self) -> u64 {
        self.turns
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        match &self.kernel {
            Kernel::Simulated { worker, .. } => &worker.handler,
            Kernel::Real { worker, .. } => &worker.handler,
        }
    }

    /// Acts as the handler, between two turns.
    pub fn act<R>(&mut self, act: impl FnOnce(&mut H, &mut Ctx<'_, H>) -> R) -> R {
        on_worker!(self, worker => worker.act(act))
    }

    /// From now on another mix of faults; nothing on the real kernel.
    pub fn set_faults(&mut self, faults: Faults) {
        if let Kernel::Simulated { worker, .. } = &mut self.kernel {
            worker.backend.set_faults(faults);
        }
    }

    /// How often a fault has struck; never on the real kernel.
    pub fn struck(&self, fault: Fault) -> u64 {
        match &self.kernel {
            Kernel::Simulated { worker, .. } => worker.backend.struck(fault),
            Kernel::Real { .. } => 0,
        }
    }

    /// Keeps the last events of the simulated kernel, to be shown when a rule is broken.
    pub fn enable_trace(&mut self) {
        if let Kernel::Simulated { worker, .. } = &mut self.kernel {
            worker.backend.enable_trace();
        }
    }

    /// The last events of the simulated kernel, one to a line.
    pub fn trace(&self) -> String {
        match &self.kernel {
            Kernel::Simulated { worker, .. } => worker.backend.trace(),
            Kernel::Real { .. } => String::new(),
        }
    }

    /// What the worker has counted.
    pub fn metrics(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    /// Begins the orderly end, as [`Running::shutdown`](crate::Running::shutdown) does.
    pub fn shut_down(&mut self, within: Duration) {
        on_worker!(self, worker => {
            let deadline = worker.io.clock.now() + within.min(Duration::from_secs(100 * 365 * 86_400));
            worker.shut_down(deadline);
        });
    }

    /// Whether the worker has ended: asked to, and nothing left.
    pub fn is_done(&self) -> bool {
        match &self.kernel {
            Kernel::Simulated { worker, .. } => worker.is_done(),
            Kernel::Real { worker, .. } => worker.is_done(),
        }
    }

    /// Shuts the worker down within a minute, audits what is left of it, and gives the handler back.
    ///
    /// # Panics
    ///
    /// If the worker does not end, or if anything is left: a connection, a byte queued, a timer of
    /// a connection, a buffer, an operation in flight.
    pub fn finish(mut self) -> H {
        self.shut_down(Duration::from_secs(60));
        let ended = self.run_until(|world| world.is_done());
        assert!(ended, "the worker does not end");
        self.audit();
        self.pools.close();
        match self.kernel {
            Kernel::Simulated { worker, .. } => worker.into_handler(),
            Kernel::Real { worker, .. } => worker.into_handler(),
        }
    }

    fn audit(&mut self) {
        on_worker!(self, worker => worker.assert_at_rest());
        if let Kernel::Simulated { worker, .. } = &self.kernel {
            worker.backend.assert_at_rest(&[]);
        }
        let snapshot = self.metrics();
        assert_eq!(snapshot.connections_active, 0, "every connection that was counted in is counted out");
        let opened = snapshot.connections_accepted + snapshot.connects + snapshot.connections_adopted;
        assert_eq!(opened, snapshot.connections_closed);
        assert_eq!(snapshot.udp_sockets, 0, "every datagram socket that was counted in is counted out");
        assert_eq!(snapshot.children_active, 0, "every child that was counted in is counted out");
    }

    fn start(&mut self) {
        let started = on_worker!(self, worker => worker.start());
        if let Err(unstarted) = started {
            panic!("on_start has failed: {unstarted:?}");
        }
    }

    fn turn_for(&mut self, at_most: Option<Duration>) {
        self.turns += 1;
        self.run_jobs();
        self.ring();
        let real = at_most.map_or(REAL_WAIT, |at_most| at_most.min(REAL_WAIT));
        let turned = match &mut self.kernel {
            Kernel::Simulated { worker, .. } => worker.turn(at_most),
            Kernel::Real { worker, .. } => worker.turn(Some(real)),
        };
        turned.expect("the backend works");
    }
}

impl<H: EventHandler> fmt::Debug for World<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("turns", &self.turns).finish_non_exhaustive()
    }
}

const SEAT: Seat = Seat { worker: 0, workers: 1, cpu: None };
