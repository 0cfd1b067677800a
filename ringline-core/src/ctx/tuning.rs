//! Options of connections that are there already.

use super::{Ctx, Io};
use crate::conn::{ConnId, Phase, Tuning};
use crate::handler::EventHandler;
use crate::net::{Moment, OptionError, Setting, SocketOptions};

impl<H: EventHandler> Ctx<'_, H> {
    /// Sets options of a connection's socket, in the order in which they were given.
    ///
    /// The answer of the kernel comes later, as
    /// [`on_socket_options`](EventHandler::on_socket_options), once for each call that returned `Ok`, unless
    /// the end of the connection begins first. What is sent meanwhile may leave before the options are set.
    ///
    /// # Errors
    ///
    /// [`OptionError`] for what can be refused without the kernel: values out of their range, options that
    /// mean nothing on this kind of socket or come too late, a connection that is not open, and more than
    /// 64 options on their way. Nothing is set then.
    pub fn set_socket_options(&mut self, id: ConnId, options: &SocketOptions) -> Result<(), OptionError> {
        self.io.set_socket_options(id, options)
    }
}

impl Io {
    fn set_socket_options(&mut self, id: ConnId, options: &SocketOptions) -> Result<(), OptionError> {
        let conn = self.conns.get(id).filter(|conn| matches!(conn.phase, Phase::Arriving | Phase::Open));
        let family = conn.ok_or(OptionError::NotOpen)?.family;
        let settings = options.settings(family, Moment::Open)?;
        let is_added = self.tune(id, settings, true);
        if is_added { Ok(()) } else { Err(OptionError::Busy { max: Tuning::WAITING_MAX }) }
    }

    /// Has options set; false if too many wait already.
    pub(crate) fn tune(&mut self, id: ConnId, settings: Vec<Setting>, is_asked: bool) -> bool {
        let Some(conn) = self.conns.get_mut(id) else { return false };
        let is_added = conn.tuning.get_or_insert_default().add(settings, is_asked);
        self.note(id);
        is_added
    }
}
