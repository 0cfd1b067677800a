//! When requests are due, whatever becomes of them.
//!
//! Invariant: nothing here knows of answers. The request with number `k` is due at `k / rate`, rounded
//! up to a slot, and each worker has every `of`th number.

use super::options::RunLength;
use std::time::Duration;

/// The grain of the schedule, which is that of a worker's timers. What is due within one slot is sent
/// together.
pub(crate) const SLOT: Duration = Duration::from_millis(1);

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Which part of all requests is a worker's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) index: u64,
    pub(crate) of: u64,
}

/// What to do next, as of some time since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A request was due at this time since the start.
    Due(Duration),
    /// The next one is due at this time since the start.
    Later(Duration),
    /// There are no more.
    Finished,
}

/// The requests of one worker.
#[derive(Debug)]
pub(crate) struct Schedule {
    share: Share,
    /// Requests per second of all workers.
    rate: Option<u64>,
    /// How many requests this worker has; without a limit, time ends the run.
    limit: Option<u64>,
    issued: u64,
}

impl Schedule {
    pub(crate) fn new(share: Share, rate: Option<u64>, length: RunLength) -> Self {
        let total = match (length, rate) {
            (RunLength::Requests(requests), _) => Some(requests),
            // Those that are due before the time is over, be their slot later or not.
            (RunLength::For(time), Some(rate)) => {
                Some(clamp((time.as_nanos() * u128::from(rate)).div_ceil(NANOS_PER_SECOND)))
            }
            (RunLength::For(_), None) => None,
        };
        Self { share, rate, limit: total.map(|total| share.count(total)), issued: 0 }
    }

    /// A request was sent.
    pub(crate) fn take(&mut self) {
        self.issued += 1;
    }

    /// There will be no more requests.
    pub(crate) fn stop(&mut self) {
        self.limit = Some(self.issued);
    }

    /// Whether a request may be sent at `elapsed`.
    pub(crate) fn next(&self, elapsed: Duration) -> Next {
        if self.limit.is_some_and(|limit| self.issued >= limit) {
            return Next::Finished;
        }
        let Some(rate) = self.rate else { return Next::Due(elapsed) };
        let due = due(self.share.number(self.issued), rate);
        if due <= elapsed { Next::Due(due) } else { Next::Later(due) }
    }

    /// How many requests have been due by `elapsed` and are not sent yet. In a closed loop, none is due
    /// at any time, but all of a number are due in the end.
    pub(crate) fn unsent(&self, elapsed: Duration) -> u64 {
        let limit = self.limit.unwrap_or(self.issued);
        let due = match self.rate {
            None => limit,
            Some(rate) => {
                let slots = elapsed.as_nanos() / SLOT.as_nanos();
                // Number 0 is due at once, hence one more.
                let total = slots * SLOT.as_nanos() * u128::from(rate) / NANOS_PER_SECOND + 1;
                self.share.count(clamp(total)).min(limit)
            }
        };
        due.saturating_sub(self.issued)
    }
}

impl Share {
    /// How many of the numbers below `total` belong to this share.
    fn count(self, total: u64) -> u64 {
        total.saturating_sub(self.index).div_ceil(self.of)
    }

    fn number(self, at: u64) -> u64 {
        self.index + at * self.of
    }

    /// How large this share of `total` things is.
    pub(crate) fn part(self, total: u32) -> u32 {
        self.count(u64::from(total)) as u32
    }
}

fn due(number: u64, rate: u64) -> Duration {
    let exact = (u128::from(number) * NANOS_PER_SECOND).div_ceil(u128::from(rate));
    Duration::from_nanos(clamp(exact.div_ceil(SLOT.as_nanos()) * SLOT.as_nanos()))
}

