//! What became of every connection of a server or a client, and which promises were broken.

use crate::SOON;
use ringline_core::CloseReason;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A connection that is over.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) salt: Option<u64>,
    pub(crate) reason: CloseReason,
    /// Whether it was made, not only asked for.
    pub(crate) has_opened: bool,
    /// Everything was sent and received, and the peer has ended.
    pub(crate) is_complete: bool,
    /// How long it was there.
    pub(crate) lasted: Duration,
}

/// What handlers tell their test.
#[derive(Debug, Default)]
pub(crate) struct Book {
    page: Mutex<Page>,
    turned: Condvar,
    /// Clients connect again when they are through.
    goes_on: AtomicBool,
}

#[derive(Debug, Default)]
struct Page {
    asked: usize,
    opened: usize,
    received: u64,
    outcomes: Vec<Outcome>,
    broken: Vec<String>,
}

impl Book {
    /// A connection is going to be asked for.
    pub(crate) fn asked(&self) {
        self.page().asked += 1;
    }

    pub(crate) fn opened(&self) {
        self.page().opened += 1;
        self.turned.notify_all();
    }

    pub(crate) fn received(&self, bytes: u64) {
        self.page().received += bytes;
        self.turned.notify_all();
    }

    pub(crate) fn ended(&self, outcome: Outcome) {
        self.page().outcomes.push(outcome);
        self.turned.notify_all();
    }

    pub(crate) fn complain(&self, what: String) {
        self.page().broken.push(what);
        self.turned.notify_all();
    }

    pub(crate) fn set_goes_on(&self, goes_on: bool) {
        self.goes_on.store(goes_on, Ordering::Relaxed);
    }

    pub(crate) fn goes_on(&self) -> bool {
        self.goes_on.load(Ordering::Relaxed)
    }

    /// How many bytes were received on all connections together.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.page().received
    }

    /// Waits until every connection that was asked for is over.
    pub(crate) fn wait_all_ended(&self) -> Vec<Outcome> {
        self.set_goes_on(false);
        self.wait("all connections over", |page| usize::from(page.asked == page.outcomes.len()), 1);
        self.outcomes()
    }

    /// Waits until so many connections have opened.
    pub(crate) fn wait_opened(&self, count: usize) {
        self.wait("connections opened", |page| page.opened, count);
    }

    /// Waits until so many bytes were received.
    pub(crate) fn wait_received(&self, bytes: u64) {
        self.wait("bytes received", |page| page.received as usize, bytes as usize);
    }

    /// Waits until so many connections are over.
    pub(crate) fn wait_ended(&self, count: usize) -> Vec<Outcome> {
        self.wait("connections over", |page| page.outcomes.len(), count);
        self.outcomes()
    }

    pub(crate) fn outcomes(&self) -> Vec<Outcome> {
        self.page().outcomes.clone()
    }

    /// No promise was broken.
    pub(crate) fn assert_kept(&self, who: &str) {
        let broken = std::mem::take(&mut self.page().broken);
        assert!(broken.is_empty(), "{} broken promises of {who}:\n{}", broken.len(), broken.join("\n"));
    }

    fn wait(&self, what: &str, counted: impl Fn(&Page) -> usize, count: usize) {
        let until = Instant::now() + SOON;
        let mut page = self.page();
        while counted(&page) < count {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} {what}: {:?}", counted(&page), *page);
            let waited = self.turned.wait_timeout(page, left);
            page = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
