//! The knobs for what other threads have to say to a worker.

use super::ConfigBuilder;

impl ConfigBuilder {
    /// How many messages may wait for a worker: 1 to `1_048_576`, by default 4096. See
    /// [`Mailbox`](crate::Mailbox).
    ///
    /// Posting more fails with [`PostError::Full`](crate::PostError::Full) until the worker has caught
    /// up. The first message that is posted to a worker takes memory for that many, each of the size of
    /// a message and a word.
    pub fn mailbox_messages(mut self, messages: usize) -> Self {
        self.draft.mailbox_messages = messages;
        self
    }
}
