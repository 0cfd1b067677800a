//! One worker: a handler, its connections and a backend, and the turn that moves them.
//!
//! Handler, user states, unread bytes and I/O state are four separate fields. A callback borrows
//! one thing from each, so the compiler proves that they do not alias.

mod accept;
mod adopt;
mod children;
mod complete;
mod connect;
mod datagrams;
mod deadlines;
mod deliver;
mod dispatch;
mod flush;
mod handshakes;
mod jobs;
mod layered;
mod lots;
mod mail;
mod proof;
mod race;
mod shared;
mod shutdown;
mod stamped;
mod tuning;

pub(crate) use accept::{AcceptFrom, Balance};
pub(crate) use shared::Shared;

use crate::backend::{Backend, Wait};
use crate::child::ChildId;
use crate::config::{Config, PanicPolicy};
use crate::conn::{Belated, ConnId, Fired, Inbox, Scratch, TimerKey};
use crate::ctx::{Desk, Io, Seat, Unstarted};
use crate::handler::{EventHandler, Tick};
use crate::job::Jobs;
use crate::mail::{Letters, Sleeper};
use crate::metrics::ShardHandle;
use accept::Acceptor;
use handshakes::Handshakes;
use lots::Lots;
use shutdown::Shutdown;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// A worker of one thread.
#[derive(Debug)]
pub(crate) struct Worker<H: EventHandler, B> {
    pub(crate) handler: H,
    pub(crate) backend: B,
    users: Vec<Option<H::Conn>>,
    inboxes: Vec<Inbox>,
    desk: Desk<H>,
    pub(crate) io: Io,
    acceptor: Acceptor,
    shutdown: Shutdown,
    panic_policy: PanicPolicy,
    inbox_limit: usize,
    tick_interval: Option<Duration>,
    /// The tick interval has passed.
    interval_due: bool,
    /// Somebody has signalled from outside.
    is_woken: bool,
    /// A staged send of this turn has to be reported without waiting for something else to happen.
    prompt: bool,
    /// How others wake this worker, and what they have posted.
    sleeper: Sleeper,
    letters: Letters<H::Message>,
    /// A receive has found no buffer, so whose receive is armed first is a matter of chance.
    ran_dry: bool,
    lots: Lots,
    /// Memory that all layers use in turn.
    scratch: Scratch,
    handshakes: Handshakes,
    /// Lists that a turn works through, kept for their memory.
    spare: Vec<ConnId>,
    overflows_seen: u64,
}

impl<H: EventHandler, B: Backend> Worker<H, B> {
    pub(crate) fn new(
        handler: H,
        backend: B,
        config: &Config,
        seat: Seat,
        shard: ShardHandle,
        listeners: Vec<AcceptFrom>,
        common: Shared<H::Message>,
    ) -> io::Result<Self> {
        let mut io = Io::new(config, seat, shard)?;
        let Shared { balance, mailbox, pools } = common;
        let bell = Arc::clone(mailbox.bell(seat.worker));
        io.tickets = balance.tickets();
        io.clock.turn(backend.time_ms());
        io.udp.set_maker(backend.udp_maker());
        Ok(Self {
            handler,
            backend,
            users: Vec::new(),
            inboxes: Vec::new(),
            sleeper: Sleeper::new(Arc::clone(&bell)),
            letters: Letters::new(mailbox.clone(), seat.worker),
            desk: Desk::new(mailbox, Jobs::new(pools, bell, seat.worker)),
            io,
            acceptor: Acceptor::new(listeners, config.accept_batch(), balance),
            shutdown: Shutdown::default(),
            panic_policy: config.panic_policy(),
            inbox_limit: config.inbox_bytes(),
            tick_interval: config.tick_interval(),
            interval_due: false,
            is_woken: false,
            prompt: false,
            ran_dry: false,
            lots: Lots::new(),
            scratch: Scratch::default(),
            handshakes: Handshakes::default(),
            spare: Vec::new(),
            overflows_seen: 0,
        })
    }

    /// Lets the handler begin.
    pub(crate) fn start(&mut self) -> Result<(), Unstarted> {
        if let Some(interval) = self.tick_interval {
            let deadline_ms = self.io.clock.deadline_ms(interval);
            self.io.timers.arm(deadline_ms, Fired::Tick);
        }
        let has_panicked = !self.start_handler();
        // Before any worker accepts, so that none waits for one that does not.
        self.follow_pause();
        self.io.start.finish(has_panicked)
    }

