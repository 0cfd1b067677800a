//! Signals of the process as callbacks of chosen workers.

use super::running::Handle;
use super::{Command, LaunchError, Server};
use crate::signal::{Arrivals, Signal, SignalWatch};
use crate::sys::EventFd;
use crossbeam_channel::Sender;
use std::sync::Arc;

/// A way to tell one worker something.
#[derive(Clone, Debug)]
pub(super) struct Teller {
    pub(super) wake: Arc<EventFd>,
    pub(super) command: Sender<Command>,
}

impl Teller {
    pub(super) fn tell(&self, command: Command) {
        // A worker that has ended by itself needs no telling.
        if self.command.send(command).is_ok() && self.wake.signal().is_err() {
            log::error!("a worker could not be woken");
        }
    }
}

/// Which worker is told of a signal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    worker: usize,
    signal: Signal,
}

impl Server {
    /// Has signals come to one worker as [`on_signal`](crate::EventHandler::on_signal), from the launch
    /// until the server has ended. Then they have their default action back, or are ignored again if this
    /// program ignored them before.
    ///
    /// Of several signals of a kind that arrive while the worker is busy, at least one is reported, and
    /// after the last of them. `SIGTERM` and `SIGINT` are either asked for here or waited for with a
    /// [`ShutdownSignal`](crate::signal::ShutdownSignal), not both. May be called more than once, also for
    /// the same signal and other workers.
    ///
    /// # Examples
    ///
    /// A server that reads its configuration again on `SIGHUP` and ends on `SIGTERM`:
    ///
    /// ```no_run
    /// # use ringline_core::{Admit, ConnId, Consumed, Peer};
    /// use ringline_core::signal::Signal;
    /// use ringline_core::{Config, Ctx, EventHandler, Server};
    /// use std::time::Duration;
    ///
    /// struct Proxy;
    ///
    /// impl EventHandler for Proxy {
    ///     # type Conn = ();
    ///     # type Message = ();
    ///     # fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> { Admit::Refuse }
    ///     # fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
    ///     #     Consumed::all(data)
    ///     # }
    ///     fn on_signal(&mut self, cx: &mut Ctx<'_, Self>, signal: Signal) {
    ///         match signal {
    ///             Signal::Hangup => { /* Read the configuration again. */ }
    ///             _ => cx.shut_down(Duration::from_secs(10)),
    ///         }
    ///     }
    ///     // And the rest.
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::new(Config::default())
    ///     .listen("0.0.0.0:7000")?
    ///     .signals(0, &[Signal::Hangup, Signal::Terminate, Signal::Interrupt]);
    /// server.launch(|_seat| Proxy)?.join()?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn signals(mut self, worker: usize, signals: &[Signal]) -> Self {
        self.signals.extend(signals.iter().map(|&signal| Wanted { worker, signal }));
        self
    }

    /// Makes sure that what was asked for can be had.
    pub(super) fn check_signals(&self, workers: usize) -> Result<(), LaunchError> {
        for &Wanted { worker, signal } in &self.signals {
            if worker >= workers {
                return Err(LaunchError::SignalWorker { worker, workers });
            }
            if !signal.can_be_caught() {
                return Err(LaunchError::SignalUncatchable { signal });
            }
        }
        Ok(())
    }

    /// Begins to watch the signals; nothing if there are none.
    pub(super) fn watch_signals(&self, handles: &[Handle]) -> Result<Option<SignalWatch>, LaunchError> {
        let mut signals: Vec<_> = self.signals.iter().map(|wanted| wanted.signal).collect();
        signals.sort_by_key(|signal| signal.number());
        signals.dedup();
        if signals.is_empty() {
            return Ok(None);
        }
        let ways: Vec<(Signal, Teller, Arc<Arrivals>)> = self
            .signals
            .iter()
            .map(|wanted| (wanted.signal, &handles[wanted.worker]))
            .map(|(signal, handle)| (signal, handle.teller.clone(), Arc::clone(&handle.arrivals)))
            .collect();
        let tell = move |arrived: Signal| {
            for (_, teller, arrivals) in ways.iter().filter(|(signal, ..)| *signal == arrived) {
                if arrivals.note(arrived) {
                    teller.tell(Command::Signals);
                }
            }
        };
        let watch = SignalWatch::start(signals, tell);
        watch.map(Some).map_err(|(signal, source)| LaunchError::Signal { signal, source })
    }
}
