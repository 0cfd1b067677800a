//! What workers tell the main thread: that they run, how it goes, and once what came of it.

use super::tally::Tally;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

#[derive(Debug)]
pub(crate) enum Event {
    /// A worker has started; here it shows how it goes.
    Started(Arc<Live>),
    /// A worker is done.
    Ended(Box<Tally>),
    /// A worker has ended without a report.
    Died,
    /// The run is to end.
    Signal,
}

/// What one worker has done so far. It alone writes here.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Live {
    answered: AtomicU64,
    failed: AtomicU64,
}

impl Live {
    pub(crate) fn store(&self, answered: u64, failed: u64) {
        self.answered.store(answered, Ordering::Relaxed);
        self.failed.store(failed, Ordering::Relaxed);
    }

    pub(crate) fn load(&self) -> (u64, u64) {
        (self.answered.load(Ordering::Relaxed), self.failed.load(Ordering::Relaxed))
    }
}

/// A worker's way to the main thread. It reports once, whatever happens.
#[derive(Debug)]
pub(crate) struct Reporter {
    events: Sender<Event>,
    has_reported: bool,
}

impl Reporter {
    pub(crate) fn new(events: Sender<Event>) -> Self {
        Self { events, has_reported: false }
    }

    pub(crate) fn started(&self) -> Arc<Live> {
        let live = Arc::new(Live::default());
        self.tell(Event::Started(Arc::clone(&live)));
        live
    }

    pub(crate) fn report(&mut self, tally: Tally) {
        self.has_reported = true;
        self.tell(Event::Ended(Box::new(tally)));
    }

    fn tell(&self, event: Event) {
        // If the main thread does not listen any more, the process ends.
        let _ = self.events.send(event);
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if !self.has_reported {
            self.tell(Event::Died);
        }
    }
}
