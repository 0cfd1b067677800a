//! Sends: those that wait, those that do not, and the memory of those that are not copied.
//!
//! The bytes of a send are remembered when it begins, and compared with what its parcel holds
//! whenever some of them are put on the wire and once more when the parcel goes home: memory that a
//! kernel is reading must not change.

use super::Sim;
use super::buffers::Buffers;
use super::faults::Fault;
use super::link::ServerEnd;
use super::network::PeerId;
use crate::buf::{Parcel, Unsent};
use crate::op::{Fd, Outcome, UserData};

/// What a send that waits fails with when it is to fail.
const ERRNOS: [i32; 4] = [libc::EPIPE, libc::ECONNRESET, libc::ETIMEDOUT, libc::ENOBUFS];

/// A send that waits for room.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) user_data: UserData,
    parcel: Box<Parcel>,
    /// All bytes of the parcel as they were in the beginning.
    bytes: Vec<u8>,
    /// How many of them have left.
    done: usize,
    zero_copy: bool,
}

/// The memory of a zero-copy send that is over, until its peer has acknowledged the bytes.
#[derive(Debug)]
pub(super) struct Loan {
    user_data: UserData,
    parcel: Box<Parcel>,
    bytes: Vec<u8>,
    peer: PeerId,
    /// How much the peer must have read.
    mark: u64,
    /// Not before this turn.
    turn: u64,
}

impl Sim {
    /// Takes a parcel, to be sent as room comes.
    pub(super) fn begin_send(&mut self, user_data: UserData, fd: Fd, parcel: Box<Parcel>) {
        let bytes = flatten(&parcel, &self.buffers);
        let zero_copy = parcel.links().any(|link| link.zero_copy);
        if zero_copy && self.dice.strikes(Fault::NoZeroCopy) {
            let errno = self.dice.pick(&[libc::EOPNOTSUPP, libc::ENOBUFS, libc::ENOMEM]);
            let sending = Sending { user_data, parcel, bytes, done: 0, zero_copy };
            return self.end_send(fd, sending, errno);
        }
        let (socket, _) = self.network.socket(fd).expect("the ledger says that it is open");
        socket.send = Some(Sending { user_data, parcel, bytes, done: 0, zero_copy });
        self.network.touch(fd);
    }

    /// Sends what there is room for of a parcel's first link, and gives the parcel back.
    pub(super) fn try_send(&mut self, user_data: UserData, fd: Fd, parcel: Box<Parcel>) {
        let pieces = parcel.links().next().map_or(0, |link| usize::from(link.pieces));
        let len = parcel.pieces().take(pieces).map(crate::buf::Piece::len).sum();
        let bytes = flatten(&parcel, &self.buffers);
        let outcome = match self.send_now(fd, &bytes[..len]) {
            Outcome::Sent { bytes, errno, .. } => Outcome::Sent { bytes, errno, parcel: Some(parcel) },
            outcome => outcome,
        };
        self.finish_silent(user_data, outcome);
    }

    /// Sends what there is room for, now.
    pub(super) fn send_now(&mut self, fd: Fd, bytes: &[u8]) -> Outcome {
        let (_, link) = self.network.socket(fd).expect("the ledger says that it is open");
        let sent = |bytes, errno| Outcome::Sent { bytes, errno, parcel: None };
        let room = match link.room() {
            Ok(0) => return sent(0, libc::EAGAIN),
            Ok(room) => room,
            Err(errno) => return sent(0, errno),
        };
        if self.dice.strikes(Fault::RefusedSend) {
            let errnos = [libc::EAGAIN, libc::EAGAIN, libc::EAGAIN, libc::ENOBUFS];
            return sent(0, self.dice.pick(&errnos));
        }
        let taken = self.dice.cut(Fault::ShortSend, bytes.len().min(room));
        link.send(&bytes[..taken]);
        sent(taken, 0)
    }

