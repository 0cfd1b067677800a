//! Processes that a test plays: what was to be run is written down, and how it ends is decided later.
//!
//! The worker starts and signals them, and the simulated kernel is asked whether they have ended; both
//! hold the same list.

use super::ChildExit;
use std::ffi::OsString;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Where the numbers of their descriptors begin, apart from those of listeners.
const FIRST_DESCRIPTOR: RawFd = 1 << 20;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Part(pub(crate) u32);

impl Part {
    pub(crate) fn descriptor(self) -> RawFd {
        FIRST_DESCRIPTOR + self.0 as RawFd
    }
}

#[derive(Debug)]
struct Actor {
    program: OsString,
    arguments: Vec<OsString>,
    signals: Vec<i32>,
    /// Only `SIGKILL` ends it.
    endures: bool,
    exit: Option<ChildExit>,
    is_collected: bool,
}

#[derive(Debug, Default)]
struct State {
    actors: Vec<Actor>,
    /// How many of them a test has asked for.
    introduced: usize,
    refusal: Option<i32>,
}

/// All simulated processes of one world.
#[derive(Clone, Debug, Default)]
pub(crate) struct Company(Arc<Mutex<State>>);

impl Company {
    /// Starts one, or says why not, with a positive errno.
    pub(crate) fn start(&self, program: OsString, arguments: Vec<OsString>) -> Result<Part, i32> {
        let mut state = self.state();
        if let Some(errno) = state.refusal {
            return Err(errno);
        }
        let part = Part(state.actors.len() as u32);
        state.actors.push(Actor {
            program,
            arguments,
            signals: Vec::new(),
            endures: false,
            exit: None,
            is_collected: false,
        });
        Ok(part)
    }

    /// The next that a test has not heard of: its part, program and arguments.
    pub(crate) fn introduce(&self) -> Option<(Part, OsString, Vec<OsString>)> {
        let mut state = self.state();
        let at = state.introduced;
        let actor = state.actors.get(at)?;
        let introduced = (Part(at as u32), actor.program.clone(), actor.arguments.clone());
        state.introduced += 1;
        Some(introduced)
    }

    /// Ends one, unless it has ended.
    pub(crate) fn end(&self, part: Part, exit: ChildExit) {
        self.with(part, |actor| {
            actor.exit.get_or_insert(exit);
        });
    }

    /// From now on only `SIGKILL` ends it.
    pub(crate) fn endure(&self, part: Part) {
        self.with(part, |actor| actor.endures = true);
    }

    /// From now on nothing can be started, or everything again.
    pub(crate) fn refuse(&self, errno: Option<i32>) {
        self.state().refusal = errno;
    }

    /// The signals that it has got.
    pub(crate) fn signals(&self, part: Part) -> Vec<i32> {
        self.with(part, |actor| actor.signals.clone())
    }

    pub(super) fn signal(&self, part: Part, signal: i32) -> Result<(), i32> {
        self.with(part, |actor| {
            if actor.is_collected {
                return Err(libc::ESRCH);
            }
            actor.signals.push(signal);
            let is_deadly = match signal {
                libc::SIGKILL => true,
                libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT => !actor.endures,
                _ => false,
            };
            if is_deadly {
                actor.exit.get_or_insert(ChildExit::Signal { signal, core_dumped: false });
            }
            Ok(())
        })
    }

    /// How it has ended, if it has; from then on it is collected.
    pub(super) fn collect(&self, part: Part) -> Option<ChildExit> {
        self.with(part, |actor| {
            assert!(!actor.is_collected, "a process is collected once");
            actor.is_collected = actor.exit.is_some();
            actor.exit
        })
    }

    /// Nobody waits for it any more; the system does.
    pub(super) fn leave(&self, part: Part) {
        self.with(part, |actor| {
            assert!(!actor.is_collected, "a process that was collected needs nobody");
            actor.is_collected = true;
        });
    }

    /// Whether the process of a descriptor has ended.
    pub(crate) fn is_over(&self, descriptor: RawFd) -> bool {
        let part = Part((descriptor - FIRST_DESCRIPTOR) as u32);
        self.with(part, |actor| actor.exit.is_some())
    }

    /// How many nobody has collected.
    pub(crate) fn uncollected(&self) -> usize {
        self.state().actors.iter().filter(|actor| !actor.is_collected).count()
    }

    fn with<R>(&self, part: Part, then: impl FnOnce(&mut Actor) -> R) -> R {
        then(&mut self.state().actors[part.0 as usize])
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
