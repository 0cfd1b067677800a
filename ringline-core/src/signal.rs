//! Signals: ending the process on request, and what a server is told of.
//!
//! The first `SIGTERM` or `SIGINT` is an event that the program waits for, not an end. The second
//! of the same kind ends the process as if nobody had caught it, so draining can always be cut
//! short from outside.

mod arrivals;
mod name;
mod watch;

pub(crate) use arrivals::Arrivals;
pub use name::Signal;
pub(crate) use watch::SignalWatch;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};

/// Waits for the request to end the process: `SIGTERM` (service managers, `kill`) or `SIGINT`
/// (Ctrl-C).
///
/// While a `ShutdownSignal` exists, neither signal ends the process by itself: both are kept for
/// [`wait`](Self::wait), also when they arrive before it is called. Once `wait` has returned a
/// signal, that signal has its default action back, so **a second one of the same kind ends the
/// process at once**. That is meant for an operator who does not want to wait until the server has
/// drained. Signals of one kind that arrive before `wait` returns count as one. Dropping the value
/// gives both signals their default action back.
///
/// Install it early, before threads are started and connections are opened. At most one exists at a
/// time, because signals belong to the whole process.
///
/// # Examples
///
/// ```
/// use ringline_core::signal::ShutdownSignal;
///
/// let mut signal = ShutdownSignal::install()?;
/// // Launch the server here.
/// # signal_hook::low_level::raise(signal_hook::consts::SIGTERM)?;
/// let number = signal.wait();
/// println!("ending on signal {number}");
/// // Shut the server down here; the same signal once more ends the process without it.
/// # assert_eq!(number, 15);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct ShutdownSignal {
    arrivals: Signals,
}

impl ShutdownSignal {
    /// Takes over `SIGTERM` and `SIGINT`.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` while another `ShutdownSignal` exists, or a server whose handler gets one of the
    /// two ([`Server::signals`](crate::Server::signals)), else what the system said.
    pub fn install() -> io::Result<Self> {
        let mut ownership = ownership();
        if *ownership == Ownership::Taken || watch::holds_shared() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        repeat_defaults(&mut ownership)?;
        let arrivals = Signals::new(FATAL.iter().map(|(signal, _)| signal))?;
        // Only now, when somebody listens: until here a signal keeps its default action.
        set_fatal(|_| true, false);
        *ownership = Ownership::Taken;
        Ok(Self { arrivals })
    }

    /// Blocks until one of the signals arrives, and returns its number.
    ///
    /// From then on the same signal ends the process; the other one can be waited for again.
    pub fn wait(&mut self) -> i32 {
        loop {
            if let Some(signal) = self.wait_unless_closed() {
                return signal;
            }
        }
    }

    /// Lets another thread end [`wait_unless_closed`](Self::wait_unless_closed).
    pub(crate) fn closer(&self) -> Handle {
        self.arrivals.handle()
    }

    /// Waits for a signal, or for the closer; `None` stands for that.
    pub(crate) fn wait_unless_closed(&mut self) -> Option<i32> {
        loop {
            // Looking comes before blocking, because a wait before this one may have found both
            // signals and taken one.
            if let Some(signal) = self.arrivals.pending().next() {
                set_fatal(|candidate| candidate == signal, true);
                return Some(signal);
            }
            if self.arrivals.handle().is_closed() {
                return None;
            }
            // Blocks until something has arrived and takes nothing; it may also return for nothing.
            self.arrivals.wait();
        }
    }
}

impl Drop for ShutdownSignal {
    fn drop(&mut self) {
        let mut ownership = ownership();
        set_fatal(|_| true, true);
        *ownership = Ownership::Free;
    }
}

/// Whether a `ShutdownSignal` exists, and whether one ever did.
#[derive(PartialEq, Eq)]
enum Ownership {
    /// The system handles the signals.
    Never,
    /// Our handlers are installed, for good, and repeat the default action.
    Free,
    /// A `ShutdownSignal` exists.
    Taken,
}

/// Installs, once, what repeats the default actions.
fn repeat_defaults(ownership: &mut Ownership) -> io::Result<()> {
    if *ownership == Ownership::Never {
        for (signal, is_fatal) in &FATAL {
            flag::register_conditional_default(*signal, is_fatal)?;
        }
        *ownership = Ownership::Free;
    }
    Ok(())
}

