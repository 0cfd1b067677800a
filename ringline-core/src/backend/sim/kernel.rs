//! The kernel's turn: takes operations, looks at sockets, reports completions.

use super::faults::Fault;
use super::ledger::is_stamped;
use super::{Entry, Sim};
use crate::backend::Wait;
use crate::buf::{Parcel, Span, Stage};
use crate::op::{Completion, Fd, Op, Outcome, Tag, UserData};

/// How much time passes between two turns of one wait.
const TURN_US: u64 = 1000;

/// Whether an operation has nothing more to report. An error ends an operation whatever it says
/// about more to come.
pub(super) fn is_last(outcome: &Outcome, more: bool) -> bool {
    !more || matches!(outcome, Outcome::Failed { .. } | Outcome::EndOfStream | Outcome::Sent { .. })
}

impl Sim {
    /// What `enter` does.
    pub(super) fn run(&mut self, stage: &Stage, wait: Wait) {
        if let Some(completion) = self.posts.tampered(stage) {
            let tag = completion.tag;
            self.trace.panic(&format!("{STAGED_ALONE}: {tag:?}"));
        }
        self.is_idle = false;
        let turn_us = self.dice.faults.turn_us_max;
        // Time never stands still, or a worker that never waits would stop it.
        let turn_us = 1 + u64::from(self.dice.below(turn_us.saturating_add(1)));
        self.clock_us = self.clock_us.saturating_add(turn_us);
        self.begin_turn(self.turn + 1);
        let took_all = self.submit(stage);
        let returns_early = self.dice.strikes(Fault::EarlyReturn);
        self.work();
        if returns_early {
            self.trace.note(|| "enter returns early".to_owned());
            return;
        }
        if !self.dice.strikes(Fault::HeldBatch) {
            self.posts.deliver(self.turn, &mut self.dice);
        }
        match wait {
            Wait::For(time) if took_all => {
                let time_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
                self.wait(Some(self.clock_us.saturating_add(time_us)));
            }
            Wait::Forever if took_all => self.wait(None),
            _ => {}
        }
    }

    /// Queues a completion for the core; false if it is the operation's last.
    pub(super) fn post(&mut self, user_data: UserData, outcome: Outcome, more: bool) -> bool {
        !self.post_at(user_data, outcome, more).1
    }

    /// The same; tells the turn in which the core hears of it at the earliest, and whether it is the
    /// last.
    pub(super) fn post_at(&mut self, user_data: UserData, outcome: Outcome, more: bool) -> (u64, bool) {
        let overflows = self.posts.len() >= self.dice.faults.completion_entries.max(1) as usize;
        self.overflows += u64::from(overflows);
        // The memory of a send comes back whatever happens to the queue.
        let more = more && (!overflows || matches!(outcome, Outcome::Sent { .. }));
        let ends = is_last(&outcome, more);
        let ready = self.turn + self.dice.turns_late(Fault::Late);
        let turn = self.ledger.schedule(user_data, ready, ends);
        self.posts.hold(turn, Completion { tag: tag_of(user_data), outcome, more });
        (turn, ends)
    }

    /// Queues the memory of a send that is over.
    pub(super) fn post_return(&mut self, user_data: UserData, parcel: Box<Parcel>) {
        let completion =
            Completion { tag: tag_of(user_data), outcome: Outcome::Returned(parcel), more: false };
        self.posts.hold(self.turn, completion);
    }

    /// Queues the completion of an operation that failed and owns nothing.
    pub(super) fn post_error(&mut self, user_data: UserData, errno: i32) {
        self.post(user_data, Outcome::Failed { errno }, false);
    }

    /// Lets turns pass until there is something to report, or until nothing ever will be.
    fn wait(&mut self, deadline_us: Option<u64>) {
        while self.posts.ready() == 0 {
            let Some(next) = self.next_turn() else {
                match deadline_us {
                    Some(deadline_us) => self.clock_us = deadline_us,
                    None => self.is_idle = true,
                }
                return;
            };
            let then_us = self.clock_us.saturating_add((next - self.turn) * TURN_US);
            if let Some(deadline_us) = deadline_us.filter(|&deadline_us| deadline_us < then_us) {
                self.turn += (deadline_us - self.clock_us) / TURN_US;
                self.clock_us = deadline_us;
                return;
            }
            self.clock_us = then_us;
            self.begin_turn(next);
            self.work();
            self.posts.deliver(self.turn, &mut self.dice);
        }
    }

    /// The next turn in which the kernel has something to do by itself.
    fn next_turn(&self) -> Option<u64> {
        let soon = self.turn + 1;
        if self.network.has_work() || self.datagrams.has_work() || self.has_ended_process() {
            return Some(soon);
        }
        let chores = self.chores.iter().map(|chore| chore.turn).min();
        let others = chores.into_iter().chain(self.next_loan()).chain(self.datagrams.next_turn());
        self.posts.next_turn().into_iter().chain(others).min().map(|turn| turn.max(soon))
    }

