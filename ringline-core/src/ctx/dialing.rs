//! Connections that the handler asks for.
//!
//! A callback cannot reach the column of the users' states, so the state of a connection that it asks
//! for is parked until the callback has returned. The row exists from the call on.

use super::{Ctx, Io};
use crate::conn::{Conn, ConnId, ConnectError, Fired, NotConnected};
use crate::handler::EventHandler;
use std::net::SocketAddr;

impl<H: EventHandler> Ctx<'_, H> {
    /// Begins to connect to a TCP address. The answer comes later and is one of two:
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
    /// [`ConnectError::Full`] and [`ConnectError::ShuttingDown`]; `state` comes back.
    pub fn connect(&mut self, addr: SocketAddr, state: H::Conn) -> Result<ConnId, NotConnected<H::Conn>> {
        match self.io.dial(addr) {
            Ok(id) => {
                self.desk.parked.push((id, state));
                Ok(id)
            }
            Err(error) => Err(NotConnected { error, state }),
        }
    }
}

impl Io {
    fn dial(&mut self, address: SocketAddr) -> Result<ConnId, ConnectError> {
        if self.is_ending {
            return Err(ConnectError::ShuttingDown);
        }
        let full = ConnectError::Full { limit: self.conns.limit() };
        let conn = Conn { watch: self.watch, ..Conn::dialing(address) };
        let id = self.conns.insert(conn).map_err(|_| full)?;
        let deadline_ms = self.clock.deadline_ms(self.connect_timeout);
        let timer = self.timers.arm(deadline_ms, Fired::ConnectTimeout(id));
        if let Some(conn) = self.conns.get_mut(id) {
            conn.close_timer = Some(timer);
        }
        self.mark(id);
        Ok(id)
    }
}
