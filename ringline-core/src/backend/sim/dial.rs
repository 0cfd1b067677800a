//! Sockets of the server that connect to peers, and what becomes of that.
//!
//! Every address works but for two ports, so that a test can choose what happens.

use super::Sim;
use super::faults::Fault;
use super::network::PeerId;
use crate::op::{Fd, Outcome, UserData};
use std::net::SocketAddr;

/// Nobody listens on this port.
pub(crate) const REFUSED_PORT: u16 = 1;
/// Whatever goes to this port is lost.
pub(crate) const SILENT_PORT: u16 = 2;
/// How long a kernel repeats a connect that is not answered.
const PATIENCE_TURNS: u64 = 127_000;

impl Sim {
    /// A peer that the server has connected to, each once, in this order.
    pub(crate) fn dialed(&mut self) -> Option<PeerId> {
        self.dialed.pop_front()
    }

    /// Makes a socket, with a peer at the other end that nobody knows of yet.
    pub(super) fn make_socket(&mut self, address: SocketAddr) -> Result<Fd, i32> {
        if self.dice.strikes(Fault::NoSocket) {
            return Err(libc::EMFILE);
        }
        let fd = self.network.dial(address).ok_or(libc::EMFILE)?;
        self.ledger.make(fd);
        self.trace.note(|| format!("{fd:?} is made for {address}"));
        Ok(fd)
    }

    /// Opens a socket that is connected already, with a peer at the other end.
    pub(super) fn adopt_socket(&mut self) -> Fd {
        let (fd, peer) = self.network.adopt();
        self.ledger.adopt(fd);
        self.dialed.push_back(peer);
        self.trace.note(|| format!("{fd:?} is adopted, with {peer:?} at the other end"));
        fd
    }

    pub(super) fn begin_connect(&mut self, user_data: UserData, address: SocketAddr) {
        let port = address.port();
        let (errno, after_turns) = if port == SILENT_PORT || self.dice.strikes(Fault::ConnectUnanswered) {
            (libc::ETIMEDOUT, PATIENCE_TURNS)
        } else if port == REFUSED_PORT || self.dice.strikes(Fault::ConnectRefused) {
            (libc::ECONNREFUSED, 0)
        } else if self.dice.strikes(Fault::ConnectUnreachable) {
            (libc::EHOSTUNREACH, 0)
        } else {
            (0, 0)
        };
        self.add_answer(user_data, errno, after_turns);
    }

    /// Answers a connect, if it is still the same and was not cancelled.
    pub(super) fn answer(&mut self, user_data: UserData, serial: u64, errno: i32) {
        let flight = self.ledger.unfinished(user_data).filter(|flight| flight.serial == serial);
        let Some(fd) = flight.and_then(|flight| flight.fd) else { return };
        if errno != 0 {
            return self.post_error(user_data, errno);
        }
        let (socket, link) = self.network.socket(fd).expect("it is not closed before this is done");
        link.is_made = true;
        let peer = socket.peer;
        self.dialed.push_back(peer);
        self.trace.note(|| format!("{fd:?} is connected to {peer:?}"));
        self.post(user_data, Outcome::Done, false);
    }
}
