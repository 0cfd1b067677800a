//! The children of a worker: their descriptors are watched by its ring, and each is told of once,
//! unless it was let go.

use super::Worker;
use crate::backend::{Backend, Full};
use crate::child::{AtShutdown, Child, ChildId};
use crate::conn::Fired;
use crate::handler::EventHandler;
use crate::op::{Kind, Op, Outcome, Tag, UserData};
use std::time::Duration;

/// How long to rest when watching was in vain; doubles this many times at most.
const REST: Duration = Duration::from_millis(10);
const REST_DOUBLINGS: u8 = 7;
/// How long after `SIGKILL` a child is waited for before somebody else does that.
const PATIENCE: Duration = Duration::from_secs(1);

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Submits what is due for children; false if the submission queue had no room for all of it.
    pub(super) fn flush_children(&mut self) -> bool {
        while let Some(&row) = self.io.children.restless.last() {
            if !self.flush_child(ChildId::new(row)) {
                return false;
            }
            self.io.children.restless.pop();
        }
        self.io.children.is_marked = false;
        true
    }

    /// Watches a child, or stops watching it.
    fn flush_child(&mut self, id: ChildId) -> bool {
        let Some(child) = self.io.children.get_mut(id) else { return true };
        let row = id.row();
        let watch = UserData::new(Kind::Child, row.generation, row.row);
        if !child.is_leaving {
            if child.is_watched || child.rest.is_some() {
                return true;
            }
            let op = Op::Poll { descriptor: child.process.descriptor() };
            child.is_watched = self.backend.push(watch, op, &self.io.stage).is_ok();
            return child.is_watched;
        }
        if !child.is_watched {
            self.hand_over(id);
            return true;
        }
        if child.is_cancelled {
            return true;
        }
        let cancel = UserData::new(Kind::CancelChild, row.generation, row.row);
        let op = Op::Cancel { target: watch };
        if let Err(Full(_)) = self.backend.push(cancel, op, &self.io.stage) {
            return false;
        }
        child.is_cancelled = true;
        self.io.children.cancels += 1;
        true
    }

    /// A watch is over: because the child is, or for another reason.
    pub(super) fn child_watched(&mut self, tag: Tag, outcome: &Outcome) {
        let Some((id, child)) = self.io.children.find_mut(tag) else {
            unreachable!("a child stays until it is watched no more")
        };
        child.is_watched = false;
        if let Outcome::Failed { errno } = outcome
            && *errno != libc::ECANCELED
        {
            log::warn!("a child could not be watched (errno {errno}); it is looked after in a while");
        }
        if let Some(exit) = child.process.try_wait() {
            // Who was let go is collected without a word.
            if let Some(child) = self.forget(id)
                && !child.is_leaving
            {
                self.child_handler(id, child.key, exit);
            }
        } else if child.is_leaving {
            self.hand_over(id);
        } else {
            self.rest_from(id);
        }
    }

    /// A cancel has come home. One that found nothing may have been too early.
    pub(super) fn child_cancelled(&mut self, tag: Tag, outcome: &Outcome) {
        self.io.children.cancels -= 1;
        let Some((id, child)) = self.io.children.find_mut(tag) else { return };
        if matches!(outcome, Outcome::Failed { errno: libc::ENOENT }) {
            child.is_cancelled = false;
            self.stir(id);
        }
    }

    /// Looks again after a child that could not be watched.
    pub(super) fn child_rested(&mut self, id: ChildId) {
        let Some(child) = self.io.children.get_mut(id) else { return };
        child.rest = None;
        self.stir(id);
    }

    /// The worker is being shut down.
    pub(super) fn end_children(&mut self) {
        for id in self.io.children.ids() {
            match self.io.children.get(id).map(|child| child.at_shutdown) {
                Some(AtShutdown::Terminate) => self.signal_child(id, libc::SIGTERM),
                Some(AtShutdown::Kill) => self.signal_child(id, libc::SIGKILL),
                Some(AtShutdown::Detach) => drop(self.io.let_go(id)),
                Some(AtShutdown::Wait) | None => {}
            }
        }
    }

    /// The time to end by itself is over.
    pub(super) fn kill_children(&mut self) {
        let ids = self.io.children.ids();
        if ids.is_empty() {
            return;
        }
        for id in ids {
            if self.io.children.get(id).is_some_and(|child| !child.is_leaving) {
                self.io.shard.children_killed.increment();
                self.signal_child(id, libc::SIGKILL);
                self.end_rest(id);
            }
        }
        let deadline_ms = self.io.clock.deadline_ms(PATIENCE);
        self.io.timers.arm(deadline_ms, Fired::ChildrenOverdue);
    }

    /// Even `SIGKILL` cannot end a process that waits for a device. The worker does not wait with it.
    pub(super) fn leave_children(&mut self) {
        for id in self.io.children.ids() {
            if self.io.let_go(id) {
                log::warn!("child {id} does not end; the worker ends without it");
            }
        }
    }

    fn signal_child(&mut self, id: ChildId, signal: i32) {
        if let Some(child) = self.io.children.get(id)
            && let Err(errno) = child.process.signal(signal)
            && errno != libc::ESRCH
        {
            log::warn!("child {id} could not be sent signal {signal} (errno {errno})");
        }
    }

    /// Watching was in vain: the descriptor says nothing, or it said too much.
    fn rest_from(&mut self, id: ChildId) {
        let Some(child) = self.io.children.get_mut(id) else { return };
        let deadline_ms = self.io.clock.deadline_ms(REST * (1 << child.rests));
        child.rests = (child.rests + 1).min(REST_DOUBLINGS);
        child.rest = Some(self.io.timers.arm(deadline_ms, Fired::ChildRested(id.row())));
    }

    /// Looks at once after a child that was to be looked after in a while.
    fn end_rest(&mut self, id: ChildId) {
        if let Some(rest) = self.io.children.get_mut(id).and_then(|child| child.rest.take()) {
            self.io.timers.cancel(rest, &mut self.io.conns);
            self.stir(id);
        }
    }

    fn stir(&mut self, id: ChildId) {
        self.io.children.restless.push(id.row());
        self.io.mark_children();
    }

    fn hand_over(&mut self, id: ChildId) {
        if let Some(child) = self.forget(id) {
            child.process.hand_over();
        }
    }

    /// Frees the row of a child.
    fn forget(&mut self, id: ChildId) -> Option<Child> {
        self.end_rest(id);
        let child = self.io.children.remove(id)?;
        self.io.shard.children_active.sub(1);
        Some(child)
    }
}
