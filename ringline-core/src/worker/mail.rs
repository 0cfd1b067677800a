//! What others have for this worker: when to look for it, and when to say that nobody looks.
//!
//! A worker that nobody has ever posted to does neither; the first ring tells it to begin.

use super::Worker;
use crate::backend::{Backend, Wait};
use crate::handler::EventHandler;

/// How many messages a turn delivers at most, so that connections and timers are not kept waiting. What
/// is left is for the next turn, which does not wait.
const MESSAGES_PER_TURN: usize = 256;

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// How the worker may wait once it has said that it sleeps: not at all if there is something for it.
    #[cold]
    pub(super) fn sleep(&mut self, wait: Wait) -> Wait {
        let Self { sleeper, letters, desk, .. } = self;
        let mut has_nothing = || letters.len() == 0 && !desk.jobs.has_answers();
        if wait != Wait::No && sleeper.falls_asleep(&mut has_nothing) { wait } else { Wait::No }
    }

    /// Somebody has signalled from outside.
    #[cold]
    pub(super) fn woken(&mut self) {
        self.is_woken = true;
        if self.sleeper.woken() {
            self.io.shard.mailbox_wakeups.increment();
        }
    }

    /// Delivers what others have for this worker.
    #[cold]
    pub(super) fn read_mail(&mut self) {
        if self.sleeper.wakes_up() {
            self.io.shard.mailbox_wakeups.increment();
        }
        self.deliver_answers();
        self.deliver_messages(MESSAGES_PER_TURN);
        self.io.shard.mailbox_full.add(self.letters.refused());
    }

    /// Delivers what is there now, before the handler is told that it is the end.
    pub(super) fn empty_mailbox(&mut self) {
        let waiting = self.letters.len();
        self.deliver_messages(waiting);
    }

    fn deliver_messages(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let Some(message) = self.letters.take() else { return };
            self.io.shard.mailbox_messages.increment();
            self.message_handler(message);
        }
    }

    /// Whether a simulated worker has been rung for; once.
    pub(crate) fn take_note(&mut self) -> bool {
        self.sleeper.bell().take_note()
    }

    /// The same, without forgetting it, or whether something waits that needs no ring.
    pub(crate) fn has_mail(&mut self) -> bool {
        self.sleeper.bell().is_noted() || self.letters.len() > 0 || self.desk.jobs.has_answers()
    }
}
