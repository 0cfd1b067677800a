//! Operations that the kernel does by itself when it gets round to them: ending a direction, closing
//! and cancelling.

use super::Sim;
use super::faults::Fault;
use super::ledger::{Flight, Role};
use crate::op::{Fd, Outcome, UserData};

#[derive(Clone, Copy, Debug)]
enum Task {
    Shutdown {
        user_data: UserData,
        fd: Fd,
    },
    /// Answers a connect, unless it was cancelled, with an errno or, for zero, with success.
    Answer {
        user_data: UserData,
        serial: u64,
        errno: i32,
    },
    Close {
        user_data: UserData,
        fd: Fd,
    },
    Reset {
        user_data: UserData,
        fd: Fd,
    },
    Cancel {
        user_data: UserData,
        target: UserData,
    },
    SetOption {
        user_data: UserData,
        fd: Fd,
    },
    /// Ends an operation that a cancel has missed, unless it ended by itself.
    Expire {
        target: UserData,
        serial: u64,
    },
}

/// Something to do in a certain turn, or as soon after it as there is one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chore {
    pub(super) turn: u64,
    task: Task,
}

impl Sim {
    pub(super) fn begin_shutdown(&mut self, user_data: UserData, fd: Fd) {
        self.add_chore(Fault::Late, Task::Shutdown { user_data, fd });
    }

    pub(super) fn begin_reset(&mut self, user_data: UserData, fd: Fd) {
        self.add_chore(Fault::Late, Task::Reset { user_data, fd });
    }

    pub(super) fn begin_close(&mut self, user_data: UserData, fd: Fd) {
        self.add_chore(Fault::LateClose, Task::Close { user_data, fd });
    }

    pub(super) fn begin_cancel(&mut self, user_data: UserData, target: UserData) {
        self.add_chore(Fault::Late, Task::Cancel { user_data, target });
    }

    pub(super) fn begin_set_option(&mut self, user_data: UserData, fd: Fd) {
        self.add_chore(Fault::Late, Task::SetOption { user_data, fd });
    }

    /// Does what is due.
    pub(super) fn run_chores(&mut self) {
        let turn = self.turn;
        let due: Vec<_> = self.chores.extract_if(.., |chore| chore.turn <= turn).collect();
        for chore in due {
            match chore.task {
                Task::Shutdown { user_data, fd } => self.shut_down(user_data, fd),
                Task::Answer { user_data, serial, errno } => self.answer(user_data, serial, errno),
                Task::Close { user_data, fd } => self.close_socket(user_data, fd),
                Task::Reset { user_data, fd } => self.reset_socket(user_data, fd),
                Task::Cancel { user_data, target } => self.cancel(user_data, target),
                Task::SetOption { user_data, fd } => self.set_option(user_data, fd),
                Task::Expire { target, serial } => {
                    if let Some(flight) = self.ledger.unfinished(target)
                        && flight.serial == serial
                    {
                        self.end_early(target, flight);
                    }
                }
            }
        }
    }

    /// Has a connect answered in a certain turn, or as soon as can be.
    pub(super) fn add_answer(&mut self, user_data: UserData, errno: i32, after_turns: u64) {
        let Some(Flight { serial, .. }) = self.ledger.unfinished(user_data) else { return };
        let turn = self.turn + after_turns + self.dice.turns_late(Fault::Late);
        self.chores.push(Chore { turn, task: Task::Answer { user_data, serial, errno } });
    }

    fn add_chore(&mut self, fault: Fault, task: Task) {
        let turn = self.turn + self.dice.turns_late(fault);
        self.chores.push(Chore { turn, task });
    }

    fn shut_down(&mut self, user_data: UserData, fd: Fd) {
        let (_, link) = self.network.socket(fd).expect("it is not closed before this is done");
        let fails = self.dice.strikes(Fault::ShutdownFails);
        link.is_broken |= fails;
        if fails || !link.server_end() {
            self.post_error(user_data, libc::ENOTCONN);
        } else {
            self.post(user_data, Outcome::Done, false);
            self.network.touch(fd);
        }
    }

