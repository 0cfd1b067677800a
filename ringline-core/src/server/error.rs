//! Why a server did not start, or did not end well.

use crate::backend::uring::RingError;
use crate::net::BindError;
use crate::signal::Signal;
use std::error::Error;
use std::io;
use std::net::SocketAddr;

/// Why a server could not be launched. Nothing of it is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The connections need more descriptors than the process may have.
    #[error(
        "{needed} descriptors per worker are needed and the limit of open files (RLIMIT_NOFILE) is \
         {limit}; raise it with ulimit -n, or lower connections_per_worker"
    )]
    OpenFiles {
        /// Descriptors each ring has to have room for.
        needed: u64,
        /// The limit in force.
        limit: u64,
    },
    /// A worker's ring could not be set up.
    #[error("worker {worker}: {source}")]
    Ring {
        /// Which worker.
        worker: usize,
        /// Why.
        source: RingError,
    },
    /// Memory for a worker could not be mapped.
    #[error("worker {worker}: no memory ({source}); lower stage_bytes")]
    Memory {
        /// Which worker.
        worker: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// A worker could not be pinned to its CPU.
    #[error("worker {worker} could not be pinned to CPU {cpu} ({source}); turn pinning off")]
    Pin {
        /// Which worker.
        worker: usize,
        /// The CPU meant for it.
        cpu: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// A worker's thread could not be started.
    #[error("worker {worker}: no thread ({source}); look at the limits of threads and open files")]
    Thread {
        /// Which worker.
        worker: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel would not say which CPUs there are.
    #[error("the CPUs of this process could not be found out ({source}); set workers and turn pinning off")]
    Cpus {
        /// What the kernel said.
        source: io::Error,
    },
    /// A datagram socket could not be had for each worker.
    #[error("a datagram socket for worker {worker}: {source}")]
    Bind {
        /// Which worker.
        worker: usize,
        /// Why.
        source: BindError,
    },
    /// A datagram socket was to be on a worker that does not exist.
    #[error("the datagram socket {addr} is for worker {worker} and there are {workers}; the first is 0")]
    NoSuchWorker {
        /// The socket.
        addr: SocketAddr,
        /// The worker that was named.
        worker: usize,
        /// How many there are.
        workers: usize,
    },
    /// Signals are to come to a worker that there is not.
    #[error(
        "signals are to come to worker {worker}, but the workers are numbered from 0 and there are {workers}"
    )]
    SignalWorker {
        /// The worker that was named.
        worker: usize,
        /// How many there are.
        workers: usize,
    },
    /// A signal of which no program is told.
    #[error("{signal} cannot be caught; leave it out of Server::signals")]
    SignalUncatchable {
        /// Which.
        signal: Signal,
    },
    /// A signal could not be taken over.
    #[error("{signal} could not be taken over ({source}); a ShutdownSignal has SIGTERM and SIGINT to itself")]
    Signal {
        /// Which.
        signal: Signal,
        /// What the system said; `AlreadyExists` for one that a `ShutdownSignal` has.
        source: io::Error,
    },
    /// The handler's `on_start` has called [`fail_start`](crate::Ctx::fail_start).
    #[error("worker {worker} does not start: {source}")]
    Start {
        /// Which worker.
        worker: usize,
        /// What it said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The handler's factory or its `on_start` panicked.
    #[error("the handler panicked while it was started")]
    Panicked {
        /// On which worker, if that is known.
        worker: Option<usize>,
    },
}

/// How a server ended, if not well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The kernel made a worker's ring unusable.
    #[error("worker {worker}: the ring failed: {source}")]
    Ring {
        /// Which worker.
        worker: usize,
        /// What the kernel said.
        source: io::Error,
    },
    /// A callback panicked and the configuration says that its worker stops then, or a panic came
    /// from outside of all callbacks.
    #[error("worker {worker} stopped after a panic")]
    Panicked {
        /// Which worker.
        worker: usize,
    },
    /// No thread could be started to wait for a signal; the server was stopped.
    #[error("no thread to wait for a signal ({source}); look at the limit of threads")]
    Signal {
        /// What the kernel said.
        source: io::Error,
    },
    /// Jobs did not return in time. Their threads are left to themselves; everything else has ended.
    #[error("{jobs} blocking jobs have not returned; give the shutdown more time or the jobs less to do")]
    JobsLeft {
        /// How many.
        jobs: usize,
    },
    /// A worker did not end in time: one of its callbacks does not return.
    #[error("worker {worker} has not ended; a callback of its handler blocks")]
    Stuck {
        /// Which worker.
        worker: usize,
    },
}
