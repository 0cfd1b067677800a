//! Sockets of the server that connect to peers, and what becomes of that.
//!
//! Every address works but for two ports and two names, so that a test can choose what happens.

use super::Sim;
use super::faults::Fault;
use super::network::PeerId;
use crate::net::{Addr, Dial};
use crate::op::{Fd, Outcome, UserData};

/// Nobody listens on this port.
pub(crate) const REFUSED_PORT: u16 = 1;
/// Whatever goes to this port is lost.
pub(crate) const SILENT_PORT: u16 = 2;
/// Nobody listens on the Unix socket with this abstract name.
pub(crate) const REFUSED_NAME: &[u8] = b"refused";
/// The queue of the Unix socket with this abstract name is full.
pub(crate) const SILENT_NAME: &[u8] = b"silent";
/// How long a kernel repeats a connect that is not answered.
const PATIENCE_TURNS: u64 = 127_000;

impl Sim {
    /// A peer that the server has connected to, each once, in this order.
    pub(crate) fn dialed(&mut self) -> Option<PeerId> {
        self.dialed.pop_front()
    }

    /// Makes a socket, with a peer at the other end that nobody knows of yet.
    pub(super) fn make_socket(&mut self, dial: &Dial) -> Result<Fd, i32> {
        let Dial { addr, local, settings } = dial;
        if self.dice.strikes(Fault::NoSocket) {
            return Err(libc::EMFILE);
        }
        if local.is_some() && self.dice.strikes(Fault::BindFails) {
            return Err(self.dice.pick(&[libc::EADDRINUSE, libc::EADDRNOTAVAIL]));
        }
        if !settings.is_empty() && self.dice.strikes(Fault::OptionRefused) {
            return Err(libc::EPERM);
        }
        let fd = self.network.dial(addr.clone()).ok_or(libc::EMFILE)?;
        self.ledger.make(fd);
        self.trace.note(|| format!("{fd:?} is made for {addr}"));
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

    pub(super) fn begin_connect(&mut self, user_data: UserData, addr: &Addr) {
        let names = |port: u16, name: &[u8]| match addr {
            Addr::Ip(addr) => addr.port() == port,
            Addr::Unix(addr) => addr.as_abstract_name() == Some(name),
        };
        let is_silent = names(SILENT_PORT, SILENT_NAME);
        let (errno, after_turns) = if is_silent || self.dice.strikes(Fault::ConnectUnanswered) {
            (libc::ETIMEDOUT, PATIENCE_TURNS)
        } else if names(REFUSED_PORT, REFUSED_NAME) || self.dice.strikes(Fault::ConnectRefused) {
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
