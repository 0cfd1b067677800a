//! What is said in rooms, on its way to the other workers.
//!
//! Invariant: every other worker gets everything once, in order. What finds its mailbox full waits here,
//! and while something waits, no client of this worker is heard, so not more waits than one round of
//! reading has brought.

use ringline_core::{Ctx, EventHandler, PostError};
use std::collections::VecDeque;
use std::sync::Arc;

/// Something that everybody in a room gets to read.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    pub(crate) room: Arc<str>,
    /// As it is sent, with the end of the line.
    pub(crate) line: Arc<[u8]>,
}

#[derive(Debug)]
pub(crate) struct Outgoing {
    me: usize,
    /// What waits for each worker.
    waiting: Vec<VecDeque<Post>>,
}

impl Outgoing {
    pub(crate) fn new(me: usize, workers: usize) -> Self {
        Self { me, waiting: (0..workers).map(|_| VecDeque::new()).collect() }
    }

    /// Posts to all other workers.
    pub(crate) fn post<H: EventHandler<Message = Post>>(&mut self, cx: &mut Ctx<'_, H>, post: &Post) {
        for (worker, waiting) in self.waiting.iter_mut().enumerate() {
            if worker != self.me {
                waiting.push_back(post.clone());
                flush(cx, worker, waiting);
            }
        }
    }

    /// Tries again; says whether nothing waits any more.
    pub(crate) fn retry<H: EventHandler<Message = Post>>(&mut self, cx: &mut Ctx<'_, H>) -> bool {
        for (worker, waiting) in self.waiting.iter_mut().enumerate() {
            flush(cx, worker, waiting);
        }
        self.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.iter().all(VecDeque::is_empty)
    }
}

fn flush<H: EventHandler<Message = Post>>(cx: &mut Ctx<'_, H>, worker: usize, waiting: &mut VecDeque<Post>) {
    while let Some(post) = waiting.pop_front() {
        match cx.post(worker, post) {
            Ok(()) => {}
            Err(PostError::Full { message, .. }) => return waiting.push_front(message),
            // A worker that has ended has no clients.
            Err(_) => return waiting.clear(),
        }
    }
}