fn ownership() -> MutexGuard<'static, Ownership> {
    static OWNERSHIP: Mutex<Ownership> = Mutex::new(Ownership::Never);
    OWNERSHIP.lock().unwrap_or_else(PoisonError::into_inner)
}

fn set_fatal(selected: impl Fn(i32) -> bool, fatal: bool) {
    for (signal, is_fatal) in &FATAL {
        if selected(*signal) {
            is_fatal.store(fatal, Ordering::SeqCst);
        }
    }
}

/// The signals, each with whether it ends the process when it arrives.
static FATAL: [(i32, AtomicBool); 2] = [(SIGTERM, AtomicBool::new(true)), (SIGINT, AtomicBool::new(true))];

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::low_level::raise;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, ExitStatus, Stdio};
    use std::time::{Duration, Instant};

    /// Runs `body` in a process of its own, because signals belong to processes, and returns how
    /// that ended.
    ///
    /// The process is this program, told to run only the test `name`, which comes back here and
    /// finds itself to be the child.
    fn in_child(name: &str, body: fn()) -> ExitStatus {
        const MARK: &str = "RINGLINE_SIGNAL_TEST_CHILD";
        if std::env::var_os(MARK).is_some() {
            body();
            std::process::exit(0);
        }
        let (_, module) = module_path!().split_once("::").unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{module}::{name}"), "--nocapture"])
            .env(MARK, "1")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the child did not end in time");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_signal_is_waited_for() {
        let status = in_child("a_signal_is_waited_for", || {
            let mut signal = ShutdownSignal::install().unwrap();
            raise(SIGTERM).unwrap();
            assert_eq!(signal.wait(), SIGTERM);
        });
        assert!(status.success(), "{status}");
    }

    #[test]
    fn a_signal_wakes_a_thread_that_already_waits() {
        let status = in_child("a_signal_wakes_a_thread_that_already_waits", || {
            let mut signal = ShutdownSignal::install().unwrap();
            let waiter = std::thread::spawn(move || signal.wait());
            std::thread::sleep(Duration::from_millis(20));
            assert!(!waiter.is_finished());
            raise(SIGINT).unwrap();
            assert_eq!(waiter.join().unwrap(), SIGINT);
        });
        assert!(status.success(), "{status}");
    }

    #[test]
    fn both_signals_are_reported_one_by_one() {
        let status = in_child("both_signals_are_reported_one_by_one", || {
            let mut signal = ShutdownSignal::install().unwrap();
            for number in [SIGTERM, SIGINT, SIGTERM] {
                raise(number).unwrap();
            }
            let mut arrived = [signal.wait(), signal.wait()];
            arrived.sort_unstable();
            assert_eq!(arrived, [SIGINT, SIGTERM]);
        });
        assert!(status.success(), "{status}");
    }

    #[test]
    fn the_second_of_a_kind_ends_the_process() {
        let status = in_child("the_second_of_a_kind_ends_the_process", || {
            let mut signal = ShutdownSignal::install().unwrap();
            raise(SIGTERM).unwrap();
            assert_eq!(signal.wait(), SIGTERM);
            raise(SIGINT).unwrap();
            assert_eq!(signal.wait(), SIGINT);
            raise(SIGTERM).unwrap();
        });
        assert_eq!(status.signal(), Some(SIGTERM), "{status}");
    }

    #[test]
    fn dropping_gives_the_default_action_back() {
        let status = in_child("dropping_gives_the_default_action_back", || {
            drop(ShutdownSignal::install().unwrap());
            raise(SIGINT).unwrap();
        });
        assert_eq!(status.signal(), Some(SIGINT), "{status}");
    }

    #[test]
    fn one_exists_at_a_time() {
        let status = in_child("one_exists_at_a_time", || {
            let first = ShutdownSignal::install().unwrap();
            let refusal = ShutdownSignal::install().unwrap_err();
            assert_eq!(refusal.kind(), io::ErrorKind::AlreadyExists);
            drop(first);
            let mut second = ShutdownSignal::install().unwrap();
            raise(SIGTERM).unwrap();
            assert_eq!(second.wait(), SIGTERM);
        });
        assert!(status.success(), "{status}");
    }
}
