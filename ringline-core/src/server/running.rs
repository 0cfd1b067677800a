//! The handle of a running server.

use super::signals::Teller;
use super::{Command, Ready, RunError};
use crate::backend::uring::Capabilities;
use crate::job::Pools;
use crate::mail::{Mailbox, PostError};
use crate::metrics::Metrics;
use crate::net::{Addr, ListenerId};
use crate::signal::{Arrivals, ShutdownSignal, SignalWatch};
use crate::worker::Shared;
use crossbeam_channel::{Receiver, RecvTimeoutError, Select, bounded};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long past its deadline a worker may take to end before it counts as stuck.
const GRACE: Duration = Duration::from_secs(5);

/// One worker's thread and the ways to reach it.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) thread: JoinHandle<Result<(), RunError>>,
    pub(super) teller: Teller,
    /// Disconnects when the thread has let go of everything.
    pub(super) finished: Receiver<()>,
    pub(super) arrivals: Arc<Arrivals>,
}

impl Handle {
    fn tell(&self, command: Command) {
        self.teller.tell(command);
    }

    /// Waits for the end of the thread, until `until` if given.
    fn join(self, worker: usize, until: Option<Instant>) -> Result<(), RunError> {
        if let Some(until) = until
            && self.finished.recv_deadline(until) == Err(RecvTimeoutError::Timeout)
        {
            return Err(RunError::Stuck { worker });
        }
        self.thread.join().unwrap_or(Err(RunError::Panicked { worker }))
    }
}

/// A server at work. Dropping it stops the server at once: connections are aborted.
///
/// # Examples
///
/// See the [head of this crate](crate).
#[derive(Debug)]
#[must_use = "dropping the handle stops the server"]
pub struct Running<M = ()> {
    handles: Vec<Handle>,
    /// By the numbers of the listeners.
    listen_addrs: Vec<Addr>,
    local_addrs: Vec<SocketAddr>,
    udp_addrs: Vec<SocketAddr>,
    metrics: Metrics,
    capabilities: Capabilities,
    mailbox: Mailbox<M>,
    /// Gives the signals back when it is dropped, after the workers have ended.
    _watch: Option<SignalWatch>,
    pools: Pools,
}

impl<M> Running<M> {
    pub(super) fn new(
        handles: Vec<Handle>,
        listen_addrs: Vec<Addr>,
        udp_addrs: Vec<SocketAddr>,
        ready: Vec<Ready>,
        common: Shared<M>,
        watch: Option<SignalWatch>,
    ) -> Self {
        let Shared { mailbox, pools, .. } = common;
        let capabilities = ready[0].capabilities;
        let metrics = Metrics::new(ready.into_iter().map(|ready| ready.metrics).collect());
        let local_addrs = listen_addrs.iter().filter_map(Addr::ip).collect();
        Self {
            handles,
            listen_addrs,
            local_addrs,
            udp_addrs,
            metrics,
            capabilities,
            mailbox,
            pools,
            _watch: watch,
        }
    }

    /// The IP addresses the server listens on, in the order in which they were added. Port 0 has
    /// become the port that the kernel chose. Unix sockets are not among them.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// All addresses the server listens on, in the order in which they were added, each in the place that
    /// [`ListenerId::index`] says.
    pub fn listen_addrs(&self) -> &[Addr] {
        &self.listen_addrs
    }

    /// Where a listener listens; `None` for one of another server that has more of them.
    pub fn listen_addr(&self, listener: ListenerId) -> Option<&Addr> {
        self.listen_addrs.get(listener.index())
    }

    /// The addresses of the server's datagram sockets, in the order in which they were added. Port 0 has
    /// become the port that the kernel chose, the same on every worker.
    pub fn udp_addrs(&self) -> &[SocketAddr] {
        &self.udp_addrs
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.handles.len()
    }

    /// What this server's workers have counted. The totals of all servers of the process are in
    /// the metriken registry.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// What the kernel offers and the workers use.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// The way to the handlers of the workers, for as many threads as you like.
    pub fn mailbox(&self) -> Mailbox<M> {
        self.mailbox.clone()
    }

    /// Posts a message to one worker: see [`Mailbox::post`].
    ///
    /// # Errors
    ///
    /// As [`Mailbox::post`]. The message comes back.
    pub fn post(&self, worker: usize, message: M) -> Result<(), PostError<M>> {
        self.mailbox.post(worker, message)
    }

