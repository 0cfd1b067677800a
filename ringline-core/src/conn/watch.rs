//! Which deadlines of a connection run, since when, and the one timer for all of them.
//!
//! What happens on a connection only writes down a time. The timer is armed for the earliest deadline
//! there was and not moved when deadlines move away; when it fires, it is armed for what is left. So
//! the timer, if there is one, is never later than the earliest deadline that runs.

use super::{ConnId, Deadline, Deadlines, Fired, Limit, Phase, Timers};
use crate::timer::TimerId;
use std::time::Duration;

/// Stands for a deadline that does not run and for a timer that is not armed.
const NEVER: u64 = u64::MAX;

/// A receive was armed, and has not brought a byte.
const ARMED: u8 = 1;
/// The socket is being looked at, and no byte has arrived meanwhile.
const LOOKED: u8 = 2;

/// The deadlines of one connection; times are milliseconds since the worker's start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    /// How long each deadline is, by its number; zero if there is none.
    after_ms: [u32; Deadline::COUNT],
    /// Since when each runs.
    since_ms: [u64; Deadline::COUNT],
    timer: Option<TimerId>,
    armed_ms: u64,
    /// No byte has arrived yet.
    is_silent: bool,
    /// Nor since what: [`ARMED`], [`LOOKED`].
    listens: u8,
    /// The next send that comes home tells whether the kernel takes anything; one in flight is called
    /// back for it.
    asks: bool,
}

impl Watch {
    pub(crate) fn new(deadlines: &Deadlines) -> Self {
        let mut watch = Self {
            after_ms: [0; Deadline::COUNT],
            since_ms: [NEVER; Deadline::COUNT],
            timer: None,
            armed_ms: NEVER,
            is_silent: true,
            listens: 0,
            asks: false,
        };
        watch.set(deadlines);
        watch
    }

    /// Replaces the deadlines. Those that run and are still wanted run on since they began.
    pub(crate) fn set(&mut self, deadlines: &Deadlines) {
        for (deadline, (_, after)) in Deadline::ALL.into_iter().zip(deadlines.named()) {
            self.after_ms[deadline as usize] = after.map_or(0, whole_ms);
            if after.is_none() {
                self.stop(deadline);
            }
        }
    }

    /// Whether there is such a deadline.
    #[inline]
    pub(crate) fn has(&self, deadline: Deadline) -> bool {
        self.after_ms[deadline as usize] != 0
    }

    #[inline]
    pub(crate) fn runs(&self, deadline: Deadline) -> bool {
        self.since_ms[deadline as usize] != NEVER
    }

    pub(crate) fn start(&mut self, deadline: Deadline, now_ms: u64) {
        self.since_ms[deadline as usize] = now_ms;
    }

    #[inline]
    pub(crate) fn stop(&mut self, deadline: Deadline) {
        self.since_ms[deadline as usize] = NEVER;
    }

    /// Whether the arrival of bytes changes anything.
    #[inline]
    pub(crate) fn hears(&self) -> bool {
        self.is_silent | (self.listens != 0) || self.has(Deadline::Idle)
    }

    /// Whether a send that has come home whole changes anything.
    #[inline]
    pub(crate) fn follows_sends(&self) -> bool {
        self.runs(Deadline::WriteStall) || self.has(Deadline::Idle) || self.asks
    }

    /// Bytes have arrived.
    pub(crate) fn heard(&mut self) {
        self.is_silent = false;
        self.stop(Deadline::FirstByte);
    }

    /// A receive was armed.
    pub(crate) fn listen(&mut self) {
        self.listens |= ARMED;
    }

    /// The socket is being looked at.
    pub(crate) fn look(&mut self) {
        self.listens |= LOOKED;
    }

    /// Bytes have arrived. Whether they are the first since a receive was armed.
    pub(crate) fn take_fresh(&mut self) -> bool {
        std::mem::take(&mut self.listens) & ARMED != 0
    }

    /// The look is over. Whether nothing has arrived meanwhile.
    pub(crate) fn take_quiet(&mut self) -> bool {
        let is_quiet = self.listens & LOOKED != 0;
        self.listens &= !LOOKED;
        is_quiet
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.is_silent
    }

    /// The next send that comes home is to tell whether the kernel takes anything.
    pub(crate) fn ask(&mut self) {
        self.asks = true;
    }

    pub(crate) fn asks(&self) -> bool {
        self.asks
    }

    /// A send has come home. True if that is an answer.
    pub(crate) fn take_answer(&mut self) -> bool {
        std::mem::take(&mut self.asks)
    }

    /// The deadline that comes first in this phase, and when.
    pub(crate) fn next(&self, phase: Phase) -> Option<(u64, Deadline)> {
        let runs = |deadline: &Deadline| deadline.phase() == phase && self.runs(*deadline);
        let due_ms = |deadline: Deadline| {
            let at = deadline as usize;
            (self.since_ms[at].saturating_add(self.after_ms[at].into()), deadline)
        };
        Deadline::ALL.into_iter().filter(runs).map(due_ms).min_by_key(|(due_ms, _)| *due_ms)
    }

    /// Sees to it that the timer fires at the first deadline or before.
    pub(crate) fn arm(&mut self, id: ConnId, phase: Phase, timers: &mut Timers) {
        if let Some((due_ms, _)) = self.next(phase)
            && due_ms < self.armed_ms
        {
            self.disarm(timers);
            self.timer = Some(timers.arm(due_ms, Fired::Deadline(id)));
            self.armed_ms = due_ms;
        }
    }

