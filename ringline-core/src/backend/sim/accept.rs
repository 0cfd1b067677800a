//! Connections leave the backlog.

use super::Sim;
use super::faults::Fault;
use super::link::ServerEnd;
use crate::net::{Credentials, Remote};
use crate::op::{Outcome, UserData};

/// What an accept fails with for no fault of the client's.
pub(super) const ERRNOS: [i32; 6] =
    [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EINTR, libc::ECANCELED];

impl Sim {
    /// Serves accepts as long as there are connections for them.
    pub(super) fn run_accepts(&mut self) {
        for at in 0..self.network.listeners.len() {
            loop {
                let listener = &mut self.network.listeners[at];
                if listener.backlog.is_empty() {
                    break;
                }
                let Some(user_data) = listener.accepts.pop_front() else { break };
                self.accept_one(at, user_data);
            }
        }
    }

    /// Serves one accept of the listener in place `at`, which has a connection for it.
    fn accept_one(&mut self, at: usize, user_data: UserData) {
        let peer = self.network.listeners[at].backlog[0];
        if self.dice.strikes(Fault::AcceptFails) {
            let mut errno = self.dice.pick(&ERRNOS);
            let link = self.network.link(peer);
            if link.is_dead() {
                link.server = ServerEnd::Dropped;
                self.network.listeners[at].backlog.pop_front();
                errno = libc::ECONNABORTED;
            }
            self.post_error(user_data, errno);
            return;
        }
        let Some(fd) = self.network.open(peer) else {
            self.post_error(user_data, libc::EMFILE);
            return;
        };
        self.network.listeners[at].backlog.pop_front();
        self.ledger.open(fd, user_data);
        let addr = self.network.link(peer).address.clone();
        let credentials = addr.unix().map(|_| Credentials::new(peer.0 + 1, 1000, 1000));
        let remote = Box::new(Remote { addr, credentials });
        let remote = (!self.dice.strikes(Fault::NoAddress)).then_some(remote);
        self.trace.note(|| format!("{peer:?} is {fd:?}"));
        self.post(user_data, Outcome::Accepted { fd, peer: remote }, false);
    }
}
