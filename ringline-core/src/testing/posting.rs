//! Messages to the worker.

use super::{Kernel, World};
use crate::handler::EventHandler;
use crate::mail::{Mailbox, PostError};

impl<H: EventHandler> World<H> {
    /// Posts a message to the worker, as another thread would between two of its turns. It is delivered
    /// in the next turn, or in a later one if many wait.
    ///
    /// # Errors
    ///
    /// As [`Mailbox::post`]. The message comes back.
    pub fn post(&self, message: H::Message) -> Result<(), PostError<H::Message>> {
        self.mailbox.post(0, message)
    }

    /// The way to the worker. On the simulated kernel the worker waits in simulated time, so what other
    /// threads post is seen when its turn is over, and no run is like the other.
    pub fn mailbox(&self) -> Mailbox<H::Message> {
        self.mailbox.clone()
    }

    /// Passes on to the simulated kernel that somebody has rung.
    pub(super) fn ring(&mut self) {
        if let Kernel::Simulated { worker, .. } = &mut self.kernel
            && worker.take_note()
        {
            worker.backend.wake();
        }
    }
}