    pub(crate) fn disarm(&mut self, timers: &mut Timers) {
        timers.cancel_all(&mut self.timer);
        self.armed_ms = NEVER;
    }
}

impl Deadline {
    /// The phase in which it runs.
    pub(crate) fn phase(self) -> Phase {
        if self == Self::Drain { Phase::Flushing } else { Phase::Open }
    }

    /// Whether it takes the kernel to say that nothing was sent: a send that waits there says nothing
    /// before all of it has left.
    pub(crate) fn is_met_by_sending(self) -> bool {
        matches!(self, Self::Idle | Self::WriteStall)
    }

    pub(crate) fn limit(self) -> Limit {
        match self {
            Self::FirstByte => Limit::FirstByte,
            Self::Idle => Limit::Idle,
            Self::Read => Limit::Read,
            Self::WriteStall => Limit::WriteStall,
            Self::Drain => Limit::Drain,
        }
    }
}

/// In whole milliseconds, rounded up, and within the bounds of a deadline.
fn whole_ms(after: Duration) -> u32 {
    let nanos = after.clamp(Deadline::SHORTEST, Deadline::LONGEST).as_nanos();
    u32::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ConnId = ConnId { row: 3, generation: 7 };

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    fn all() -> Deadlines {
        Deadlines::none().first_byte(ms(10)).idle(ms(20)).read(ms(30)).write_stall(ms(40)).drain(ms(50))
    }

    /// When the timer fires next, if it is armed.
    fn armed(timers: &Timers) -> Option<u64> {
        timers.next_deadline_ms()
    }

    #[test]
    fn the_earliest_deadline_that_runs_comes_first() {
        let mut watch = Watch::new(&all());
        assert_eq!(watch.next(Phase::Open), None, "nothing runs by itself");
        watch.start(Deadline::Read, 100);
        watch.start(Deadline::Idle, 111);
        assert_eq!(watch.next(Phase::Open), Some((130, Deadline::Read)));
        watch.start(Deadline::WriteStall, 80);
        assert_eq!(watch.next(Phase::Open), Some((120, Deadline::WriteStall)));
        watch.stop(Deadline::WriteStall);
        watch.stop(Deadline::Read);
        assert_eq!(watch.next(Phase::Open), Some((131, Deadline::Idle)));
    }

    #[test]
    fn each_deadline_counts_in_its_own_phase_only() {
        let phases = [Phase::Arriving, Phase::Open, Phase::Flushing, Phase::Lingering, Phase::Joining];
        for deadline in Deadline::ALL {
            let mut watch = Watch::new(&all());
            watch.start(deadline, 1);
            let wanted = if deadline == Deadline::Drain { Phase::Flushing } else { Phase::Open };
            for phase in phases {
                assert_eq!(watch.next(phase).is_some(), phase == wanted, "{deadline:?} in {phase:?}");
            }
        }
    }

    #[test]
    fn the_numbers_the_names_and_the_limits_belong_together() {
        for (deadline, (name, after)) in Deadline::ALL.into_iter().zip(all().named()) {
            assert_eq!(after, Some(ms(10 * (deadline as u64 + 1))), "{name}");
            let words = format!("{deadline:?}").to_lowercase();
            assert_eq!(name.replace('_', ""), format!("deadlines.{words}"));
            assert_eq!(format!("{:?}", deadline.limit()).to_lowercase(), words);
        }
    }

    #[test]
    fn the_timer_is_moved_only_to_an_earlier_time() {
        let (mut watch, mut timers) = (Watch::new(&all()), Timers::new());
        watch.arm(ID, Phase::Open, &mut timers);
        assert_eq!(armed(&timers), None, "what does not run needs no timer");
        watch.start(Deadline::Idle, 0);
        watch.arm(ID, Phase::Open, &mut timers);
        assert_eq!(armed(&timers), Some(20));
        watch.start(Deadline::Idle, 15);
        watch.arm(ID, Phase::Open, &mut timers);
        assert_eq!(armed(&timers), Some(20), "later is no reason to touch the wheel");
        watch.start(Deadline::FirstByte, 0);
        watch.arm(ID, Phase::Open, &mut timers);
        assert_eq!(armed(&timers), Some(10), "earlier is");
        watch.disarm(&mut timers);
        assert!(timers.is_empty());
    }

    #[test]
    fn new_deadlines_keep_what_runs_and_stop_what_is_gone() {
        let mut watch = Watch::new(&all());
        watch.start(Deadline::Idle, 100);
        watch.start(Deadline::Read, 100);
        watch.set(&Deadlines::none().idle(ms(5)));
        assert_eq!(watch.next(Phase::Open), Some((105, Deadline::Idle)));
        assert!(watch.has(Deadline::Idle) && !watch.has(Deadline::Read));
        watch.set(&all());
        assert!(!watch.runs(Deadline::Read), "it would have to be started again");
    }

    #[test]
    fn times_are_rounded_up_and_kept_within_bounds() {
        assert_eq!(whole_ms(Duration::ZERO), 1);
        assert_eq!(whole_ms(Duration::from_micros(1001)), 2);
        assert_eq!(whole_ms(Duration::MAX), 24 * 24 * 60 * 60 * 1000);
    }

    #[test]
    fn the_first_bytes_are_heard_once() {
        let mut watch = Watch::new(&Deadlines::default());
        assert!(watch.hears() && watch.is_silent());
        watch.heard();
        assert!(!watch.hears(), "later bytes cost nothing");
        watch.set(&Deadlines::none().idle(ms(1)));
        assert!(watch.hears(), "unless idleness is looked for");
    }
}
