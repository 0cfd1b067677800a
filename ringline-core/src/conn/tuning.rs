//! Options that are to be set on a connection: one at a time, in the order in which they were asked for.
//!
//! A call's options are a batch. Each batch that is to be told of is told of once, when all of it was set or
//! the first of it was refused.

use crate::net::{OptionRefused, Setting, SocketOption};
use std::collections::VecDeque;

/// The options of one connection that are not set yet.
#[derive(Debug, Default)]
pub(crate) struct Tuning {
    batches: VecDeque<Batch>,
    /// How many options wait in all batches together.
    waiting: usize,
    in_flight: Option<SocketOption>,
}

#[derive(Debug)]
struct Batch {
    settings: VecDeque<Setting>,
    /// The handler has asked for it, so it is told of success, too.
    is_asked: bool,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Set(Box<Setting>),
    /// Tell the handler.
    Tell(Result<(), OptionRefused>),
    /// Nothing before the option in flight is set, or nothing at all.
    Wait,
}

impl Tuning {
    /// How many options may wait.
    pub(crate) const WAITING_MAX: usize = 64;

    /// Adds a batch, if there is room for it.
    pub(crate) fn add(&mut self, settings: Vec<Setting>, is_asked: bool) -> bool {
        // A batch without options waits as well.
        let count = settings.len().max(1);
        let has_room = self.waiting + count <= Self::WAITING_MAX;
        if has_room {
            self.waiting += count;
            self.batches.push_back(Batch { settings: settings.into(), is_asked });
        }
        has_room
    }

    /// The next step. What is to be set is in flight from now on.
    pub(crate) fn step(&mut self) -> Step {
        if self.in_flight.is_some() {
            return Step::Wait;
        }
        while let Some(batch) = self.batches.front_mut() {
            if let Some(setting) = batch.settings.pop_front() {
                self.in_flight = Some(setting.option);
                return Step::Set(Box::new(setting));
            }
            if self.end_batch() {
                return Step::Tell(Ok(()));
            }
        }
        Step::Wait
    }

    /// There was no room to submit it.
    pub(crate) fn put_back(&mut self, setting: Setting) {
        self.in_flight = None;
        if let Some(batch) = self.batches.front_mut() {
            batch.settings.push_front(setting);
        }
    }

    /// The option in flight was set, or refused. Then the rest of its batch is dropped.
    pub(crate) fn landed(&mut self, errno: Option<i32>) -> Option<OptionRefused> {
        let refused = self.in_flight.take().zip(errno).map(|(option, errno)| OptionRefused { option, errno });
        if refused.is_some() {
            self.end_batch();
        }
        refused
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.in_flight.is_none() && self.batches.is_empty()
    }

    /// Whether the batch was asked for.
    fn end_batch(&mut self) -> bool {
        let Some(batch) = self.batches.pop_front() else { return false };
        self.waiting = self.batches.iter().map(|batch| batch.settings.len().max(1)).sum();
        batch.is_asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(count: i32) -> Vec<Setting> {
        let setting = |name| Setting {
            option: SocketOption::Raw { level: 1, name },
            level: 1,
            name,
            value: Box::default(),
        };
        (0..count).map(setting).collect()
    }

    fn set(tuning: &mut Tuning) -> Box<Setting> {
        match tuning.step() {
            Step::Set(setting) => setting,
            step => panic!("{step:?} instead of an option"),
        }
    }

    #[test]
    fn options_are_set_in_order_and_told_of_once_for_each_batch() {
        let mut tuning = Tuning::default();
        assert!(
            tuning.add(settings(2), true) && tuning.add(settings(1), false) && tuning.add(settings(0), true)
        );
        for name in [0, 1] {
            assert_eq!(set(&mut tuning).name, name);
            assert_eq!(tuning.step(), Step::Wait, "one at a time");
            assert_eq!(tuning.landed(None), None);
        }
        assert_eq!(tuning.step(), Step::Tell(Ok(())));
        set(&mut tuning);
        tuning.landed(None);
        assert_eq!(tuning.step(), Step::Tell(Ok(())), "of the last one, which is empty");
        assert_eq!(tuning.step(), Step::Wait);
        assert!(tuning.is_empty());
    }

    #[test]
    fn a_refusal_ends_its_batch_and_no_other() {
        let mut tuning = Tuning::default();
        assert!(tuning.add(settings(3), true) && tuning.add(settings(1), true));
        let option = set(&mut tuning).option;
        assert_eq!(tuning.landed(Some(22)), Some(OptionRefused { option, errno: 22 }));
        assert_eq!(set(&mut tuning).name, 0, "the next batch begins");
        tuning.landed(None);
        assert_eq!(tuning.step(), Step::Tell(Ok(())));
        assert!(tuning.is_empty());
    }

    #[test]
    fn what_did_not_fit_comes_again() {
        let mut tuning = Tuning::default();
        assert!(tuning.add(settings(2), true));
        let first = set(&mut tuning);
        tuning.put_back(*first);
        assert_eq!(set(&mut tuning).name, 0);
    }

    #[test]
    fn the_number_that_may_wait_is_bounded() {
        let mut tuning = Tuning::default();
        assert!((0..64).all(|_| tuning.add(Vec::new(), true)));
        assert!(!tuning.add(Vec::new(), true));
        assert_eq!(tuning.step(), Step::Tell(Ok(())));
        assert!(!tuning.add(settings(2), true) && tuning.add(settings(1), true));
    }
}
