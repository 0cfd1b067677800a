//! Random deadlines, and which of them may end a connection.

use crate::dice::Dice;
use ringline_core::{CloseReason, Deadlines, Limit};
use std::time::Duration;

/// Deadlines, and which there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) deadlines: Deadlines,
    has: [bool; KINDS],
}

/// How many kinds of deadlines there are.
pub(crate) const KINDS: usize = 5;

impl Choice {
    /// Each kind of deadline this many times in a thousand.
    pub(crate) fn random(dice: &mut Dice, per_mille: u64) -> Self {
        let mut pick = || {
            let after = dice.chance(per_mille).then(|| Duration::from_millis(5 + dice.below(400) as u64));
            after.map(|after| if dice.chance(300) { after * 10 } else { after })
        };
        let after: [_; KINDS] = std::array::from_fn(|_| pick());
        let [first_byte, idle, read, write_stall, drain] = after;
        let none = Deadlines::none();
        let deadlines =
            none.first_byte(first_byte).idle(idle).read(read).write_stall(write_stall).drain(drain);
        Self { deadlines, has: after.map(|after| after.is_some()) }
    }
}

/// The kinds of deadlines that a connection has ever had.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Had([bool; KINDS]);

impl Had {
    pub(crate) fn add(&mut self, choice: &Choice) {
        for (had, has) in self.0.iter_mut().zip(choice.has) {
            *had |= has;
        }
    }

    /// Whether a connection may end for this reason, as far as deadlines go.
    pub(crate) fn allows(self, reason: CloseReason) -> bool {
        kind(reason).is_none_or(|kind| self.0[kind])
    }
}

/// The kind of deadline that a connection ran into, if it did.
pub(crate) fn kind(reason: CloseReason) -> Option<usize> {
    let CloseReason::LimitExceeded(limit) = reason else { return None };
    match limit {
        Limit::FirstByte => Some(0),
        Limit::Idle => Some(1),
        Limit::Read => Some(2),
        Limit::WriteStall => Some(3),
        Limit::Drain => Some(4),
        _ => None,
    }
}
