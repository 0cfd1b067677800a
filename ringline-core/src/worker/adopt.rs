//! Sockets that were made elsewhere, from the call to `on_open`.

use super::Worker;
use crate::backend::Backend;
use crate::conn::ConnId;
use crate::handler::EventHandler;

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Gives the backend the socket of a connection, if it has one that the backend does not know.
    pub(super) fn take_in(&mut self, id: ConnId) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        if let Some(socket) = conn.adopts.take() {
            conn.fd = self.backend.adopt(socket);
            // The handler is told when this turn's completions are through.
            self.io.note(id);
        }
    }

    /// Tells the handler of a connection that was adopted.
    #[cold]
    pub(super) fn adopted(&mut self, id: ConnId) {
        self.io.shard.connections_adopted.increment();
        self.begin(id);
        // Whatever it wants is for the next flush.
        self.io.mark(id);
    }
}
