//! Dice that read a tape: what `tests/sim_seeds/dice.rs` draws by chance comes from the fuzzer's input, as long as that
//! lasts. All dice of a run read the same tape, so one byte is one choice, in the order in which choices are made.
//!
//! Behind the end of the tape the choices are drawn by chance from a fixed seed, so the same input gives the same run.

#[path = "../ringline-core/tests/sim_seeds/dice.rs"]
#[allow(dead_code)]
mod seeded;

#[allow(unused_imports)]
pub(crate) use seeded::{bytes, check};

use std::cell::RefCell;

struct Tape {
    bytes: Vec<u8>,
    at: usize,
    rest: seeded::Dice,
}

thread_local! {
    static TAPE: RefCell<Option<Tape>> = const { RefCell::new(None) };
}

/// Begins a run.
pub(crate) fn insert(bytes: &[u8]) {
    let tape = Tape { bytes: bytes.to_vec(), at: 0, rest: seeded::Dice::new(0) };
    TAPE.set(Some(tape));
}

/// The next number that is below `end`, from as few bytes as can hold it.
fn draw(end: u64) -> u64 {
    TAPE.with_borrow_mut(|tape| {
        let tape = tape.as_mut().expect("a tape was inserted");
        let width = if end <= 1 << 8 { 1 } else { 2 };
        match tape.bytes.get(tape.at..tape.at + width) {
            Some(taken) => {
                tape.at += width;
                let number = taken.iter().fold(0, |number, &byte| number << 8 | u64::from(byte));
                // Spread evenly, so that a small change of a byte is a small change of the choice.
                number * end >> (8 * width)
            }
            None => tape.rest.next() % end,
        }
    })
}

/// The same methods as those of the dice that are drawn by chance.
#[derive(Clone, Debug)]
pub(crate) struct Dice(());

impl Dice {
    pub(crate) fn new(_: u64) -> Self {
        Self(())
    }

    /// Below `end`, which is above zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        draw(end as u64) as usize
    }

    /// True this many times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        draw(1000) < per_mille
    }

    /// Mostly small, now and then large.
    #[allow(dead_code)]
    pub(crate) fn length(&mut self) -> usize {
        match self.below(20) {
            0 => 0,
            1 => 1,
            2 => self.below(6_000),
            3 => self.below(1_500),
            _ => 1 + self.below(120),
        }
    }
}
