//! The layer of one connection and what it is not through with.
//!
//! Wire bytes reach the layer in the order in which they arrived, each once: what it leaves is kept
//! here and presented again in front of what comes next.

use super::Inbox;
use crate::layer::{BACKLOG_BYTES, Layer, LayerError};

/// Memory of the worker that all its layers use in turn.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// What the layer answers.
    pub(crate) answers: Vec<u8>,
    /// Where plain bytes go of which the handler is expected to leave nothing.
    pub(crate) plain: Vec<u8>,
}

/// A layer in its place.
#[derive(Debug)]
pub(crate) struct Layered {
    pub(crate) layer: Box<dyn Layer>,
    tail: Vec<u8>,
    /// It is one of the worker's handshakes.
    pub(crate) is_counted: bool,
    /// What the handler has left unread is for the layer, which came later.
    pub(crate) takes_inbox: bool,
    /// What has arrived for the handshake and waits for its turn, and whether it is among those that do.
    pub(crate) late: Vec<u8>,
    pub(crate) is_postponed: bool,
}

impl Layered {
    pub(crate) fn new(layer: Box<dyn Layer>) -> Self {
        let (tail, late) = (Vec::new(), Vec::new());
        Self { layer, tail, is_counted: false, takes_inbox: false, late, is_postponed: false }
    }

    /// What has arrived for the handshake. First comes what the handler left before there was a layer.
    pub(crate) fn take_late(&mut self, inbox: &mut Inbox) -> Vec<u8> {
        let mut late = std::mem::take(&mut self.late);
        if std::mem::take(&mut self.takes_inbox) {
            late.splice(..0, inbox.unread().iter().copied());
            inbox.clear();
            inbox.set_need(0);
        }
        late
    }

    /// Has the layer take bytes that arrived, where they are, and change them there. Appends to `plain`
    /// and to `answers`.
    pub(crate) fn read(
        &mut self,
        arrived: &mut [u8],
        plain: &mut Vec<u8>,
        answers: &mut Vec<u8>,
    ) -> Result<(), LayerError> {
        if self.tail.is_empty() {
            let through = self.layer.read(arrived, plain, answers)?;
            self.tail.extend_from_slice(&arrived[through..]);
        } else {
            self.tail.extend_from_slice(arrived);
            let through = self.layer.read(&mut self.tail, plain, answers)?;
            if through == self.tail.len() {
                // Idle connections keep no memory for what is not there.
                self.tail = Vec::new();
            } else {
                self.tail.drain(..through);
            }
        }
        if self.tail.len() > BACKLOG_BYTES { Err(LayerError::BACKLOG) } else { Ok(()) }
    }
}
