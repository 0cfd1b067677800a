//! Connections to one of several addresses, and to a name.

use super::{Ctx, Io};
use crate::conn::{Conn, ConnId, ConnectError, Fired, NotConnected, Race, by_turns};
use crate::handler::EventHandler;
use crate::job::{JobKey, Owner};
use crate::net::{Addr, ConnectOptions, Family};
use std::net::SocketAddr;

impl<H: EventHandler> Ctx<'_, H> {
    /// Begins to connect to whichever of several addresses answers first, as RFC 8305 ("happy eyeballs")
    /// has it: the first address is tried at once; when it fails, or when it has not answered within
    /// [`attempt_delay`](ConnectOptions::attempt_delay), the next one is tried beside it, and so on, families
    /// by turns. The first to answer wins, and the other attempts are given up.
    ///
    /// The answer is that of [`connect_with`](Self::connect_with). If all fail, the reason is that of the last
    /// one. The deadline is for all of it together. Each attempt under way counts towards
    /// [`connections_per_worker`](crate::ConfigBuilder::connections_per_worker), and so does the connection itself.
    /// With a local address in the options, only addresses of its family are tried.
    ///
    /// # Errors
    ///
    /// As [`connect_with`](Self::connect_with), and [`ConnectError::NoAddress`].
    pub fn connect_any(
        &mut self,
        addrs: &[SocketAddr],
        options: &ConnectOptions,
        state: H::Conn,
    ) -> Result<ConnId, NotConnected<H::Conn>> {
        let begun = self.io.prepare_race(options).and_then(|id| match self.io.start_race(id, addrs) {
            Ok(()) => Ok(id),
            Err(error) => {
                self.io.drop_race(id);
                Err(error)
            }
        });
        self.begin(begun, state)
    }

    /// Looks a host up, as [`resolve`](Self::resolve) does, and connects to whichever of its addresses
    /// answers first, as [`connect_any`](Self::connect_any) does. The deadline is for all of it together.
    /// If the host has no address, the connection ends with [`Unresolved`](crate::CloseReason::Unresolved).
    ///
    /// # Errors
    ///
    /// As [`connect_any`](Self::connect_any), and [`ConnectError::Resolve`] for a name that cannot be asked for now.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringline_core::{ConnId, Ctx, EventHandler, NotConnected};
    /// use ringline_core::net::ConnectOptions;
    /// use std::time::Duration;
    ///
    /// fn dial<H: EventHandler<Conn = ()>>(cx: &mut Ctx<'_, H>) -> Result<ConnId, NotConnected<()>> {
    ///     let options = ConnectOptions::new().timeout(Duration::from_secs(3));
    ///     cx.connect_host("example.com", 443, &options, ())
    /// }
    /// ```
    pub fn connect_host(
        &mut self,
        host: &str,
        port: u16,
        options: &ConnectOptions,
        state: H::Conn,
    ) -> Result<ConnId, NotConnected<H::Conn>> {
        let begun = self.io.prepare_race(options).and_then(|id| {
            let asked = self.desk.jobs.resolve(host, port, JobKey::default(), Owner::Dial(id));
            match asked {
                Ok(_) => Ok(id),
                Err(error) => {
                    self.io.drop_race(id);
                    Err(error.into())
                }
            }
        });
        self.begin(begun, state)
    }
}

impl Io {
    /// A connection that has no address yet.
    fn prepare_race(&mut self, options: &ConnectOptions) -> Result<ConnId, ConnectError> {
        // What fits one family of IP fits the other.
        options.settings(Family::V4)?;
        let id = self.dial_later(options.get_timeout())?;
        self.races.insert(id, Race::new(options));
        Ok(id)
    }

    /// Forgets a connection that is not to be, before anybody knows of it.
    fn drop_race(&mut self, id: ConnId) {
        self.races.remove(id);
        self.remove(id);
    }

    /// Tries the first of the addresses, and lets the others wait for their turn.
    pub(crate) fn start_race(&mut self, id: ConnId, addrs: &[SocketAddr]) -> Result<(), ConnectError> {
        let Some(race) = self.races.get_mut(id) else { return Ok(()) };
        let mut waiting = by_turns(addrs);
        let given = !waiting.is_empty();
        let is_local = |addr: &SocketAddr| race.options.local(Addr::from(*addr).family());
        let misfit = waiting.front().and_then(|first| is_local(first).err());
        waiting.retain(|addr| is_local(addr).is_ok());
        match misfit {
            Some(local) if waiting.is_empty() => return Err(ConnectError::LocalAddr { local }),
            _ if !given => return Err(ConnectError::NoAddress),
            _ => race.waiting = waiting,
        }
        self.next_attempt(id)
    }

    /// Tries the next address that waits, if there is one.
    pub(crate) fn next_attempt(&mut self, id: ConnId) -> Result<(), ConnectError> {
        let Some(race) = self.races.get_mut(id) else { return Ok(()) };
        let Some(addr) = race.waiting.pop_front() else { return Ok(()) };
        let delay = race.options.get_attempt_delay();
        let dial = super::dialing::checked(addr.into(), &race.options)?;
        let begun = self.conns.insert(Conn::dialing(dial));
        if let Ok(attempt) = begun {
            self.races.begin(attempt, id);
            self.mark(attempt);
        }
        let Some(race) = self.races.get_mut(id) else { return Ok(()) };
        if begun.is_err() {
            race.waiting.push_front(addr);
            if race.attempts.is_empty() {
                return Err(ConnectError::Full { limit: self.conns.limit() });
            }
        }
        let earlier = race.timer.take();
        if !race.waiting.is_empty() {
            let deadline_ms = self.clock.deadline_ms(delay);
            race.timer = Some(self.timers.arm(deadline_ms, Fired::NextAttempt(id)));
        }
        if let Some(timer) = earlier {
            self.timers.cancel(timer, &mut self.conns);
        }
        Ok(())
    }
}
