//! The place of one connection: the connection that is there now, and what it owes.
//!
//! Invariant: `in_flight` has one entry for each request that was sent on this connection and whose
//! answer has not come, the oldest first.

use super::protocol::{Reader, next};
use super::tally::Failure;
use ringline_core::ConnId;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// A request without an answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InFlight {
    /// When its latency begins.
    pub(crate) from: Instant,
    pub(crate) sent: Instant,
}

/// What is at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Nothing, until a timer fires.
    Empty,
    Connecting(ConnId),
    Open(ConnId),
    /// It takes no more requests.
    Ending,
    /// Nothing any more.
    GivenUp,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) state: State,
    pub(crate) in_flight: VecDeque<InFlight>,
    pub(crate) reader: Reader,
    /// Which bytes this connection sends.
    pub(crate) lane: u64,
    /// How many requests were sent on this connection.
    pub(crate) sent: u64,
    /// A send found no room.
    pub(crate) is_blocked: bool,
    /// Why this program ends the connection.
    pub(crate) verdict: Option<Failure>,
    /// The server has said that it ends the connection.
    pub(crate) is_last: bool,
    /// Whether the first connection has been made or has failed.
    pub(crate) is_settled: bool,
    /// Failures since the last answer.
    failures: u32,
}

impl Slot {
    /// An empty place, with a number that no other has.
    pub(crate) fn new(seed: u64, number: u64) -> Self {
        let mut state = seed ^ number.rotate_left(32);
        let lane = next(&mut state);
        Self {
            state: State::Empty,
            in_flight: VecDeque::new(),
            reader: Reader::new(lane),
            lane,
            sent: 0,
            is_blocked: false,
            verdict: None,
            is_last: false,
            is_settled: false,
            failures: 0,
        }
    }

    /// Begins a connection.
    pub(crate) fn connect(&mut self, id: ConnId) {
        self.lane = next(&mut self.lane);
        self.reader = Reader::new(self.lane);
        self.state = State::Connecting(id);
        self.sent = 0;
        self.is_blocked = false;
        self.verdict = None;
        self.is_last = false;
    }

    /// An answer has come.
    pub(crate) fn answered(&mut self) -> Option<InFlight> {
        self.failures = 0;
        self.in_flight.pop_front()
    }

    /// The connection has failed; says after which time to try again, or that it is no use.
    pub(crate) fn failed(&mut self, retries: u32) -> Option<Duration> {
        self.failures += 1;
        if self.failures > retries {
            self.state = State::GivenUp;
            return None;
        }
        self.state = State::Empty;
        let (least, most) = RETRY_AFTER;
        Some(least.saturating_mul(1 << (self.failures - 1).min(16)).min(most))
    }

    /// The connection, if it takes a request.
    pub(crate) fn ready(&self, depth: usize) -> Option<ConnId> {
        match self.state {
            State::Open(id) if !self.is_blocked && self.in_flight.len() < depth => Some(id),
            _ => None,
        }
    }

    /// Whether the oldest request has waited for too long.
    pub(crate) fn is_overdue(&self, now: Instant, timeout: Duration) -> bool {
        self.in_flight.front().is_some_and(|request| now.saturating_duration_since(request.sent) >= timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_are_followed_by_longer_waits_and_an_end() {
        let mut slot = Slot::new(1, 0);
        let waits: Vec<_> = std::iter::from_fn(|| slot.failed(6)).map(|wait| wait.as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!(slot.state, State::GivenUp);
        let mut slot = Slot::new(1, 0);
        assert_eq!(slot.failed(0), None, "the first failure may be the last");
        let mut slot = Slot::new(1, 0);
        for _ in 0..10 {
            assert_eq!(slot.failed(1), Some(RETRY_AFTER.0));
            slot.answered();
        }
    }

    #[test]
    fn a_request_is_overdue_when_its_time_is_over() {
        let (mut slot, now) = (Slot::new(1, 0), Instant::now());
        let second = Duration::from_secs(1);
        assert!(!slot.is_overdue(now, second), "nothing is awaited");
        slot.in_flight.push_back(InFlight { from: now, sent: now });
        slot.in_flight.push_back(InFlight { from: now, sent: now + second });
        assert!(!slot.is_overdue(now + second / 2, second));
        assert!(slot.is_overdue(now + second, second));
        slot.answered();
        assert!(!slot.is_overdue(now + second, second));
    }

    #[test]
    fn lanes_differ() {
        let mut lanes: Vec<_> = (0..1000).map(|number| Slot::new(1, number).lane).collect();
        lanes.sort_unstable();
        lanes.dedup();
        assert_eq!(lanes.len(), 1000);
    }
}
