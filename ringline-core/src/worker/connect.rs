//! Connections that the handler has asked for, from the call to their beginning or end.

use super::Worker;
use crate::backend::Backend;
use crate::conn::{CloseReason, ConnId, Inbox, Limit, Phase, PhaseEvent};
use crate::handler::EventHandler;

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Gives the connections that a callback has asked for their states.
    #[inline]
    pub(super) fn adopt(&mut self) {
        if !self.desk.parked.is_empty() {
            self.adopt_all();
        }
    }

    #[cold]
    fn adopt_all(&mut self) {
        self.widen();
        for (id, state) in self.desk.parked.drain(..) {
            self.users[id.row()] = Some(state);
        }
        self.publish_load();
    }

    /// Has all columns as many rows as the table of connections.
    pub(super) fn widen(&mut self) {
        let height = self.io.conns.height() as usize;
        while self.users.len() < height {
            self.users.push(None);
            self.inboxes.push(Inbox::default());
        }
    }

    /// The peer has answered.
    pub(super) fn connected(&mut self, id: ConnId) {
        self.io.shard.connects.increment();
        self.begin(id);
    }

    /// A connection that was not accepted opens.
    pub(super) fn begin(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        let is_layered = conn.layered.is_some();
        let event = if is_layered { PhaseEvent::LayerBegun } else { PhaseEvent::Connected };
        let opened = conn.phase.on(event);
        assert!(opened, "a connecting connection opens");
        conn.was_counted = true;
        self.io.stop_close_timer(id);
        self.io.shard.connections_active.add(1);
        if is_layered {
            return self.shake_hands(id);
        }
        self.io.watch_open(id);
        self.open_handler(id);
    }

    /// The peer has had its time to answer.
    pub(super) fn connect_timed_out(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        conn.close_timer = None;
        self.io.terminate(id, CloseReason::LimitExceeded(Limit::ConnectTimeout));
    }

    /// Ends a connection that never had a socket. There is nothing to wait for, but the handler is
    /// told in its time.
    pub(super) fn finish_unmade(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        // One that was to be adopted has a socket that the backend does not know.
        conn.adopts = None;
        let closed = conn.phase.on(PhaseEvent::Joined) && conn.phase.on(PhaseEvent::Released);
        assert!(closed && conn.phase == Phase::Closed, "a joining connection closes");
        self.io.note(id);
    }
}
