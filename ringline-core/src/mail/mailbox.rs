//! Where messages are posted: one slot for each worker of a server.
//!
//! Invariant: a slot's channel has one reader, the worker, and is disconnected when that has ended, so
//! a message is either delivered, dropped with the worker, or comes back to who posts it.

use super::bell::Bell;
use super::post_error::{BroadcastError, PostError};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The way to the handlers of a server's workers, from any thread: get it from
/// [`Running::mailbox`](crate::Running::mailbox) or [`Ctx::mailbox`](crate::Ctx::mailbox), and clone it
/// as you like.
///
/// What one thread posts to one worker arrives in that order. See
/// [`on_message`](crate::EventHandler::on_message) for when.
///
/// # Examples
///
/// A thread that sends the same to every worker now and then:
///
/// ```
/// use ringline_core::Mailbox;
///
/// fn announce(mailbox: &Mailbox<String>, news: &str) {
///     if let Err(error) = mailbox.broadcast(news.to_owned()) {
///         eprintln!("{error}");
///     }
/// }
/// ```
pub struct Mailbox<M> {
    slots: Arc<[Slot<M>]>,
}

impl<M> Mailbox<M> {
    /// For the workers with these bells; each may have `limit` messages waiting.
    pub(crate) fn new(bells: Vec<Arc<Bell>>, limit: usize) -> Self {
        Self { slots: bells.into_iter().map(|bell| Slot::new(bell, limit)).collect() }
    }

    /// Posts a message to a worker, which gets it with
    /// [`on_message`](crate::EventHandler::on_message). Never waits.
    ///
    /// # Errors
    ///
    /// [`PostError::Full`] at the limit
    /// [`mailbox_messages`](crate::ConfigBuilder::mailbox_messages), [`PostError::Gone`] when the worker
    /// has ended, [`PostError::NoSuchWorker`]. The message comes back.
    #[inline]
    pub fn post(&self, worker: usize, message: M) -> Result<(), PostError<M>> {
        match self.slots.get(worker) {
            Some(slot) => slot.put(message),
            None => Err(PostError::NoSuchWorker { message, workers: self.slots.len() }),
        }
    }

    /// Posts a copy of a message to every worker.
    ///
    /// # Errors
    ///
    /// [`BroadcastError`] says who did not get it, and why; all others did.
    pub fn broadcast(&self, message: M) -> Result<(), BroadcastError<M>>
    where
        M: Clone,
    {
        let workers = self.slots.len();
        let post = |worker| self.post(worker, message.clone()).err().map(|error| (worker, error));
        let missed: Vec<_> = (0..workers).filter_map(post).collect();
        if missed.is_empty() { Ok(()) } else { Err(BroadcastError { missed, workers }) }
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn bell(&self, worker: usize) -> &Arc<Bell> {
        &self.slots[worker].bell
    }

    pub(super) fn slot(&self, worker: usize) -> &Slot<M> {
        &self.slots[worker]
    }
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { slots: Arc::clone(&self.slots) }
    }
}

impl<M> fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("workers", &self.slots.len()).finish_non_exhaustive()
    }
}

/// One worker's part.
pub(super) struct Slot<M> {
    bell: Arc<Bell>,
    limit: usize,
    sender: OnceLock<Sender<M>>,
    /// The other end, until the worker fetches it.
    receiver: Mutex<Option<Receiver<M>>>,
    /// Messages that found no room.
    refused: AtomicU64,
}

impl<M> Slot<M> {
    fn new(bell: Arc<Bell>, limit: usize) -> Self {
        Self { bell, limit, sender: OnceLock::new(), receiver: Mutex::new(None), refused: AtomicU64::new(0) }
    }

    #[inline]
    fn put(&self, message: M) -> Result<(), PostError<M>> {
        match self.sender.get_or_init(|| self.open()).try_send(message) {
            Ok(()) => {
                self.bell.ring();
                Ok(())
            }
            Err(error) => Err(self.refuse(error)),
        }
    }

    #[cold]
    fn open(&self) -> Sender<M> {
        let (sender, receiver) = bounded(self.limit);
        *self.receiver.lock().unwrap_or_else(PoisonError::into_inner) = Some(receiver);
        sender
    }

    #[cold]
    fn refuse(&self, error: TrySendError<M>) -> PostError<M> {
        match error {
            TrySendError::Full(message) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                PostError::Full { message, limit: self.limit }
            }
            TrySendError::Disconnected(message) => PostError::Gone { message },
        }
    }

    /// The worker's end of the channel, once there is one.
    pub(super) fn fetch(&self) -> Option<Receiver<M>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Refuses messages from now on, also if nobody has ever posted one.
    pub(super) fn close(&self) {
        let _ = self.sender.get_or_init(|| bounded(1).0);
    }
}
