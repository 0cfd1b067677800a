//! How a worker is woken by others, and how it says that it need not be.

use super::sleep::Sleep;
use crate::sys::EventFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

/// What ends a worker's wait.
#[derive(Debug)]
pub(crate) enum Waker {
    /// A descriptor that its ring watches. Whoever keeps a mailbox does not keep the descriptor of a
    /// worker that has ended.
    Event(Weak<EventFd>),
    /// A note for whoever turns a simulated worker.
    Noted(AtomicBool),
}

impl Waker {
    pub(crate) fn noted() -> Self {
        Self::Noted(AtomicBool::new(false))
    }

    pub(crate) fn wake(&self) {
        match self {
            Self::Event(event) => {
                let Some(event) = event.upgrade() else { return };
                if let Err(error) = event.signal() {
                    log::error!("a worker could not be woken: {error}");
                }
            }
            Self::Noted(noted) => noted.store(true, Ordering::Release),
        }
    }
}

/// One worker's bell. Ring it after having put something where the worker looks.
#[derive(Debug)]
pub(crate) struct Bell {
    sleep: Sleep,
    waker: Waker,
}

impl Bell {
    pub(crate) fn new(waker: Waker) -> Self {
        Self { sleep: Sleep::new(), waker }
    }

    /// Wakes the worker if it sleeps.
    #[inline]
    pub(crate) fn ring(&self) {
        if self.sleep.must_ring() {
            self.waker.wake();
        }
    }

    /// Whether a simulated worker is to be woken.
    pub(crate) fn is_noted(&self) -> bool {
        matches!(&self.waker, Waker::Noted(noted) if noted.load(Ordering::Acquire))
    }

    /// The same, once.
    pub(crate) fn take_note(&self) -> bool {
        matches!(&self.waker, Waker::Noted(noted) if noted.swap(false, Ordering::AcqRel))
    }
}

/// The worker's side of its bell. It costs nothing before the first ring.
#[derive(Debug)]
pub(crate) struct Sleeper {
    bell: Arc<Bell>,
    is_live: bool,
    is_asleep: bool,
    /// Somebody has rung after the worker had said that it sleeps.
    was_rung: bool,
}

impl Sleeper {
    pub(crate) fn new(bell: Arc<Bell>) -> Self {
        Self { bell, is_live: false, is_asleep: false, was_rung: false }
    }

    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    /// Whether the worker has to look for itself and to say when it sleeps.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.is_live
    }

    /// The wait was ended from outside. True if that was the first ring of all.
    pub(crate) fn woken(&mut self) -> bool {
        let was_live = std::mem::replace(&mut self.is_live, self.bell.sleep.is_used());
        self.is_live && !was_live
    }

    /// Says that the worker sleeps, and looks a last time. False if there is something to do.
    pub(crate) fn falls_asleep(&mut self, has_nothing: impl FnOnce() -> bool) -> bool {
        self.bell.sleep.fall_asleep();
        self.is_asleep = has_nothing();
        if !self.is_asleep {
            self.was_rung |= self.bell.sleep.wake_up();
        }
        self.is_asleep
    }

    /// The worker looks by itself again. True if somebody has rung since it said that it sleeps.
    pub(crate) fn wakes_up(&mut self) -> bool {
        if std::mem::take(&mut self.is_asleep) {
            self.was_rung |= self.bell.sleep.wake_up();
        }
        std::mem::take(&mut self.was_rung)
    }
}
