//! What waits for one worker: the reading end of its slot.

use super::mailbox::Mailbox;
use crossbeam_channel::Receiver;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// The messages for one worker. When it is dropped, the mailbox refuses further ones.
pub(crate) struct Letters<M> {
    mailbox: Mailbox<M>,
    worker: usize,
    receiver: Option<Receiver<M>>,
    refused: u64,
}

impl<M> Letters<M> {
    /// The messages for this worker; there is one of these for each.
    pub(crate) fn new(mailbox: Mailbox<M>, worker: usize) -> Self {
        Self { mailbox, worker, receiver: None, refused: 0 }
    }

    /// The oldest message.
    pub(crate) fn take(&mut self) -> Option<M> {
        self.receiver()?.try_recv().ok()
    }

    /// How many there are.
    pub(crate) fn len(&mut self) -> usize {
        self.receiver().map_or(0, Receiver::len)
    }

    /// How many found no room since this was asked last.
    pub(crate) fn refused(&mut self) -> u64 {
        let refused = self.mailbox.slot(self.worker).refused();
        refused - std::mem::replace(&mut self.refused, refused)
    }

    fn receiver(&mut self) -> Option<&Receiver<M>> {
        if self.receiver.is_none() {
            self.receiver = self.mailbox.slot(self.worker).fetch();
        }
        self.receiver.as_ref()
    }

    /// Drops what nobody will read. The drop of a message may panic.
    fn discard(&mut self) {
        for _ in 0..self.mailbox.slot(self.worker).limit() {
            let Some(message) = self.take() else { return };
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(message))) {
                crate::buf::drop_carefully(payload);
            }
        }
    }
}

impl<M> Drop for Letters<M> {
    fn drop(&mut self) {
        self.mailbox.slot(self.worker).close();
        self.discard();
    }
}

impl<M> fmt::Debug for Letters<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Letters").field("worker", &self.worker).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mail::{Bell, PostError, Waker};
    use std::sync::Arc;

    fn mailbox<M>(workers: usize, limit: usize) -> Mailbox<M> {
        Mailbox::new((0..workers).map(|_| Arc::new(Bell::new(Waker::noted()))).collect(), limit)
    }

    #[test]
    fn messages_come_in_order_up_to_the_limit() {
        let mailbox = mailbox(2, 3);
        let mut letters = Letters::new(mailbox.clone(), 1);
        assert_eq!((letters.take(), letters.len()), (None, 0));
        for message in 1..=3 {
            mailbox.post(1, message).unwrap();
        }
        assert_eq!(mailbox.post(1, 4), Err(PostError::Full { message: 4, limit: 3 }));
        assert_eq!((letters.len(), letters.refused(), letters.refused()), (3, 1, 0));
        assert_eq!(
            (letters.take(), letters.take(), letters.take(), letters.take()),
            (Some(1), Some(2), Some(3), None)
        );
        mailbox.post(1, 5).unwrap();
        assert_eq!(letters.take(), Some(5));
    }

    #[test]
    fn who_is_not_there_gives_the_message_back() {
        let mailbox = mailbox(2, 3);
        drop(Letters::new(mailbox.clone(), 0));
        assert_eq!(mailbox.post(0, 'a'), Err(PostError::Gone { message: 'a' }));
        assert_eq!(mailbox.post(2, 'b').unwrap_err().into_message(), 'b');
        let mut letters = Letters::new(mailbox.clone(), 1);
        let error = mailbox.broadcast('c').unwrap_err();
        assert_eq!((error.missed.len(), error.missed[0].0), (1, 0));
        assert_eq!(
            error.to_string(),
            "1 of 2 workers did not get the message; worker 0: the worker has ended"
        );
        assert_eq!(letters.take(), Some('c'));
    }

    #[test]
    fn what_nobody_reads_is_dropped_with_the_worker() {
        let counted = Arc::new(());
        let mailbox = mailbox(1, 10);
        let letters = Letters::new(mailbox.clone(), 0);
        for _ in 0..4 {
            mailbox.post(0, Arc::clone(&counted)).unwrap();
        }
        assert_eq!(Arc::strong_count(&counted), 5);
        drop(letters);
        assert_eq!(Arc::strong_count(&counted), 1);
        assert!(matches!(mailbox.post(0, Arc::clone(&counted)), Err(PostError::Gone { .. })));
        assert_eq!(Arc::strong_count(&counted), 1);
    }

    #[test]
    fn the_first_post_rings_and_the_next_only_if_the_worker_sleeps() {
        let mailbox = mailbox(1, 10);
        let bell = Arc::clone(mailbox.bell(0));
        let mut sleeper = crate::mail::Sleeper::new(Arc::clone(&bell));
        assert!(!sleeper.woken() && !sleeper.is_live(), "a signal of somebody else changes nothing");
        mailbox.post(0, 1).unwrap();
        assert!(bell.take_note());
        assert!(sleeper.woken() && sleeper.is_live());
        mailbox.post(0, 2).unwrap();
        assert!(!bell.is_noted(), "the worker is awake");
        assert!(sleeper.falls_asleep(|| true));
        mailbox.post(0, 3).unwrap();
        mailbox.post(0, 4).unwrap();
        assert!(bell.take_note());
        assert!(sleeper.wakes_up() && !sleeper.wakes_up());
        assert!(!sleeper.falls_asleep(|| false) && !sleeper.wakes_up());
    }
}