    fn begin_turn(&mut self, turn: u64) {
        self.turn = turn;
        self.trace.set_turn(turn);
    }

    /// Looks at everything that has changed.
    fn work(&mut self) {
        self.lose_a_connection();
        self.run_accepts();
        self.run_watches();
        // Whether a cancel meets its target before or after the bytes that have just arrived.
        let chores_first = self.dice.strikes(Fault::Overtaking) && self.dice.below(2) == 0;
        if chores_first {
            self.run_chores();
        }
        let mut touched = std::mem::take(&mut self.scratch);
        self.network.take_touched(&mut touched);
        for &fd in &touched {
            self.run_send(fd);
            self.run_receive(fd);
        }
        self.scratch = touched;
        if !chores_first {
            self.run_chores();
        }
        self.run_loans();
        self.run_datagrams();
    }

    /// Takes operations from the submission queue; false if it leaves some there.
    fn submit(&mut self, stage: &Stage) -> bool {
        let mut count = self.queue.len();
        if self.posts.ready() > self.dice.faults.completion_entries as usize {
            count = 0;
        } else if count > 0 && self.dice.strikes(Fault::LeftInQueue) {
            count = self.dice.below(count as u32) as usize;
        }
        if count < self.queue.len() {
            self.trace.note(|| format!("enter takes {count} of {}", self.queue.len()));
        }
        for _ in 0..count {
            if let Some(entry) = self.queue.pop_front() {
                self.begin(entry, stage);
            }
        }
        self.queue.is_empty()
    }

    /// Begins one operation.
    fn begin(&mut self, entry: Entry, stage: &Stage) {
        let Entry { user_data, op, staged } = entry;
        match op {
            Op::Accept { listener, is_unix } => match self.network.listener(listener) {
                Some(listener) if listener.is_unix == is_unix => listener.accepts.push_back(user_data),
                Some(_) => self.trace.panic(&format!("an accept knows the kind of its listener {listener}")),
                None => self.trace.panic(&format!("an accept names a listener, not {listener}")),
            },
            Op::Connect { dial, .. } => self.begin_connect(user_data, &dial.addr),
            Op::Recv { fd } => self.begin_receive(user_data, fd),
            Op::Peek { fd } => self.peek(user_data, fd),
            Op::SendNow { fd, span } => {
                if stage.bytes(span) != staged {
                    self.trace.panic(&format!("{STAGED_ALONE}: {:?}", tag_of(user_data)));
                }
                let outcome = self.send_now(fd, &staged);
                self.finish_staged(user_data, outcome, span, staged);
            }
            Op::Send { fd, parcel, waits: true } => self.begin_send(user_data, fd, parcel),
            Op::Send { fd, parcel, waits: false } => self.try_send(user_data, fd, parcel),
            Op::ShutdownWrite { fd } => self.begin_shutdown(user_data, fd),
            Op::Reset { fd } => self.begin_reset(user_data, fd),
            Op::Close { fd } => self.begin_close(user_data, fd),
            Op::Cancel { target } => self.begin_cancel(user_data, target),
            Op::SetOption { fd, .. } => self.begin_set_option(user_data, fd),
            Op::RecvDatagrams { fd } if is_stamped(user_data) => self.begin_receive(user_data, fd),
            Op::RecvDatagrams { fd } => self.begin_receive_datagrams(user_data, fd),
            Op::SendDatagram { fd, datagram } => self.begin_send_datagram(user_data, fd, datagram),
            Op::Poll { descriptor } => self.begin_poll(user_data, descriptor),
        }
    }

    /// Reports a send that did not wait and whose parcel goes home.
    pub(super) fn finish_silent(&mut self, user_data: UserData, outcome: Outcome) {
        self.ledger.schedule(user_data, self.turn, true);
        let completion = Completion { tag: tag_of(user_data), outcome, more: false };
        self.posts.push_staged(completion, Span::default(), Vec::new());
    }

    fn finish_staged(&mut self, user_data: UserData, outcome: Outcome, span: Span, bytes: Vec<u8>) {
        self.ledger.schedule(user_data, self.turn, true);
        let completion = Completion { tag: tag_of(user_data), outcome, more: false };
        self.posts.push_staged(completion, span, bytes);
    }

    /// Perhaps the network loses one of the connections.
    fn lose_a_connection(&mut self) {
        if self.network.sockets_open() == 0 {
            return;
        }
        let fd = Fd(self.dice.below(self.network.descriptors_used()));
        if let Some((_, link)) = self.network.socket(fd)
            && link.is_made
            && !link.is_dead()
            && self.dice.strikes(Fault::ConnectionReset)
        {
            link.sever(self.dice.strikes(Fault::ResetDiscards));
            self.trace.note(|| format!("the network loses {fd:?}"));
            self.network.touch(fd);
        }
    }
}

const STAGED_ALONE: &str = "staged bytes are left alone until their send has completed";

/// The tag that the ledger has checked.
fn tag_of(user_data: UserData) -> Tag {
    user_data.decode().expect("the ledger has checked it")
}
