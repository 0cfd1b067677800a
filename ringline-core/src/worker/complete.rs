//! Routes a completion to the row it is for.

use super::Worker;
use crate::backend::Backend;
use crate::buf::Lease;
use crate::conn::machine::{self, Memory};
use crate::conn::{CloseReason, Conn, ConnId, Event, Limit};
use crate::handler::EventHandler;
use crate::op::{Completion, Kind, Outcome, Tag};

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Staged bytes have left. By far the most often all of them, nobody waits for it, and nothing follows
    /// from it.
    #[inline]
    pub(super) fn sent(&mut self, tag: Tag, bytes: usize) {
        if !self.io.observes_sends
            && let Some((id, conn)) = self.io.conns.find_mut(tag)
            && conn.is_unwatched()
            && conn.outbox.complete_whole(bytes, &mut self.io.stage)
        {
            conn.outbox.forget_report();
            self.io.queued -= bytes;
            if !conn.is_dirty && !conn.is_settled() {
                conn.is_dirty = true;
                self.io.dirty.push(id);
            }
            return self.count_sent(bytes, true, 0);
        }
        self.complete_conn(tag, Outcome::Sent { bytes, errno: 0, parcel: None }, false);
    }

    #[inline]
    pub(super) fn complete(&mut self, completion: Completion) {
        let Completion { tag, outcome, more } = completion;
        match tag.kind {
            Kind::Recv => match outcome {
                Outcome::Received(lease) if more => self.arrived(tag, lease),
                outcome => self.complete_conn(tag, outcome, more),
            },
            Kind::Send
            | Kind::Shutdown
            | Kind::Close
            | Kind::Reset
            | Kind::Connect
            | Kind::CancelConnect
            | Kind::CancelRecv
            | Kind::CancelSend => self.complete_conn(tag, outcome, more),
            Kind::Peek => self.looked(tag, outcome, more),
            Kind::Accept => self.accepted(tag, outcome),
            Kind::CancelAccept => self.acceptor.cancelled(),
            Kind::Orphan => self.acceptor.buried(),
            Kind::Wake => self.woken(),
            Kind::SetOption => self.option_set(tag, &outcome),
            Kind::UdpRecv | Kind::UdpSend | Kind::CancelUdpRecv | Kind::CancelUdpSend => {
                self.complete_udp(tag, outcome, more);
            }
            Kind::Child => self.child_watched(tag, &outcome),
            Kind::CancelChild => self.child_cancelled(tag, &outcome),
            Kind::RecvStamped => self.complete_stamped(tag, outcome, more),
            Kind::Staged | Kind::Parcel => unreachable!("tags of this kind never leave a backend"),
        }
    }

    /// A receive has brought bytes and goes on. Nothing follows from that for the queue, nor for the
    /// operations.
    #[inline]
    pub(super) fn arrived(&mut self, tag: Tag, lease: Lease) {
        match self.io.conns.find_mut(tag) {
            Some((id, _)) => self.received(id, lease),
            None => self.stale(Outcome::Received(lease)),
        }
    }

    #[inline]
    pub(super) fn complete_conn(&mut self, tag: Tag, outcome: Outcome, more: bool) {
        let Some((id, conn)) = self.io.conns.find_mut(tag) else { return self.stale(outcome) };
        let before = conn.outbox.pending();
        let mut memory = Memory { stage: &mut self.io.stage, pool: &mut self.io.pool };
        let event = machine::advance(conn, &mut memory, tag.kind, outcome, more);
        self.io.queued -= before - conn.outbox.pending();
        if !conn.is_settled() && !conn.is_dirty {
            conn.is_dirty = true;
            self.io.dirty.push(id);
        }
        self.handle(id, event);
    }

    #[inline]
    fn handle(&mut self, id: ConnId, event: Event) {
        match event {
            Event::Nothing => {}
            Event::Received(lease) => self.received(id, lease),
            Event::Connected => match self.io.races.of(id) {
                Some(of) => self.attempt_won(id, of),
                None => self.connected(id),
            },
            Event::Ended => self.ended(id),
            Event::OutOfBuffers => {
                self.io.shard.buffers_empty.increment();
                self.ran_dry = true;
            }
            Event::Sent { bytes, is_whole, is_progress, fresh } => {
                self.count_sent(bytes, is_whole, fresh);
                if is_progress {
                    // A closing connection whose peer takes bytes gets more time.
                    self.io.restart_close_timer(id, self.io.close_timeout);
                }
                self.watch_sent(id, bytes, is_whole);
                if !is_whole {
                    self.fell_short(id, bytes);
                }
                self.report_sent(id);
            }
            Event::Returned { was_copied } => {
                self.io.shard.zero_copy_copied.add(was_copied.into());
                self.report_sent(id);
            }
            Event::Broken(reason) => self.io.terminate(id, reason),
            Event::SendBroken(reason) => {
                self.io.shard.sends_failed.increment();
                self.io.terminate(id, reason);
            }
            Event::Released => self.released(id),
        }
    }

    #[inline]
    fn count_sent(&mut self, bytes: usize, is_whole: bool, fresh: u32) {
        let shard = &self.io.shard;
        shard.sends.increment();
        shard.bytes_sent.add(bytes as u64);
        if !is_whole {
            shard.sends_short.increment();
            shard.pool_waits.add(fresh.into());
        }
    }

    /// The socket did not take everything at once.
    #[cold]
    fn fell_short(&mut self, id: ConnId, took: usize) {
        if self.io.conns.get(id).is_some_and(Conn::has_ended) {
            self.send_later(id, took);
        }
    }

    /// A completion for a row that has gone on: its buffer goes home and nothing else happens.
    #[cold]
    fn stale(&mut self, outcome: Outcome) {
        self.io.shard.completions_stale.increment();
        match outcome {
            Outcome::Received(lease) => self.backend.release(lease),
            Outcome::Sent { parcel: Some(parcel), .. } | Outcome::Returned(parcel) => {
                self.io.pool.put_parcel(parcel);
            }
            _ => {}
        }
    }

    /// The last completion of a connection: the row is free, and the handler gets its state back.
    pub(super) fn released(&mut self, id: ConnId) {
        // What went out is reported as such, even if nobody came to it before.
        self.report_sent(id);
        let Some(mut conn) = self.io.remove(id) else { return };
        if !self.io.races.is_empty() {
            match self.io.races.of(id) {
                Some(of) => return self.attempt_ended(id, of, &conn),
                None => self.race_over(id),
            }
        }
        let Some(reason) = conn.reason else { unreachable!("a connection ends for a reason") };
        self.inboxes[id.row()].reset();
        if let Some(layered) = conn.layered.take() {
            self.drop_layer(*layered);
            self.acceptor.ease();
        }
        if self.desk.jobs.any_tied() {
            self.drop_jobs_of(id);
        }
        let unsent = conn.outbox.take_failure(reason);
        if conn.was_counted {
            self.count_closed(reason);
        } else {
            self.io.shard.connects_failed.increment();
            self.publish_load();
        }
        self.close_handler(id, unsent, reason);
    }

    fn count_closed(&mut self, reason: CloseReason) {
        let shard = &self.io.shard;
        shard.connections_active.sub(1);
        shard.connections_closed.increment();
        match reason {
            CloseReason::Closed | CloseReason::Aborted => shard.closed_local.increment(),
            CloseReason::Truncated { .. } => shard.closed_truncated.increment(),
            CloseReason::LimitExceeded(Limit::Handshake) => shard.closed_handshake.increment(),
            CloseReason::PeerClosed { .. } => shard.closed_peer.increment(),
            CloseReason::PeerReset => shard.closed_reset.increment(),
            CloseReason::LimitExceeded(Limit::CloseTimeout | Limit::ConnectTimeout) => {
                shard.closed_timeout.increment();
            }
            CloseReason::LimitExceeded(Limit::Inbox { .. }) => shard.closed_limit.increment(),
            CloseReason::LimitExceeded(Limit::FirstByte) => shard.closed_first_byte.increment(),
            CloseReason::LimitExceeded(Limit::Idle) => shard.closed_idle.increment(),
            CloseReason::LimitExceeded(Limit::Read) => shard.closed_read.increment(),
            CloseReason::LimitExceeded(Limit::WriteStall) => shard.closed_write_stall.increment(),
            CloseReason::LimitExceeded(Limit::Drain) => shard.closed_drain.increment(),
            CloseReason::Shutdown | CloseReason::ShutdownDeadline => shard.closed_shutdown.increment(),
            CloseReason::HandlerPanicked => shard.closed_panicked.increment(),
            CloseReason::ChainBroken { .. }
            | CloseReason::LayerFailed(_)
            | CloseReason::ConnectFailed { .. }
            | CloseReason::Unresolved { .. }
            | CloseReason::Failed { .. } => shard.closed_error.increment(),
        }
        self.publish_load();
    }
}
