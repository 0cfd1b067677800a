//! From a configuration and some addresses to running workers.
//!
//! Launching is a transaction: either every worker is ready and accepts, or none is left and the
//! first error is reported.

mod error;
mod running;
mod signals;
mod thread;
mod udp;

pub use error::{LaunchError, RunError};
pub use running::Running;

use crate::backend::uring::{Capabilities, Setup};
use crate::config::Config;
use crate::ctx::Seat;
use crate::handler::EventHandler;
use crate::job::Pools;
use crate::layer::LayerFactory;
use crate::mail::Waker;
use crate::metrics::ShardReader;
use crate::net::{self, KernelSocket, ListenError, ListenOptions, Listener, UdpOptions};
use crate::net::{UnixAddr, UnixListenOptions, topology};
use crate::signal::Arrivals;
use crate::sys::{EventFd, affinity, limits};
use crate::worker::Shared;
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use running::Handle;
use signals::{Teller, Wanted};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::ToSocketAddrs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use thread::Plan;
use udp::UdpPlan;

/// Descriptors of the process that a worker and its surroundings need.
const PROCESS_FILES: u64 = 64;

/// What a worker's thread is told.
#[derive(Clone, Copy, Debug)]
enum Command {
    ShutDown {
        deadline: Instant,
    },
    PauseAccepts,
    ResumeAccepts,
    /// Signals have arrived.
    Signals,
}

/// What a worker's thread reports once.
type Report = Result<Ready, LaunchError>;

#[derive(Debug)]
struct Ready {
    worker: usize,
    metrics: ShardReader,
    capabilities: Capabilities,
}

/// A server that is being put together.
///
/// # Examples
///
/// See the [head of this crate](crate).
#[derive(Debug)]
pub struct Server {
    config: Config,
    listeners: Vec<Arc<Listener>>,
    udp: UdpPlan,
    signals: Vec<Wanted>,
    layers: Layers,
}

/// What the connections of some listeners get a layer from, by the listener's number.
type Layers = BTreeMap<usize, Arc<dyn LayerFactory>>;