    /// One turn: flush what the callbacks left, wait, dispatch what came back, tick.
    ///
    /// Waits for at most `at_most`, if given. An error means that the ring is beyond use.
    #[inline]
    pub(crate) fn turn(&mut self, at_most: Option<Duration>) -> io::Result<()> {
        if self.io.udp.has_work() {
            self.serve_udp();
        }
        self.flush();
        let mut wait = self.wait(at_most);
        if self.sleeper.is_live() {
            wait = self.sleep(wait);
        }
        self.backend.enter(&self.io.stage, wait)?;
        self.io.stage.flip();
        self.io.clock.turn(self.backend.time_ms());
        self.begin_timers();
        let mut completions = 0;
        while let Some((tag, bytes)) = self.backend.next_sent() {
            completions += 1;
            self.sent(tag, bytes);
        }
        loop {
            if let Some((tag, lease)) = self.backend.next_received() {
                self.arrived(tag, lease);
            } else if let Some(completion) = self.backend.next() {
                self.complete(completion);
            } else {
                break;
            }
            completions += 1;
        }
        // A send that was left in the queue has not been reported yet.
        self.prompt = self.prompt && self.backend.has_silent();
        if self.sleeper.is_live() {
            self.read_mail();
        }
        if !self.io.timers.is_empty() {
            self.fire_timers();
        }
        if !self.io.due.is_empty() {
            self.settle();
        }
        self.acceptor.end_turn();
        let interval = std::mem::take(&mut self.interval_due);
        self.tick_handler(Tick { completions, interval });
        self.io.feed_starved();
        while let Some(lease) = self.io.pool.take_lease() {
            self.backend.release(lease);
        }
        self.count_turn(completions);
        Ok(())
    }

    /// Whether somebody has signalled from outside since the last call.
    #[inline]
    pub(crate) fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.is_woken)
    }

    /// How long the backend may wait: not at all while there is work left.
    fn wait(&mut self, at_most: Option<Duration>) -> Wait {
        if !self.is_waiting() || self.is_done() {
            return Wait::No;
        }
        let timer = match self.io.timers.next_deadline_ms() {
            None => None,
            Some(deadline_ms) => {
                self.io.clock.turn(self.backend.time_ms());
                Some(self.io.clock.until(deadline_ms))
            }
        };
        match (timer, at_most) {
            (None, None) => Wait::Forever,
            (Some(Duration::ZERO), _) | (_, Some(Duration::ZERO)) => Wait::No,
            (Some(timer), None) => Wait::For(timer),
            (None, Some(at_most)) => Wait::For(at_most),
            (Some(timer), Some(at_most)) => Wait::For(timer.min(at_most)),
        }
    }

    /// Decides which timers fire this turn: none that a callback of this turn sets.
    #[inline]
    fn begin_timers(&mut self) {
        if !self.io.timers.is_empty() {
            let now_ms = self.io.clock.elapsed_ms();
            self.io.timers.begin_round(now_ms);
        }
    }

    #[inline(never)]
    fn fire_timers(&mut self) {
        while let Some(fired) = self.io.timers.pop(&mut self.io.conns) {
            self.io.shard.timers_fired.increment();
            match fired {
                Fired::Worker(key) => self.timer_handler(key),
                Fired::Conn(id, key) => self.fire_conn_timer(id, key),
                Fired::Deadline(id) => self.deadline_fired(id),
                Fired::CloseTimeout(id) => self.close_timed_out(id),
                Fired::ConnectTimeout(id) => self.connect_timed_out(id),
                Fired::NextAttempt(id) => self.attempt_overdue(id),
                Fired::HandshakeTimeout(id) => self.handshake_timed_out(id),
                Fired::SendAgain(id) => self.send_again(id),
                Fired::AcceptAgain { listener } => self.acceptor.again(listener),
                Fired::ShutdownDeadline => self.abort_all(),
                Fired::Tick => self.fire_tick(),
                Fired::UdpAgain(id) => self.udp_again(id),
                Fired::ChildRested(row) => self.child_rested(ChildId::new(row)),
                Fired::ChildrenOverdue => self.leave_children(),
                Fired::ShutDownAsked { within } => self.shut_down_within(within),
            }
        }
    }

    fn fire_conn_timer(&mut self, id: ConnId, key: TimerKey) {
        if self.io.is_open(id) {
            self.conn_timer_handler(id, key);
        } else {
            self.tell_later(id, Belated::Timer(key));
        }
    }

    fn fire_tick(&mut self) {
        self.interval_due = true;
        if let Some(interval) = self.tick_interval {
            let deadline_ms = self.io.clock.deadline_ms(interval);
            self.io.timers.arm(deadline_ms, Fired::Tick);
        }
    }

    #[inline]
    fn count_turn(&mut self, completions: usize) {
        let shard = &self.io.shard;
        shard.turns.increment();
        shard.completions.add(completions as u64);
        shard.turn_completions.record(completions as u64);
        shard.buffers_held.set(self.backend.buffers_held() as i64);
        shard.pool_lent.set(self.io.pool.lent() as i64);
        let overflows = self.backend.overflows();
        if overflows != self.overflows_seen {
            shard.completions_overflowed.add(overflows - self.overflows_seen);
            self.overflows_seen = overflows;
        }
    }
}