    /// Goes on with the send that waits on a socket, if there is one.
    pub(super) fn run_send(&mut self, fd: Fd) {
        let Some((socket, link)) = self.network.socket(fd) else { return };
        let Some(sending) = &mut socket.send else { return };
        let mut errno = 0;
        match link.room() {
            Ok(0) => return,
            Err(code) => errno = code,
            Ok(_) if self.dice.strikes(Fault::FailedSend) => {
                errno = self.dice.pick(&ERRNOS);
                if errno != libc::ENOBUFS {
                    link.sever(self.dice.strikes(Fault::ResetDiscards));
                    link.take_error();
                }
                link.is_broken = true;
            }
            Ok(room) => {
                let now = flatten(&sending.parcel, &self.buffers);
                if now != sending.bytes {
                    self.trace.panic(&format!("{UNTOUCHED}: {:?}", sending.user_data.decode()));
                }
                let rest = &sending.bytes[sending.done..];
                let taken = self.dice.cut(Fault::ShortSend, rest.len().min(room));
                link.send(&rest[..taken]);
                sending.done += taken;
                if sending.done < sending.bytes.len() && !self.dice.strikes(Fault::ShortWaitingSend) {
                    if taken < room || link.is_dead() {
                        self.network.touch(fd);
                    }
                    return;
                }
            }
        }
        let Some(sending) = socket.send.take() else { return };
        self.end_send(fd, sending, errno);
    }

    /// Ends a send with what it got done, and with an error if it did nothing or is a chain.
    pub(super) fn end_send(&mut self, fd: Fd, sending: Sending, errno: i32) {
        let Sending { user_data, mut parcel, bytes, done, zero_copy } = sending;
        let errno = if done > 0 && parcel.links().len() == 1 { 0 } else { errno };
        parcel.was_copied = zero_copy && self.dice.strikes(Fault::CopiedAnyway);
        let sent = |parcel| Outcome::Sent { bytes: done, errno, parcel };
        if !zero_copy || self.dice.strikes(Fault::NoNotice) {
            self.post(user_data, sent(Some(parcel)), false);
            return;
        }
        let (socket, link) = self.network.socket(fd).expect("it is not closed before this is done");
        let (peer, mark) = (socket.peer, link.put_in());
        let (turn, _) = self.post_at(user_data, sent(None), true);
        let turn = turn + self.dice.turns_late(Fault::LateNotice);
        self.loans.push(Loan { user_data, parcel, bytes, peer, mark, turn });
    }

    /// Gives back the memory of sends that their peers have acknowledged, or never will.
    pub(super) fn run_loans(&mut self) {
        let mut at = 0;
        while at < self.loans.len() {
            let Loan { peer, mark, turn, .. } = self.loans[at];
            let link = self.network.link_ref(peer);
            let is_over = link.is_dead() || link.taken_out() >= mark;
            // A socket that is closed lets go only if it was reset; the contract sees to that.
            let is_gone = link.server == ServerEnd::Closed;
            if turn > self.turn || !is_over && !is_gone {
                at += 1;
                continue;
            }
            let Loan { user_data, parcel, bytes, .. } = self.loans.remove(at);
            if flatten(&parcel, &self.buffers) != bytes {
                self.trace.panic(&format!("{UNTOUCHED}: {:?}", user_data.decode()));
            }
            self.post_return(user_data, parcel);
        }
    }

    /// The first turn in which a loan can end, if one could now.
    pub(super) fn next_loan(&self) -> Option<u64> {
        let can_end = |loan: &&Loan| {
            let link = self.network.link_ref(loan.peer);
            link.is_dead() || link.taken_out() >= loan.mark || link.server == ServerEnd::Closed
        };
        self.loans.iter().filter(can_end).map(|loan| loan.turn).min()
    }
}

const UNTOUCHED: &str = "bytes that the kernel may read are left alone";

/// What a parcel has not sent yet, in one piece.
fn flatten(parcel: &Parcel, buffers: &Buffers) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(parcel.len());
    for piece in parcel.pieces() {
        match piece.unsent() {
            Unsent::Here(part) => bytes.extend_from_slice(part),
            Unsent::Leased(lease, skip) => match buffers.bytes(lease) {
                Ok(part) => bytes.extend_from_slice(&part[skip..]),
                Err(breach) => panic!("{}", breach.0),
            },
        }
    }
    bytes
}
