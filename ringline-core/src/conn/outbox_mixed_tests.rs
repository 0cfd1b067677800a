//! The outbox against a model once more, with everything that can be sent: copies, parts, guards,
//! leases and chains; with zero-copy sends whose memory comes back later, and chains that break.

use super::*;
use crate::buf::Unsent;
use proptest::prelude::*;
use std::sync::Arc;

const TABLE_LEN: usize = 1 << 17;

/// The byte at each place of everything that is ever sent.
static TABLE: [u8; TABLE_LEN] = {
    let mut table = [0; TABLE_LEN];
    let mut at = 0;
    while at < TABLE_LEN {
        table[at] = (at as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes()[5];
        at += 1;
    }
    table
};

fn read(lease: &Lease) -> &'static [u8] {
    &TABLE[lease.offset as usize..][..lease.len as usize]
}

#[derive(Clone, Copy, Debug)]
enum Send {
    Copy,
    Guard,
    Lease,
    Parts,
    Chain(OnBreak),
}

#[derive(Clone, Debug)]
enum Step {
    Send(Send, usize),
    /// One operation of which the socket takes so much; the memory of a zero-copy send comes back
    /// with it if told so.
    Fly {
        room: usize,
        is_prompt: bool,
        waits: bool,
    },
    /// The kernel gives one loan back, whichever.
    Return(usize),
    GoOverToCopying,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let send = prop_oneof![
        Just(Send::Copy),
        Just(Send::Guard),
        Just(Send::Lease),
        Just(Send::Parts),
        Just(Send::Chain(OnBreak::Resume)),
        Just(Send::Chain(OnBreak::Report)),
    ];
    let fly = (0_usize..900, any::<bool>(), any::<bool>());
    let step = prop_oneof![
        5 => (send, 0_usize..400).prop_map(|(send, len)| Step::Send(send, len)),
        5 => fly.prop_map(|(room, is_prompt, waits)| Step::Fly { room, is_prompt, waits }),
        3 => (0_usize..8).prop_map(Step::Return),
        1 => Just(Step::GoOverToCopying),
    ];
    proptest::collection::vec(step, 0..80)
}

struct Bench {
    outbox: Outbox,
    stage: Stage,
    pool: Pool,
    wire: Vec<u8>,
    said: Vec<u8>,
    /// How much was ever said, also what was lost.
    place: usize,
    /// Where in `said` each send ends.
    ends: Vec<usize>,
    reported: u64,
    #[expect(clippy::vec_box, reason = "parcels travel as boxes")]
    loans: Vec<Box<Parcel>>,
    /// What every guard keeps.
    owner: Arc<[u8]>,
}

impl Bench {
    fn new(stage_bytes: u32) -> Self {
        Self {
            outbox: Outbox::new(),
            stage: Stage::new(stage_bytes).unwrap(),
            pool: Pool::default(),
            wire: Vec::new(),
            said: Vec::new(),
            place: 0,
            ends: Vec::new(),
            reported: 0,
            loans: Vec::new(),
            owner: TABLE.as_slice().into(),
        }
    }

