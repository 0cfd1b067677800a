//! Signals that come to the callbacks of a server.
//!
//! A thread of its own waits for them, because a signal handler may do next to nothing. Several
//! servers may watch the same signal. When the last of them is gone, it has its default action back,
//! or is ignored again if it was in the beginning.

use super::{FATAL, Ownership, Signal, ownership, set_fatal};
use crate::sys::process::ignores;
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::{fmt, io};

/// Watches signals until it is dropped.
pub(crate) struct SignalWatch {
    closer: Handle,
    thread: Option<JoinHandle<Signals>>,
    signals: Vec<Signal>,
}

impl SignalWatch {
    /// Has `tell` called for each of `signals` that arrives, on a thread of its own.
    ///
    /// `AlreadyExists` stands for a signal that a `ShutdownSignal` has.
    pub(crate) fn start(
        signals: Vec<Signal>,
        tell: impl Fn(Signal) + Send + 'static,
    ) -> Result<Self, (Signal, io::Error)> {
        let Some(&first) = signals.first() else { unreachable!("there is something to watch") };
        let mut ownership = ownership();
        for &signal in &signals {
            if is_shared(signal) && *ownership == Ownership::Taken {
                return Err((signal, io::ErrorKind::AlreadyExists.into()));
            }
            super::repeat_defaults(&mut ownership).map_err(|error| (signal, error))?;
            repeat_default(signal).map_err(|error| (signal, error))?;
        }
        let numbers = signals.iter().map(|signal| signal.number());
        let mut arrivals = Signals::new(numbers).map_err(|error| (first, error))?;
        let closer = arrivals.handle();
        let watched = signals.clone();
        let wait = move || {
            for number in &mut arrivals.forever() {
                watched.iter().filter(|signal| signal.number() == number).for_each(|&signal| tell(signal));
            }
            arrivals
        };
        let thread = thread::Builder::new().name(String::from("ringline-signals")).spawn(wait);
        let thread = thread.map_err(|error| (first, error))?;
        // Only now, when somebody listens: until here a signal keeps its default action.
        for &signal in &signals {
            held().push(signal);
            set_default(signal, false);
        }
        Ok(Self { closer, thread: Some(thread), signals })
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.closer.close();
        let arrivals = self.thread.take().map(JoinHandle::join);
        let _ownership = ownership();
        for &signal in &self.signals {
            let mut held = held();
            if let Some(at) = held.iter().position(|&other| other == signal) {
                held.swap_remove(at);
            }
            if !held.contains(&signal) {
                set_default(signal, true);
            }
        }
        // From here on nobody hears of a signal, and it has its action back.
        drop(arrivals);
    }
}

impl fmt::Debug for SignalWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignalWatch").field("signals", &self.signals).finish_non_exhaustive()
    }
}

/// Whether any server watches a signal that a `ShutdownSignal` wants. Whoever asks holds the ownership.
pub(super) fn holds_shared() -> bool {
    held().iter().any(|&signal| is_shared(signal))
}

/// Whether a `ShutdownSignal` wants it, too.
fn is_shared(signal: Signal) -> bool {
    FATAL.iter().any(|(number, _)| *number == signal.number())
}

/// The signals that servers watch, each as often as there are such servers.
fn held() -> MutexGuard<'static, Vec<Signal>> {
    static HELD: Mutex<Vec<Signal>> = Mutex::new(Vec::new());
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes of a signal that nobody listens to, for those that are not in [`FATAL`].
#[derive(Debug)]
struct Other {
    signal: Signal,
    is_default: AtomicBool,
    /// Our handler is installed, for good.
    is_installed: AtomicBool,
    /// The program ignored it before that.
    was_ignored: AtomicBool,
}

impl Other {
    const fn new(signal: Signal) -> Self {
        Self {
            signal,
            is_default: AtomicBool::new(true),
            is_installed: AtomicBool::new(false),
            was_ignored: AtomicBool::new(false),
        }
    }
}

static OTHERS: [Other; 6] = [
    Other::new(Signal::Hangup),
    Other::new(Signal::Quit),
    Other::new(Signal::User1),
    Other::new(Signal::User2),
    Other::new(Signal::Continue),
    Other::new(Signal::WindowChange),
];

/// Installs, once, what repeats the default action. Whoever calls this holds the ownership.
fn repeat_default(signal: Signal) -> io::Result<()> {
    let Some(other) = OTHERS.iter().find(|other| other.signal == signal) else { return Ok(()) };
    if other.is_installed.load(Ordering::SeqCst) {
        return Ok(());
    }
    let was_ignored = ignores(signal.number());
    other.is_default.store(!was_ignored, Ordering::SeqCst);
    flag::register_conditional_default(signal.number(), &other.is_default)?;
    other.was_ignored.store(was_ignored, Ordering::SeqCst);
    other.is_installed.store(true, Ordering::SeqCst);
    Ok(())
}

/// Gives a signal its action back, or takes it away.
fn set_default(signal: Signal, is_default: bool) {
    set_fatal(|number| number == signal.number(), is_default);
    if let Some(other) = OTHERS.iter().find(|other| other.signal == signal) {
        let was_ignored = other.was_ignored.load(Ordering::SeqCst);
        other.is_default.store(is_default && !was_ignored, Ordering::SeqCst);
    }
}
