//! Decides when a fault strikes, and keeps count, so that a test can prove that it met one.

use super::faults::{Fault, Faults};
use super::random::Random;

/// Faults with a source of chance.
#[derive(Debug)]
pub(super) struct Dice {
    pub(super) faults: Faults,
    random: Random,
    struck: [u64; Fault::ALL.len()],
}

impl Dice {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self { faults, random: Random::new(seed), struck: [0; Fault::ALL.len()] }
    }

    /// Whether `fault` happens now.
    #[inline]
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.random.chance(self.faults.per_mille(fault));
        self.struck[fault as usize] += u64::from(strikes);
        strikes
    }

    /// For how many turns something is held back: zero unless `fault` strikes.
    pub(super) fn turns_late(&mut self, fault: Fault) -> u64 {
        if !self.strikes(fault) {
            return 0;
        }
        let stretch = if fault == Fault::LateClose { 10 } else { 1 };
        1 + u64::from(self.below(self.faults.late_turns_max.saturating_mul(stretch)))
    }

    /// `whole`, or a part of it that is neither nothing nor all if `fault` strikes.
    pub(super) fn cut(&mut self, fault: Fault, whole: usize) -> usize {
        if whole > 1 && self.strikes(fault) { 1 + self.below(whole as u32 - 1) as usize } else { whole }
    }

    /// A number below `bound`, or zero if there is none.
    pub(super) fn below(&mut self, bound: u32) -> u32 {
        self.random.below(bound.max(1))
    }

    pub(super) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        self.random.pick(choices)
    }

    /// How often `fault` has struck.
    pub(super) fn struck(&self, fault: Fault) -> u64 {
        self.struck[fault as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strikes_are_counted() {
        let mut dice = Dice::new(5, Faults::none().with(Fault::Late, 500));
        let strikes = (0..100).filter(|_| dice.strikes(Fault::Late)).count() as u64;
        assert!(!dice.strikes(Fault::ShortSend));
        assert!(strikes > 20);
        assert_eq!(dice.struck(Fault::Late), strikes);
        assert_eq!(dice.struck(Fault::ShortSend), 0);
    }

    #[test]
    fn a_cut_leaves_something_on_both_sides() {
        let mut dice = Dice::new(6, Faults::none().with(Fault::ShortSend, 1000));
        assert_eq!(dice.cut(Fault::ShortSend, 1), 1);
        assert!((0..100).all(|_| (1..10).contains(&dice.cut(Fault::ShortSend, 10))));
        assert_eq!(dice.cut(Fault::ShortReceive, 10), 10);
    }

    #[test]
    fn lateness_is_bounded() {
        let mut faults = Faults::none().with(Fault::Late, 1000).with(Fault::LateClose, 1000);
        faults.late_turns_max = 3;
        let mut dice = Dice::new(7, faults);
        assert!((0..100).all(|_| (1..=3).contains(&dice.turns_late(Fault::Late))));
        let longest = (0..200).map(|_| dice.turns_late(Fault::LateClose)).max();
        assert!((4..=30).contains(&longest.unwrap()), "{longest:?}");
    }
}