    fn say(&mut self, len: usize) -> &'static [u8] {
        let bytes = &TABLE[self.place..][..len];
        self.place += len;
        self.said.extend_from_slice(bytes);
        bytes
    }

    fn guard(&self, bytes: &[u8]) -> Guard {
        let at = self.place - bytes.len();
        Guard::new(bytes::Bytes::from_owner(Arc::clone(&self.owner)).slice(at..self.place))
    }

    fn push(&mut self, send: Send, len: usize) {
        let bytes = self.say(len);
        match send {
            Send::Guard => {
                let guard = self.guard(bytes);
                self.outbox.push_guard(guard, &mut self.stage, &mut self.pool);
            }
            Send::Lease => {
                let lease = Lease { buffer: 0, offset: (self.place - len) as u32, len: len as u32 };
                self.outbox.push_lease(lease, &mut self.stage, &mut self.pool);
            }
            _ => {
                self.outbox.push(bytes, &mut self.stage, &mut self.pool);
            }
        }
    }

    fn send(&mut self, send: Send, len: usize) {
        assert_eq!(self.outbox.begin(), self.ends.len() as u64 + 1);
        match send {
            _ if len == 0 => self.push(Send::Copy, 0),
            Send::Parts => {
                let kinds = [Send::Copy, Send::Guard, Send::Lease, Send::Copy];
                let lens = [len / 4, len / 3, len / 5];
                let lens = [lens[0], lens[1], lens[2], len - lens.iter().sum::<usize>()];
                for (at, (kind, len)) in
                    kinds.into_iter().zip(lens).enumerate().filter(|(_, (_, len))| *len > 0)
                {
                    self.outbox.expect_more(at < 3);
                    self.push(kind, len);
                }
            }
            Send::Chain(on_break) => {
                let mut parcel = self.pool.take_parcel();
                for (at, len) in [len / 3, len / 4, len - len / 3 - len / 4].into_iter().enumerate() {
                    if len == 0 {
                        continue;
                    }
                    let bytes = self.say(len);
                    if at == 1 {
                        let (mut block, _) = self.pool.take(len);
                        assert_eq!(block.fill(bytes), len);
                        parcel.push(Piece::new(Body::Block(block), 0));
                    } else {
                        parcel.push(Piece::new(Body::Guard(self.guard(bytes)), 0));
                    }
                    parcel.end_link();
                }
                self.outbox.push_chain(parcel, on_break, &mut self.stage, &mut self.pool);
            }
            kind => self.push(kind, len),
        }
        self.ends.push(self.said.len());
    }

    fn fly(&mut self, room: usize, is_prompt: bool, waits: bool) {
        let staged = self.outbox.next_staged();
        let queued = self.outbox.next_parcel(waits, &mut self.pool);
        if staged.is_none() && queued.is_none() {
            return;
        }
        self.stage.flip();
        let (taken, parcel) = match (staged, queued) {
            (Some(span), None) => {
                let taken = room.min(span.len as usize);
                self.wire.extend_from_slice(&self.stage.bytes(span)[..taken]);
                (taken, None)
            }
            (None, Some((parcel, waits))) => {
                let bytes = contents(&parcel);
                let taken = room.min(bytes.len());
                self.wire.extend_from_slice(&bytes[..taken]);
                let mixes = |link: &crate::buf::Link| link.zero_copy;
                let is_lent = parcel.links().any(|link| mixes(&link));
                assert!(waits || !is_lent, "what does not wait is copied");
                let is_kept = is_lent && !is_prompt;
                if is_kept {
                    self.loans.push(parcel);
                    (taken, None)
                } else {
                    (taken, Some(parcel))
                }
            }
            _ => panic!("one send in flight at a time"),
        };
        self.outbox.complete(taken, parcel, waits, &mut self.stage, &mut self.pool);
        self.report();
    }

    fn give_back(&mut self, which: usize) {
        if !self.loans.is_empty() {
            let parcel = self.loans.remove(which % self.loans.len());
            assert!(self.outbox.is_lending());
            self.outbox.take_back(parcel, &mut self.pool);
            self.report();
        }
    }

    fn report(&mut self) {
        while let Some(sent) = self.outbox.take_report() {
            assert!(sent.through > self.reported);
            self.reported = sent.through;
            if let Err(SendFailure::Broken { sent: out, of }) = sent.result {
                // What is lost was the end of the last chain; empty sends may follow it.
                let end = self.ends[sent.through as usize - 1];
                let lost = (of - out) as usize;
                assert!(lost > 0 && end - lost <= self.wire.len());
                self.said.drain(end - lost..end);
                let first = self.ends.iter().position(|&at| at >= end).unwrap();
                self.ends[first..].iter_mut().for_each(|at| *at -= lost);
            }
            let end = self.ends[sent.through as usize - 1];
            assert!(end <= self.wire.len(), "reported before it was out");
        }
    }

    fn finish(mut self) {
        while !self.outbox.is_idle() || !self.loans.is_empty() {
            self.fly(usize::MAX, true, true);
            self.give_back(0);
        }
        self.report();
        assert!(self.wire == self.said, "what arrived is not what was said");
        assert_eq!(self.reported, self.ends.len() as u64);
        assert_eq!((self.outbox.pending(), self.outbox.held()), (0, 0));
        assert!(self.stage.is_empty() && !self.outbox.is_lending());
        while self.pool.take_lease().is_some() {}
        assert_eq!(self.pool.lent(), 0);
        assert_eq!(Arc::strong_count(&self.owner), 1, "every guard is dropped");
        assert_eq!(self.outbox.take_failure(CloseReason::Aborted), None);
    }
}

/// The unsent bytes of a parcel.
fn contents(parcel: &Parcel) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in parcel.pieces() {
        match piece.unsent() {
            Unsent::Here(part) => bytes.extend_from_slice(part),
            Unsent::Leased(lease, skip) => bytes.extend_from_slice(&read(lease)[skip..]),
        }
    }
    bytes
}

proptest! {
    #[test]
    fn whatever_is_sent_leaves_in_order_and_comes_back_once(steps in steps(), stage in 1_u32..512) {
        let mut bench = Bench::new(stage);
        for step in steps {
            match step {
                Step::Send(send, len) => bench.send(send, len),
                Step::Fly { room, is_prompt, waits } => bench.fly(room, is_prompt, waits),
                Step::Return(which) => bench.give_back(which),
                Step::GoOverToCopying => {
                    bench.outbox.go_over_to_copying();
                }
            }
            bench.report();
        }
        bench.finish();
    }

    #[test]
    fn whatever_is_discarded_comes_back_once(steps in steps()) {
        let mut bench = Bench::new(300);
        for step in steps {
            match step {
                Step::Send(send, len) => bench.send(send, len),
                Step::Fly { room, is_prompt, waits } => bench.fly(room, is_prompt, waits),
                _ => {}
            }
        }
        let pending = bench.outbox.pending();
        prop_assert_eq!(bench.outbox.discard(&mut bench.stage, &mut bench.pool), pending);
        while !bench.loans.is_empty() {
            bench.give_back(0);
        }
        while bench.pool.take_lease().is_some() {}
        prop_assert_eq!((bench.outbox.pending(), bench.outbox.held(), bench.pool.lent()), (0, 0, 0));
        prop_assert_eq!(Arc::strong_count(&bench.owner), 1);
        prop_assert!(bench.outbox.is_idle() && !bench.outbox.is_lending());
    }
}
