//! Completions on their way to the core.
//!
//! Completions of one operation stay in order, and a descriptor comes back only behind the close that
//! freed it. Nothing else about the order is certain, but those of sends that do not wait come first.

use super::dice::Dice;
use super::faults::Fault;
use crate::buf::{Span, Stage};
use crate::op::{Completion, Kind, Outcome};
use std::collections::VecDeque;

/// How many others a completion overtakes at most.
const OVERTAKES_MAX: u32 = 16;

#[derive(Debug)]
struct Held {
    turn: u64,
    completion: Completion,
}

/// A send that did not wait, with the bytes it had when it was pushed.
#[derive(Debug)]
struct Staged {
    completion: Completion,
    span: Span,
    bytes: Vec<u8>,
}

/// Completions that the kernel has made and the core has not taken.
#[derive(Debug, Default)]
pub(super) struct Posts {
    staged: VecDeque<Staged>,
    ready: VecDeque<Completion>,
    held: Vec<Held>,
}

impl Posts {
    /// Keeps a completion until [`Posts::deliver`] of `turn`.
    pub(super) fn hold(&mut self, turn: u64, completion: Completion) {
        self.held.push(Held { turn, completion });
    }

    /// Reports a send that did not wait.
    pub(super) fn push_staged(&mut self, completion: Completion, span: Span, bytes: Vec<u8>) {
        self.staged.push_back(Staged { completion, span, bytes });
    }

    /// Reports a completion at once.
    pub(super) fn push_ready(&mut self, completion: Completion) {
        self.ready.push_back(completion);
    }

    /// Reports what was held until `turn`.
    pub(super) fn deliver(&mut self, turn: u64, dice: &mut Dice) {
        for held in self.held.extract_if(.., |held| held.turn <= turn) {
            self.ready.push_back(held.completion);
            if dice.strikes(Fault::Overtaking) {
                let mut at = self.ready.len() - 1;
                for _ in 0..dice.below(OVERTAKES_MAX) {
                    if at == 0 || !may_overtake(&self.ready[at], &self.ready[at - 1]) {
                        break;
                    }
                    self.ready.swap(at - 1, at);
                    at -= 1;
                }
            }
        }
    }

    /// The next completion for the core.
    pub(super) fn pop(&mut self) -> Option<Completion> {
        match self.staged.pop_front() {
            Some(staged) => Some(staged.completion),
            None => self.ready.pop_front(),
        }
    }

    /// Whether the next completion is that of a staged send without an error.
    pub(super) fn is_sent_next(&self) -> bool {
        let sent = |outcome: &Outcome| matches!(outcome, Outcome::Sent { errno: 0, parcel: None, .. });
        self.staged.front().is_some_and(|staged| sent(&staged.completion.outcome))
    }

    /// Whether the next completion is that of a receive that goes on.
    pub(super) fn is_received_next(&self) -> bool {
        let received = |next: &Completion| next.more && matches!(next.outcome, Outcome::Received(_));
        self.staged.is_empty() && self.ready.front().is_some_and(received)
    }

    /// Whether [`Posts::pop`] has something to give.
    #[cfg(test)]
    pub(super) fn has_some(&self) -> bool {
        !self.staged.is_empty() || !self.ready.is_empty()
    }

    /// Whether a send that did not wait is still to be reported.
    pub(super) fn has_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// How many completions wait that a kernel would come back for.
    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many completions there are, apart from those of sends that did not wait.
    pub(super) fn len(&self) -> usize {
        self.ready.len() + self.held.len()
    }

    /// The first turn for which something is held.
    pub(super) fn next_turn(&self) -> Option<u64> {
        self.held.iter().map(|held| held.turn).min()
    }

    /// The first send whose completion was not taken yet although its bytes have changed.
    pub(super) fn tampered(&self, stage: &Stage) -> Option<&Completion> {
        self.staged
            .iter()
            .find(|staged| stage.bytes(staged.span) != staged.bytes)
            .map(|staged| &staged.completion)
    }
}

fn may_overtake(completion: &Completion, earlier: &Completion) -> bool {
    let frees = matches!(earlier.tag.kind, Kind::Close | Kind::Orphan);
    let uses = matches!(completion.outcome, Outcome::Accepted { .. });
    completion.tag != earlier.tag && !(frees && uses)
}
