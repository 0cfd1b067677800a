//! Connections that the handler asks for.
//!
//! A callback cannot reach the column of the users' states, so the state of a connection that it asks
//! for is parked until the callback has returned. The row exists from the call on.

use super::{Ctx, Io};
use crate::conn::{Conn, ConnId, ConnectError, Deadline, Fired, NotConnected};
use crate::handler::EventHandler;
use crate::net::{Addr, ConnectOptions, Dial, UnixAddr};
use std::time::Duration;

impl<H: EventHandler> Ctx<'_, H> {
    /// Begins to connect to a TCP address or a Unix socket. The answer comes later and is one of two:
    /// [`on_open`](EventHandler::on_open), and from then on the connection is like any other; or
    /// [`on_close`](EventHandler::on_close), which gives `state` back, with
    /// [`ConnectFailed`](crate::CloseReason::ConnectFailed), or with
    /// [`LimitExceeded`](crate::CloseReason::LimitExceeded) if there was no answer within
    /// [`connect_timeout`](crate::ConfigBuilder::connect_timeout).
    ///
    /// Until then the connection takes neither sends nor timers. [`close`](Ctx::close) and
    /// [`abort`](Ctx::abort) give it up; `on_close` follows with their reason. Small segments of the
    /// connection leave at once (`TCP_NODELAY`). Its descriptor counts towards the process's limit of
    /// open files on every kernel, and the connection towards
    /// [`connections_per_worker`](crate::ConfigBuilder::connections_per_worker).
    ///
    /// # Errors
    ///
    /// [`ConnectError::Full`], [`ConnectError::ShuttingDown`] and [`ConnectError::Unnamed`]; `state` comes
    /// back.
    pub fn connect(
        &mut self,
        addr: impl Into<Addr>,
        state: H::Conn,
    ) -> Result<ConnId, NotConnected<H::Conn>> {
        let dialed = self.io.dial(Dial::from(addr.into()), None);
        self.begin(dialed, state)
    }

    /// The same with options: another deadline, a local address, options of the socket. A socket that cannot
    /// be made, set up or bound ends with [`ConnectFailed`](crate::CloseReason::ConnectFailed).
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect), and [`ConnectError::LocalAddr`] and [`ConnectError::Option`] for what
    /// can be refused without the kernel.
    pub fn connect_with(
        &mut self,
        addr: impl Into<Addr>,
        options: &ConnectOptions,
        state: H::Conn,
    ) -> Result<ConnId, NotConnected<H::Conn>> {
        let dialed = checked(addr.into(), options).and_then(|dial| self.io.dial(dial, options.get_timeout()));
        self.begin(dialed, state)
    }

    pub(super) fn begin(
        &mut self,
        dialed: Result<ConnId, ConnectError>,
        state: H::Conn,
    ) -> Result<ConnId, NotConnected<H::Conn>> {
        match dialed {
            Ok(id) => {
                self.desk.parked.push((id, state));
                Ok(id)
            }
            Err(error) => Err(NotConnected { error, state }),
        }
    }
}

/// What can be known of a connection before it is made.
pub(super) fn checked(addr: Addr, options: &ConnectOptions) -> Result<Dial, ConnectError> {
    let family = addr.family();
    let local = options.local(family).map_err(|local| ConnectError::LocalAddr { local })?;
    Ok(Dial { addr, local, settings: options.settings(family)? })
}

impl Io {
    fn dial(&mut self, dial: Dial, timeout: Option<Duration>) -> Result<ConnId, ConnectError> {
        if dial.addr.unix().is_some_and(UnixAddr::is_unnamed) {
            return Err(ConnectError::Unnamed);
        }
        self.enter(Conn::dialing(dial), timeout)
    }

    /// A connection whose address is not known yet.
    pub(super) fn dial_later(&mut self, timeout: Option<Duration>) -> Result<ConnId, ConnectError> {
        self.enter(Conn::racing(), timeout)
    }

    fn enter(&mut self, conn: Conn, timeout: Option<Duration>) -> Result<ConnId, ConnectError> {
        if self.is_ending {
            return Err(ConnectError::ShuttingDown);
        }
        let full = ConnectError::Full { limit: self.conns.limit() };
        let conn = Conn { watch: self.watch, ..conn };
        let id = self.conns.insert(conn).map_err(|_| full)?;
        let timeout = timeout
            .map_or(self.connect_timeout, |timeout| timeout.clamp(Deadline::SHORTEST, Deadline::LONGEST));
        let deadline_ms = self.clock.deadline_ms(timeout);
        let timer = self.timers.arm(deadline_ms, Fired::ConnectTimeout(id));
        if let Some(conn) = self.conns.get_mut(id) {
            conn.close_timer = Some(timer);
        }
        self.mark(id);
        Ok(id)
    }
}
