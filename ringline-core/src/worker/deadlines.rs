//! What becomes of deadlines: started and stopped by what completes, looked at when their timer fires.

use super::Worker;
use crate::backend::Backend;
use crate::conn::{CloseReason, ConnId, Deadline, Limit, Phase};
use crate::ctx::{self, Io};
use crate::handler::EventHandler;

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// The handler has consumed this many bytes, or new ones have arrived, or it may see them again.
    #[inline]
    pub(super) fn watch_unread(&mut self, id: ConnId, consumed: usize) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        if !conn.watch.has(Deadline::Read) {
            return;
        }
        let is_unread = !self.inboxes[id.row()].is_empty() || conn.is_in_a_unit();
        let runs = is_unread && conn.delivers() && !conn.has_ended();
        if !runs || consumed > 0 {
            conn.watch.stop(Deadline::Read);
        }
        if runs {
            ctx::begin(conn, id, Deadline::Read, &mut self.io.clock, &mut self.io.timers);
        }
    }

    /// A send has come home.
    #[inline]
    pub(super) fn watch_sent(&mut self, id: ConnId, bytes: usize, is_whole: bool) {
        if self.io.conns.get(id).is_some_and(|conn| !is_whole || conn.watch.follows_sends()) {
            self.follow_send(id, bytes);
        }
    }

    /// The timer of a connection's deadlines has fired.
    pub(super) fn deadline_fired(&mut self, id: ConnId) {
        if let Some(conn) = self.io.conns.get_mut(id) {
            conn.watch.disarm(&mut self.io.timers);
            self.judge_deadlines(id, |io| io.ask_send(id));
        }
    }

    fn follow_send(&mut self, id: ConnId, bytes: usize) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        let is_answer = conn.watch.take_answer();
        if bytes > 0 || !conn.outbox.is_blocked() {
            conn.watch.stop(Deadline::WriteStall);
        }
        if conn.outbox.is_blocked() {
            self.io.begin(id, Deadline::WriteStall);
        }
        if bytes > 0 {
            self.io.restart(id, Deadline::Idle);
        }
        if is_answer {
            self.judge_answer(id, bytes);
        }
    }

    /// The kernel has told how many bytes it took since the last send came home.
    fn judge_answer(&mut self, id: ConnId, bytes: usize) {
        let Some(conn) = self.io.conns.get(id) else { return };
        match conn.phase {
            Phase::Open => self.judge_deadlines(id, |_| false),
            // The close timer has fired and wanted to know; progress has started it again by now.
            Phase::Flushing if conn.close_timer.is_none() && bytes == 0 => {
                self.io.terminate(id, CloseReason::LimitExceeded(Limit::CloseTimeout));
            }
            _ => {}
        }
    }

    /// Ends a connection of which a deadline has passed, or waits for the next one. What only the
    /// kernel can say is asked first.
    fn judge_deadlines(&mut self, id: ConnId, asks: impl FnOnce(&mut Io) -> bool) {
        let now_ms = self.io.clock.elapsed_ms();
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        let Some((due_ms, deadline)) = conn.watch.next(conn.phase) else { return };
        if due_ms > now_ms {
            return conn.watch.arm(id, conn.phase, &mut self.io.timers);
        }
        if !(deadline.is_met_by_sending() && asks(&mut self.io)) {
            self.io.terminate(id, CloseReason::LimitExceeded(deadline.limit()));
        }
    }
}
