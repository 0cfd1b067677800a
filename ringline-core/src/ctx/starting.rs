//! What keeps a worker from starting.

use super::Ctx;
use crate::handler::EventHandler;
use std::error::Error;

/// What `on_start` said against the start.
type StartFailure = Box<dyn Error + Send + Sync>;

/// Why a worker has not started.
#[derive(Debug)]
pub(crate) enum Unstarted {
    Panicked,
    Refused(StartFailure),
}

/// The start of a worker, which is over when `on_start` has returned.
#[derive(Debug, Default)]
pub(crate) struct Start {
    is_over: bool,
    failure: Option<StartFailure>,
}

impl Start {
    /// The start is over.
    pub(crate) fn finish(&mut self, has_panicked: bool) -> Result<(), Unstarted> {
        self.is_over = true;
        match self.failure.take() {
            _ if has_panicked => Err(Unstarted::Panicked),
            Some(failure) => Err(Unstarted::Refused(failure)),
            None => Ok(()),
        }
    }
}

impl<H: EventHandler> Ctx<'_, H> {
    /// In [`on_start`](EventHandler::on_start): the server is not to start, for instance because a file is
    /// missing or an address is taken. [`launch`](crate::Server::launch) returns
    /// [`LaunchError::Start`](crate::LaunchError::Start) with this error, or the first if there are several,
    /// and leaves nothing behind. False in any other callback, where it does nothing: see
    /// [`shut_down`](Self::shut_down).
    ///
    /// # Examples
    ///
    /// ```
    /// use ringline_core::{Config, Ctx, EventHandler, LaunchError, Server, UdpOptions};
    ///
    /// struct Resolver;
    ///
    /// impl EventHandler for Resolver {
    ///     type Conn = ();
    ///     type Message = ();
    ///
    ///     fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
    ///         // An address for examples, which this host does not have.
    ///         if let Err(error) = cx.bind_udp(([192, 0, 2, 1], 0).into(), &UdpOptions::default()) {
    ///             cx.fail_start(error);
    ///         }
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = Config::builder().workers(1).build()?;
    /// let launched = Server::new(config).launch(|_| Resolver);
    /// assert!(matches!(launched, Err(LaunchError::Start { worker: 0, .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn fail_start(&mut self, error: impl Into<Box<dyn Error + Send + Sync>>) -> bool {
        let start = &mut self.io.start;
        if !start.is_over {
            start.failure.get_or_insert_with(|| error.into());
        }
        !start.is_over
    }
}
