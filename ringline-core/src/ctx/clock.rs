//! The time of a turn: read once, and only if somebody asks.

use std::time::{Duration, Instant};

const NANOS_PER_MS: u128 = 1_000_000;

/// Time since the worker's start, frozen for the length of a turn.
#[derive(Debug)]
pub(crate) struct Clock {
    origin: Instant,
    now: Option<Duration>,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { origin: Instant::now(), now: None }
    }

    /// Begins a new turn, at a time of the backend's own if it has one.
    #[inline]
    pub(crate) fn turn(&mut self, time_ms: Option<u64>) {
        self.now = time_ms.map(Duration::from_millis);
    }

    #[inline]
    pub(crate) fn elapsed(&mut self) -> Duration {
        *self.now.get_or_insert_with(|| self.origin.elapsed())
    }

    pub(crate) fn now(&mut self) -> Instant {
        self.origin + self.elapsed()
    }

    /// Whole milliseconds since the start.
    pub(crate) fn elapsed_ms(&mut self) -> u64 {
        self.elapsed().as_millis() as u64
    }

    /// The first whole millisecond at which `after` has passed.
    pub(crate) fn deadline_ms(&mut self, after: Duration) -> u64 {
        let nanos = self.elapsed().as_nanos() + after.as_nanos();
        u64::try_from(nanos.div_ceil(NANOS_PER_MS)).unwrap_or(u64::MAX)
    }

    /// The first whole millisecond at or after `at`.
    pub(crate) fn at_ms(&mut self, at: Instant) -> u64 {
        let now = self.now();
        self.deadline_ms(at.saturating_duration_since(now))
    }

    /// How long from now until a deadline.
    pub(crate) fn until(&mut self, deadline_ms: u64) -> Duration {
        Duration::from_millis(deadline_ms).saturating_sub(self.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_has_one_time() {
        let mut clock = Clock::new();
        clock.turn(None);
        let first = clock.now();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(clock.now(), first);
        clock.turn(None);
        assert!(clock.now() > first);
    }

    #[test]
    fn deadlines_are_never_early() {
        let mut clock = Clock::new();
        clock.turn(Some(5));
        assert_eq!(clock.deadline_ms(Duration::ZERO), 5);
        assert_eq!(clock.deadline_ms(Duration::from_nanos(1)), 6);
        assert_eq!(clock.deadline_ms(Duration::MAX), u64::MAX);
        assert_eq!(clock.until(7), Duration::from_millis(2));
        assert_eq!(clock.until(3), Duration::ZERO);
    }
}
