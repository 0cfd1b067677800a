//! The knobs for what other threads have to say to a worker.

use super::builder::Number;
use super::{Config, ConfigBuilder, ConfigError};

/// For all queues here, whose memory is taken when it is needed.
const WAITING_MAX: u64 = 1 << 20;
const THREADS_MAX: u64 = 1024;

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

    /// How many threads may do what blocks, for all workers together: 1 to 1024, by default 4. See
    /// [`Ctx::run_blocking`](crate::Ctx::run_blocking).
    ///
    /// They are started when they are needed, and end after 10 s without work. A job that never returns
    /// keeps its thread.
    pub fn blocking_threads(mut self, threads: usize) -> Self {
        self.draft.blocking_threads = threads;
        self
    }

    /// How many jobs may wait for a thread, for all workers together: 1 to `1_048_576`, by default 1024.
    ///
    /// More are rejected with [`JobError::QueueFull`](crate::JobError::QueueFull). A long queue costs
    /// the memory of what its jobs hold, and time: whoever is last waits for all the others.
    pub fn blocking_queue(mut self, jobs: usize) -> Self {
        self.draft.blocking_queue = jobs;
        self
    }

    /// How many threads may resolve names, for all workers together: 1 to 1024, by default 2. See
    /// [`Ctx::resolve`](crate::Ctx::resolve).
    ///
    /// They are others than those of [`blocking_threads`](Self::blocking_threads), so that jobs do not
    /// keep names waiting. A resolver that does not answer holds its thread for as long as the system is
    /// configured to ask, often half a minute.
    pub fn resolve_threads(mut self, threads: usize) -> Self {
        self.draft.resolve_threads = threads;
        self
    }

    /// How many names may wait for a thread, for all workers together: 1 to `1_048_576`, by default 256.
    ///
    /// More are rejected with [`ResolveError::QueueFull`](crate::ResolveError::QueueFull).
    pub fn resolve_queue(mut self, names: usize) -> Self {
        self.draft.resolve_queue = names;
        self
    }
}

/// Checks these knobs.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    for (knob, value, max) in [
        ("mailbox_messages", config.mailbox_messages, WAITING_MAX),
        ("blocking_threads", config.blocking_threads, THREADS_MAX),
        ("blocking_queue", config.blocking_queue, WAITING_MAX),
        ("resolve_threads", config.resolve_threads, THREADS_MAX),
        ("resolve_queue", config.resolve_queue, WAITING_MAX),
    ] {
        Number { knob, value: value as u64 }.within(1, max)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_and_threads_have_bounds_and_say_so() {
        type Set = fn(ConfigBuilder, usize) -> ConfigBuilder;
        let setters: [(&str, Set, u64); 5] = [
            ("mailbox_messages", ConfigBuilder::mailbox_messages, WAITING_MAX),
            ("blocking_threads", ConfigBuilder::blocking_threads, THREADS_MAX),
            ("blocking_queue", ConfigBuilder::blocking_queue, WAITING_MAX),
            ("resolve_threads", ConfigBuilder::resolve_threads, THREADS_MAX),
            ("resolve_queue", ConfigBuilder::resolve_queue, WAITING_MAX),
        ];
        for (knob, set, max) in setters {
            for value in [1, max] {
                let config = set(Config::builder(), value as usize).build().unwrap();
                assert!(format!(" {config} ").contains(&format!(" {knob}={value} ")));
            }
            for value in [0, max + 1] {
                let error = set(Config::builder(), value as usize).build().unwrap_err();
                assert_eq!(error, ConfigError::OutOfRange { knob, value, min: 1, max });
            }
        }
    }
}
