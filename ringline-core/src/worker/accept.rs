//! Accepting: how many accepts are in flight, what becomes of their results, and when to rest.
//!
//! Each accept is an operation of its own, because only then does the peer's address come with it.
//! A quiet listener has one accept in flight per worker, which makes workers take turns; a burst
//! raises that number. A worker that is ahead of the others accepts one at a time, with pauses.
//!
//! A row is used again only when no cancel is in flight, so that a cancel that is late finds nobody
//! rather than the next accept of its row.

use super::Worker;
use crate::backend::{Backend, Full};
use crate::config::Config;
use crate::conn::{Conn, ConnId, Fired, PhaseEvent};
use crate::handler::{Admit, EventHandler};
use crate::layer::LayerFactory;
use crate::net::{Admission, Listener, ListenerId, Peer, Refusal, Remote, Tickets};
use crate::op::{Fd, Kind, Op, Outcome, Tag, UserData};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// The first rest after an error that retrying at once would only repeat; doubles up to the last.
const REST_FIRST: Duration = Duration::from_millis(10);
const REST_LAST: Duration = Duration::from_secs(1);
/// How long a worker that is ahead leaves the next connection to the others. Then it accepts one all
/// the same, because they may be stuck, and because nobody would wake it when they are not.
const REST_AHEAD: Duration = Duration::from_millis(1);
/// How many more connections than the least busy worker a worker may have and still hurry.
const LEAD_MAX: u32 = 16;

/// What stands for the load of a worker that accepts nothing: nobody waits for it to catch up.
const LOAD_PAUSED: u32 = u32::MAX;

/// How many connections each worker of a server has, and how many they may have together.
#[derive(Clone, Debug)]
pub(crate) struct Balance {
    counts: Arc<[AtomicU32]>,
    worker: usize,
    admission: Option<Arc<Admission>>,
}

impl Balance {
    /// For the workers of one server; each gets its own with [`Balance::of`].
    pub(crate) fn new(workers: usize, config: &Config) -> Self {
        let admission = Admission::new(config.connections_max(), config.connections_per_address());
        Self { counts: (0..workers).map(|_| AtomicU32::new(0)).collect(), worker: 0, admission }
    }

    pub(crate) fn of(&self, worker: usize) -> Self {
        Self { worker, ..self.clone() }
    }

    pub(super) fn tickets(&self) -> Tickets {
        Tickets::new(self.admission.clone())
    }

    fn publish(&self, load: u32) {
        self.counts[self.worker].store(load, Ordering::Relaxed);
    }

    fn is_ahead(&self) -> bool {
        let count = |at: &AtomicU32| at.load(Ordering::Relaxed);
        let least = self.counts.iter().map(count).min().unwrap_or(0);
        count(&self.counts[self.worker]) > least.saturating_add(LEAD_MAX)
    }
}

/// One listener, as a worker accepts from it.
#[derive(Debug)]
pub(crate) struct AcceptFrom {
    pub(crate) fd: RawFd,
    pub(crate) id: ListenerId,
    pub(crate) is_unix: bool,
    /// Its connections are asked when their bytes were received.
    pub(crate) is_stamped: bool,
    /// Keeps the socket open; workers let go of it when they stop accepting.
    pub(crate) socket: Option<Arc<Listener>>,
    /// What every connection gets a layer from, if it gets one.
    pub(crate) layers: Option<Arc<dyn LayerFactory>>,
}

