//! What arrives on connections with a layer, from the wire to the handler's inbox.
//!
//! The layer changes bytes in the receive buffer, which nobody else has a lease of, and what comes out is
//! appended to the inbox. An inbox that is empty has the worker's memory for as
//! long as its handler looks at it, so a connection whose handler leaves nothing keeps no memory.

use super::Worker;
use crate::backend::Backend;
use crate::buf::Lease;
use crate::conn::{CloseReason, ConnId, Layered, Limit, Obstacle, Phase, PhaseEvent, WriteEnd};
use crate::handler::EventHandler;
use crate::layer::{LayerError, LayerFactory};

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Bytes have arrived on a connection that is not open: for its layer, or for nobody.
    #[cold]
    pub(super) fn received_early(&mut self, id: ConnId, lease: Lease) {
        if self.io.conns.get(id).is_some_and(|conn| conn.phase == Phase::Handshaking) {
            self.postpone_handshake(id, Some(&lease));
        }
        self.backend.release(lease);
    }

    /// Has a layer take what has arrived, or was put aside, and presents what comes of it.
    #[inline(never)]
    pub(super) fn read_layered(&mut self, id: ConnId, lease: Option<&mut Lease>) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        if lease.is_some() && conn.obstacles.has(Obstacle::Ended) {
            return;
        }
        let Some(layered) = conn.layered.as_mut() else { return };
        let inbox = &mut self.inboxes[id.row()];
        let mut late;
        let arrived = if let Some(lease) = lease {
            self.backend.received_mut(lease)
        } else {
            late = layered.take_late(inbox);
            &mut late
        };
        let scratch = &mut self.scratch;
        let mut spare = std::mem::take(&mut scratch.plain);
        inbox.lend(&mut spare);
        scratch.answers.clear();
        let read = layered.read(arrived, inbox.tail(), &mut scratch.answers);
        let (is_ready, is_closed) = (!layered.layer.is_handshaking(), layered.layer.is_read_closed());
        self.io.push_internal(id, &self.scratch.answers);
        if is_ready && self.io.end_handshake(id) {
            self.layer_ready(id);
        }
        self.deliver_inbox(id);
        self.watch_unread(id, 0);
        self.inboxes[id.row()].give_back(&mut spare);
        self.scratch.plain = spare;
        match read {
            Err(error) => self.layer_broke(id, error),
            Ok(()) if is_closed => self.read_closed(id),
            Ok(()) => {}
        }
    }

    /// Puts a layer on a connection that the handler has just taken.
    pub(super) fn layer(&mut self, id: ConnId, factory: &dyn LayerFactory) {
        match factory.accept() {
            Ok(layer) => {
                if let Some(conn) = self.io.conns.get_mut(id) {
                    conn.layered = Some(Box::new(Layered::new(layer)));
                }
                self.io.begin_layer(id);
            }
            Err(error) => self.layer_broke(id, error),
        }
    }

    /// The time for a handshake is over.
    pub(super) fn handshake_timed_out(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        conn.close_timer = None;
        self.io.terminate(id, CloseReason::LimitExceeded(Limit::Handshake));
    }

    /// The peer has ended its direction without a word to the layer. What it sent before is presented
    /// first; a handshake has nothing to present.
    #[cold]
    pub(super) fn cut_off(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get(id) else { return };
        let is_postponed = conn.layered.as_ref().is_some_and(|layered| layered.is_postponed);
        if conn.phase.takes_layer() && conn.is_handshaking() && !is_postponed {
            self.layer_broke(id, LayerError::ENDED);
        }
    }

    /// The handler has seen everything there was before the connection was cut off.
    #[cold]
    pub(super) fn truncated(&mut self, id: ConnId) {
        let unread = self.inboxes[id.row()].len();
        self.io.close(id, CloseReason::Truncated { unread });
    }

    /// The layers of both sides agree.
    fn layer_ready(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        let is_first = conn.phase.on(PhaseEvent::LayerReady);
        if conn.phase != Phase::Open {
            return;
        }
        conn.write_end = WriteEnd::Layered;
        conn.obstacles.remove(Obstacle::Securing);
        conn.obstacles.add(Obstacle::Layered);
        let is_resumed = conn.layered.as_ref().is_some_and(|layered| layered.layer.is_resumed());
        self.io.stop_close_timer(id);
        self.acceptor.ease();
        self.io.mark(id);
        self.io.shard.handshakes.increment();
        self.io.shard.handshakes_resumed.add(is_resumed.into());
        if is_first {
            self.io.watch_open(id);
            self.open_handler(id);
        } else {
            self.secured_handler(id);
        }
    }

    /// The layer cannot go on.
    #[cold]
    fn layer_broke(&mut self, id: ConnId, error: LayerError) {
        let Some(conn) = self.io.conns.get(id) else { return };
        if conn.phase.takes_layer() {
            self.io.layer_failed(id, error);
            self.acceptor.ease();
        }
    }

    /// The peer has marked the end of its direction. That is as good as the end of the stream.
    fn read_closed(&mut self, id: ConnId) {
        if let Some(conn) = self.io.conns.get_mut(id)
            && conn.obstacles.add(Obstacle::Ended)
        {
            self.io.mark(id);
            self.io.note(id);
        }
    }
}
