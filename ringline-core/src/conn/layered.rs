//! The layer of one connection and what it is not through with.
//!
//! Wire bytes reach the layer in the order in which they arrived, each once: what it leaves is kept
//! here and presented again in front of what comes next. A layer is somebody else's code: a panic of it
//! stops here, and what it claims to have done is believed only within the bounds of what it was given.

use super::{Inbox, TimerKey};
use crate::buf::drop_carefully;
use crate::layer::{BACKLOG_BYTES, Layer, LayerError, SEALED_CHUNK_BYTES};
use crate::net::OptionRefused;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Memory of the worker that all its layers use in turn.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// What the layer answers.
    pub(crate) answers: Vec<u8>,
    /// Where plain bytes go of which the handler is expected to leave nothing.
    pub(crate) plain: Vec<u8>,
}

/// What a handler asked for when it took the connection, and is told when that is open.
#[derive(Debug)]
pub(crate) enum Belated {
    Timer(TimerKey),
    Options(Result<(), OptionRefused>),
}

/// A layer in its place.
#[derive(Debug)]
pub(crate) struct Layered {
    layer: Box<dyn Layer>,
    tail: Vec<u8>,
    is_handshaking: bool,
    is_read_closed: bool,
    is_waiting: bool,
    has_panicked: bool,
    /// It is one of the handshakes that go on.
    pub(crate) is_counted: bool,
    /// It is one of those of which a worker has only so many.
    pub(crate) is_capped: bool,
    /// What the handler has left unread is for the layer, which came later.
    pub(crate) takes_inbox: bool,
    /// What has arrived for the handshake and waits for its turn, and whether it is among those that do.
    pub(crate) late: Vec<u8>,
    pub(crate) is_postponed: bool,
    /// What the handler is told once the connection is open.
    pub(crate) belated: Vec<Belated>,
}

impl Layered {
    pub(crate) fn new(layer: Box<dyn Layer>) -> Self {
        Self {
            layer,
            tail: Vec::new(),
            is_handshaking: true,
            is_read_closed: false,
            is_waiting: false,
            has_panicked: false,
            is_counted: false,
            is_capped: false,
            takes_inbox: false,
            late: Vec::new(),
            is_postponed: false,
            belated: Vec::new(),
        }
    }

    /// Has the layer say what it has to say first.
    pub(crate) fn begin(&mut self, wire: &mut Vec<u8>) -> Result<(), LayerError> {
        self.guarded(|layer| layer.begin(wire))?;
        self.look()
    }

    /// Puts aside what has arrived for the handshake, behind what the handler left before there was a layer.
    /// True if there was any of that.
    pub(crate) fn put_aside(&mut self, bytes: &[u8], inbox: &mut Inbox) -> bool {
        let takes_inbox = std::mem::take(&mut self.takes_inbox);
        if takes_inbox {
            self.late.extend_from_slice(inbox.unread());
            inbox.clear();
            inbox.set_need(0);
        }
        self.late.extend_from_slice(bytes);
        takes_inbox
    }

    /// Has the layer take bytes that arrived, where they are, and change them there. Appends to `plain`
    /// and to `answers`.
    pub(crate) fn read(
        &mut self,
        arrived: &mut [u8],
        plain: &mut Vec<u8>,
        answers: &mut Vec<u8>,
    ) -> Result<(), LayerError> {
        let before = plain.len();
        let mut tail = std::mem::take(&mut self.tail);
        let is_fresh = tail.is_empty();
        let incoming = if is_fresh {
            arrived
        } else {
            tail.extend_from_slice(arrived);
            &mut tail
        };
        let read = self.guarded(|layer| layer.read(&mut *incoming, plain, answers));
        if self.has_panicked || plain.len() < before {
            // Nobody knows what was done and what was not.
            plain.resize(before, 0);
            return Err(read.err().unwrap_or(LayerError::UNSOUND));
        }
        let seen = self.look();
        let through = read?;
        seen?;
        if through > incoming.len() {
            return Err(LayerError::UNSOUND);
        }
        // Idle connections keep no memory for what is not there.
        if through < incoming.len() {
            if is_fresh {
                self.tail.extend_from_slice(&incoming[through..]);
            } else {
                tail.drain(..through);
                self.tail = tail;
            }
        }
        if self.tail.len() > BACKLOG_BYTES { Err(LayerError::BACKLOG) } else { Ok(()) }
    }

    /// How many wire bytes come of so many plain ones at most.
    pub(crate) fn wire_len(&mut self, plain_bytes: usize) -> usize {
        let len = self.guarded(|layer| Ok(layer.wire_len(plain_bytes)));
        // One that panics is not asked again, and says so when it is to write.
        len.unwrap_or(0).min(SEALED_CHUNK_BYTES)
    }

    /// Turns bytes of the handler into wire bytes at the beginning of `wire`.
    pub(crate) fn write(&mut self, plain: &[u8], wire: &mut [u8]) -> Result<usize, LayerError> {
        let room = wire.len();
        let bytes = self.guarded(|layer| layer.write(plain, wire))?;
        if (1..=room).contains(&bytes) { Ok(bytes) } else { Err(LayerError::UNSOUND) }
    }

    /// Appends the mark that ends our direction.
    pub(crate) fn close(&mut self, wire: &mut Vec<u8>) -> Result<(), LayerError> {
        self.guarded(|layer| {
            layer.close(wire);
            Ok(())
        })
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.is_handshaking
    }

    pub(crate) fn is_read_closed(&self) -> bool {
        self.is_read_closed
    }

    /// Whether something has begun to arrive that is of no use before there is more of it.
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_waiting || !self.tail.is_empty()
    }

    pub(crate) fn is_resumed(&mut self) -> bool {
        self.guarded(|layer| Ok(layer.is_resumed())).unwrap_or(false)
    }

    pub(crate) fn facts(&self) -> &dyn Any {
        self.layer.facts()
    }

    /// Drops the layer. True if it has panicked, now or before.
    pub(crate) fn let_go(self) -> bool {
        let Self { layer, has_panicked, .. } = self;
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(layer)));
        dropped.map_err(drop_carefully).is_err() || has_panicked
    }

    /// Looks at how far the layer has come.
    fn look(&mut self) -> Result<(), LayerError> {
        let seen =
            |layer: &mut dyn Layer| Ok((layer.is_handshaking(), layer.is_read_closed(), layer.is_waiting()));
        (self.is_handshaking, self.is_read_closed, self.is_waiting) = self.guarded(seen)?;
        Ok(())
    }

    /// Calls the layer, unless it has panicked before.
    #[inline]
    fn guarded<R>(
        &mut self,
        call: impl FnOnce(&mut dyn Layer) -> Result<R, LayerError>,
    ) -> Result<R, LayerError> {
        if self.has_panicked {
            return Err(LayerError::PANICKED);
        }
        let layer = &mut *self.layer;
        catch_unwind(AssertUnwindSafe(|| call(layer))).unwrap_or_else(|payload| {
            drop_carefully(payload);
            self.has_panicked = true;
            Err(LayerError::PANICKED)
        })
    }
}
