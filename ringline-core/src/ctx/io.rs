//! Everything a callback may touch: plain data, no ring, no system calls.

use super::{Clock, Seat};
use crate::buf::{Pool, Stage};
use crate::config::Config;
use crate::conn::{Accepted, CloseReason, Conn, ConnId, Deadline, Fired, Limits, SendError, Table};
use crate::conn::{Phase, TimerKey, Timers, Watch, WriteEnd};
use crate::metrics::ShardHandle;
use crate::timer::TimerId;
use std::io;
use std::time::Duration;

/// The I/O state of a worker.
#[derive(Debug)]
pub(crate) struct Io {
    pub(crate) seat: Seat,
    pub(crate) conns: Table<Conn>,
    pub(crate) stage: Stage,
    pub(crate) pool: Pool,
    pub(crate) timers: Timers,
    pub(crate) clock: Clock,
    pub(crate) shard: ShardHandle,
    /// Connections whose state has to become operations.
    pub(crate) dirty: Vec<ConnId>,
    /// Connections to look after once this turn's completions are through.
    pub(crate) due: Vec<ConnId>,
    /// The handler wants to hear of completed sends promptly.
    pub(crate) observes_sends: bool,
    pub(crate) limits: Limits,
    pub(crate) holds_reads: bool,
    pub(crate) close_timeout: Duration,
    pub(crate) linger: Duration,
    /// The deadlines that a new connection begins with.
    pub(crate) watch: Watch,
    /// Bytes waiting in all outboxes together, and their limit.
    pub(crate) queued: usize,
    pub(crate) queued_limit: usize,
}

impl Io {
    pub(crate) fn new(config: &Config, seat: Seat, shard: ShardHandle) -> io::Result<Self> {
        Ok(Self {
            seat,
            conns: Table::new(config.connections_per_worker(), seat.worker as u32),
            stage: Stage::new(config.stage_bytes())?,
            pool: Pool::default(),
            timers: Timers::new(),
            clock: Clock::new(),
            shard,
            dirty: Vec::new(),
            due: Vec::new(),
            observes_sends: true,
            limits: config.outbox_limits(),
            holds_reads: config.holds_reads(),
            close_timeout: config.close_timeout(),
            linger: config.linger(),
            watch: Watch::new(config.deadlines()),
            queued: 0,
            queued_limit: config.worker_outbox_bytes(),
        })
    }

    /// Has the connection flushed at the end of the turn.
    #[inline]
    pub(crate) fn mark(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !conn.is_dirty
        {
            conn.is_dirty = true;
            self.dirty.push(id);
        }
    }

    /// Has the connection looked after once this turn's completions are through.
    pub(crate) fn note(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !conn.is_due
        {
            conn.is_due = true;
            self.due.push(id);
        }
    }

    #[inline]
    pub(crate) fn send(&mut self, id: ConnId, bytes: &[u8]) -> Result<Accepted, SendError> {
        let conn = self.conns.get_mut(id).ok_or(SendError::Gone)?;
        if !conn.phase.takes_sends() || conn.write_end != WriteEnd::Open {
            return Err(SendError::Closing);
        }
        let pending = conn.outbox.pending();
        if bytes.len() > self.limits.full - pending {
            self.shard.outbox_full.increment();
            return Err(SendError::Full { pending, limit: self.limits.full });
        }
        if bytes.len() > self.queued_limit - self.queued {
            self.shard.outbox_full.increment();
            return Err(SendError::WorkerFull { pending: self.queued, limit: self.queued_limit });
        }
        self.queued += bytes.len();
        let (sequence, fresh) = conn.outbox.push(bytes, &mut self.stage, &mut self.pool);
        self.shard.pool_waits.add(fresh.into());
        if conn.outbox.has_risen(&self.limits) {
            conn.is_held = self.holds_reads;
            if conn.is_held {
                conn.watch.stop(Deadline::Read);
            }
            self.shard.outbox_high.increment();
        }
        let pressure = conn.outbox.pressure();
        if !conn.is_dirty {
            conn.is_dirty = true;
            self.dirty.push(id);
        }
        if conn.outbox.owes_report() {
            self.note(id);
        }
        Ok(Accepted { sequence, pressure })
    }

    pub(crate) fn close(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.close(reason) {
            self.restart_close_timer(id, self.close_timeout);
            self.watch_closing(id);
            self.mark(id);
        }
    }

    pub(crate) fn shutdown_write(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.phase == Phase::Open && conn.write_end == WriteEnd::Open {
            conn.write_end = WriteEnd::Ending;
            self.mark(id);
        }
    }

    pub(crate) fn terminate(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.phase == Phase::Arriving {
            return;
        }
        if let Some(dropped) = conn.terminate(reason, &mut self.stage, &mut self.pool) {
            self.queued -= dropped;
            self.stop_close_timer(id);
            self.mark(id);
        }
    }

    pub(crate) fn pause_reads(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && !conn.is_paused
        {
            conn.is_paused = true;
            conn.watch.stop(Deadline::Read);
            self.shard.reads_pauses.increment();
            self.mark(id);
        }
    }

    pub(crate) fn resume_reads(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.is_paused = false;
            conn.redeliver = true;
            self.mark(id);
            self.note(id);
        }
    }

    pub(crate) fn set_timer(&mut self, after: Duration, key: TimerKey) -> TimerId {
        let deadline_ms = self.clock.deadline_ms(after);
        self.timers.arm(deadline_ms, Fired::Worker(key))
    }

    pub(crate) fn set_conn_timer(&mut self, id: ConnId, after: Duration, key: TimerKey) -> Option<TimerId> {
        let conn = self.conns.get_mut(id)?;
        if !matches!(conn.phase, Phase::Arriving | Phase::Open) {
            return None;
        }
        let deadline_ms = self.clock.deadline_ms(after);
        Some(self.timers.arm_conn(&mut conn.timers, deadline_ms, id, key))
    }

    pub(crate) fn cancel_timer(&mut self, timer: TimerId) -> bool {
        // Timers of the framework have ids, too; a user who guesses one must not stop it.
        matches!(self.timers.peek(timer), Some(Fired::Worker(_) | Fired::Conn(..)))
            && self.timers.cancel(timer, &mut self.conns)
    }

    /// Bounds the time until the next sign of progress of a closing connection.
    pub(crate) fn restart_close_timer(&mut self, id: ConnId, after: Duration) {
        self.stop_close_timer(id);
        let deadline_ms = self.clock.deadline_ms(after);
        let timer = self.timers.arm(deadline_ms, Fired::CloseTimeout(id));
        if let Some(conn) = self.conns.get_mut(id) {
            conn.close_timer = Some(timer);
        }
    }

    pub(crate) fn stop_close_timer(&mut self, id: ConnId) {
        if let Some(timer) = self.conns.get_mut(id).and_then(|conn| conn.close_timer.take()) {
            self.timers.cancel(timer, &mut self.conns);
        }
    }

    /// Lets go of everything a finished connection still has.
    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let mut conn = self.conns.remove(id)?;
        self.timers.cancel_all(&mut conn.timers);
        conn.watch.disarm(&mut self.timers);
        for timer in [conn.close_timer.take(), conn.retry_timer.take()].into_iter().flatten() {
            self.timers.cancel(timer, &mut self.conns);
        }
        self.queued -= conn.outbox.discard(&mut self.stage, &mut self.pool);
        Some(conn)
    }

    pub(crate) fn is_open(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.phase == Phase::Open)
    }
}
