//! The end of a server, asked for by one of its handlers.

use super::{Ctx, Io};
use crate::conn::Fired;
use crate::handler::EventHandler;
use std::fmt;
use std::time::Duration;

/// Longer than that is as good as for ever.
const WITHIN_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);

impl<H: EventHandler> Ctx<'_, H> {
    /// Shuts the whole server down, as [`Running::shutdown`](crate::Running::shutdown) does from outside:
    /// all workers stop accepting, and connections get `within` to end in order. Comes back at once; this
    /// worker begins in its next turn, with [`on_shutdown`](EventHandler::on_shutdown).
    ///
    /// Whoever holds the [`Running`](crate::Running) waits for the end with
    /// [`join`](crate::Running::join).
    pub fn shut_down(&mut self, within: Duration) {
        self.io.ask_shutdown(within.min(WITHIN_MAX));
    }
}

impl Io {
    fn ask_shutdown(&mut self, within: Duration) {
        let now_ms = self.clock.elapsed_ms();
        self.timers.arm(now_ms, Fired::ShutDownAsked { within });
        self.others.shut_down(within);
    }
}

/// Tells the other workers.
type Tell = Box<dyn Fn(Duration) + Send>;

/// The way from one worker of a server to the others; nowhere if it is alone.
#[derive(Default)]
pub(crate) struct Others(Option<Tell>);

impl Others {
    /// `tell` has the others shut down within a time.
    pub(crate) fn new(tell: impl Fn(Duration) + Send + 'static) -> Self {
        Self(Some(Box::new(tell)))
    }

    fn shut_down(&self, within: Duration) {
        if let Some(tell) = &self.0 {
            tell(within);
        }
    }
}

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Others")
    }
}
