//! Receives that stay armed.

use super::Sim;
use super::faults::Fault;
use super::ledger::is_stamped;
use super::network::Arm;
use crate::op::{Fd, Outcome, UserData};

/// How many completions of one receive a turn makes at most.
const RECEIVES_PER_TURN: usize = 32;

impl Sim {
    /// Arms a receive.
    pub(super) fn begin_receive(&mut self, user_data: UserData, fd: Fd) {
        let (socket, _) = self.network.socket(fd).expect("the ledger says that it is open");
        socket.receive = Some(Arm { user_data, is_doomed: false, is_fresh: true, is_deaf: false });
        self.network.touch(fd);
    }

    /// Looks what a receive would find, which takes the error if that is one.
    pub(super) fn peek(&mut self, user_data: UserData, fd: Fd) {
        let (_, link) = self.network.socket(fd).expect("the ledger says that it is open");
        let outcome = if !link.to_server.is_empty() {
            Outcome::Done
        } else if let Some(errno) = link.take_error() {
            Outcome::Failed { errno }
        } else if link.is_at_end() {
            Outcome::EndOfStream
        } else {
            Outcome::Failed { errno: libc::EAGAIN }
        };
        self.post(user_data, outcome, false);
    }

    /// A receive has brought bytes. With the last of what has come together, it may overlook what is behind.
    fn overlook(&mut self, fd: Fd) {
        let Some((socket, link)) = self.network.socket(fd) else { return };
        if let Some(arm) = &mut socket.receive
            && link.to_server.is_empty()
            && std::mem::take(&mut arm.is_fresh)
            && link.ends_unheard()
        {
            arm.is_deaf = self.dice.strikes(Fault::EndForgotten);
        }
    }

    /// Goes on with the receive that is armed on a socket, if there is one.
    pub(super) fn run_receive(&mut self, fd: Fd) {
        for _ in 0..RECEIVES_PER_TURN {
            let Some((socket, _)) = self.network.socket(fd) else { return };
            let Some(arm) = socket.receive else { return };
            let Some((outcome, more)) = self.receive_once(fd, arm) else { return };
            if more {
                self.overlook(fd);
            }
            if !self.post(arm.user_data, outcome, more)
                && let Some((socket, _)) = self.network.socket(fd)
            {
                socket.receive = None;
            }
        }
        self.network.touch(fd);
    }

    /// What an armed receive has to report, if anything.
    fn receive_once(&mut self, fd: Fd, arm: Arm) -> Option<(Outcome, bool)> {
        if arm.is_deaf {
            return None;
        }
        let failed = |errno, more| Some((Outcome::Failed { errno }, more));
        if self.dice.strikes(Fault::ReceiveCancelled) {
            return failed(libc::ECANCELED, self.dice.strikes(Fault::CancelledWithMore));
        }
        if is_stamped(arm.user_data) {
            return self.receive_stamped(fd, arm);
        }
        let (_, link) = self.network.socket(fd)?;
        if link.to_server.is_empty() {
            if let Some(errno) = link.take_error() {
                return failed(errno, false);
            }
            return link.is_at_end().then_some((Outcome::EndOfStream, false));
        }
        if self.dice.strikes(Fault::NoBuffers) {
            return failed(libc::ENOBUFS, false);
        }
        let Some(room) = self.buffers.room() else {
            self.starved += 1;
            return failed(libc::ENOBUFS, false);
        };
        let mut len = room.min(link.to_server.len() as u32);
        if self.dice.strikes(Fault::ShortReceive) {
            len = 1 + self.dice.below(self.dice.faults.short_receive_bytes.min(len));
        }
        let stays = self.dice.strikes(Fault::SharedBuffer);
        let lease = self.buffers.fill(&mut link.to_server, len, stays);
        let more = !arm.is_doomed && !self.dice.strikes(Fault::ArmEnds);
        Some((Outcome::Received(lease), more))
    }
}
