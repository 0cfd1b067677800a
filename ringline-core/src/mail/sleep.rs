//! Whether a worker sleeps, as far as it matters to those who have something for it.
//!
//! Invariant: who puts something where the worker looks, and then asks [`Sleep::must_ring`], is either
//! told to ring, or the worker finds it: in its look after [`Sleep::fall_asleep`], or because somebody
//! else was told to ring. Two fences keep it. Whichever comes second, the one in `must_ring` or the one
//! in `fall_asleep`, sees what the other side wrote before its own.

use super::atomics::{AtomicU8, Ordering, fence};

/// Nobody has ever come, and the worker does not say whether it sleeps.
const UNUSED: u8 = 0;
const AWAKE: u8 = 1;
const ASLEEP: u8 = 2;

/// What one worker says to everybody.
#[derive(Debug)]
pub(super) struct Sleep(AtomicU8);

impl Sleep {
    pub(super) fn new() -> Self {
        Self(AtomicU8::new(UNUSED))
    }

    /// For whoever has just put something: whether the worker has to be woken, which is then up to the
    /// caller. The first of all is always told so, because the worker may be asleep without saying it.
    #[inline]
    pub(super) fn must_ring(&self) -> bool {
        fence(Ordering::SeqCst);
        self.0.load(Ordering::Relaxed) != AWAKE && self.0.swap(AWAKE, Ordering::AcqRel) != AWAKE
    }

    /// For the worker: says that it sleeps from now on. Before it really does, it looks once more.
    #[inline]
    pub(super) fn fall_asleep(&self) {
        // An exchange like the others, so that all of them have one order that the model knows, too.
        self.0.swap(ASLEEP, Ordering::AcqRel);
        fence(Ordering::SeqCst);
    }

    /// For the worker: says that it looks by itself again. True if somebody has been told to ring.
    #[inline]
    pub(super) fn wake_up(&self) -> bool {
        self.0.swap(AWAKE, Ordering::AcqRel) == AWAKE
    }

    /// For the worker: whether anybody has ever come. From then on it has to say when it sleeps.
    pub(super) fn is_used(&self) -> bool {
        self.0.load(Ordering::Relaxed) != UNUSED
    }
}
