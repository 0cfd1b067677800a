//! One worker's connections, from the first to the report.
//!
//! Invariant: every request that is sent is counted once more: as answered, as failed, or as abandoned.
//! A callback of one connection may send on another one, so what is known of connections is kept here
//! and not in their states, which are only their numbers.

use super::events::{Live, Reporter};
use super::options::{Plan, RunLength};
use super::protocol::{Protocol, Read};
use super::schedule::{Next, SLOT, Schedule, Share};
use super::slot::{InFlight, Slot, State};
use super::tally::{Failure, Tally};
use ringline_core::{
    CloseReason, ConnId, ConnectError, Consumed, Ctx, EventHandler, Seat, SendError, Tick, TimerKey,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys of timers; smaller ones are the numbers of slots.
const START: TimerKey = TimerKey(u64::MAX);
const DUE: TimerKey = TimerKey(u64::MAX - 1);
const END: TimerKey = TimerKey(u64::MAX - 2);
const SWEEP: TimerKey = TimerKey(u64::MAX - 3);

/// How often overdue answers are looked for at least.
const SWEEP_INTERVAL_MAX: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first connections are being made.
    Connecting,
    Running,
    /// Nothing more is sent.
    Draining,
    Done,
}

pub(crate) struct Client {
    plan: Arc<Plan>,
    protocol: Protocol,
    schedule: Schedule,
    slots: Vec<Slot>,
    phase: Phase,
    start: Instant,
    /// When the last request or answer was, or the end of the time.
    last: Instant,
    /// Slots whose first connection is not made yet and has not failed.
    unsettled: usize,
    given_up: usize,
    in_flight: usize,
    /// Which slot is looked at first.
    cursor: usize,
    /// A request is due and no slot takes it.
    is_stalled: bool,
    is_armed: bool,
    tally: Tally,
    live: Arc<Live>,
    reporter: Reporter,
}

impl Client {
    pub(crate) fn new(seat: Seat, plan: Arc<Plan>, reporter: Reporter) -> Self {
        // Workers that would have no connection have no share in anything.
        let of = (seat.workers as u64).min(u64::from(plan.connections));
        let share = Share { index: seat.worker as u64, of };
        let count = if share.index < of { share.part(plan.connections) as usize } else { 0 };
        let slots: Vec<_> =
            (0..count as u64).map(|number| Slot::new(plan.seed, number * of + share.index)).collect();
        let now = Instant::now();
        Self {
            protocol: Protocol::new(&plan),
            schedule: Schedule::new(share, plan.rate, plan.length),
            unsettled: slots.len(),
            slots,
            phase: Phase::Connecting,
            start: now,
            last: now,
            given_up: 0,
            in_flight: 0,
            cursor: 0,
            is_stalled: false,
            is_armed: false,
            tally: Tally::new(),
            live: reporter.started(),
            reporter,
            plan,
        }
    }

    fn dial(&mut self, cx: &mut Ctx<'_, Self>, number: usize) {
        match cx.connect(self.plan.server, number) {
            Ok(id) => self.slots[number].connect(id),
            Err(not) if not.error == ConnectError::ShuttingDown => {}
            Err(_) => self.retry(cx, number, Failure::Limit),
        }
    }

    /// A connection has failed.
    fn retry(&mut self, cx: &mut Ctx<'_, Self>, number: usize, failure: Failure) {
        self.tally.fail_connection(failure);
        match self.slots[number].failed(self.plan.retries) {
            Some(wait) => {
                cx.set_timer(wait, TimerKey(number as u64));
            }
            None => self.given_up += 1,
        }
        self.settle(cx, number);
        if self.given_up == self.slots.len() {
            self.drain(cx);
        }
    }

    /// The run begins when every first connection is made or has failed.
    fn settle(&mut self, cx: &mut Ctx<'_, Self>, number: usize) {
        if !std::mem::replace(&mut self.slots[number].is_settled, true) {
            self.unsettled -= 1;
            if self.unsettled == 0 && self.phase == Phase::Connecting {
                // A timer fires at the beginning of a slot, and there the schedule begins.
                cx.set_timer(Duration::ZERO, START);
            }
        }
    }

    fn begin(&mut self, cx: &mut Ctx<'_, Self>) {
        if self.phase != Phase::Connecting {
            return;
        }
        self.phase = Phase::Running;
        self.start = cx.now();
        self.last = self.start;
        if let RunLength::For(time) = self.plan.length {
            cx.set_timer(time, END);
        }
        self.pump(cx);
    }

    /// Sends what may be sent, on all connections.
    fn pump(&mut self, cx: &mut Ctx<'_, Self>) {
        if self.phase != Phase::Running {
            return;
        }
        if self.plan.rate.is_some() {
            return self.pump_due(cx);
        }
        for number in 0..self.slots.len() {
            self.fill(cx, number);
        }
    }

