//! Sockets that were made elsewhere and become connections.
//!
//! The row exists from the call on and owns the socket. The backend gets it with the next flush, and
//! the handler hears of it in that turn.

use super::{Ctx, Io};
use crate::conn::{AdoptError, Conn, ConnId, NotAdopted};
use crate::handler::EventHandler;
use crate::net::{Addr, Family};
use socket2::{SockRef, Type};
use std::os::fd::{AsFd, OwnedFd};

impl<H: EventHandler> Ctx<'_, H> {
    /// Makes a connection of a connected stream socket, of TCP or Unix, that was made elsewhere: inherited,
    /// received from another process, connected by other code.
    ///
    /// [`on_open`](EventHandler::on_open) follows in a later turn, unless the connection is closed before,
    /// and from then on it is like any other. What the peer has sent before the call and nobody has read is
    /// presented. The socket is put into blocking mode and closed on exec; its other options stay as they
    /// are. It counts towards [`connections_per_worker`](crate::ConfigBuilder::connections_per_worker) and,
    /// on every kernel, towards the process's limit of open files.
    ///
    /// Nobody else may read from or write to the socket through a copy of the descriptor; the bytes of both
    /// would mix.
    ///
    /// # Errors
    ///
    /// An [`AdoptError`]; the socket and `state` come back.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringline_core::{ConnId, Ctx, EventHandler, NotAdopted};
    /// use std::os::unix::net::UnixStream;
    ///
    /// /// Talks to a thread of the same program as to a peer.
    /// fn take_in<H: EventHandler<Conn = ()>>(cx: &mut Ctx<'_, H>, ours: UnixStream) -> Option<ConnId> {
    ///     match cx.adopt(ours.into(), ()) {
    ///         Ok(id) => Some(id),
    ///         Err(NotAdopted { error, .. }) => {
    ///             eprintln!("{error}");
    ///             None
    ///         }
    ///     }
    /// }
    /// ```
    pub fn adopt(&mut self, socket: OwnedFd, state: H::Conn) -> Result<ConnId, NotAdopted<H::Conn>> {
        match self.io.check_room(1).and_then(|()| prepare(&socket)) {
            Ok(family) => {
                let conn = Conn { watch: self.io.watch, ..Conn::adopted(socket, family) };
                Ok(self.take_in(conn, state))
            }
            Err(error) => Err(NotAdopted { error, socket, state }),
        }
    }

    /// Makes a connection of a socket that was looked at; there is room.
    pub(super) fn take_in(&mut self, conn: Conn, state: H::Conn) -> ConnId {
        let id = self.io.take_in(conn);
        self.desk.parked.push((id, state));
        id
    }
}

impl Io {
    /// Whether this many connections can begin now.
    pub(super) fn check_room(&self, count: usize) -> Result<(), AdoptError> {
        if self.is_ending {
            return Err(AdoptError::ShuttingDown);
        }
        let limit = self.conns.limit();
        if self.conns.live() + count > limit as usize {
            return Err(AdoptError::Full { limit });
        }
        Ok(())
    }

    fn take_in(&mut self, conn: Conn) -> ConnId {
        let Ok(id) = self.conns.insert(conn) else { unreachable!("there is room") };
        self.mark(id);
        id
    }
}

/// Makes sure of a socket, and says of what family it is.
fn prepare(socket: &OwnedFd) -> Result<Family, AdoptError> {
    let fd = socket.as_fd();
    let socket = SockRef::from(&fd);
    match socket.r#type() {
        Ok(Type::STREAM) => {}
        Ok(_) => return Err(AdoptError::NotStream),
        Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => return Err(AdoptError::NotStream),
        Err(source) => return Err(AdoptError::Failed { source }),
    }
    let peer = socket.peer_addr().map_err(|source| AdoptError::NotConnected { source })?;
    // Nothing is known of streams of other families: how to name their peers, which options they have.
    let family = Addr::from_sock_addr(&peer).ok_or(AdoptError::NotStream)?.family();
    let prepared = socket.set_nonblocking(false).and_then(|()| socket.set_cloexec(true));
    prepared.map(|()| family).map_err(|source| AdoptError::Failed { source })
}
