//! The outbox against a model: whatever the socket takes, the bytes leave in order and every send
//! is reported once.

use super::*;
use crate::buf::Unsent;
use proptest::prelude::*;

struct Bench {
    outbox: Outbox,
    stage: Stage,
    pool: Pool,
    wire: Vec<u8>,
    said: Vec<u8>,
    reported: u64,
    sends: u64,
    /// Number of the send and the length of the stream at its end.
    ends: Vec<(u64, usize)>,
}

impl Bench {
    fn new(stage_bytes: u32) -> Self {
        Self {
            outbox: Outbox::new(),
            stage: Stage::new(stage_bytes).unwrap(),
            pool: Pool::default(),
            wire: Vec::new(),
            said: Vec::new(),
            reported: 0,
            sends: 0,
            ends: Vec::new(),
        }
    }

    fn send(&mut self, len: usize) {
        let bytes: Vec<u8> = (0..len).map(|at| (self.said.len() + at) as u8).collect();
        self.said.extend_from_slice(&bytes);
        let sequence = self.outbox.begin();
        self.outbox.push(&bytes, &mut self.stage, &mut self.pool);
        self.sends += 1;
        assert_eq!(sequence, self.sends);
        self.ends.push((sequence, self.said.len()));
    }

    /// One operation of which the socket takes at most `room` bytes, with sends while it flies.
    fn fly(&mut self, room: usize, meanwhile: &[usize]) {
        let staged = self.outbox.next_staged();
        let queued = self.outbox.next_parcel(true, &mut self.pool);
        if staged.is_none() && queued.is_none() {
            return;
        }
        self.stage.flip();
        for &len in meanwhile {
            self.send(len);
        }
        let (taken, parcel) = match (staged, queued) {
            (Some(span), None) => {
                let taken = room.min(span.len as usize);
                self.wire.extend_from_slice(&self.stage.bytes(span)[..taken]);
                (taken, None)
            }
            (None, Some((parcel, _))) => {
                let taken = room.min(parcel.len());
                self.wire.extend_from_slice(&contents(&parcel)[..taken]);
                (taken, Some(parcel))
            }
            _ => panic!("one send in flight at a time"),
        };
        self.outbox.complete(taken, parcel, true, &mut self.stage, &mut self.pool);
        self.report();
    }

    fn report(&mut self) {
        if let Some(sent) = self.outbox.take_report() {
            assert!(sent.through > self.reported);
            self.reported = sent.through;
            let (_, end) = self.ends[sent.through as usize - 1];
            assert!(end <= self.wire.len(), "reported before it was out");
        }
    }

    fn finish(mut self) {
        while !self.outbox.is_idle() {
            self.fly(usize::MAX, &[]);
        }
        self.report();
        assert_eq!(self.wire, self.said);
        assert_eq!(self.reported, self.sends);
        assert_eq!(self.outbox.pending(), 0);
        assert!(self.stage.is_empty());
        assert_eq!(self.pool.lent(), 0);
        assert_eq!(self.outbox.take_failure(CloseReason::Aborted), None);
    }
}

/// The unsent bytes of a parcel without leases.
fn contents(parcel: &Parcel) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in parcel.pieces() {
        match piece.unsent() {
            Unsent::Here(part) => bytes.extend_from_slice(part),
            Unsent::Leased(..) => panic!("nothing is leased here"),
        }
    }
    bytes
}

proptest! {
    #[test]
    fn bytes_leave_in_order_and_every_send_is_reported_once(
        steps in proptest::collection::vec((0usize..300, 0usize..400, 0usize..3), 0..40),
        stage in 1u32..512,
    ) {
        let mut bench = Bench::new(stage);
        for (len, room, meanwhile) in steps {
            bench.send(len);
            bench.fly(room, &vec![len / 2; meanwhile]);
            bench.report();
        }
        bench.finish();
    }

    #[test]
    fn a_discarded_outbox_keeps_nothing(
        lens in proptest::collection::vec(0usize..100_000, 1..8), room in 0usize..70_000,
    ) {
        let mut bench = Bench::new(1024);
        for len in lens {
            bench.send(len);
        }
        bench.fly(room, &[10]);
        let pending = bench.outbox.pending();
        prop_assert_eq!(bench.outbox.discard(&mut bench.stage, &mut bench.pool), pending);
        prop_assert_eq!(bench.outbox.pending(), 0);
        prop_assert_eq!(bench.pool.lent(), 0);
        let failure = bench.outbox.take_failure(CloseReason::Aborted);
        prop_assert_eq!(failure.map(|sent| sent.through), (bench.reported < bench.sends).then_some(bench.sends));
    }
}

#[test]
fn sends_of_one_turn_leave_as_one_operation() {
    let mut bench = Bench::new(1024);
    for _ in 0..16 {
        bench.send(10);
    }
    let span = bench.outbox.next_staged().expect("staged");
    assert_eq!(span.len, 160);
    assert!(bench.outbox.next_staged().is_none(), "one send in flight at a time");
    assert!(bench.outbox.next_parcel(true, &mut bench.pool).is_none(), "nothing was queued");
}

#[test]
fn an_empty_send_completes_with_what_is_before_it() {
    let mut bench = Bench::new(1024);
    bench.send(0);
    assert!(bench.outbox.owes_report());
    bench.report();
    assert_eq!(bench.reported, 1);
    bench.send(5);
    bench.send(0);
    bench.report();
    assert_eq!(bench.reported, 1);
    bench.fly(2, &[0]);
    assert_eq!(bench.reported, 1);
    bench.finish();
}

#[test]
fn water_marks_report_each_crossing_once() {
    let limits = Limits { low: 2, high: 8, full: 100 };
    let mut bench = Bench::new(64);
    bench.send(7);
    assert!(!bench.outbox.has_risen(&limits));
    bench.send(1);
    assert!(bench.outbox.has_risen(&limits));
    assert!(!bench.outbox.has_risen(&limits));
    assert_eq!(bench.outbox.pressure(), Pressure::High);
    bench.fly(5, &[]);
    assert!(!bench.outbox.has_fallen(&limits));
    bench.fly(1, &[]);
    assert!(bench.outbox.has_fallen(&limits));
    assert!(!bench.outbox.has_fallen(&limits));
    assert_eq!(bench.outbox.pressure(), Pressure::Low);
}
