//! The last events, in words, for a seed that fails.

use crate::op::{Completion, Op, Outcome};
use std::collections::VecDeque;
use std::fmt::Write;

/// How many events are kept.
const EVENTS_MAX: usize = 200;

/// A bounded record of events. Off until it is wanted, and free of cost until then.
#[derive(Debug, Default)]
pub(super) struct Trace {
    events: VecDeque<String>,
    is_on: bool,
    turn: u64,
}

impl Trace {
    /// Records from now on.
    pub(super) fn enable(&mut self) {
        self.is_on = true;
    }

    /// What happens next happens in this turn.
    pub(super) fn set_turn(&mut self, turn: u64) {
        self.turn = turn;
    }

    /// Records an event.
    #[inline]
    pub(super) fn note(&mut self, event: impl FnOnce() -> String) {
        if self.is_on {
            if self.events.len() == EVENTS_MAX {
                self.events.pop_front();
            }
            self.events.push_back(format!("{:>6} {}", self.turn, event()));
        }
    }

    /// The events, one to a line, the oldest first.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for event in &self.events {
            text.push_str(event);
            text.push('\n');
        }
        text
    }

    /// Says which rule the core broke and what led to it.
    pub(super) fn panic(&self, rule: &str) -> ! {
        let mut message = format!("the core broke its contract: {rule}");
        if self.is_on {
            let _ = write!(message, "\n{}", self.text());
        }
        panic!("{message}");
    }
}

/// An operation without the bytes that it owns.
pub(super) fn describe(op: &Op) -> String {
    match op {
        Op::Send { fd, parcel, waits } => {
            let (bytes, links) = (parcel.len(), parcel.links().len());
            format!("Send {{ {fd:?}, {bytes} bytes in {links} links, waits: {waits} }}")
        }
        op => format!("{op:?}"),
    }
}

/// A completion without the bytes that it hands back.
pub(super) fn describe_completion(completion: &Completion) -> String {
    let more = if completion.more { " and more" } else { "" };
    match &completion.outcome {
        Outcome::Sent { bytes, errno, .. } => {
            format!("{:?}: sent {bytes}, errno {errno}{more}", completion.tag)
        }
        Outcome::Returned(parcel) => format!("{:?}: parcel {} is back", completion.tag, parcel.serial),
        Outcome::Failed { errno } => format!("{:?}: errno {errno}{more}", completion.tag),
        outcome => format!("{:?}: {outcome:?}{more}", completion.tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_events_are_kept_and_none_while_it_is_off() {
        let mut trace = Trace::default();
        trace.note(|| unreachable!("nobody listens"));
        trace.enable();
        for at in 0..2 * EVENTS_MAX {
            trace.set_turn(at as u64);
            trace.note(|| format!("event {at}"));
        }
        let text = trace.text();
        assert_eq!(text.lines().count(), EVENTS_MAX);
        assert!(text.starts_with("   200 event 200\n"), "{text}");
    }
}
