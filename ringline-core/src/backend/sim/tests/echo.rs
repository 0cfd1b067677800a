//! A small server that keeps the core's half of the contract: it sends back what it receives.
//!
//! It proves that the contract can be kept under every fault, so that a breach is the core's.

use super::{LISTENER, lent_parcel, parcel};
use crate::backend::sim::Sim;
use crate::backend::{Backend, Full, Wait};
use crate::buf::{Span, Stage};
use crate::op::{Completion, Fd, Kind, Op, Outcome, UserData};
use std::net::SocketAddr;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    None,
    Now(Span),
    Waiting,
}

/// One connection.
#[derive(Debug)]
struct Row {
    fd: Fd,
    address: Option<SocketAddr>,
    generation: u32,
    receives: bool,
    flight: Flight,
    /// What was received and has not left.
    pending: Vec<u8>,
    is_blocked: bool,
    has_ended: bool,
    is_broken: bool,
    /// Operations under way other than the receive and the send.
    others: u32,
    cancelled: [bool; 2],
    shutdown_pushed: bool,
    /// Sends that are over and whose memory the kernel has.
    lent: u32,
    reset_pushed: bool,
    is_closed: bool,
    close_pushed: bool,
}

impl Row {
    fn is_joined(&self) -> bool {
        !self.receives && self.flight == Flight::None && self.others == 0
    }
}

/// The server.
#[derive(Debug)]
pub(super) struct Echo {
    pub(super) sim: Sim,
    stage: Stage,
    rows: Vec<Option<Row>>,
    generation: u32,
    accepts: bool,
    /// Something waits for room in the submission queue.
    is_behind: bool,
    /// Waits for ever when there is nothing to do, instead of looking after itself from time to time.
    pub(super) sleeps: bool,
}

impl Echo {
    pub(super) const ACCEPT: UserData = UserData::new(Kind::Accept, 0, 0);

    pub(super) fn new(mut sim: Sim) -> Self {
        sim.listener(LISTENER);
        Self {
            sim,
            stage: Stage::new(1 << 14).unwrap(),
            rows: Vec::new(),
            generation: 0,
            accepts: false,
            is_behind: false,
            sleeps: false,
        }
    }

    /// Breaks off the connection from `address`.
    pub(super) fn abort(&mut self, address: SocketAddr) {
        for row in self.rows.iter_mut().flatten() {
            row.is_broken |= row.address == Some(address);
        }
    }

    /// One turn: submits, enters, and does what the completions say. True if it has slept for ever.
    pub(super) fn turn(&mut self) -> bool {
        self.is_behind = false;
        if !self.accepts {
            self.accepts = self.push(Self::ACCEPT, Op::Accept { listener: LISTENER, is_unix: false }).is_ok();
        }
        for at in 0..self.rows.len() {
            self.flush(at);
        }
        let wait = match (self.is_behind, self.sleeps && self.stage.is_empty()) {
            (true, _) => Wait::No,
            (false, true) => Wait::Forever,
            (false, false) => Wait::For(Duration::from_millis(3)),
        };
        self.sim.enter(&self.stage, wait).unwrap();
        let slept = self.sim.is_idle();
        self.stage.flip();
        while let Some(completion) = self.sim.next() {
            self.complete(completion);
        }
        slept
    }

    fn push(&mut self, user_data: UserData, op: Op) -> Result<(), Op> {
        self.sim.push(user_data, op, &self.stage).map_err(|Full(op)| {
            self.is_behind = true;
            op
        })
    }

    /// Submits what the state of a connection asks for.
    fn flush(&mut self, at: usize) {
        let Some(mut row) = self.rows[at].take() else { return };
        let generation = row.generation;
        let tag = |kind| UserData::new(kind, generation, at as u32);
        if row.is_broken {
            let targets = [
                (Kind::CancelRecv, Kind::Recv, row.receives),
                (Kind::CancelSend, Kind::Send, row.flight == Flight::Waiting),
            ];
            for (place, (kind, target, is_due)) in targets.into_iter().enumerate() {
                if is_due && !row.cancelled[place] {
                    let op = Op::Cancel { target: tag(target) };
                    row.cancelled[place] = self.push(tag(kind), op).is_ok();
                    row.others += u32::from(row.cancelled[place]);
                }
            }
        } else {
            if !row.receives && !row.has_ended {
                row.receives = self.push(tag(Kind::Recv), Op::Recv { fd: row.fd }).is_ok();
            }
            if row.flight == Flight::None && !row.pending.is_empty() {
                self.send(tag(Kind::Send), &mut row);
            }
            let is_done = row.has_ended && row.pending.is_empty();
            if is_done && row.is_joined() && !row.shutdown_pushed {
                let op = Op::ShutdownWrite { fd: row.fd };
                row.shutdown_pushed = self.push(tag(Kind::Shutdown), op).is_ok();
                row.others += u32::from(row.shutdown_pushed);
            }
        }
        let is_over = row.is_broken || row.shutdown_pushed;
        if row.is_broken && row.is_joined() && row.lent > 0 && !row.reset_pushed {
            row.reset_pushed = self.push(tag(Kind::Reset), Op::Reset { fd: row.fd }).is_ok();
            row.others += u32::from(row.reset_pushed);
        }
        if is_over && row.is_joined() && !row.close_pushed && (row.lent == 0 || row.reset_pushed) {
            row.close_pushed = self.push(tag(Kind::Close), Op::Close { fd: row.fd }).is_ok();
        }
        self.rows[at] = Some(row);
    }

