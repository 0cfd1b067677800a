//! What the workers of one server have in common.

use super::Balance;
use crate::config::Config;
use crate::job::Pools;
use crate::mail::{Bell, Mailbox, Waker};
use std::sync::Arc;

/// One worker's copy.
#[derive(Debug)]
pub(crate) struct Shared<M> {
    pub(crate) balance: Balance,
    pub(crate) mailbox: Mailbox<M>,
    pub(crate) pools: Pools,
}

impl<M> Shared<M> {
    /// For workers that are woken like this; each gets its own with [`Shared::of`].
    pub(crate) fn new(wakers: Vec<Waker>, pools: Pools, config: &Config) -> Self {
        let balance = Balance::new(wakers.len(), config);
        let bells = wakers.into_iter().map(|waker| Arc::new(Bell::new(waker))).collect();
        Self { balance, mailbox: Mailbox::new(bells, config.mailbox_messages()), pools }
    }

    pub(crate) fn of(&self, worker: usize) -> Self {
        let Self { balance, mailbox, pools } = self;
        Self { balance: balance.of(worker), mailbox: mailbox.clone(), pools: pools.clone() }
    }
}
