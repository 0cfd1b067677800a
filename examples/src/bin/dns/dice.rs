//! Numbers that nobody can predict: an attacker who could, would forge answers.

/// Numbers are fetched from the system by the page, not one by one.
const WORDS: usize = 256;

#[derive(Debug)]
pub(crate) struct Dice {
    bytes: [u8; 2 * WORDS],
    used: usize,
}

impl Dice {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; 2 * WORDS], used: WORDS }
    }

    /// Sixteen bits.
    pub(crate) fn roll(&mut self) -> u16 {
        if self.used == WORDS {
            // Without it nothing that is asked here would be safe to ask.
            getrandom::fill(&mut self.bytes).expect("the system has random numbers");
            self.used = 0;
        }
        let at = 2 * self.used;
        self.used += 1;
        u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// A number below `limit`, which is not zero; all are as good as equally likely.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let wide = u32::from(self.roll()) << 16 | u32::from(self.roll());
        wide as usize % limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolls_differ_and_reach_everything() {
        let mut dice = Dice::new();
        let mut rolls: Vec<_> = (0..4 * WORDS).map(|_| dice.roll()).collect();
        rolls.sort_unstable();
        rolls.dedup();
        assert!(rolls.len() > 3 * WORDS, "{} different numbers", rolls.len());
        let mut seen = [false; 8];
        for _ in 0..1000 {
            seen[dice.below(8)] = true;
        }
        assert_eq!(seen, [true; 8]);
    }
}