    /// Sends on one connection until it has its depth.
    fn fill(&mut self, cx: &mut Ctx<'_, Self>, number: usize) {
        let now = cx.now();
        while let Some(id) = self.slots[number].ready(self.plan.depth) {
            match self.schedule.next(now - self.start) {
                Next::Due(_) if self.send(cx, number, id, now, now) => {}
                Next::Due(_) | Next::Later(_) => return,
                Next::Finished => return self.drain(cx),
            }
        }
    }

    /// Sends what is due, on whatever connections take it.
    fn pump_due(&mut self, cx: &mut Ctx<'_, Self>) {
        let now = cx.now();
        // A timer may be early by the difference between its grain and the beginning of the run.
        let horizon = now - self.start + SLOT / 2;
        self.is_stalled = false;
        loop {
            match self.schedule.next(horizon) {
                Next::Due(due) => {
                    let Some((number, id)) = self.pick() else {
                        self.is_stalled = true;
                        return;
                    };
                    // What is sent early has no latency before that.
                    let from = now.min(self.start + due);
                    if self.send(cx, number, id, from, now) {
                        self.tally.late(now - from);
                    }
                }
                Next::Later(due) => {
                    if !std::mem::replace(&mut self.is_armed, true) {
                        cx.set_timer(due - horizon, DUE);
                    }
                    return;
                }
                Next::Finished => return self.drain(cx),
            }
        }
    }

    /// The next connection that takes a request.
    fn pick(&mut self) -> Option<(usize, ConnId)> {
        let count = self.slots.len();
        let mut order = (0..count).map(|step| (self.cursor + step) % count);
        let found = order.find_map(|at| Some((at, self.slots[at].ready(self.plan.depth)?)));
        if let Some((number, _)) = found {
            self.cursor = number + 1;
        }
        found
    }

    fn send(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        number: usize,
        id: ConnId,
        from: Instant,
        now: Instant,
    ) -> bool {
        let slot = &mut self.slots[number];
        let request = self.protocol.request(slot.lane, slot.sent);
        match cx.send(id, request) {
            Ok(_) => {
                slot.sent += 1;
                slot.in_flight.push_back(InFlight { from, sent: now });
                self.in_flight += 1;
                self.schedule.take();
                self.tally.sent += 1;
                self.tally.bytes_sent += request.len() as u64;
                self.last = now;
                true
            }
            // Tried again when the outbox is down, or a while later.
            Err(SendError::Full { .. } | SendError::WorkerFull { .. }) => {
                slot.is_blocked = true;
                false
            }
            Err(_) => {
                slot.state = State::Ending;
                false
            }
        }
    }

    /// An answer is whole.
    fn answered(&mut self, number: usize, now: Instant, refusal: Option<Failure>) {
        let Some(request) = self.slots[number].answered() else { return };
        self.in_flight -= 1;
        self.last = now;
        match refusal {
            None => self.tally.answer(now.saturating_duration_since(request.from)),
            Some(failure) => self.tally.fail_requests(failure, 1),
        }
    }

    /// Gives up a connection that does not do what it should.
    fn condemn(&mut self, cx: &mut Ctx<'_, Self>, number: usize, failure: Failure) {
        let slot = &mut self.slots[number];
        if let State::Open(id) = slot.state {
            slot.verdict = Some(failure);
            slot.state = State::Ending;
            cx.abort(id);
        }
    }

    /// Looks for answers that do not come.
    fn sweep(&mut self, cx: &mut Ctx<'_, Self>) {
        let now = cx.now();
        for number in 0..self.slots.len() {
            if self.slots[number].is_overdue(now, self.plan.timeout) {
                self.condemn(cx, number, Failure::Timeout);
            }
            self.slots[number].is_blocked = false;
        }
        self.pump(cx);
        if self.phase != Phase::Done {
            cx.set_timer((self.plan.timeout / 10).min(SWEEP_INTERVAL_MAX), SWEEP);
        }
    }

    /// Sends nothing more, and ends when nothing is awaited any more.
    fn drain(&mut self, cx: &mut Ctx<'_, Self>) {
        if matches!(self.phase, Phase::Connecting | Phase::Running) {
            self.phase = Phase::Draining;
            // What is in no slot yet is as good as not sent, and so is all of it if there was no start.
            let elapsed =
                if self.given_up < self.slots.len() { Duration::MAX } else { self.last - self.start };
            let is_counted = matches!(self.plan.length, RunLength::Requests(_));
            let unsent = self.schedule.unsent(if is_counted { Duration::MAX } else { elapsed });
            self.tally.fail_requests(Failure::NotSent, unsent);
            self.schedule.stop();
        }
        if self.phase == Phase::Draining && self.in_flight == 0 {
            self.finish(cx);
        }
    }