impl Server {
    /// A server with this configuration and no listeners yet.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            listeners: Vec::new(),
            layers: Layers::new(),
            udp: UdpPlan::default(),
            signals: Vec::new(),
        }
    }

    /// Listens on a TCP address, with the usual options. Peers can connect from now on and are
    /// served once the server is launched.
    ///
    /// `addr` is an address with a port, or a host name with one; of several addresses the first
    /// that works is taken. Port 0 lets the kernel choose: see [`Running::local_addrs`].
    ///
    /// # Errors
    ///
    /// [`ListenError`] says what is wrong with the address and what to do.
    pub fn listen(self, addr: impl ToSocketAddrs + Debug) -> Result<Self, ListenError> {
        self.listen_with(addr, &ListenOptions::default())
    }

    /// Listens on a TCP address.
    ///
    /// # Errors
    ///
    /// [`ListenError`] says what is wrong with the address and what to do.
    pub fn listen_with(
        mut self,
        addr: impl ToSocketAddrs + Debug,
        options: &ListenOptions,
    ) -> Result<Self, ListenError> {
        let addresses = net::resolve(addr)?;
        self.listeners.push(Arc::new(net::bind_first(&addresses, options)?));
        Ok(self)
    }

    /// Listens on a Unix socket: on a path, on an abstract name, or, if the address is unnamed, on an abstract
    /// name that the kernel chooses. The socket file goes when the server stops accepting, if it is still
    /// the one that was made.
    ///
    /// Everything that holds for TCP connections holds for these; they count towards
    /// [`connections_max`](crate::ConfigBuilder::connections_max), but towards the connections of no
    /// address. Their descriptors count towards the process's limit of open files on every kernel.
    ///
    /// # Errors
    ///
    /// [`ListenError`] says what is in the way and what to do.
    pub fn listen_unix(mut self, addr: UnixAddr, options: &UnixListenOptions) -> Result<Self, ListenError> {
        self.listeners.push(Arc::new(net::bind_unix(addr, options)?));
        Ok(self)
    }

    /// Has every connection of the listener that was added last get a layer, such as that of TLS.
    ///
    /// `ringline-tls` has calls of its own for this.
    ///
    /// # Panics
    ///
    /// If there is no listener yet.
    #[must_use]
    pub fn layered(mut self, layers: Arc<dyn LayerFactory>) -> Self {
        let last = self.listeners.len().checked_sub(1).expect("a listener comes before its layer");
        self.layers.insert(last, layers);
        self
    }

    /// Starts the workers. `factory` makes one handler per worker, on the worker's own thread, so
    /// a handler need not be `Send`.
    ///
    /// Returns once every worker serves its listeners.
    ///
    /// # Errors
    ///
    /// The first thing that went wrong, as a [`LaunchError`]; no worker is left behind.
    pub fn launch<H, F>(mut self, factory: F) -> Result<Running<H::Message>, LaunchError>
    where
        H: EventHandler + 'static,
        F: Fn(Seat) -> H + Send + Sync + 'static,
    {
        let seats = self.seats()?;
        self.check_open_files(seats.len())?;
        self.check_signals(seats.len())?;
        let mut udp = std::mem::take(&mut self.udp).deal(seats.len())?;
        let factory = Arc::new(factory);
        let events = events(seats.len())?;
        let wakers = events.iter().map(|event| Waker::Event(Arc::downgrade(event))).collect();
        let common = Shared::new(wakers, self.pools()?, &self.config);
        let (report, reports) = bounded(seats.len());
        let mut handles = Vec::new();
        let mut starts = Vec::new();
        let mut spawned = Ok(());
        for (seat, wake) in seats.into_iter().zip(events) {
            let (common, udp) = (common.of(seat.worker), udp.take(seat.worker));
            match self.spawn(seat, wake, common, udp, &report, Arc::clone(&factory)) {
                Ok((handle, start)) => {
                    handles.push(handle);
                    starts.push(start);
                }
                Err(error) => {
                    spawned = Err(error);
                    break;
                }
            }
        }
        drop(report);
        let ready = spawned.and_then(|()| collect(&reports, handles.len()));
        let ready = ready.and_then(|ready| Ok((ready, self.watch_signals(&handles)?)));
        let (ready, watch) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                // Without a start signal every worker that is ready ends by itself.
                drop(starts);
                for handle in handles {
                    let _ = handle.thread.join();
                }
                common.pools.close();
                return Err(error);
            }
        };
        let tellers: Vec<_> = handles.iter().map(|handle| handle.teller.clone()).collect();
        for (own, start) in starts.into_iter().enumerate() {
            let others = tellers.iter().enumerate().filter(|(at, _)| *at != own);
            let _ = start.send(others.map(|(_, teller)| teller.clone()).collect());
        }
        let addrs = self.listeners.iter().map(|listener| listener.local_addr().clone()).collect();
        Ok(Running::new(handles, addrs, udp.addrs, ready, common, watch))
    }

    fn spawn<H, F>(
        &self,
        seat: Seat,
        wake: Arc<EventFd>,
        common: Shared<H::Message>,
        udp: Vec<(KernelSocket, UdpOptions)>,
        report: &Sender<Report>,
        factory: Arc<F>,
    ) -> Result<(Handle, Sender<Vec<Teller>>), LaunchError>
    where
        H: EventHandler + 'static,
        F: Fn(Seat) -> H + Send + Sync + 'static,
    {
        let failed = |source| LaunchError::Thread { worker: seat.worker, source };
        let (command, commands) = unbounded();
        let (start, started) = bounded(1);
        let (finish, finished) = bounded(1);
        let arrivals = Arc::new(Arrivals::default());
        let plan = Plan {
            seat,
            config: self.config.clone(),
            setup: Setup::new(&self.config),
            listeners: self.listeners.clone(),
            layers: self.layers.clone(),
            common,
            udp,
            wake: Arc::clone(&wake),
            report: report.clone(),
            started,
            commands,
            finish,
            arrivals: Arc::clone(&arrivals),
        };
        let thread = std::thread::Builder::new()
            .name(format!("ringline-{}", seat.worker))
            .spawn(move || plan.run(&*factory))
            .map_err(failed)?;
        Ok((Handle { thread, teller: Teller { wake, command }, finished, arrivals }, start))
    }

    /// Threads for what blocks; they inherit the place of the worker that starts them, and are not to
    /// stay there.
    fn pools(&self) -> Result<Pools, LaunchError> {
        let cpus = if self.config.pins() { Some(allowed_cpus()?) } else { None };
        Ok(Pools::new(&self.config, cpus))
    }

    /// Who sits where.
    fn seats(&self) -> Result<Vec<Seat>, LaunchError> {
        let allowed = allowed_cpus()?;
        let root = Path::new(topology::CPU_ROOT);
        let workers =
            self.config.workers().unwrap_or_else(|| topology::physical_cores(&allowed, root).len().max(1));
        let cpus = topology::placement(workers, &allowed, root);
        let cpu = |worker: usize| if self.config.pins() { cpus.get(worker).copied() } else { None };
        Ok((0..workers).map(|worker| Seat { worker, workers, cpu: cpu(worker) }).collect())
    }

    /// The table of descriptors may not be larger than the limit of open files, and on old kernels
    /// the connections of all workers together need that many.
    fn check_open_files(&self, workers: usize) -> Result<(), LaunchError> {
        let files = u64::from(Setup::new(&self.config).files);
        let needed = files * workers as u64 + PROCESS_FILES;
        let limit = if self.config.raises_open_files() {
            limits::raise_open_files(needed)
        } else {
            limits::open_files().map(|limit| limit.soft)
        };
        match limit {
            Ok(limit) if limit < files => Err(LaunchError::OpenFiles { needed: files, limit }),
            _ => Ok(()),
        }
    }
}

fn allowed_cpus() -> Result<Vec<usize>, LaunchError> {
    affinity::allowed_cpus().map_err(|source| LaunchError::Cpus { source })
}

/// What wakes each worker.
fn events(workers: usize) -> Result<Vec<Arc<EventFd>>, LaunchError> {
    let event = |worker| match EventFd::new() {
        Ok(event) => Ok(Arc::new(event)),
        Err(source) => Err(LaunchError::Thread { worker, source }),
    };
    (0..workers).map(event).collect()
}

/// Waits for every worker's report; the first error ends it.
fn collect(reports: &Receiver<Report>, workers: usize) -> Result<Vec<Ready>, LaunchError> {
    let mut ready = Vec::with_capacity(workers);
    while ready.len() < workers {
        match reports.recv() {
            Ok(report) => ready.push(report?),
            // A thread that ended without a report has panicked outside of all callbacks.
            Err(_) => return Err(LaunchError::Panicked { worker: None }),
        }
    }
    ready.sort_by_key(|ready| ready.worker);
    Ok(ready)
}
