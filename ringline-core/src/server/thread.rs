//! What a worker's thread does, from its first instruction to its last.

use super::signals::Teller;
use super::{Command, LaunchError, Layers, Ready, Report, RunError};
use crate::backend::uring::{Setup, Uring};
use crate::config::Config;
use crate::ctx::{Others, Seat, Unstarted};
use crate::handler::EventHandler;
use crate::metrics;
use crate::net::{KernelSocket, Listener, ListenerId, UdpOptions};
use crate::signal::Arrivals;
use crate::sys::{EventFd, affinity};
use crate::worker::{AcceptFrom, Shared, Worker};
use crossbeam_channel::{Receiver, Sender};
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

/// Everything a worker's thread needs.
#[derive(Debug)]
pub(super) struct Plan<M> {
    pub(super) seat: Seat,
    pub(super) config: Config,
    pub(super) setup: Setup,
    pub(super) listeners: Vec<Arc<Listener>>,
    pub(super) layers: Layers,
    pub(super) common: Shared<M>,
    pub(super) udp: Vec<(KernelSocket, UdpOptions)>,
    pub(super) wake: Arc<EventFd>,
    pub(super) report: Sender<Report>,
    pub(super) started: Receiver<Vec<Teller>>,
    pub(super) commands: Receiver<Command>,
    pub(super) finish: Sender<()>,
    pub(super) arrivals: Arc<Arrivals>,
}

impl<M: Send + 'static> Plan<M> {
    /// The whole life of the thread.
    pub(super) fn run<H: EventHandler<Message = M>>(
        mut self,
        factory: &(impl Fn(Seat) -> H + ?Sized),
    ) -> Result<(), RunError> {
        // Dropped last, so that whoever waits for the end sees everything gone.
        let _finish = self.finish.clone();
        let worker = self.seat.worker;
        let built = catch_unwind(AssertUnwindSafe(|| self.build(factory)));
        let built = built.unwrap_or(Err(LaunchError::Panicked { worker: Some(worker) }));
        let mut running = match built {
            Ok((running, ready)) => {
                let _ = self.report.send(Ok(ready));
                running
            }
            Err(error) => {
                let _ = self.report.send(Err(error));
                return Ok(());
            }
        };
        let Self { started, commands, listeners, report, arrivals, .. } = self;
        drop((listeners, report));
        let Ok(others) = started.recv() else { return Ok(()) };
        running.io.others = Others::new(move |within| {
            let deadline = Instant::now() + within;
            for other in &others {
                other.tell(Command::ShutDown { deadline });
            }
        });
        serve(&mut running, &commands, &arrivals, worker)
    }

    fn build<H: EventHandler<Message = M>>(
        &mut self,
        factory: &(impl Fn(Seat) -> H + ?Sized),
    ) -> Result<(Worker<H, Uring>, Ready), LaunchError> {
        let worker = self.seat.worker;
        if let Some(cpu) = self.seat.cpu {
            affinity::pin_current_thread(cpu).map_err(|source| LaunchError::Pin { worker, cpu, source })?;
        }
        let backend = Uring::new(&self.setup, Arc::clone(&self.wake))
            .map_err(|source| LaunchError::Ring { worker, source })?;
        let shard = metrics::register();
        let ready = Ready { worker, metrics: shard.reader(), capabilities: backend.capabilities() };
        let handler = factory(self.seat);
        let mut built = Worker::new(
            handler,
            backend,
            &self.config,
            self.seat,
            shard,
            self.accepts(),
            self.common.of(worker),
        )
        .map_err(|source| LaunchError::Memory { worker, source })?;
        for (socket, options) in self.udp.drain(..) {
            built
                .io
                .adopt_udp(Box::new(socket), &options)
                .map_err(|source| LaunchError::Bind { worker, source })?;
        }
        match built.start() {
            Ok(()) => Ok((built, ready)),
            Err(Unstarted::Panicked) => Err(LaunchError::Panicked { worker: Some(worker) }),
            Err(Unstarted::Refused(source)) => Err(LaunchError::Start { worker, source }),
        }
    }

    fn accepts(&self) -> Vec<AcceptFrom> {
        let accept = |(index, listener): (usize, &Arc<Listener>)| AcceptFrom {
            fd: listener.as_fd().as_raw_fd(),
            id: ListenerId::new(index as u32),
            is_unix: listener.local_addr().unix().is_some(),
            is_stamped: listener.is_stamped(),
            socket: Some(Arc::clone(listener)),
            layers: self.layers.get(&index).cloned(),
        };
        self.listeners.iter().enumerate().map(accept).collect()
    }
}

/// Turns until the worker is done.
fn serve<H: EventHandler>(
    running: &mut Worker<H, Uring>,
    commands: &Receiver<Command>,
    arrivals: &Arrivals,
    worker: usize,
) -> Result<(), RunError> {
    while !running.is_done() {
        running.turn(None).map_err(|source| RunError::Ring { worker, source })?;
        if running.take_woken() {
            for command in commands.try_iter() {
                match command {
                    Command::ShutDown { deadline } => running.shut_down(deadline),
                    Command::PauseAccepts => running.io.pause_accepts(),
                    Command::ResumeAccepts => running.io.resume_accepts(),
                    Command::Signals => arrivals.take().for_each(|signal| running.signal_handler(signal)),
                }
            }
        }
        if running.has_panicked() {
            running.shut_down(Instant::now());
        }
    }
    if running.has_panicked() { Err(RunError::Panicked { worker }) } else { Ok(()) }
}
