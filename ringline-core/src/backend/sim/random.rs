//! Numbers that look random and are the same for the same seed, on every machine.

/// How far the state moves with each number: odd, so that it visits every value before it repeats.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// A counter with a scrambled output. Good for tests, useless for secrets.
#[derive(Clone, Debug)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub(crate) fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// A number below `bound`, which is at least one.
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        debug_assert!(bound > 0, "there is no number below zero");
        (((self.draw() >> 32) * u64::from(bound)) >> 32) as u32
    }

    /// True so many times in a thousand. Certain answers draw nothing.
    pub(crate) fn chance(&mut self, per_mille: u16) -> bool {
        per_mille > 0 && (per_mille >= 1000 || self.below(1000) < u32::from(per_mille))
    }

    /// One of `choices`.
    pub(crate) fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u32) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_everything() {
        let draws = |seed| {
            let mut random = Random::new(seed);
            (0..16).map(|_| random.draw()).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
    }

    #[test]
    fn numbers_stay_below_their_bound_and_reach_all_of_it() {
        let mut random = Random::new(1);
        let mut seen = [0; 5];
        for _ in 0..1000 {
            seen[random.below(5) as usize] += 1;
        }
        assert!(seen.iter().all(|&count| count > 100), "{seen:?}");
    }

    #[test]
    fn chances_come_true_as_often_as_they_say() {
        let mut random = Random::new(2);
        let mut count = |per_mille| (0..10_000).filter(|_| random.chance(per_mille)).count();
        assert_eq!(count(0), 0);
        assert_eq!(count(1000), 10_000);
        assert!((2_000..3_000).contains(&count(250)));
    }
}
