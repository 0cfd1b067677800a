//! What a callback reaches beside the I/O state, as far as its types are the handler's.

use crate::conn::ConnId;
use crate::handler::EventHandler;
use crate::job::Jobs;
use crate::mail::Mailbox;
use std::fmt;

/// One for each worker.
pub(crate) struct Desk<H: EventHandler> {
    /// The states of connections that the callback which runs has asked for.
    pub(crate) parked: Vec<(ConnId, H::Conn)>,
    pub(crate) mailbox: Mailbox<H::Message>,
    pub(crate) jobs: Jobs<H::Message>,
}

impl<H: EventHandler> Desk<H> {
    pub(crate) fn new(mailbox: Mailbox<H::Message>, jobs: Jobs<H::Message>) -> Self {
        Self { parked: Vec::new(), mailbox, jobs }
    }
}

impl<H: EventHandler> fmt::Debug for Desk<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("parked", &self.parked.len()).finish_non_exhaustive()
    }
}
