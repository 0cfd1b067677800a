//! What arrives on connections with a layer, from the wire to the handler's inbox.
//!
//! The layer changes bytes in the receive buffer, which nobody else has a lease of, and what comes out is
//! appended to the inbox. An inbox that is empty has the worker's memory for as
//! long as its handler looks at it, so a connection whose handler leaves nothing keeps no memory.

use super::Worker;
use crate::backend::Backend;
use crate::buf::Lease;
use crate::conn::{Belated, CloseReason, ConnId, Layered, Limit, Obstacle, Phase, PhaseEvent, WriteEnd};
use crate::handler::EventHandler;
use crate::layer::{LayerError, LayerFactory};

/// Where the bytes are that a layer is to take.
pub(super) enum Arrived<'a> {
    Leased(&'a mut Lease),
    Copied(&'a mut [u8]),
    /// They were put aside, or there are none.
    Late,
}

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Bytes have arrived on a connection that is not open: for its layer, or for nobody.
    #[cold]
    pub(super) fn received_early(&mut self, id: ConnId, lease: Lease) {
        self.io.doubt(id);
        if self.io.conns.get(id).is_some_and(|conn| conn.phase == Phase::Handshaking) {
            self.postpone_handshake(id, Some(&lease), &[]);
        }
        self.backend.release(lease);
    }

    /// Has a layer take what has arrived and presents what comes of it.
    #[inline(never)]
    pub(super) fn read_layered(&mut self, id: ConnId, arrived: Arrived<'_>) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        if conn.obstacles.has(Obstacle::Ended) && !matches!(arrived, Arrived::Late) {
            return;
        }
        let Some(layered) = conn.layered.as_mut() else { return };
        let inbox = &mut self.inboxes[id.row()];
        let mut late;
        let arrived = match arrived {
            Arrived::Leased(lease) => self.backend.received_mut(lease),
            Arrived::Copied(bytes) => bytes,
            Arrived::Late => {
                late = std::mem::take(&mut layered.late);
                &mut late
            }
        };
        let scratch = &mut self.scratch;
        let mut spare = std::mem::take(&mut scratch.plain);
        inbox.lend(&mut spare);
        scratch.answers.clear();
        let before = inbox.len();
        let read = layered.read(arrived, inbox.tail(), &mut scratch.answers);
        let (is_ready, is_closed) = (!layered.is_handshaking(), layered.is_read_closed());
        if read.is_err() && conn.write_end == WriteEnd::Layered {
            // A layer that is at its end is given nothing to send by those who see the last of it.
            conn.write_end = WriteEnd::Securing;
        }
        self.io.push_internal(id, &self.scratch.answers);
        if is_ready && read.is_ok() && self.io.end_handshake(id) {
            self.layer_ready(id);
        }
        if self.inboxes[id.row()].len() > before {
            self.present_plain(id);
        }
        self.watch_unread(id, 0);
        self.inboxes[id.row()].give_back(&mut spare);
        self.scratch.plain = spare;
        match read {
            Err(error) => self.layer_broke(id, error),
            Ok(()) if is_closed && !is_ready => self.layer_broke(id, LayerError::ENDED),
            Ok(()) if is_closed => self.read_closed(id),
            Ok(()) => {}
        }
    }

    /// More has come of what arrived.
    fn present_plain(&mut self, id: ConnId) {
        let hears = self.io.conns.get(id).is_some_and(|conn| conn.watch.hears());
        self.deliver_inbox(id);
        if hears {
            self.io.watch_received(id);
        }
    }

    /// Puts a layer on a connection that the handler has just taken.
    pub(super) fn layer(&mut self, id: ConnId, factory: &dyn LayerFactory) {
        match self.layer_of(factory) {
            Ok(layer) => {
                if let Some(conn) = self.io.conns.get_mut(id) {
                    let mut layered = Layered::new(layer);
                    layered.is_capped = true;
                    conn.layered = Some(Box::new(layered));
                }
                self.shake_hands(id);
            }
            Err(error) => self.layer_broke(id, error),
        }
    }

    /// Has a layer begin.
    pub(super) fn shake_hands(&mut self, id: ConnId) {
        self.io.begin_layer(id);
        // One that has nothing to agree on is ready.
        if self
            .io
            .conns
            .get(id)
            .is_some_and(|conn| conn.phase == Phase::Handshaking && !conn.is_handshaking())
        {
            self.read_layered(id, Arrived::Late);
        }
    }

    /// Keeps something for the handler until the connection is open. What is for one that is closing is
    /// dropped.
    #[cold]
    pub(super) fn tell_later(&mut self, id: ConnId, belated: Belated) {
        if let Some(conn) = self.io.conns.get_mut(id)
            && conn.phase == Phase::Handshaking
            && let Some(layered) = &mut conn.layered
        {
            layered.belated.push(belated);
        }
    }

    /// Tells the handler what was kept for it.
    fn tell_belated(&mut self, id: ConnId) {
        let layered = self.io.conns.get_mut(id).and_then(|conn| conn.layered.as_mut());
        for belated in layered.map(|layered| std::mem::take(&mut layered.belated)).unwrap_or_default() {
            match belated {
                Belated::Timer(key) => self.fire_conn_timer(id, key),
                Belated::Options(result) => self.tell_options(id, result),
            }
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
        let is_resumed = conn.layered.as_mut().is_some_and(|layered| layered.is_resumed());
        self.io.stop_close_timer(id);
        self.acceptor.ease();
        self.io.mark(id);
        self.io.shard.handshakes.increment();
        self.io.shard.handshakes_resumed.add(is_resumed.into());
        if is_first {
            self.io.watch_open(id);
            self.open_handler(id);
            self.tell_belated(id);
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
