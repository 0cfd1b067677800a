//! Bytes through sockets: receives that stay armed, sends that wait and sends that do not.

use super::Sim;
use super::faults::Fault;
use super::network::{Arm, Sending};
use crate::buf::Block;
use crate::op::{Fd, Outcome, UserData};

/// How many completions of one receive a turn makes at most.
const RECEIVES_PER_TURN: usize = 32;
/// What a send that waits fails with when it is to fail.
const ERRNOS: [i32; 4] = [libc::EPIPE, libc::ECONNRESET, libc::ETIMEDOUT, libc::ENOBUFS];

impl Sim {
    /// Arms a receive.
    pub(super) fn begin_receive(&mut self, user_data: UserData, fd: Fd) {
        let (socket, _) = self.network.socket(fd).expect("the ledger says that it is open");
        socket.receive = Some(Arm { user_data, is_doomed: false });
        self.network.touch(fd);
    }

    /// Takes a block, to be sent as room comes.
    pub(super) fn begin_send(&mut self, user_data: UserData, fd: Fd, block: Block) {
        let (socket, _) = self.network.socket(fd).expect("the ledger says that it is open");
        socket.send = Some(Sending { user_data, block, done: 0 });
        self.network.touch(fd);
    }

    /// Sends what there is room for of a block, and gives the block back.
    pub(super) fn try_send(&mut self, user_data: UserData, fd: Fd, block: Block) {
        let outcome = match self.send_now(fd, block.unsent()) {
            Outcome::Sent { bytes, .. } => Outcome::Sent { bytes, block: Some(block) },
            Outcome::Failed { errno, .. } => Outcome::Failed { errno, block: Some(block) },
            outcome => outcome,
        };
        self.post(user_data, outcome, false);
    }

    /// Sends what there is room for, now.
    pub(super) fn send_now(&mut self, fd: Fd, bytes: &[u8]) -> Outcome {
        let (_, link) = self.network.socket(fd).expect("the ledger says that it is open");
        let failed = |errno| Outcome::Failed { errno, block: None };
        let room = match link.room() {
            Ok(0) => return failed(libc::EAGAIN),
            Ok(room) => room,
            Err(errno) => return failed(errno),
        };
        if self.dice.strikes(Fault::RefusedSend) {
            let errnos = [libc::EAGAIN, libc::EAGAIN, libc::EAGAIN, libc::ENOBUFS];
            return failed(self.dice.pick(&errnos));
        }
        let taken = self.dice.cut(Fault::ShortSend, bytes.len().min(room));
        link.send(&bytes[..taken]);
        Outcome::Sent { bytes: taken as u32, block: None }
    }

    /// Goes on with the send that waits on a socket, if there is one.
    pub(super) fn run_send(&mut self, fd: Fd) {
        let Some((socket, link)) = self.network.socket(fd) else { return };
        let Some(sending) = &mut socket.send else { return };
        let errno = match link.room() {
            Ok(0) => return,
            Err(errno) => Some(errno),
            Ok(_) if self.dice.strikes(Fault::FailedSend) => {
                let errno = self.dice.pick(&ERRNOS);
                if errno != libc::ENOBUFS {
                    link.sever(self.dice.strikes(Fault::ResetDiscards));
                    link.take_error();
                }
                link.is_broken = true;
                Some(errno)
            }
            Ok(room) => {
                let rest = &sending.block.unsent()[sending.done..];
                let taken = self.dice.cut(Fault::ShortSend, rest.len().min(room));
                link.send(&rest[..taken]);
                sending.done += taken;
                if taken < rest.len() && !self.dice.strikes(Fault::ShortWaitingSend) {
                    if taken < room || link.is_dead() {
                        self.network.touch(fd);
                    }
                    return;
                }
                None
            }
        };
        let Some(Sending { user_data, block, done }) = socket.send.take() else { return };
        let block = Some(block);
        let outcome = match errno {
            Some(errno) => Outcome::Failed { errno, block },
            None => Outcome::Sent { bytes: done as u32, block },
        };
        self.post(user_data, outcome, false);
    }

    /// Goes on with the receive that is armed on a socket, if there is one.
    pub(super) fn run_receive(&mut self, fd: Fd) {
        for _ in 0..RECEIVES_PER_TURN {
            let Some((socket, _)) = self.network.socket(fd) else { return };
            let Some(arm) = socket.receive else { return };
            let Some((outcome, more)) = self.receive_once(fd, arm) else { return };
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
        let failed = |errno, more| Some((Outcome::Failed { errno, block: None }, more));
        if self.dice.strikes(Fault::ReceiveCancelled) {
            return failed(libc::ECANCELED, self.dice.strikes(Fault::CancelledWithMore));
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
