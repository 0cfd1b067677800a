//! Everything a callback may touch: plain data, no ring, no system calls.

use super::sending::Presented;
use super::stamps::Stamps;
use super::starting::Start;
use super::{Clock, Others, Seat};
use crate::buf::{Lease, Pool, Stage};
use crate::child::Children;
use crate::config::Config;
use crate::conn::{CloseReason, Conn, ConnId, Deadline, Fired, Limits, Obstacle, Races};
use crate::conn::{Phase, Table, TimerKey, Timers, Watch, WriteEnd};
use crate::metrics::ShardHandle;
use crate::net::Tickets;
use crate::timer::TimerId;
use crate::udp::Sockets;
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
    /// Connections whose peer may be gone without a word from the receive.
    pub(crate) unproven: Vec<ConnId>,
    /// The handler wants to hear of completed sends promptly.
    pub(crate) observes_sends: bool,
    pub(crate) limits: Limits,
    pub(crate) holds_reads: bool,
    pub(crate) close_timeout: Duration,
    pub(crate) linger: Duration,
    /// The deadlines that a new connection begins with.
    pub(crate) watch: Watch,
    pub(crate) connect_timeout: Duration,
    /// No new connections any more.
    pub(crate) is_ending: bool,
    /// Bytes waiting in all outboxes together, and their limit.
    pub(crate) queued: usize,
    pub(crate) queued_limit: usize,
    /// Connections whose reading waits because a send found no room on this worker, each with how much
    /// it had to send.
    pub(crate) starved: Vec<(ConnId, usize)>,
    /// From how many bytes on a guard's bytes are not copied.
    pub(crate) zero_copy_threshold: usize,
    /// What the callback that runs can forward as it is, and what it has forwarded so.
    pub(crate) presented: Presented,
    pub(crate) shared: Vec<Lease>,
    /// How many bytes of receive buffers a connection may keep.
    pub(crate) hold_limit: usize,
    /// What lets connections stay where their number is capped.
    pub(crate) tickets: Tickets,
    /// No new connections for now.
    pub(crate) accepts_paused: bool,
    /// Datagram sockets.
    pub(crate) udp: Sockets,
    pub(crate) children: Children,
    /// The way to the other workers of the server.
    pub(crate) others: Others,
    /// Connections that are made to one of several addresses.
    pub(crate) races: Races,
    /// When bytes were received.
    pub(crate) stamps: Stamps,
    /// How many layers of accepted connections have yet to agree with their peers', how many may, and how
    /// long each layer has.
    pub(crate) handshakes: u32,
    pub(crate) handshakes_max: u32,
    pub(crate) handshake_timeout: Duration,
    /// Where the few bytes of several parts come together.
    pub(crate) gathered: Vec<u8>,
    pub(crate) start: Start,
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
            unproven: Vec::new(),
            observes_sends: true,
            limits: config.outbox_limits(),
            holds_reads: config.holds_reads(),
            close_timeout: config.close_timeout(),
            linger: config.linger(),
            watch: Watch::new(config.deadlines()),
            connect_timeout: config.connect_timeout(),
            is_ending: false,
            queued: 0,
            queued_limit: config.worker_outbox_bytes(),
            starved: Vec::new(),
            zero_copy_threshold: config.zero_copy_threshold(),
            presented: Presented::default(),
            shared: Vec::new(),
            hold_limit: config.forward_hold_bytes(),
            tickets: Tickets::default(),
            accepts_paused: false,
            udp: Sockets::new(seat.worker as u32),
            children: Children::new(config.children_per_worker(), seat.worker as u32),
            others: Others::default(),
            races: Races::default(),
            stamps: Stamps::default(),
            handshakes: 0,
            handshakes_max: config.handshakes_per_worker(),
            handshake_timeout: config.handshake_timeout(),
            gathered: Vec::new(),
            start: Start::default(),
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

    pub(crate) fn close(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.phase == Phase::Connecting {
            // Nothing is queued that could go out first.
            self.terminate(id, reason);
        } else if conn.close(reason) {
            if conn.layered.is_some() {
                self.give_up_handshake(id);
                self.say_goodbye(id);
            }
            self.restart_close_timer(id, self.close_timeout);
            self.watch_closing(id);
            self.mark(id);
        }
    }

    pub(crate) fn shutdown_write(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.takes_sends() {
            if conn.write_end == WriteEnd::Layered {
                self.say_goodbye(id);
            }
            if let Some(conn) = self.conns.get_mut(id) {
                conn.write_end = WriteEnd::Ending;
            }
            self.mark(id);
        }
    }

    pub(crate) fn terminate(&mut self, id: ConnId, reason: CloseReason) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.phase == Phase::Arriving {
            return;
        }
        match conn.terminate(reason, &mut self.stage, &mut self.pool) {
            Some(dropped) => {
                self.queued -= dropped;
                self.stop_close_timer(id);
                self.mark(id);
            }
            // It is ending, and may be waiting for the peer to acknowledge what is not copied.
            None => self.mark(id),
        }
    }

    pub(crate) fn pause_reads(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id)
            && conn.obstacles.add(Obstacle::Paused)
        {
            conn.watch.stop(Deadline::Read);
            self.shard.reads_pauses.increment();
            self.mark(id);
        }
    }

    pub(crate) fn resume_reads(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.obstacles.remove(Obstacle::Paused);
            conn.redeliver = true;
            self.mark(id);
            self.note(id);
        }
    }

    pub(crate) fn pause_accepts(&mut self) {
        if !std::mem::replace(&mut self.accepts_paused, true) {
            self.shard.accept_pauses.increment();
        }
    }

    pub(crate) fn resume_accepts(&mut self) {
        self.accepts_paused = false;
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
        self.give_up_handshake(id);
        let mut conn = self.conns.remove(id)?;
        self.tickets.give_back(id.row());
        self.timers.cancel_all(&mut conn.timers);
        conn.watch.disarm(&mut self.timers);
        for timer in [conn.close_timer.take(), conn.retry_timer.take()].into_iter().flatten() {
            self.timers.cancel(timer, &mut self.conns);
        }
        self.queued -= conn.outbox.discard(&mut self.stage, &mut self.pool);
        if conn.obstacles.has(Obstacle::Starved) {
            self.starved.retain(|(starved, _)| *starved != id);
        }
        for source in std::mem::take(&mut conn.fed_by) {
            self.release_feeder(source);
        }
        Some(conn)
    }

    pub(crate) fn is_open(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.phase == Phase::Open)
    }
}
