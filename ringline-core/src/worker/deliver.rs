//! From received bytes to the handler: in place where possible, through the inbox where not.

use super::Worker;
use super::layered::Arrived;
use crate::backend::Backend;
use crate::buf::Lease;
use crate::conn::{CloseReason, Conn, ConnId, Limit, Obstacle, Phase};
use crate::consumed::Consumed;
use crate::handler::{Eof, EventHandler};

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Bytes have arrived. Nothing unread and nothing in the way: the handler reads the kernel's
    /// buffer itself.
    #[inline]
    pub(super) fn received(&mut self, id: ConnId, lease: Lease) {
        self.io.shard.receives.increment();
        self.io.shard.bytes_received.add(lease.len.into());
        let Some(conn) = self.io.conns.get_mut(id) else { return self.backend.release(lease) };
        let inbox = &self.inboxes[id.row()];
        let need = inbox.need();
        if !conn.presents() || !inbox.is_empty() || (lease.len as usize) < need {
            return self.received_otherwise(id, lease);
        }
        let hears = conn.watch.hears();
        conn.redeliver = false;
        if let Some(consumed) = self.data_handler(id, &lease)
            && (consumed.bytes != lease.len as usize || consumed.need != need)
        {
            self.keep_rest(id, &lease, consumed);
        }
        self.backend.release(lease);
        if hears {
            self.io.watch_received(id);
        }
    }

    /// Bytes that the handler is not to see where they are.
    #[inline(never)]
    fn received_otherwise(&mut self, id: ConnId, mut lease: Lease) {
        let Some(conn) = self.io.conns.get_mut(id) else { return self.backend.release(lease) };
        if conn.phase != Phase::Open {
            return self.received_early(id, lease);
        }
        if conn.layered.is_some() {
            let is_securing = conn.obstacles.has(Obstacle::Securing);
            self.io.doubt(id);
            if is_securing {
                self.postpone_handshake(id, Some(&lease), &[]);
            } else {
                self.read_layered(id, Arrived::Leased(&mut lease));
            }
            return self.backend.release(lease);
        }
        let hears = conn.watch.hears();
        let bytes = self.backend.received(&lease);
        self.inboxes[id.row()].extend(bytes);
        self.deliver_inbox(id);
        self.watch_unread(id, 0);
        self.backend.release(lease);
        if hears {
            self.io.watch_received(id);
        }
    }

    /// The peer has ended its direction. Data comes first, also what is only to be shown again.
    pub(super) fn ended(&mut self, id: ConnId) {
        self.io.mark(id);
        self.io.note(id);
        if self.io.conns.get(id).is_some_and(Conn::was_cut_off) {
            self.cut_off(id);
        }
    }

    /// Presents the inbox if the handler may see it and it holds what the handler asked for.
    pub(super) fn deliver_inbox(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        let inbox = &self.inboxes[id.row()];
        if !conn.delivers() || conn.end_told || !inbox.is_ready() {
            return;
        }
        // Whoever wanted to see them again sees them now.
        conn.redeliver = false;
        let Some(consumed) = self.inbox_handler(id) else { return };
        self.inboxes[id.row()].consume(consumed.bytes);
        self.expect(id, consumed);
    }

    /// Tells the handler once that nothing more will arrive, when it has seen everything that did.
    pub(super) fn deliver_end(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        // An outbox that is high holds data back, but not the end if there is no data to be shown.
        let is_next = conn.delivers()
            || conn.is_for_handler()
                && !conn.obstacles.has(Obstacle::Paused)
                && !self.inboxes[id.row()].is_ready();
        if !conn.has_ended() || conn.end_told || !is_next {
            return;
        }
        conn.end_told = true;
        if conn.was_cut_off() {
            return self.truncated(id);
        }
        let answer = self.eof_handler(id);
        let unread = self.inboxes[id.row()].len();
        if answer == Some(Eof::Close) {
            self.io.close(id, CloseReason::PeerClosed { unread });
        }
    }

    /// Looks after connections that a callback or a completed send has put on the list. What is
    /// put there meanwhile waits for the next turn.
    #[inline(never)]
    pub(super) fn settle(&mut self) {
        let empty = std::mem::take(&mut self.spare);
        let mut due = std::mem::replace(&mut self.io.due, empty);
        for id in due.drain(..) {
            if let Some(conn) = self.io.conns.get_mut(id) {
                conn.is_due = false;
                if matches!(conn.phase, Phase::Closed | Phase::Connecting) {
                    self.settle_unopened(id);
                    continue;
                }
                let takes_inbox = conn.phase == Phase::Open
                    && conn.layered.as_ref().is_some_and(|layered| layered.takes_inbox);
                let redeliver = std::mem::take(&mut conn.redeliver);
                if takes_inbox {
                    self.postpone_handshake(id, None, &[]);
                }
                self.report_sent(id);
                if redeliver {
                    self.deliver_inbox(id);
                }
                self.deliver_end(id);
                self.watch_unread(id, 0);
                self.tune_if_asked(id);
            } else if id == ConnId::NOBODY {
                self.take_handshake_steps();
            }
        }
        self.spare = due;
    }

    /// One that is over already, or not open yet: only one that was adopted opens now.
    #[cold]
    fn settle_unopened(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        if conn.phase == Phase::Closed {
            self.released(id);
        } else if conn.is_new_here() {
            self.adopted(id);
        }
    }

    /// Tells the handler of completed sends and of room in the outbox.
    #[inline]
    pub(super) fn report_sent(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        if let Some(sent) = conn.outbox.take_report()
            && self.io.observes_sends
        {
            self.sent_handler(id, sent);
            // What went out before a broken chain is told apart.
            while let Some(sent) = self.io.conns.get_mut(id).and_then(|conn| conn.outbox.take_report()) {
                self.sent_handler(id, sent);
            }
        }
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        if conn.outbox.has_fallen(&self.io.limits) {
            if conn.phase == Phase::Open {
                self.report_room(id);
            } else {
                self.io.release_feeders(id);
            }
        }
    }

    /// Lets reading go on that waited for the outbox, and tells the handler.
    #[cold]
    fn report_room(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        if conn.obstacles.remove(Obstacle::Held) {
            conn.redeliver = true;
            self.io.mark(id);
            self.io.note(id);
        }
        self.io.release_feeders(id);
        self.writable_handler(id);
    }

    /// Keeps what the handler left of a lease.
    fn keep_rest(&mut self, id: ConnId, lease: &Lease, consumed: Consumed) {
        let inbox = &mut self.inboxes[id.row()];
        if consumed.bytes != lease.len as usize {
            let rest = &self.backend.received(lease)[consumed.bytes..];
            inbox.set_need(consumed.need.min(self.inbox_limit));
            inbox.extend(rest);
        }
        self.expect(id, consumed);
    }

    /// Notes how much the handler waits for, and ends a connection that can never get there.
    #[inline]
    fn expect(&mut self, id: ConnId, consumed: Consumed) {
        // A handler that has just closed the connection wants no more of it, and what one leaves that has
        // just put a layer on it is not for it.
        if !self.io.conns.get(id).is_some_and(Conn::is_for_handler) {
            return;
        }
        self.watch_unread(id, consumed.bytes);
        let inbox = &mut self.inboxes[id.row()];
        inbox.set_need(consumed.need.min(self.inbox_limit));
        let is_over = inbox.len() > self.inbox_limit;
        // Over the limit because reading was paused: the handler gets on with it, and nothing more is
        // received until it is back below.
        let gets_on = is_over && consumed.bytes > 0 && inbox.is_ready();
        if consumed.need > self.inbox_limit || is_over && !gets_on {
            self.io.shard.inbox_overflows.increment();
            let limit = Limit::Inbox { bytes: self.inbox_limit };
            return self.io.terminate(id, CloseReason::LimitExceeded(limit));
        }
        if let Some(conn) = self.io.conns.get_mut(id)
            && (conn.obstacles.has(Obstacle::Stuffed) || gets_on)
        {
            conn.obstacles.set(Obstacle::Stuffed, gets_on);
            conn.redeliver |= gets_on;
            self.io.note(id);
            self.io.mark(id);
        }
    }
}