    /// Stops accepting connections on all workers until
    /// [`resume_accepts`](Self::resume_accepts), as [`Ctx::pause_accepts`](crate::Ctx::pause_accepts)
    /// does on one. Does not wait for it: each worker stops in its next turn.
    pub fn pause_accepts(&self) {
        self.tell_all(Command::PauseAccepts);
    }

    /// Has all workers accept again, also those whose handler paused accepting.
    pub fn resume_accepts(&self) {
        self.tell_all(Command::ResumeAccepts);
    }

    /// Stops accepting, lets everything queued go out, closes every connection in order, and
    /// aborts what is left when `within` has passed. Listening sockets close first, so that a
    /// successor can take over the port at once.
    ///
    /// # Errors
    ///
    /// The first worker that did not end well, as a [`RunError`]. Every worker that can has ended.
    pub fn shutdown(mut self, within: Duration) -> Result<(), RunError> {
        self.stop(within)
    }

    /// Serves until `SIGTERM` or `SIGINT` arrives, then shuts down as [`shutdown`](Self::shutdown) does.
    /// If a worker ends by itself, the others are shut down, too.
    ///
    /// # Errors
    ///
    /// The first worker that did not end well, as a [`RunError`].
    pub fn run_until(mut self, mut signal: ShutdownSignal, within: Duration) -> Result<(), RunError> {
        let closer = signal.closer();
        let (arrive, arrived) = bounded(1);
        // The signal goes on living while the server drains, so that its second one ends the process.
        let wait = move || {
            let _ = arrive.send(signal.wait_unless_closed());
            signal
        };
        let waiter = std::thread::Builder::new().name(String::from("ringline-signal")).spawn(wait);
        let waiter = waiter.map_err(|source| RunError::Signal { source })?;
        let mut select = Select::new();
        select.recv(&arrived);
        for handle in &self.handles {
            select.recv(&handle.finished);
        }
        select.ready();
        closer.close();
        let signal = waiter.join();
        let ended = self.stop(within);
        drop(signal);
        ended
    }

    /// Waits until every worker has ended by itself: because a handler has called
    /// [`shut_down`](crate::Ctx::shut_down), or for a reason that is reported as an error.
    ///
    /// # Errors
    ///
    /// The first worker that did not end well.
    pub fn join(mut self) -> Result<(), RunError> {
        let handles = std::mem::take(&mut self.handles);
        let ends = handles.into_iter().enumerate().map(|(worker, handle)| handle.join(worker, None));
        let ended = first_error(ends);
        let jobs = self.end_jobs(Instant::now());
        ended.and(jobs)
    }

    fn tell_all(&self, command: Command) {
        for handle in &self.handles {
            handle.tell(command);
        }
    }

    fn stop(&mut self, within: Duration) -> Result<(), RunError> {
        let now = Instant::now();
        // A time beyond the clock's range is as good as a century.
        let deadline = now.checked_add(within).unwrap_or(now + Duration::from_secs(100 * 365 * 86_400));
        let handles = std::mem::take(&mut self.handles);
        for handle in &handles {
            handle.tell(Command::ShutDown { deadline });
        }
        let until = Some(deadline + GRACE);
        let ends = handles.into_iter().enumerate().map(|(worker, handle)| handle.join(worker, until));
        let ended = first_error(ends);
        let jobs = self.end_jobs(deadline);
        ended.and(jobs)
    }

    /// Ends the threads for what blocks, but for those whose job does not return by then.
    fn end_jobs(&self, deadline: Instant) -> Result<(), RunError> {
        self.pools.close();
        match self.pools.wait(deadline) {
            0 => Ok(()),
            jobs => Err(RunError::JobsLeft { jobs }),
        }
    }
}

impl<M> Drop for Running<M> {
    fn drop(&mut self) {
        if !self.handles.is_empty()
            && let Err(error) = self.stop(Duration::ZERO)
        {
            log::error!("{error}");
        }
    }
}

/// Lets every worker end, and reports the first that did not end well.
fn first_error(ends: impl Iterator<Item = Result<(), RunError>>) -> Result<(), RunError> {
    let mut first = Ok(());
    for end in ends {
        if first.is_ok() {
            first = end;
        }
    }
    first
}
