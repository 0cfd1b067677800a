//! Signals that have arrived and of which a worker was not told.
//!
//! Those of a kind merge, so that a worker that is busy can be sent any number. None is forgotten: one
//! that arrives while the worker is being told of another is there the next time.

use super::Signal;
use std::sync::atomic::{AtomicU32, Ordering};

/// One bit for each signal.
#[derive(Debug, Default)]
pub(crate) struct Arrivals(AtomicU32);

impl Arrivals {
    /// Writes a signal down. True if nothing was there before, so that the worker has to be woken.
    pub(crate) fn note(&self, signal: Signal) -> bool {
        self.0.fetch_or(1 << signal as u32, Ordering::AcqRel) == 0
    }

    /// Takes everything that is there.
    pub(crate) fn take(&self) -> impl Iterator<Item = Signal> + use<> {
        let bits = self.0.swap(0, Ordering::AcqRel);
        Signal::ALL.into_iter().filter(move |&signal| bits & (1 << signal as u32) != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_of_a_kind_merge_and_none_is_forgotten() {
        let arrivals = Arrivals::default();
        assert!(arrivals.note(Signal::Hangup));
        assert!(!arrivals.note(Signal::Hangup));
        assert!(!arrivals.note(Signal::User1));
        let taken = arrivals.take();
        assert!(arrivals.note(Signal::User1), "what comes from now on is for the next time");
        assert!(taken.eq([Signal::Hangup, Signal::User1]));
        assert!(arrivals.take().eq([Signal::User1]));
        assert_eq!(arrivals.take().count(), 0);
    }
}