    fn finish(&mut self, cx: &mut Ctx<'_, Self>) {
        self.phase = Phase::Done;
        self.tally.time = self.last - self.start;
        for slot in &self.slots {
            if let State::Open(id) | State::Connecting(id) = slot.state {
                cx.close(id);
            }
        }
        self.publish();
        self.reporter.report(std::mem::replace(&mut self.tally, Tally::new()));
    }

    fn publish(&self) {
        let failed = self.tally.failed();
        self.live.store(self.tally.answered, failed.connections + failed.requests);
    }
}

impl EventHandler for Client {
    /// Which slot it is.
    type Conn = usize;
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        if self.slots.is_empty() {
            return self.finish(cx);
        }
        for number in 0..self.slots.len() {
            self.dial(cx, number);
        }
        cx.set_timer(Duration::ZERO, SWEEP);
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, number: &mut usize) {
        self.tally.opened += 1;
        self.slots[*number].state = State::Open(id);
        self.settle(cx, *number);
        if self.phase == Phase::Done {
            cx.close(id);
        } else if self.plan.rate.is_none() && self.phase == Phase::Running {
            self.fill(cx, *number);
        } else if self.is_stalled {
            self.pump(cx);
        }
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, number: &mut usize, data: &[u8]) -> Consumed {
        let number = *number;
        let now = cx.now();
        let mut done = 0;
        while done < data.len() && self.slots[number].state == State::Open(id) {
            let slot = &mut self.slots[number];
            if slot.in_flight.is_empty() {
                self.condemn(cx, number, Failure::Surplus);
                break;
            }
            match self.protocol.read(&mut slot.reader, &data[done..]) {
                Read::Answered { bytes, refusal } => {
                    done += bytes;
                    self.answered(number, now, refusal);
                }
                Read::Partial { bytes: 0 } => break,
                Read::Partial { bytes } => done += bytes,
                Read::Wrong(failure) => self.condemn(cx, number, failure),
            }
            let slot = &mut self.slots[number];
            if slot.reader.is_last {
                slot.is_last = true;
                slot.state = State::Ending;
                cx.close(id);
            }
        }
        self.tally.bytes_received += done as u64;
        match self.phase {
            Phase::Running if self.plan.rate.is_none() => self.fill(cx, number),
            Phase::Running if self.is_stalled => self.pump(cx),
            Phase::Draining => self.drain(cx),
            _ => {}
        }
        Consumed::bytes(done)
    }

    fn on_writable(&mut self, cx: &mut Ctx<'_, Self>, _: ConnId, number: &mut usize) {
        self.slots[*number].is_blocked = false;
        if self.plan.rate.is_none() && self.phase == Phase::Running {
            self.fill(cx, *number);
        } else {
            self.pump(cx);
        }
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, key: TimerKey) {
        match key {
            _ if self.phase == Phase::Done => {}
            START => self.begin(cx),
            DUE => {
                self.is_armed = false;
                self.pump(cx);
            }
            END => {
                self.last = cx.now();
                self.pump(cx);
                self.drain(cx);
            }
            SWEEP => self.sweep(cx),
            TimerKey(number) if self.phase != Phase::Draining => self.dial(cx, number as usize),
            _ => {}
        }
    }

    fn on_close(&mut self, cx: &mut Ctx<'_, Self>, _: ConnId, number: usize, reason: CloseReason) {
        if self.phase == Phase::Done {
            return;
        }
        let slot = &mut self.slots[number];
        let lost = slot.in_flight.len();
        slot.in_flight.clear();
        slot.state = State::Empty;
        self.in_flight -= lost;
        let failure = slot.verdict.unwrap_or_else(|| Failure::of_end(reason));
        if slot.is_last {
            // The server has said so, and whoever sent more on this connection has to bear it.
            self.tally.fail_requests(Failure::PeerClosed, lost as u64);
            if self.phase == Phase::Running {
                self.dial(cx, number);
            }
        } else {
            self.tally.fail_requests(failure, lost as u64);
            self.retry(cx, number, failure);
        }
        if self.phase == Phase::Draining {
            self.drain(cx);
        }
    }

    fn on_tick(&mut self, _: &mut Ctx<'_, Self>, _: Tick) {
        if self.phase != Phase::Done {
            self.publish();
        }
    }

    /// The run is cut short.
    fn on_shutdown(&mut self, cx: &mut Ctx<'_, Self>, _: Instant) {
        if self.phase == Phase::Done {
            return;
        }
        if self.phase == Phase::Running {
            self.last = cx.now();
            if self.plan.rate.is_some() {
                let unsent = self.schedule.unsent(self.last - self.start);
                self.tally.fail_requests(Failure::NotSent, unsent);
            }
        }
        self.tally.abandoned = self.in_flight as u64;
        self.finish(cx);
    }
}
