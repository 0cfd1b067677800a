//! What may lie between the wire and the handler: all that this crate knows of TLS.
//!
//! A [`Layer`] turns bytes into bytes. It does no I/O and reads no clock; whoever drives it owns all
//! memory that it writes to. One is made for each connection of a listener by a [`LayerFactory`], or
//! handed over with [`Ctx::connect_layered`](crate::Ctx::connect_layered) or
//! [`Ctx::secure`](crate::Ctx::secure).
//!
//! A connection with a layer keeps every promise of a plain one, with the handler's bytes on the
//! near side of the layer. What counts bytes that wait to be sent counts wire bytes, because those
//! are what waits, the layer's own included: [`Sent::bytes`](crate::Sent), [`Ctx::pending_bytes`](crate::Ctx::pending_bytes) and
//! the outbox limits. What counts unread bytes counts plain ones.

use std::any::Any;
use std::fmt;

/// The most bytes that one [`Layer::write`] is given.
pub const CHUNK_BYTES: usize = 16 * 1024;
/// The most wire bytes that a layer may leave unread, waiting for more. What goes beyond it ends the
/// connection with [`LayerError::BACKLOG`].
pub const BACKLOG_BYTES: usize = 128 * 1024;
/// The most wire bytes that one chunk may need: see [`Layer::wire_len`].
pub const SEALED_CHUNK_BYTES: usize = 60 * 1024;

/// A transformer of bytes between the wire and the handler of one connection.
///
/// It begins with a handshake, in which both sides say what they have to say to one another, and
/// ends each direction with a mark of its own, so that an end of the stream in the middle can be told
/// from one that was meant.
///
/// A layer that panics or breaks these rules ends its connection with [`LayerError::PANICKED`] or
/// [`LayerError::UNSOUND`], and no other.
pub trait Layer: fmt::Debug + 'static {
    /// Appends to `wire` what this side says first, if it does: called once, before anything else.
    ///
    /// # Errors
    ///
    /// The connection cannot be served.
    fn begin(&mut self, wire: &mut Vec<u8>) -> Result<(), LayerError>;

    /// Takes bytes that have arrived, in order, and returns how many of the first it is through with.
    /// The rest is presented again, at the same place in the stream, with more behind it. What is in
    /// `incoming` may be overwritten.
    ///
    /// Appends what is for the handler to `plain`, and what is to be answered at once to `wire`. Once our
    /// direction has its mark, answers go nowhere.
    ///
    /// # Errors
    ///
    /// The connection cannot go on. What was appended to `wire` still goes out.
    fn read(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<usize, LayerError>;

    /// How many wire bytes [`write`](Self::write) makes of `plain_bytes` at most, which are
    /// [`CHUNK_BYTES`] or fewer: at least one for each, and never more than [`SEALED_CHUNK_BYTES`].
    fn wire_len(&self, plain_bytes: usize) -> usize;

    /// Turns bytes of the handler, at least one and [`CHUNK_BYTES`] at most, into wire bytes at the
    /// beginning of `wire`, which is as long as [`wire_len`](Self::wire_len) says, and returns how many
    /// there are. Not called during the handshake.
    ///
    /// # Errors
    ///
    /// The connection cannot go on.
    fn write(&mut self, plain: &[u8], wire: &mut [u8]) -> Result<usize, LayerError>;

    /// Appends to `wire` the mark that ends our direction, the first time it is called; nothing if that
    /// would make no sense.
    fn close(&mut self, wire: &mut Vec<u8>);

    /// Whether the handshake goes on, so that neither side can send bytes of its handler.
    fn is_handshaking(&self) -> bool;

    /// Whether the peer has marked the end of its direction.
    fn is_read_closed(&self) -> bool;

    /// Whether something has begun to arrive that is of no use before there is more of it: it has to
    /// come within [`read`](crate::Deadlines::read), like the rest of a message. What
    /// [`read`](Self::read) leaves counts in any case.
    fn is_waiting(&self) -> bool {
        false
    }

    /// Whether the handshake could make use of an earlier one; to be counted when it is over.
    fn is_resumed(&self) -> bool {
        false
    }

    /// What a handler may look at with [`Ctx::layer`](crate::Ctx::layer), usually the layer itself.
    fn facts(&self) -> &dyn Any;
}

/// What makes the layers of the connections that a listener brings. All workers share it.
pub trait LayerFactory: fmt::Debug + Send + Sync + 'static {
    /// The layer of one more connection.
    ///
    /// # Errors
    ///
    /// The connection cannot be served.
    fn accept(&self) -> Result<Box<dyn Layer>, LayerError>;
}

/// Why a layer cannot go on: a number that its kind of layer gives a meaning, and a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[error("{text}")]
pub struct LayerError {
    code: u16,
    is_peer: bool,
    text: &'static str,
}

impl LayerError {
    /// The peer ended the connection during the handshake.
    pub const ENDED: Self = Self::by_peer(0xFFFF, "the peer ended the connection during the handshake");
    /// More than [`BACKLOG_BYTES`] arrived that the layer could make nothing of yet.
    pub const BACKLOG: Self = Self::by_peer(0xFFFE, "the peer sent a unit that is too long");
    /// The peer makes the layer answer and does not read the answers: they would exceed
    /// [`outbox_bytes`](crate::ConfigBuilder::outbox_bytes).
    pub const FLOOD: Self = Self::by_peer(0xFFFD, "the peer asks for answers and does not read them");
    /// The layer, or what makes layers, panicked. It is not called again.
    pub const PANICKED: Self = Self::by_us(0xFFFC, "the layer panicked");
    /// The layer claims to have read or written what there was not, or does not write at all.
    pub const UNSOUND: Self = Self::by_us(0xFFFB, "the layer does not keep to what a layer has to");

    /// Something that the peer did, or did not do.
    pub const fn by_peer(code: u16, text: &'static str) -> Self {
        Self { code, is_peer: true, text }
    }

    /// Something on our side.
    pub const fn by_us(code: u16, text: &'static str) -> Self {
        Self { code, is_peer: false, text }
    }

    /// The number; those from `0xFF00` up mean the same for every kind of layer.
    pub const fn code(self) -> u16 {
        self.code
    }

    /// Whether it is the peer's doing.
    pub const fn is_peers_doing(self) -> bool {
        self.is_peer
    }

    /// What happened, in words.
    pub const fn text(self) -> &'static str {
        self.text
    }
}