    fn send(&mut self, user_data: UserData, row: &mut Row) {
        let fd = row.fd;
        let staged =
            if row.is_blocked || row.pending.len() % 8 == 1 { None } else { self.stage.append(&row.pending) };
        if let Some(span) = staged {
            row.flight = Flight::Now(span);
            if self.push(user_data, Op::SendNow { fd, span }).is_err() {
                self.stage.retire(span);
                row.flight = Flight::None;
            }
        } else {
            // Some are copied and some are not.
            let parcel = if row.pending.len().is_multiple_of(2) {
                parcel(&row.pending)
            } else {
                lent_parcel(&row.pending)
            };
            if self.push(user_data, Op::Send { fd, parcel, waits: true }).is_ok() {
                row.flight = Flight::Waiting;
            }
        }
    }

    fn complete(&mut self, completion: Completion) {
        let Completion { tag, outcome, more } = completion;
        if tag.kind == Kind::Accept {
            self.accepts = false;
            if let Outcome::Accepted { fd, peer } = outcome {
                self.open(fd, peer.and_then(|peer| peer.addr.ip()));
            }
            return;
        }
        let row = self.rows[tag.row as usize].as_mut().expect("a row outlives its operations");
        assert_eq!(row.generation, tag.generation, "a completion meets its own row");
        match tag.kind {
            Kind::Recv => {
                row.receives = more;
                match outcome {
                    Outcome::Received(lease) => {
                        row.pending.extend_from_slice(self.sim.received(&lease));
                        self.sim.release(lease);
                    }
                    Outcome::EndOfStream => row.has_ended = true,
                    Outcome::Failed { errno, .. } => {
                        row.receives = false;
                        row.is_broken |= ![libc::ECANCELED, libc::ENOBUFS].contains(&errno);
                    }
                    outcome => panic!("{outcome:?}"),
                }
            }
            Kind::Send if matches!(outcome, Outcome::Returned(_)) => {
                assert!(!more);
                row.lent -= 1;
            }
            Kind::Send => Self::sent(row, &mut self.stage, &outcome, more),
            Kind::Shutdown => {
                row.others -= 1;
                row.is_broken |= matches!(outcome, Outcome::Failed { .. });
            }
            Kind::CancelRecv | Kind::CancelSend | Kind::Reset => row.others -= 1,
            Kind::Close => row.is_closed = true,
            kind => panic!("{kind:?}"),
        }
        if row.is_closed && row.lent == 0 {
            self.rows[tag.row as usize] = None;
        }
    }

    fn sent(row: &mut Row, stage: &mut Stage, outcome: &Outcome, more: bool) {
        match std::mem::replace(&mut row.flight, Flight::None) {
            Flight::Now(span) => {
                let bytes = match *outcome {
                    Outcome::Sent { bytes, errno, .. } => {
                        row.is_broken |= ![0, libc::EAGAIN, libc::ENOBUFS].contains(&errno);
                        bytes
                    }
                    ref outcome => panic!("{outcome:?}"),
                };
                row.is_blocked = bytes < span.len as usize;
                row.pending.drain(..bytes);
                stage.retire(span);
            }
            Flight::Waiting => match outcome {
                Outcome::Sent { bytes, errno, parcel } => {
                    assert!(parcel.is_some() != more, "the memory comes now or later");
                    row.lent += u32::from(more);
                    let passing = [0, libc::EOPNOTSUPP, libc::ENOBUFS, libc::ENOMEM];
                    row.is_broken |= !passing.contains(errno);
                    row.is_blocked = false;
                    row.pending.drain(..*bytes);
                }
                outcome => panic!("{outcome:?}"),
            },
            Flight::None => panic!("nothing was sent"),
        }
    }

    fn open(&mut self, fd: Fd, address: Option<SocketAddr>) {
        let is_ours = |row: &Row| row.fd == fd && !row.is_closed;
        assert!(!self.rows.iter().flatten().any(is_ours), "a descriptor comes back behind its close");
        self.generation += 1;
        let row = Row {
            fd,
            address,
            generation: self.generation,
            receives: false,
            flight: Flight::None,
            pending: Vec::new(),
            is_blocked: false,
            has_ended: false,
            is_broken: false,
            others: 0,
            cancelled: [false; 2],
            shutdown_pushed: false,
            lent: 0,
            reset_pushed: false,
            is_closed: false,
            close_pushed: false,
        };
        match self.rows.iter().position(Option::is_none) {
            Some(at) => self.rows[at] = Some(row),
            None => self.rows.push(Some(row)),
        }
    }
}
