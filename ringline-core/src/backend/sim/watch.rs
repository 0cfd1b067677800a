//! Descriptors of simulated processes, and who watches them.

use super::Sim;
use super::faults::Fault;
use crate::child::Company;
use crate::op::{Outcome, UserData};
use std::os::fd::RawFd;

/// An operation that waits until a process has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    user_data: UserData,
    descriptor: RawFd,
}

impl Sim {
    /// The processes, which whoever starts and ends them shares.
    pub(crate) fn company(&self) -> Company {
        self.company.clone()
    }

    pub(super) fn begin_poll(&mut self, user_data: UserData, descriptor: RawFd) {
        if self.dice.strikes(Fault::PollFails) {
            let errno = self.dice.pick(&[libc::ENOMEM, libc::ECANCELED]);
            self.post_error(user_data, errno);
        } else if self.dice.strikes(Fault::PollEarly) {
            self.post(user_data, Outcome::Done, false);
        } else {
            self.watches.push(Watch { user_data, descriptor });
        }
    }

    /// Reports processes that have ended.
    pub(super) fn run_watches(&mut self) {
        if !self.has_ended_process() {
            return;
        }
        let company = self.company.clone();
        let over: Vec<_> = self.watches.extract_if(.., |watch| company.is_over(watch.descriptor)).collect();
        for Watch { user_data, descriptor } in over {
            self.trace.note(|| format!("descriptor {descriptor} is readable"));
            self.post(user_data, Outcome::Done, false);
        }
    }

    /// Whether somebody watches a process that has ended.
    pub(super) fn has_ended_process(&self) -> bool {
        self.watches.iter().any(|watch| self.company.is_over(watch.descriptor))
    }

    /// Forgets an operation that is cancelled.
    pub(super) fn end_watch(&mut self, target: UserData) {
        self.watches.retain(|watch| watch.user_data != target);
    }
}
