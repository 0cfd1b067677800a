//! Messages to workers, this one and others.

use super::Ctx;
use crate::handler::EventHandler;
use crate::mail::{Mailbox, PostError};

impl<H: EventHandler> Ctx<'_, H> {
    /// Posts a message to a worker of this server, which may be this one: see [`Mailbox::post`].
    ///
    /// # Errors
    ///
    /// As [`Mailbox::post`]. The message comes back.
    #[inline]
    pub fn post(&mut self, worker: usize, message: H::Message) -> Result<(), PostError<H::Message>> {
        self.desk.mailbox.post(worker, message)
    }

    /// The way to all workers of this server, for a thread that a callback starts or for something else
    /// that outlives it.
    pub fn mailbox(&self) -> Mailbox<H::Message> {
        self.desk.mailbox.clone()
    }
}