    fn reset_socket(&mut self, user_data: UserData, fd: Fd) {
        let (socket, _) = self.network.socket(fd).expect("it is not closed before this is done");
        socket.resets = true;
        self.post(user_data, Outcome::Done, false);
    }

    fn set_option(&mut self, user_data: UserData, fd: Fd) {
        let is_there = self.network.socket(fd).is_some();
        assert!(is_there, "it is not closed before this is done");
        if self.dice.strikes(Fault::OptionRefused) {
            let errno = self.dice.pick(&[libc::EPERM, libc::ENOPROTOOPT, libc::ENOBUFS]);
            self.post_error(user_data, errno);
        } else {
            self.post(user_data, Outcome::Done, false);
        }
    }

    fn close_socket(&mut self, user_data: UserData, fd: Fd) {
        self.network.close(fd);
        self.trace.note(|| format!("{fd:?} is free"));
        if self.dice.strikes(Fault::CloseFails) {
            self.post_error(user_data, libc::EIO);
        } else {
            self.post(user_data, Outcome::Done, false);
        }
        self.ledger.close(fd, user_data);
    }

    fn cancel(&mut self, user_data: UserData, target: UserData) {
        // What is still in the submission queue has not begun.
        let is_queued = self.queue.iter().any(|entry| entry.user_data == target);
        let Some(flight) = self.ledger.unfinished(target).filter(|_| !is_queued) else {
            self.post_error(user_data, libc::ENOENT);
            return;
        };
        if !matches!(
            flight.role,
            Role::Recv
                | Role::Send
                | Role::Accept
                | Role::Connect
                | Role::RecvDatagrams
                | Role::SendDatagram
                | Role::Poll
        ) {
            self.post_error(user_data, libc::EALREADY);
        } else if self.dice.strikes(Fault::CancelMisses) {
            self.doom(target, flight);
            let errno = self.dice.pick(&[libc::ENOENT, libc::EALREADY]);
            self.post_error(user_data, errno);
        } else if self.dice.strikes(Fault::CancelFirst) {
            self.post(user_data, Outcome::Done, false);
            self.end_early(target, flight);
        } else {
            self.end_early(target, flight);
            self.post(user_data, Outcome::Done, false);
        }
    }

    /// Lets an operation come to its own end, soon.
    fn doom(&mut self, target: UserData, flight: Flight) {
        let socket = flight.fd.and_then(|fd| self.network.socket(fd));
        if let (Role::Recv, Some((socket, _))) = (flight.role, socket)
            && let Some(arm) = &mut socket.receive
        {
            arm.is_doomed = true;
        }
        let patience = self.dice.faults.late_turns_max;
        let turn = self.turn + 1 + u64::from(self.dice.below(patience));
        self.chores.push(Chore { turn, task: Task::Expire { target, serial: flight.serial } });
    }

    /// Ends an operation with `ECANCELED`, or, for a send of which a part has left, with that part.
    fn end_early(&mut self, target: UserData, flight: Flight) {
        if matches!(flight.role, Role::RecvDatagrams | Role::SendDatagram) {
            self.cancel_datagrams(target);
            return;
        }
        let mut more = false;
        if let Some(fd) = flight.fd {
            let (socket, _) = self.network.socket(fd).expect("it is not closed before this is done");
            if flight.role == Role::Recv {
                socket.receive = None;
                more = self.dice.strikes(Fault::CancelledWithMore);
            } else if let Some(sending) = socket.send.take() {
                self.end_send(fd, sending, libc::ECANCELED);
                return;
            }
        } else {
            self.end_watch(target);
            for listener in &mut self.network.listeners {
                listener.accepts.retain(|&accept| accept != target);
            }
        }
        self.post(target, Outcome::Failed { errno: libc::ECANCELED }, more);
    }
}
