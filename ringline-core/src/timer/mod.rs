//! Timers: their public name and the wheel that keeps them.
//!
//! The invariant of this module is that a [`TimerId`] names one arming and never another. Rows of
//! the wheel are used again, so an id carries the generation of its row, and a row whose
//! generations are used up is never handed out again. An id that outlived its timer is therefore
//! harmless wherever it turns up.
//!
//! There is no clock in here. Time is a count of milliseconds since the worker started, and the
//! worker passes it in.

mod wheel;

pub(crate) use wheel::Wheel;

/// The name of one armed timer.
///
/// Arming a timer returns its id; the id is what cancels it, and what tells the callback which
/// timer fired. Ids are small and freely copied. Once its timer fired or was cancelled, an id means
/// nothing: cancelling with it has no effect, no matter how much later and however many timers were
/// armed since.
///
/// An id is good for the worker that made it. Two workers may give out equal ids for different
/// timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    /// The row of the wheel's table.
    row: u32,
    /// How often the row had been used before.
    generation: u32,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_million_timers_without_a_scan() {
        const COUNT: u64 = 1_000_000;
        const SPAN_MS: u64 = 1 << 26;
        fn at_most(wheel: &mut Wheel<u64>, visits: u64) {
            let visited = std::mem::take(&mut wheel.visits);
            assert!(visited <= visits, "{visited} nodes visited");
        }
        // An odd multiplier scatters the deadlines over about nineteen hours.
        let deadline_ms = |n: u64| 1 + n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % SPAN_MS;

        let started = Instant::now();
        let mut wheel = Wheel::new();
        let mut ids = Vec::new();
        for n in 0..COUNT {
            ids.push(wheel.arm(deadline_ms(n), n));
            at_most(&mut wheel, 3);
        }
        assert_eq!(wheel.next_deadline_ms(), Some(1));
        wheel.expire(0);
        at_most(&mut wheel, 0);
        for id in ids.into_iter().step_by(2) {
            assert!(wheel.cancel(id).is_some());
            at_most(&mut wheel, 4);
        }
        let mut fired = 0;
        for now_ms in [SPAN_MS / 4, SPAN_MS / 2, SPAN_MS] {
            let armed = wheel.len();
            let mut last_ms = 0;
            wheel.expire(now_ms);
            // Each timer moves down a few levels at most, and each move touches three nodes.
            at_most(&mut wheel, 3 * 6 * armed as u64);
            while let Some((_, n)) = wheel.pop_expired() {
                at_most(&mut wheel, 3);
                assert!(n % 2 == 1 && (last_ms..=now_ms).contains(&deadline_ms(n)));
                last_ms = deadline_ms(n);
                fired += 1;
            }
        }
        assert_eq!((fired, wheel.len()), (COUNT / 2, 0));
        let took = started.elapsed();
        assert!(took < Duration::from_secs(5), "took {took:?}");
    }

    #[derive(Clone, Debug)]
    enum Edit {
        /// Arms a timer so far ahead of the present, or behind it.
        Arm { distance_ms: u64, past: bool },
        /// Cancels any timer that was ever armed.
        Cancel(usize),
    }

    #[derive(Clone, Debug)]
    enum Step {
        Edit(Edit),
        /// Advances and pops up to `pops` timers, with an edit after each.
        Turn {
            ahead_ms: u64,
            pops: usize,
            callback: Option<Edit>,
        },
        /// Advances to the time that the wheel asks for and pops what has expired.
        Wait,
    }

    /// Short distances, and with a weight of `far` those about each power of two and any others.
    fn distance_ms(far: u32) -> impl Strategy<Value = u64> {
        let power = (2..64u32, 0..3u64).prop_map(|(bits, below)| (1 << bits) - below);
        prop_oneof![
            12 => 0..150u64,
            4 => 0..300_000u64,
            far => power,
            far => any::<u64>(),
        ]
    }

    fn edit() -> impl Strategy<Value = Edit> {
        let arm = (distance_ms(2), proptest::bool::weighted(0.1));
        let arm = arm.prop_map(|(distance_ms, past)| Edit::Arm { distance_ms, past });
        prop_oneof![2 => arm, 1 => any::<usize>().prop_map(Edit::Cancel)]
    }

    fn step() -> impl Strategy<Value = Step> {
        let pops = prop_oneof![3 => Just(usize::MAX), 1 => 0..3usize];
        let turn = (distance_ms(1), pops, proptest::option::of(edit()));
        let turn = turn.prop_map(|(ahead_ms, pops, callback)| Step::Turn { ahead_ms, pops, callback });
        prop_oneof![5 => edit().prop_map(Step::Edit), 2 => turn, 2 => Just(Step::Wait)]
    }

    /// The wheel beside a map sorted by deadline and then by order of arming.
    struct Pair {
        wheel: Wheel<usize>,
        model: BTreeMap<(u64, usize), TimerId>,
        armed: Vec<(u64, TimerId)>,
        now_ms: u64,
        cancelled: bool,
    }

    impl Pair {
        fn new(now_ms: u64) -> Self {
            let mut wheel = Wheel::new();
            wheel.expire(now_ms);
            Self { wheel, model: BTreeMap::new(), armed: Vec::new(), now_ms, cancelled: false }
        }

        fn step(&mut self, step: &Step) {
            match step {
                Step::Edit(edit) => self.edit(edit),
                Step::Turn { ahead_ms, pops, callback } => {
                    let now_ms = self.now_ms.saturating_add(*ahead_ms);
                    self.turn(now_ms, *pops, callback.as_ref());
                }
                Step::Wait => {
                    let now_ms = self.wheel.next_deadline_ms().unwrap_or(self.now_ms);
                    self.turn(now_ms, usize::MAX, None);
                }
            }
            self.compare();
        }

        fn edit(&mut self, edit: &Edit) {
            match *edit {
                Edit::Arm { distance_ms, past } => {
                    let given_ms = if past {
                        self.now_ms.saturating_sub(distance_ms)
                    } else {
                        self.now_ms.saturating_add(distance_ms)
                    };
                    let (deadline_ms, order) = (given_ms.max(self.now_ms), self.armed.len());
                    let id = self.wheel.arm(given_ms, order);
                    self.armed.push((deadline_ms, id));
                    self.model.insert((deadline_ms, order), id);
                }
                Edit::Cancel(pick) => {
                    let Some(order) = pick.checked_rem(self.armed.len()) else {
                        return;
                    };
                    let (deadline_ms, id) = self.armed[order];
                    let expected = self.model.remove(&(deadline_ms, order)).map(|_| order);
                    assert_eq!(self.wheel.get(id).copied(), expected);
                    assert_eq!(self.wheel.cancel(id), expected);
                    self.cancelled |= expected.is_some();
                }
            }
        }

        fn turn(&mut self, now_ms: u64, pops: usize, callback: Option<&Edit>) {
            self.now_ms = now_ms;
            self.wheel.expire(now_ms);
            let before_turn = self.armed.len();
            for _ in 0..pops {
                let mut due = self.model.range(..=(now_ms, usize::MAX));
                let first = due.find(|((_, order), _)| *order < before_turn);
                let first = first.map(|(&key, &id)| (key, id));
                let expected = first.map(|((_, order), id)| (id, order));
                assert_eq!(self.wheel.pop_expired(), expected);
                let Some((key, _)) = first else { break };
                self.model.remove(&key);
                if let Some(edit) = callback {
                    self.edit(edit);
                    self.compare();
                }
            }
        }

        fn compare(&self) {
            self.wheel.check();
            assert_eq!(self.wheel.len(), self.model.len());
            let first = self.model.keys().next();
            let earliest_ms = first.map(|&(deadline_ms, _)| deadline_ms.max(self.now_ms));
            let next_ms = self.wheel.next_deadline_ms();
            assert_eq!(next_ms.is_some(), earliest_ms.is_some());
            assert!(next_ms <= earliest_ms && next_ms.is_none_or(|ms| ms >= self.now_ms));
            assert!(self.cancelled || next_ms == earliest_ms, "inexact without a cancel");
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_map(
            start_ms in prop_oneof![Just(0), 0..1u64 << 40, any::<u64>()],
            steps in proptest::collection::vec(step(), 1..120),
        ) {
            let mut pair = Pair::new(start_ms);
            for step in &steps {
                pair.step(step);
            }
            // Waiting for whatever is left takes at most one wake-up for each timer and level.
            let most = 11 * pair.wheel.len();
            let wake_ups = std::iter::from_fn(|| {
                pair.wheel.next_deadline_ms()?;
                pair.step(&Step::Wait);
                Some(())
            });
            prop_assert!(wake_ups.take(most + 1).count() <= most);
            prop_assert!(pair.wheel.is_empty());
        }
    }
}
