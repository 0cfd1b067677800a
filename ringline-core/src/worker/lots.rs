//! Who comes first when there is not enough for all.
//!
//! A receive that is armed while buffers are short takes all there are, and the next one gets none. In an
//! order of any kind it would always be the same connection that gets nothing, so they draw lots.

use crate::conn::ConnId;

/// A sequence of numbers without a pattern (xorshift by Marsaglia). It begins with the same number every time,
/// so that a run can be repeated.
#[derive(Debug)]
pub(super) struct Lots(u64);

impl Lots {
    pub(super) fn new() -> Self {
        Self(0x9e37_79b9_7f4a_7c15)
    }

    /// Puts a list into an order of which all are about equally likely (Fisher and Yates).
    #[cold]
    pub(super) fn draw(&mut self, ids: &mut [ConnId]) {
        for last in (1..ids.len()).rev() {
            let at = self.next() % (last as u64 + 1);
            ids.swap(last, at as usize);
        }
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_comes_first_about_equally_often() {
        const DRAWS: usize = 4_000;
        let mut lots = Lots::new();
        let mut ids: Vec<_> = (0..4).map(|row| ConnId { row, generation: 0 }).collect();
        let mut firsts = [0; 4];
        for _ in 0..DRAWS {
            lots.draw(&mut ids);
            firsts[ids[0].row()] += 1;
        }
        assert!(firsts.iter().all(|&count| count > DRAWS / 5 && count < DRAWS / 3), "{firsts:?}");
        lots.draw(&mut []);
    }
}