#[derive(Debug)]
struct Source {
    from: AcceptFrom,
    in_flight: u32,
    /// How many accepts should be in flight.
    target: u32,
    /// How many came home with a connection this turn.
    taken: u32,
    /// When to go on after an error.
    rest: Duration,
    is_resting: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Row {
    Free,
    InFlight { source: u32 },
    Cancelled { source: u32 },
}

/// The accepting side of one worker.
#[derive(Debug)]
pub(super) struct Acceptor {
    sources: Vec<Source>,
    rows: Vec<Row>,
    batch: u32,
    balance: Balance,
    /// Something is left to submit.
    has_work: bool,
    is_stopping: bool,
    is_paused: bool,
    cancels: u32,
    /// Descriptors that are no connection of ours, to be closed.
    orphans: Vec<Fd>,
    burials: u32,
}

impl Acceptor {
    pub(super) fn new(listeners: Vec<AcceptFrom>, batch: u32, balance: Balance) -> Self {
        let source =
            |from| Source { from, in_flight: 0, target: 1, taken: 0, rest: REST_FIRST, is_resting: false };
        Self {
            sources: listeners.into_iter().map(source).collect(),
            rows: Vec::new(),
            batch,
            balance,
            has_work: true,
            is_stopping: false,
            is_paused: false,
            cancels: 0,
            orphans: Vec::new(),
            burials: 0,
        }
    }

    /// No new connections from now on.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        self.has_work = true;
    }