fn clamp(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Share = Share { index: 0, of: 1 };
    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// When each of the next requests is due.
    fn dues(schedule: &mut Schedule, count: usize) -> Vec<u64> {
        let mut dues = Vec::new();
        for _ in 0..count {
            let Next::Due(due) = schedule.next(Duration::from_secs(3600)) else { break };
            dues.push(due.as_millis() as u64);
            schedule.take();
        }
        dues
    }

    #[test]
    fn a_slow_rate_is_spread_over_the_slots() {
        let mut schedule = Schedule::new(ALL, Some(300), RunLength::Requests(7));
        assert_eq!(dues(&mut schedule, 9), [0, 4, 7, 10, 14, 17, 20]);
        assert_eq!(schedule.next(ms(0)), Next::Finished);
    }

    #[test]
    fn a_fast_rate_has_several_in_a_slot() {
        let mut schedule = Schedule::new(ALL, Some(3000), RunLength::Requests(10));
        assert_eq!(dues(&mut schedule, 10), [0, 1, 1, 1, 2, 2, 2, 3, 3, 3]);
    }

    #[test]
    fn nothing_is_due_before_its_time() {
        let mut schedule = Schedule::new(ALL, Some(100), RunLength::For(ms(50)));
        assert_eq!(schedule.next(ms(0)), Next::Due(ms(0)));
        schedule.take();
        assert_eq!(schedule.next(ms(9)), Next::Later(ms(10)));
        assert_eq!(schedule.next(ms(10)), Next::Due(ms(10)));
        assert_eq!(schedule.next(ms(999)), Next::Due(ms(10)), "it was due then, however late it is");
    }

    #[test]
    fn a_time_has_the_requests_that_are_due_in_it() {
        for (rate, time, expected) in
            [(100, 50, 5), (100, 51, 6), (1, 1, 1), (7, 1000, 7), (2000, 1000, 2000)]
        {
            let mut schedule = Schedule::new(ALL, Some(rate), RunLength::For(ms(time)));
            assert_eq!(dues(&mut schedule, 10_000).len(), expected, "{rate}/s for {time} ms");
        }
    }

    #[test]
    fn shares_are_the_whole_and_nothing_twice() {
        for (total, of) in [(1000, 3), (7, 7), (2, 5), (1, 1)] {
            let mut all = Vec::new();
            for index in 0..of {
                let share = Share { index, of };
                let mut schedule = Schedule::new(share, Some(1000), RunLength::Requests(total));
                all.extend(dues(&mut schedule, 10_000));
            }
            all.sort_unstable();
            assert_eq!(all, (0..total).collect::<Vec<_>>(), "{total} over {of}");
            let parts: u32 = (0..of).map(|index| Share { index, of }.part(total as u32)).sum();
            assert_eq!(u64::from(parts), total);
        }
    }

    #[test]
    fn what_was_due_and_not_sent_is_known() {
        let mut schedule = Schedule::new(ALL, Some(1500), RunLength::For(ms(1000)));
        for (elapsed, expected) in [(0, 1), (1, 2), (2, 4), (999, 1499), (1000, 1500), (5000, 1500)] {
            assert_eq!(schedule.unsent(ms(elapsed)), expected, "after {elapsed} ms");
        }
        let sent = dues(&mut schedule, 100).len() as u64;
        assert_eq!(schedule.unsent(ms(5000)), 1500 - sent);
        schedule.stop();
        assert_eq!((schedule.unsent(ms(5000)), schedule.next(ms(5000))), (0, Next::Finished));
    }

    #[test]
    fn the_count_of_what_is_due_agrees_with_the_dues() {
        for (rate, index, of) in [(1, 0, 1), (333, 1, 3), (1000, 0, 2), (7919, 4, 5), (1_000_000, 1, 2)] {
            let share = Share { index, of };
            let mut schedule = Schedule::new(share, Some(rate), RunLength::For(ms(100)));
            for elapsed in 0..=101 {
                let counted = schedule.unsent(ms(elapsed));
                let mut due = 0;
                let issued = schedule.issued;
                while let Next::Due(_) = schedule.next(ms(elapsed)) {
                    schedule.take();
                    due += 1;
                }
                schedule.issued = issued;
                assert_eq!(counted, due, "{rate}/s, {index} of {of}, after {elapsed} ms");
            }
        }
    }

    #[test]
    fn a_closed_loop_is_always_due_until_its_number_is_full() {
        let mut schedule = Schedule::new(ALL, None, RunLength::Requests(2));
        assert_eq!(schedule.next(ms(3)), Next::Due(ms(3)));
        schedule.take();
        assert_eq!(schedule.unsent(ms(0)), 1);
        schedule.take();
        assert_eq!(schedule.next(ms(9)), Next::Finished);
        let endless = Schedule::new(ALL, None, RunLength::For(ms(1)));
        assert_eq!((endless.next(ms(99)), endless.unsent(ms(99))), (Next::Due(ms(99)), 0));
    }
}
