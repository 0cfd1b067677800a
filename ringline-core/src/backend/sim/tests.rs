//! The simulated kernel's own tests: that it keeps its half of the contract, that it notices when
//! the other half is broken, and that every fault really happens.

mod contract;
mod datagrams;
mod dial;
mod echo;
mod fault;
mod stream;
mod swarm;
mod watch;

use super::{Fault, Faults, PeerId, Sim};
use crate::backend::{Backend, Full, Wait};
use crate::buf::{Block, Body, Guard, Parcel, Piece, Span, Stage};
use crate::op::{Completion, Fd, Kind, Op, Outcome, UserData};

/// The number of the listener in these tests.
const LISTENER: i32 = 77;

/// A kernel with a stage, and a core that does what the test says.
struct Rig {
    sim: Sim,
    stage: Stage,
}

impl Rig {
    fn new(faults: Faults) -> Self {
        Self::seeded(1, faults)
    }

    fn seeded(seed: u64, faults: Faults) -> Self {
        let mut sim = Sim::new(seed, faults);
        sim.enable_trace();
        sim.listener(LISTENER);
        Self { sim, stage: Stage::new(1 << 16).unwrap() }
    }

    fn calm() -> Self {
        Self::new(Faults::none())
    }

    /// Pushes, whatever it takes.
    fn push(&mut self, kind: Kind, row: u32, op: Op) {
        let mut op = op;
        while let Err(Full(back)) = self.sim.push(tag(kind, row), op, &self.stage) {
            op = back;
            self.enter(Wait::No);
        }
    }

    fn enter(&mut self, wait: Wait) {
        self.sim.enter(&self.stage, wait).unwrap();
    }

    /// Enters and takes everything.
    fn turn(&mut self, wait: Wait) -> Vec<Completion> {
        self.enter(wait);
        std::iter::from_fn(|| self.sim.next()).collect()
    }

    /// Enters until there is one completion and takes it.
    fn one(&mut self) -> Completion {
        for _ in 0..1000 {
            if let Some(completion) = self.sim.next() {
                return completion;
            }
            self.enter(Wait::Forever);
            assert!(self.sim.has_completions() || !self.sim.is_idle(), "nothing will ever happen");
        }
        panic!("nothing happens");
    }

    /// A connection, accepted as `row`.
    fn accept(&mut self, row: u32) -> (PeerId, Fd) {
        let peer = self.sim.connect(LISTENER);
        self.push(Kind::Accept, row, Op::Accept { listener: LISTENER, is_unix: false });
        match self.one().outcome {
            Outcome::Accepted { fd, .. } => (peer, fd),
            outcome => panic!("{outcome:?}"),
        }
    }

    fn recv(&mut self, row: u32, fd: Fd) {
        self.push(Kind::Recv, row, Op::Recv { fd });
    }

    fn send_now(&mut self, row: u32, fd: Fd, bytes: &[u8]) -> Span {
        let span = self.stage.append(bytes).unwrap();
        self.push(Kind::Send, row, Op::SendNow { fd, span });
        span
    }

    fn send(&mut self, row: u32, fd: Fd, bytes: &[u8]) {
        self.push(Kind::Send, row, Op::Send { fd, parcel: parcel(bytes), waits: true });
    }

    fn cancel(&mut self, kind: Kind, row: u32, target: Kind) {
        self.push(kind, row, Op::Cancel { target: tag(target, row) });
    }

    fn close(&mut self, row: u32, fd: Fd) {
        self.push(Kind::Close, row, Op::Close { fd });
    }
}

fn tag(kind: Kind, row: u32) -> UserData {
    UserData::new(kind, 9, row)
}

fn parcel(bytes: &[u8]) -> Box<Parcel> {
    let mut block = Block::with_capacity(bytes.len());
    assert_eq!(block.fill(bytes), bytes.len());
    let mut parcel = Box::<Parcel>::default();
    parcel.push(Piece::new(Body::Block(block), 1));
    parcel
}

/// The same bytes in a chain of two zero-copy links.
fn lent_parcel(bytes: &[u8]) -> Box<Parcel> {
    let mut parcel = Box::<Parcel>::default();
    let (front, back) = bytes.split_at(bytes.len() / 2);
    for half in [front, back].into_iter().filter(|half| !half.is_empty()) {
        parcel.push(Piece::new(Body::Guard(Guard::new(half.to_vec())), 1));
        parcel.end_link();
    }
    parcel.arrange(true);
    parcel
}

fn errno(completion: &Completion) -> i32 {
    match completion.outcome {
        Outcome::Failed { errno } | Outcome::Sent { errno, .. } => errno,
        _ => 0,
    }
}

fn sent(completion: &Completion) -> usize {
    match completion.outcome {
        Outcome::Sent { bytes, .. } => bytes,
        _ => 0,
    }
}
