//! State into operations: the only submitter for connections.

use super::Worker;
use crate::backend::{Backend, Full};
use crate::conn::{CloseReason, Conn, ConnId, Deadline, Fired, Limit, Phase, PhaseEvent, WriteEnd};
use crate::ctx;
use crate::handler::EventHandler;
use crate::net::Setting;
use crate::op::{Fd, Kind, Op, UserData};
use std::time::Duration;

/// How long to leave a full socket alone when waiting for room is not possible; doubles while the peer
/// takes nothing, this many times at most.
const RETRY: Duration = Duration::from_millis(10);
const RETRY_DOUBLINGS: u8 = 6;

/// The submission queue has no room; the connection stays on the list.
pub(super) struct OutOfRoom;

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Turns what the callbacks of the last turn left into operations.
    #[inline]
    pub(super) fn flush(&mut self) {
        if self.has_accept_work() {
            self.flush_accepts();
        }
        if !self.io.dirty.is_empty() {
            self.flush_dirty();
        }
        if !self.io.unproven.is_empty() {
            self.flush_proofs();
        }
    }

    #[inline]
    fn flush_dirty(&mut self) {
        let empty = std::mem::take(&mut self.spare);
        let mut dirty = std::mem::replace(&mut self.io.dirty, empty);
        if std::mem::take(&mut self.ran_dry) {
            self.lots.draw(&mut dirty);
        }
        let mut done = 0;
        for &id in &dirty {
            if self.flush_conn(id).is_err() {
                self.io.shard.submissions_full.increment();
                break;
            }
            done += 1;
        }
        self.io.dirty.extend_from_slice(&dirty[done..]);
        dirty.clear();
        self.spare = dirty;
    }

    /// Tries again in a while to send to a peer that has ended.
    ///
    /// The kernel cannot wait for room on such a socket: the end of the peer looks like room to it, so
    /// it would block a thread of its own for each.
    pub(super) fn send_later(&mut self, id: ConnId, took: usize) {
        if let Some(conn) = self.io.conns.get_mut(id)
            && conn.retry_timer.is_none()
        {
            conn.retries = if took > 0 { 0 } else { (conn.retries + 1).min(RETRY_DOUBLINGS) };
            let deadline_ms = self.io.clock.deadline_ms(RETRY * (1 << conn.retries));
            conn.retry_timer = Some(self.io.timers.arm(deadline_ms, Fired::SendAgain(id)));
        }
    }

    /// It is time to try.
    pub(super) fn send_again(&mut self, id: ConnId) {
        if let Some(conn) = self.io.conns.get_mut(id) {
            conn.retry_timer = None;
            self.io.mark(id);
        }
    }

    /// An orderly close has run out of time.
    pub(super) fn close_timed_out(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        conn.close_timer = None;
        if conn.phase == Phase::Lingering {
            // Everything is with the kernel, and the peer had its chance.
            if conn.phase.on(PhaseEvent::Finished) {
                self.io.mark(id);
            }
        } else if conn.phase == Phase::Joining {
            // The peer has not acknowledged what it was sent, and from now on it need not. Whatever else is
            // on its way home comes by itself.
            if conn.outbox.is_lending() {
                conn.resets = true;
                conn.reason = Some(CloseReason::LimitExceeded(Limit::CloseTimeout));
                self.io.mark(id);
            }
        } else if !self.io.ask_send(id) {
            self.io.terminate(id, CloseReason::LimitExceeded(Limit::CloseTimeout));
        }
    }

    #[inline]
    fn flush_conn(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        let Some(conn) = self.io.conns.get_mut(id) else { return self.flush_other(id) };
        let may_send = conn.phase.is_active() && conn.retry_timer.is_none() && !conn.ops.cancel_send;
        let mut is_silent = false;
        if may_send && let Some(span) = conn.outbox.next_staged() {
            let user_data = UserData::new(Kind::Send, id.generation, id.row);
            if !self.backend.push_send_now(user_data, conn.fd, span, &self.io.stage) {
                conn.outbox.put_back_staged(span);
                return Err(OutOfRoom);
            }
            is_silent = true;
        } else if may_send && conn.outbox.has_next_parcel() {
            return self.flush_queue(id);
        }
        let is_steady = conn.is_steady();
        // Something may hang on it: then say when it is done, even if nothing else happens.
        self.prompt |= is_silent && (self.io.observes_sends || !is_steady);
        if is_steady {
            conn.is_dirty = false;
            return Ok(());
        }
        self.flush_rest(id)
    }

    /// A connection that has a parcel to send.
    #[inline(never)]
    fn flush_queue(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        let Some(conn) = self.io.conns.get_mut(id) else { return Ok(()) };
        let may_wait = !conn.has_ended();
        if let Some((parcel, waits)) = conn.outbox.next_parcel(may_wait, &mut self.io.pool) {
            let user_data = UserData::new(Kind::Send, id.generation, id.row);
            let op = Op::Send { fd: conn.fd, parcel, waits };
            if let Err(Full(op)) = self.backend.push(user_data, op, &self.io.stage) {
                let Op::Send { parcel, .. } = op else { unreachable!("what did not fit comes back") };
                conn.outbox.put_back_parcel(parcel, &mut self.io.pool);
                return Err(OutOfRoom);
            }
            conn.ops.send_waits = waits;
            if waits {
                ctx::begin(conn, id, Deadline::WriteStall, &mut self.io.clock, &mut self.io.timers);
            }
            self.prompt |= !waits && (self.io.observes_sends || !conn.is_steady());
        }
        if conn.is_steady() {
            conn.is_dirty = false;
            return Ok(());
        }
        self.flush_rest(id)
    }

    /// Everything but sending.
    #[inline(never)]
    fn flush_rest(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        self.flush_otherwise(id)?;
        if let Some(conn) = self.io.conns.get_mut(id) {
            conn.is_dirty = false;
        }
        Ok(())
    }

    /// What is on the list and no connection. One that is gone has nothing to flush.
    #[cold]
    fn flush_other(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        if id != ConnId::NOBODY || self.flush_children() { Ok(()) } else { Err(OutOfRoom) }
    }

    fn flush_otherwise(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        self.flush_connect(id)?;
        self.flush_phase(id);
        self.flush_write_end(id)?;
        self.flush_recv(id)?;
        // A send that waits for a peer that has ended would keep a thread of the kernel busy.
        if self.io.conns.get(id).is_some_and(Conn::recalls_send) {
            self.cancel_send(id)?;
        }
        self.flush_join(id)
    }

    #[inline]
    fn flush_write_end(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        let Some(conn) = self.io.conns.get_mut(id) else { return Ok(()) };
        let is_time = conn.phase.is_active() && conn.outbox.is_idle();
        if conn.write_end != WriteEnd::Ending || !is_time {
            return Ok(());
        }
        let op = Op::ShutdownWrite { fd: conn.fd };
        self.submit(Kind::Shutdown, id, op)?;
        if let Some(conn) = self.io.conns.get_mut(id) {
            conn.write_end = WriteEnd::InFlight;
        }
        Ok(())
    }

    /// Moves a closing connection on when its outbox is empty.
    #[inline]
    fn flush_phase(&mut self, id: ConnId) {
        let linger = self.io.linger;
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        if conn.phase == Phase::Flushing && conn.outbox.is_idle() {
            let lingers = !conn.has_ended() && !linger.is_zero();
            let event = if lingers { PhaseEvent::Flushed } else { PhaseEvent::Finished };
            if conn.phase.on(event) && lingers {
                if conn.write_end.is_open() {
                    conn.write_end = WriteEnd::Ending;
                }
                self.io.restart_close_timer(id, linger);
            }
        } else if conn.phase == Phase::Lingering && conn.has_ended() && conn.write_end == WriteEnd::Ended {
            let _ = conn.phase.on(PhaseEvent::Finished);
        }
    }

    #[inline]
    fn flush_recv(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        let Some(conn) = self.io.conns.get_mut(id) else { return Ok(()) };
        if conn.ops.cancel_recv || conn.wants_recv() == conn.ops.recv {
            return Ok(());
        }
        if conn.ops.recv {
            return self.cancel_recv(id);
        }
        if conn.is_stamped {
            return self.receive_stamped(id);
        }
        let op = Op::Recv { fd: conn.fd };
        self.submit(Kind::Recv, id, op)?;
        if let Some(conn) = self.io.conns.get_mut(id) {
            conn.ops.recv = true;
            conn.watch.listen();
        }
        Ok(())
    }

    /// Brings everything in flight home, once each, and then closes the descriptor.
    fn flush_join(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        let Some(conn) = self.io.conns.get(id) else { return Ok(()) };
        if conn.phase != Phase::Joining {
            return Ok(());
        }
        if conn.ops.recv && !conn.ops.cancel_recv {
            self.cancel_recv(id)?;
        }
        self.cancel_connect(id)?;
        self.cancel_send(id)?;
        let Some(conn) = self.io.conns.get_mut(id) else { return Ok(()) };
        if conn.fd == Fd::NONE {
            self.finish_unmade(id);
            return Ok(());
        }
        if !conn.is_joined() || !self.is_time_to_close(id)? {
            return Ok(());
        }
        let Some(conn) = self.io.conns.get_mut(id) else { return Ok(()) };
        let op = Op::Close { fd: conn.fd };
        self.submit(Kind::Close, id, op)?;
        if let Some(conn) = self.io.conns.get_mut(id) {
            conn.ops.close = conn.phase.on(PhaseEvent::Joined);
        }
        self.io.stop_close_timer(id);
        Ok(())
    }

    /// A peer that does not acknowledge bytes which were sent without copying keeps their memory. One
    /// that was cut short is made to let go; another gets time.
    fn is_time_to_close(&mut self, id: ConnId) -> Result<bool, OutOfRoom> {
        let Some(conn) = self.io.conns.get_mut(id) else { return Ok(false) };
        if !conn.outbox.is_lending() || conn.was_reset {
            return Ok(true);
        }
        if !conn.resets {
            if conn.close_timer.is_none() {
                self.io.restart_close_timer(id, self.io.close_timeout);
            }
            return Ok(false);
        }
        let op = Op::Reset { fd: conn.fd };
        self.submit(Kind::Reset, id, op)?;
        if let Some(conn) = self.io.conns.get_mut(id) {
            conn.ops.reset = true;
            conn.was_reset = true;
        }
        Ok(false)
    }

    /// Makes the socket of a connection that the handler has asked for, and connects it.
    fn flush_connect(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        let Some(conn) = self.io.conns.get_mut(id) else { return Ok(()) };
        if conn.phase != Phase::Connecting {
            return Ok(());
        }
        let Some(dial) = conn.dials.take() else {
            self.take_in(id);
            return Ok(());
        };
        if conn.fd == Fd::NONE {
            match self.backend.socket(&dial) {
                Ok(fd) => conn.fd = fd,
                Err(errno) => {
                    self.io.terminate(id, CloseReason::ConnectFailed { errno });
                    return Ok(());
                }
            }
        }
        let op = Op::Connect { fd: conn.fd, dial };
        let user_data = UserData::new(Kind::Connect, id.generation, id.row);
        match self.backend.push(user_data, op, &self.io.stage) {
            Ok(()) => {
                conn.ops.connect = true;
                Ok(())
            }
            Err(Full(op)) => {
                if let Op::Connect { dial, .. } = op {
                    conn.dials = Some(dial);
                }
                Err(OutOfRoom)
            }
        }
    }

    /// Has an option set; it comes back if there is no room.
    #[cold]
    pub(super) fn push_option(&mut self, id: ConnId, setting: Box<Setting>) -> Result<(), Box<Setting>> {
        let Some(conn) = self.io.conns.get_mut(id) else { return Ok(()) };
        let op = Op::SetOption { fd: conn.fd, setting };
        let user_data = UserData::new(Kind::SetOption, id.generation, id.row);
        if let Err(Full(Op::SetOption { setting, .. })) = self.backend.push(user_data, op, &self.io.stage) {
            return Err(setting);
        }
        conn.ops.set_option = true;
        Ok(())
    }

    fn cancel_connect(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        let wants = |conn: &Conn| conn.ops.connect && !conn.ops.connect_cancelled;
        if !self.io.conns.get(id).is_some_and(wants) {
            return Ok(());
        }
        let target = UserData::new(Kind::Connect, id.generation, id.row);
        self.submit(Kind::CancelConnect, id, Op::Cancel { target })?;
        if let Some(conn) = self.io.conns.get_mut(id) {
            conn.ops.cancel_connect = true;
            conn.ops.connect_cancelled = true;
        }
        Ok(())
    }

    fn cancel_recv(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        let is_stamped = self.io.conns.get(id).is_some_and(|conn| conn.is_stamped);
        let kind = if is_stamped { Kind::RecvStamped } else { Kind::Recv };
        let target = UserData::new(kind, id.generation, id.row);
        self.submit(Kind::CancelRecv, id, Op::Cancel { target })?;
        if let Some(conn) = self.io.conns.get_mut(id) {
            conn.ops.cancel_recv = true;
        }
        Ok(())
    }

    fn cancel_send(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        let wants = |conn: &Conn| conn.ops.send_waits && !conn.ops.send_cancelled;
        if !self.io.conns.get(id).is_some_and(wants) {
            return Ok(());
        }
        let target = UserData::new(Kind::Send, id.generation, id.row);
        self.submit(Kind::CancelSend, id, Op::Cancel { target })?;
        if let Some(conn) = self.io.conns.get_mut(id) {
            conn.ops.cancel_send = true;
            conn.ops.send_cancelled = true;
        }
        Ok(())
    }

    #[inline]
    pub(super) fn submit(&mut self, kind: Kind, id: ConnId, op: Op) -> Result<(), OutOfRoom> {
        let user_data = UserData::new(kind, id.generation, id.row);
        self.backend.push(user_data, op, &self.io.stage).map_err(|Full(_)| OutOfRoom)
    }
}