    /// No new connections for a while, or again. Then it begins without hurry, because who pauses is
    /// near a limit of its own.
    fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
        for source in &mut self.sources {
            source.target = 1;
        }
    }

    /// A listener has rested.
    pub(super) fn again(&mut self, listener: u32) {
        if let Some(source) = self.sources.get_mut(listener as usize) {
            source.is_resting = false;
            self.has_work = true;
        }
    }

    /// A connection with a layer has become ready or is gone: there may be room for another handshake.
    pub(super) fn ease(&mut self) {
        self.has_work = true;
    }

    /// A cancel has come home.
    pub(super) fn cancelled(&mut self) {
        self.cancels -= 1;
        self.has_work |= self.cancels == 0;
    }

    /// The close of an orphan has come home.
    pub(super) fn buried(&mut self) {
        self.burials -= 1;
    }

    /// Hurries after a turn that brought as many connections as it could, and calms down after one
    /// that did not.
    pub(super) fn end_turn(&mut self) {
        for source in &mut self.sources {
            let taken = std::mem::take(&mut source.taken);
            if taken == 0 {
                continue;
            }
            let hurries = taken >= source.target && !source.is_resting;
            source.target = if hurries { (source.target * 2).min(self.batch) } else { 1 };
        }
    }

    /// Whether nothing is in flight or left to do.
    pub(super) fn is_at_rest(&self) -> bool {
        let idle = self.sources.iter().all(|source| source.in_flight == 0);
        idle && self.cancels == 0 && self.burials == 0 && self.orphans.is_empty()
    }

    fn orphan(&mut self, fd: Fd) {
        self.orphans.push(fd);
        self.has_work = true;
    }

    fn free_row(&mut self) -> u32 {
        let free = self.rows.iter().position(|row| *row == Row::Free);
        let row = free.unwrap_or(self.rows.len());
        if row == self.rows.len() {
            self.rows.push(Row::Free);
        }
        row as u32
    }

    /// Frees the row of an accept that came home and names its source.
    fn land(&mut self, row: u32) -> u32 {
        let (Row::InFlight { source } | Row::Cancelled { source }) =
            std::mem::replace(&mut self.rows[row as usize], Row::Free)
        else {
            unreachable!("an accept completes once");
        };
        self.sources[source as usize].in_flight -= 1;
        self.has_work = true;
        source
    }
}

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// From now on, connections that are accepted are asked when their bytes were received.
    pub(crate) fn stamp_accepted(&mut self) -> io::Result<()> {
        for source in &mut self.acceptor.sources {
            source.from.is_stamped = true;
            if let Some(socket) = &source.from.socket {
                socket.enable_timestamps()?;
            }
        }
        Ok(())
    }

    /// Submits accepts that are missing, cancels and closes that are due.
    #[inline(never)]
    pub(super) fn flush_accepts(&mut self) {
        self.follow_pause();
        let arms = !(self.acceptor.is_stopping || self.acceptor.is_paused);
        let submitted = self.bury() && if arms { self.arm_accepts() } else { self.cancel_accepts() };
        self.acceptor.has_work = !submitted;
    }

    /// Does about accepting what the handler has asked for, and tells the other workers.
    pub(super) fn follow_pause(&mut self) {
        if self.acceptor.is_paused != self.io.accepts_paused {
            self.acceptor.set_paused(self.io.accepts_paused);
            self.acceptor.has_work = true;
            self.publish_load();
        }
    }

    /// Whether accepting has something to submit.
    #[inline]
    pub(super) fn has_accept_work(&self) -> bool {
        self.acceptor.has_work || self.acceptor.is_paused != self.io.accepts_paused
    }

    /// An accept has come home.
    pub(super) fn accepted(&mut self, tag: Tag, outcome: Outcome) {
        let at = self.acceptor.land(tag.row);
        match outcome {
            Outcome::Accepted { fd, peer } => {
                let source = &mut self.acceptor.sources[at as usize];
                source.taken += 1;
                source.rest = REST_FIRST;
                self.admit(fd, peer, at);
                if !self.acceptor.is_paused && self.acceptor.balance.is_ahead() {
                    self.rest(at, REST_AHEAD);
                }
            }
            Outcome::Failed { errno, .. } => self.accept_failed(at, errno),
            outcome => unreachable!("an accept does not complete with {outcome:?}"),
        }
    }

    /// Tells the other workers how busy this one is.
    pub(super) fn publish_load(&self) {
        let load = if self.acceptor.is_paused { LOAD_PAUSED } else { self.io.conns.live() as u32 };
        self.acceptor.balance.publish(load);
    }

    fn admit(&mut self, fd: Fd, peer: Option<Box<Remote>>, source: u32) {
        let Some(remote) = peer else {
            self.io.shard.accept_errors.increment();
            return self.acceptor.orphan(fd);
        };
        let listener = self.acceptor.sources[source as usize].from.id;
        let entered = if self.is_shutting_down() { None } else { self.enter(fd, &remote, source) };
        let Some(id) = entered else {
            self.io.shard.connections_refused.increment();
            return self.acceptor.orphan(fd);
        };
        if id.row() >= self.users.len() {
            self.widen();
        }
        match self.accept_handler(id, &Peer::new(*remote, listener)) {
            Some(Admit::Accept(state)) => self.open(id, state, source),
            Some(Admit::Refuse) | None => {
                self.io.shard.connections_refused.increment();
                self.io.remove(id);
                self.acceptor.orphan(fd);
            }
        }
    }

    /// Gives a connection a row, unless a limit is in the way.
    fn enter(&mut self, fd: Fd, remote: &Remote, source: u32) -> Option<ConnId> {
        let address = remote.addr.ip().map(|addr| addr.ip());
        if self.io.conns.is_full() {
            self.io.shard.refused_full.increment();
            return None;
        }
        let ticket = match self.io.tickets.ask(address) {
            Ok(ticket) => ticket,
            Err(refusal) => {
                match refusal {
                    Refusal::Server => self.io.shard.refused_server.increment(),
                    Refusal::Address => self.io.shard.refused_address.increment(),
                }
                return None;
            }
        };
        let is_stamped = self.acceptor.sources[source as usize].from.is_stamped;
        let conn = Conn { watch: self.io.watch, is_stamped, ..Conn::new(fd, remote.addr.family()) };
        let id = self.io.conns.insert(conn).ok()?;
        self.io.tickets.keep(id.row(), ticket);
        Some(id)
    }

    fn open(&mut self, id: ConnId, state: H::Conn, source: u32) {
        self.users[id.row()] = Some(state);
        let layers = self.acceptor.sources[source as usize].from.layers.clone();
        let opened = self.io.conns.get_mut(id).is_some_and(|conn| {
            conn.was_counted = true;
            conn.phase.on(if layers.is_some() { PhaseEvent::LayerBegun } else { PhaseEvent::Admitted })
        });
        assert!(opened, "an arriving connection opens");
        self.io.shard.connections_accepted.increment();
        self.io.shard.connections_active.add(1);
        self.publish_load();
        self.io.mark(id);
        self.inherit(id, source);
        if let Some(layers) = layers {
            return self.layer(id, &*layers);
        }
        self.io.watch_open(id);
        self.open_handler(id);
    }

    /// Has options set that the listener was given and the socket has not inherited.
    fn inherit(&mut self, id: ConnId, source: u32) {
        let listener = self.acceptor.sources[source as usize].from.socket.as_deref();
        if let Some(settings) = listener.map(Listener::accepted).filter(|settings| !settings.is_empty()) {
            let _ = self.io.tune(id, settings.to_vec(), false);
        }
    }

    fn accept_failed(&mut self, source: u32, errno: i32) {
        if errno == libc::ECANCELED {
            return;
        }
        self.io.shard.accept_errors.increment();
        match errno {
            // The connection is gone again, or a signal came; the next accept may do better.
            libc::ECONNABORTED | libc::ECONNRESET | libc::EINTR | libc::EPROTO | libc::EPERM => {}
            // Asking again at once would only fail again.
            _ => {
                self.io.shard.accept_backoffs.increment();
                let failing = &mut self.acceptor.sources[source as usize];
                let rest = failing.rest;
                failing.rest = (rest * 2).min(REST_LAST);
                self.rest(source, rest);
            }
        }
    }

    /// Starts no accept on a listener for a while.
    fn rest(&mut self, source: u32, rest: Duration) {
        let resting = &mut self.acceptor.sources[source as usize];
        resting.target = 1;
        if !std::mem::replace(&mut resting.is_resting, true) {
            let deadline_ms = self.io.clock.deadline_ms(rest);
            self.io.timers.arm(deadline_ms, Fired::AcceptAgain { listener: source });
        }
    }

    fn arm_accepts(&mut self) -> bool {
        if self.acceptor.cancels > 0 {
            // The last of them comes back here.
            return true;
        }
        for source in 0..self.acceptor.sources.len() {
            loop {
                let Source { from, in_flight, target, is_resting, .. } = &self.acceptor.sources[source];
                if *is_resting || in_flight >= target {
                    break;
                }
                if from.layers.is_some() && in_flight + self.io.handshakes >= self.io.handshakes_max {
                    self.io.shard.handshakes_waits.increment();
                    break;
                }
                let op = Op::Accept { listener: from.fd, is_unix: from.is_unix };
                let row = self.acceptor.free_row();
                let user_data = UserData::new(Kind::Accept, 0, row);
                if let Err(Full(_)) = self.backend.push(user_data, op, &self.io.stage) {
                    return false;
                }
                self.acceptor.rows[row as usize] = Row::InFlight { source: source as u32 };
                self.acceptor.sources[source].in_flight += 1;
            }
        }
        true
    }

    fn cancel_accepts(&mut self) -> bool {
        for row in 0..self.acceptor.rows.len() {
            let Row::InFlight { source } = self.acceptor.rows[row] else { continue };
            let target = UserData::new(Kind::Accept, 0, row as u32);
            let user_data = UserData::new(Kind::CancelAccept, 0, row as u32);
            if let Err(Full(_)) = self.backend.push(user_data, Op::Cancel { target }, &self.io.stage) {
                return false;
            }
            self.acceptor.rows[row] = Row::Cancelled { source };
            self.acceptor.cancels += 1;
        }
        if self.acceptor.is_stopping {
            for source in &mut self.acceptor.sources {
                if source.in_flight == 0 {
                    source.from.socket = None;
                }
            }
        }
        true
    }

    /// Closes descriptors that never became connections.
    fn bury(&mut self) -> bool {
        while let Some(fd) = self.acceptor.orphans.pop() {
            let user_data = UserData::new(Kind::Orphan, 0, fd.0);
            if let Err(Full(_)) = self.backend.push(user_data, Op::Close { fd }, &self.io.stage) {
                self.acceptor.orphans.push(fd);
                return false;
            }
            self.acceptor.burials += 1;
        }
        true
    }
}
