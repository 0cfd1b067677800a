//! A handler whose callbacks misbehave: they panic or do not return.

use super::wait_until;
use ringline_core::{Admit, ConnId, Consumed, Ctx, EventHandler, Peer};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Panics in `on_start` if it is told to, on `panic` from a peer, and blocks on anything else.
pub(crate) struct Rogue {
    pub(crate) fails_to_start: bool,
    /// Set when a callback blocks.
    pub(crate) entered: Arc<AtomicBool>,
    /// Lets it go on.
    pub(crate) release: Arc<AtomicBool>,
}

impl EventHandler for Rogue {
    type Conn = ();
    type Message = ();

    fn on_start(&mut self, _: &mut Ctx<'_, Self>) {
        if self.fails_to_start {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        if data.starts_with(b"panic") {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        self.entered.store(true, Ordering::SeqCst);
        wait_until("the release", || self.release.load(Ordering::SeqCst));
        Consumed::all(data)
    }
}
