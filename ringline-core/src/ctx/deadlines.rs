//! Deadlines as callbacks and completions move them: the clock is read only for those that run.

use super::{Clock, Io};
use crate::conn::{Conn, ConnId, Deadline, Deadlines, Phase, Timers};
use std::time::Duration;

/// Starts a deadline unless it runs already, there is none, or this is not its phase.
pub(crate) fn begin(conn: &mut Conn, id: ConnId, deadline: Deadline, clock: &mut Clock, timers: &mut Timers) {
    let watch = &mut conn.watch;
    if watch.has(deadline) && !watch.runs(deadline) && deadline.phase() == conn.phase {
        // Rounded up, so that no deadline is early.
        watch.start(deadline, clock.deadline_ms(Duration::ZERO));
        watch.arm(id, conn.phase, timers);
    }
}

impl Io {
    /// Replaces the deadlines of a connection that is not closing yet, and says whether it is one.
    pub(crate) fn set_deadlines(&mut self, id: ConnId, deadlines: &Deadlines) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        if !matches!(conn.phase, Phase::Arriving | Phase::Open) {
            return false;
        }
        conn.watch.set(deadlines);
        conn.watch.arm(id, conn.phase, &mut self.timers);
        if conn.phase == Phase::Open {
            self.watch_open(id);
            // Whether bytes are unread is looked at with the rest of what is due.
            self.note(id);
        }
        true
    }

    /// Starts what runs as soon as a connection is open.
    pub(crate) fn watch_open(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        let (is_silent, is_blocked) = (conn.watch.is_silent(), conn.outbox.is_blocked());
        if is_silent {
            self.begin(id, Deadline::FirstByte);
        }
        if is_blocked {
            self.begin(id, Deadline::WriteStall);
        }
        self.begin(id, Deadline::Idle);
    }

    /// An orderly close has begun.
    pub(crate) fn watch_closing(&mut self, id: ConnId) {
        self.begin(id, Deadline::Drain);
    }

    /// Bytes have arrived.
    pub(crate) fn watch_received(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.watch.heard();
            self.doubt(id);
            self.restart(id, Deadline::Idle);
        }
    }

    /// Bytes have arrived. Behind the first that an armed receive brings, the peer is asked for.
    pub(crate) fn doubt(&mut self, id: ConnId) {
        if self.conns.get_mut(id).is_some_and(|conn| conn.watch.take_fresh()) {
            self.unproven.push(id);
        }
    }

    /// Starts a deadline unless it runs already.
    pub(crate) fn begin(&mut self, id: ConnId, deadline: Deadline) {
        if let Some(conn) = self.conns.get_mut(id) {
            begin(conn, id, deadline, &mut self.clock, &mut self.timers);
        }
    }

    /// Starts a deadline from now on, even if it runs already.
    pub(crate) fn restart(&mut self, id: ConnId, deadline: Deadline) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.watch.stop(deadline);
            begin(conn, id, deadline, &mut self.clock, &mut self.timers);
        }
    }

    /// Asks the kernel how much of what waits it takes now, if something waits: a send in flight is
    /// called back, and a pause between two attempts is over. False if nothing waits, or if it waits
    /// for memory that the peer has not let go of, of which nothing more can be learnt.
    pub(crate) fn ask_send(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        if conn.outbox.is_idle() || conn.outbox.waits_for_memory() {
            return false;
        }
        conn.watch.ask();
        self.timers.cancel_all(&mut conn.retry_timer);
        self.mark(id);
        true
    }
}
