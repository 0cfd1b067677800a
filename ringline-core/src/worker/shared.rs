//! What the workers of one server have in common.

use super::Balance;
use crate::config::Config;
use crate::mail::{Bell, Mailbox, Waker};
use std::sync::Arc;

/// One worker's copy.
#[derive(Debug)]
pub(crate) struct Shared<M> {
    pub(crate) balance: Balance,
    pub(crate) mailbox: Mailbox<M>,
}

impl<M> Shared<M> {
    /// For workers that are woken like this; each gets its own with [`Shared::of`].
    pub(crate) fn new(wakers: Vec<Waker>, config: &Config) -> Self {
        let balance = Balance::new(wakers.len(), config);
        let bells = wakers.into_iter().map(|waker| Arc::new(Bell::new(waker))).collect();
        Self { balance, mailbox: Mailbox::new(bells, config.mailbox_messages()) }
    }

    pub(crate) fn of(&self, worker: usize) -> Self {
        Self { balance: self.balance.of(worker), mailbox: self.mailbox.clone() }
    }
}
