//! Connections with a layer: where it comes from, and the bytes that are its own.

use super::{Ctx, Io};
use crate::conn::{
    CloseReason, ConnId, Fired, Layered, NotConnected, NotSecured, Obstacle, Phase, SecureError, WriteEnd,
};
use crate::handler::EventHandler;
use crate::layer::{Layer, LayerError};
use crate::net::{Addr, ConnectOptions};
use std::any::Any;

impl<H: EventHandler> Ctx<'_, H> {
    /// Begins to connect and puts a layer, such as the client's side of TLS, on the connection. As
    /// [`connect_with`](Self::connect_with), but [`on_open`](EventHandler::on_open) comes when the
    /// layer has agreed with the peer's; if that fails, [`on_close`](EventHandler::on_close) gives
    /// `state` back with [`LayerFailed`](crate::CloseReason::LayerFailed), or with
    /// [`LimitExceeded`](crate::CloseReason::LimitExceeded) after
    /// [`handshake_timeout`](crate::ConfigBuilder::handshake_timeout).
    ///
    /// # Errors
    ///
    /// As [`connect_with`](Self::connect_with).
    pub fn connect_layered(
        &mut self,
        addr: impl Into<Addr>,
        options: &ConnectOptions,
        layer: Box<dyn Layer>,
        state: H::Conn,
    ) -> Result<ConnId, NotConnected<H::Conn>> {
        let id = self.connect_with(addr, options, state)?;
        let layered = self.secure(id, layer);
        assert!(
            layered.is_ok(),
            "a connection that is just being made has no layer, and must not go without"
        );
        Ok(id)
    }

    /// Puts a layer on an open, plain connection, as `STARTTLS` does. What was sent before goes out
    /// first, as it is. What the handler leaves unconsumed, and everything that arrives from now on, is
    /// for the layer, so nothing that came along with the request to begin is ever taken for protected.
    ///
    /// [`on_secured`](EventHandler::on_secured) tells that the layers agree. Until then the connection
    /// takes no sends, [`shutdown_write`](Self::shutdown_write) does nothing, and nothing is presented;
    /// deadlines run on. Paused or not, what the layer needs is read meanwhile.
    ///
    /// A connection that is still being made, in whatever way, has the layer from its beginning: see
    /// [`connect_layered`](Self::connect_layered). If the layers do not agree, the
    /// connection ends with [`LayerFailed`](crate::CloseReason::LayerFailed), or after
    /// [`handshake_timeout`](crate::ConfigBuilder::handshake_timeout).
    ///
    /// # Errors
    ///
    /// [`SecureError`] says why not; the layer comes back.
    pub fn secure(&mut self, id: ConnId, layer: Box<dyn Layer>) -> Result<(), NotSecured> {
        self.io.secure(id, layer)
    }

    /// What there is to know about the connection's layer, in the words of its kind: for TLS, see
    /// `ringline-tls`. `None` if it has none, or one of another kind, or is gone.
    pub fn layer<T: Any>(&self, id: ConnId) -> Option<&T> {
        let layered = self.io.conns.get(id)?.layered.as_ref()?;
        layered.facts().downcast_ref()
    }
}

impl Io {
    fn secure(&mut self, id: ConnId, layer: Box<dyn Layer>) -> Result<(), NotSecured> {
        let not = |error, layer| Err(NotSecured { error, layer });
        let Some(conn) = self.conns.get_mut(id) else { return not(SecureError::Gone, layer) };
        if conn.layered.is_some() {
            return not(SecureError::Layered, layer);
        }
        if conn.phase == Phase::Connecting {
            conn.layered = Some(Box::new(Layered::new(layer)));
            return Ok(());
        }
        if !conn.takes_sends() || conn.has_ended() {
            return not(SecureError::NotOpen, layer);
        }
        let mut layered = Layered::new(layer);
        layered.takes_inbox = true;
        conn.layered = Some(Box::new(layered));
        conn.write_end = WriteEnd::Securing;
        conn.obstacles.add(Obstacle::Layered);
        conn.obstacles.add(Obstacle::Securing);
        self.begin_layer(id);
        self.mark(id);
        self.note(id);
        Ok(())
    }

    /// Has a layer say what it has to say first, and bounds the time until it is ready.
    pub(crate) fn begin_layer(&mut self, id: ConnId) {
        let Some(layered) = self.conns.get_mut(id).and_then(|conn| conn.layered.as_mut()) else { return };
        layered.is_counted = true;
        self.handshakes += u32::from(layered.is_capped);
        self.shard.handshakes_active.add(1);
        let mut wire = Vec::new();
        let begun = layered.begin(&mut wire);
        let deadline_ms = self.clock.deadline_ms(self.handshake_timeout);
        let timer = self.timers.arm(deadline_ms, Fired::HandshakeTimeout(id));
        if let Some(conn) = self.conns.get_mut(id) {
            conn.close_timer = Some(timer);
        }
        self.push_internal(id, &wire);
        if let Err(error) = begun {
            self.layer_failed(id, error);
        }
    }

    /// A handshake that goes on comes to nothing.
    pub(crate) fn give_up_handshake(&mut self, id: ConnId) {
        if self.end_handshake(id) {
            self.shard.handshakes_failed.increment();
        }
    }

    /// The handshake is over, for better or worse. True if it was going on.
    pub(crate) fn end_handshake(&mut self, id: ConnId) -> bool {
        let Some(layered) = self.conns.get_mut(id).and_then(|conn| conn.layered.as_mut()) else {
            return false;
        };
        let was_counted = std::mem::take(&mut layered.is_counted);
        if was_counted {
            self.handshakes -= u32::from(layered.is_capped);
            self.shard.handshakes_active.sub(1);
        }
        was_counted
    }

    /// The layer cannot go on. What it had to say about that goes out.
    pub(crate) fn layer_failed(&mut self, id: ConnId, error: LayerError) {
        self.close(id, CloseReason::LayerFailed(error));
    }

    /// Queues bytes of the layer's own. A peer that makes it say more and more and does not listen is
    /// not served any longer. Behind the mark that ends our direction nothing goes out any more, and the
    /// kernel would take an attempt for an error of the connection.
    pub(crate) fn push_internal(&mut self, id: ConnId, wire: &[u8]) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if !conn.phase.is_active() || !conn.write_end.is_open() || wire.is_empty() {
            return;
        }
        if conn.outbox.pending() + wire.len() > self.limits.full + INTERNAL_BYTES {
            return self.terminate(id, CloseReason::LayerFailed(LayerError::FLOOD));
        }
        self.queued += wire.len();
        let fresh = conn.outbox.push_internal(wire, &mut self.stage, &mut self.pool);
        self.shard.pool_waits.add(fresh.into());
        self.mark(id);
    }

    /// Marks the end of our direction behind everything sent, in the words of the layer.
    pub(crate) fn say_goodbye(&mut self, id: ConnId) {
        let Some(layered) = self.conns.get_mut(id).and_then(|conn| conn.layered.as_mut()) else { return };
        if layered.is_handshaking() {
            return;
        }
        let mut wire = Vec::new();
        match layered.close(&mut wire) {
            Ok(()) => self.push_internal(id, &wire),
            Err(error) => self.terminate(id, CloseReason::LayerFailed(error)),
        }
    }
}

/// How far the bytes of a layer's own may take an outbox beyond its limit, which is for the handler's.
const INTERNAL_BYTES: usize = 64 * 1024;
