//! A handler that does what a scenario tells it, and checks every promise made to handlers.
//!
//! What a scenario wants done is in hooks, one per callback, plain functions that work on the
//! probe's fields. The probe keeps a record of all callbacks. A promise found broken is noted, not
//! asserted, because a panic inside a callback would be caught; `check_finished` asserts that there
//! is none.

use super::audit::Audit;
use super::tracked::Owners;
use super::{Cx, Kernel};
use bytes::Bytes;
use ringline_core::layer::Layer;
use ringline_core::net::Addr;
use ringline_core::{
    Accepted, Admit, AdoptError, Chain, ChildExit, ChildId, ChildKey, CloseReason, ConnId, ConnectError,
    ConnectOptions, Consumed, Eof, EventHandler, JobFailed, JobKey, NotAdopted, NotConnected, OptionRefused,
    Parts, Peer, Rejected, ResolveError, SendError, Sent, Tick, TimerId, TimerKey,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// One callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Accept(ConnId),
    Open(ConnId),
    Secured(ConnId),
    Data(ConnId, usize),
    Sent(ConnId, u64),
    Writable(ConnId),
    Eof(ConnId, usize),
    ConnTimer(ConnId, u64),
    Close(ConnId, CloseReason),
    Timer(u64),
    Tick,
    Shutdown,
    Message(u64),
    Options(ConnId, Result<(), OptionRefused>),
    /// Its key, and what it returned.
    Job(u64, Option<u64>),
    ConnJob(ConnId, u64, Option<u64>),
    Resolved(u64),
}

impl Event {
    pub(crate) fn conn(self) -> Option<ConnId> {
        match self {
            Self::Accept(id)
            | Self::Open(id)
            | Self::Secured(id)
            | Self::Data(id, _)
            | Self::Sent(id, _)
            | Self::Writable(id)
            | Self::Eof(id, _)
            | Self::ConnTimer(id, _)
            | Self::Close(id, _)
            | Self::Options(id, _)
            | Self::ConnJob(id, ..) => Some(id),
            Self::Timer(_)
            | Self::Tick
            | Self::Shutdown
            | Self::Message(_)
            | Self::Job(..)
            | Self::Resolved(_) => None,
        }
    }
}

/// What an `on_data` hook answers: a `Consumed` that can be looked into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Take {
    pub(crate) bytes: usize,
    pub(crate) need: usize,
}

impl Take {
    pub(crate) fn all(data: &[u8]) -> Self {
        Self::bytes(data.len())
    }

    pub(crate) fn none() -> Self {
        Self::bytes(0)
    }

    pub(crate) fn bytes(bytes: usize) -> Self {
        Self { bytes, need: 0 }
    }

    pub(crate) fn need(self, need: usize) -> Self {
        Self { need, ..self }
    }
}

/// What a scenario does in each callback.
#[derive(Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "they are the names of the callbacks")]
pub(crate) struct Hooks {
    pub(crate) on_start: fn(&mut Probe, &mut Cx<'_>),
    pub(crate) on_accept: fn(&mut Probe, &mut Cx<'_>, ConnId, &Peer) -> bool,
    pub(crate) on_open: fn(&mut Probe, &mut Cx<'_>, ConnId),
    pub(crate) on_data: fn(&mut Probe, &mut Cx<'_>, ConnId, &[u8]) -> Take,
    pub(crate) on_send_complete: fn(&mut Probe, &mut Cx<'_>, ConnId, Sent),
    pub(crate) on_writable: fn(&mut Probe, &mut Cx<'_>, ConnId),
    pub(crate) on_eof: fn(&mut Probe, &mut Cx<'_>, ConnId, &[u8]) -> Eof,
    pub(crate) on_conn_timer: fn(&mut Probe, &mut Cx<'_>, ConnId, u64),
    pub(crate) on_timer: fn(&mut Probe, &mut Cx<'_>, u64),
    pub(crate) on_tick: fn(&mut Probe, &mut Cx<'_>, Tick),
    pub(crate) on_shutdown: fn(&mut Probe, &mut Cx<'_>),
    pub(crate) on_close: fn(&mut Probe, &mut Cx<'_>, ConnId, CloseReason),
    pub(crate) on_message: fn(&mut Probe, &mut Cx<'_>, u64),
    pub(crate) on_job: fn(&mut Probe, &mut Cx<'_>, u64),
    pub(crate) on_child: fn(&mut Probe, &mut Cx<'_>, ChildId),
}

impl Hooks {
    /// Admits everybody, keeps what it reads in `input`, and sends nothing.
    pub(crate) const SINK: Self = Self {
        on_start: |_, _| {},
        on_accept: |_, _, _, _| true,
        on_open: |_, _, _| {},
        on_data: |probe, _, _, data| {
            probe.input.extend_from_slice(data);
            Take::all(data)
        },
        on_send_complete: |_, _, _, _| {},
        on_writable: |_, _, _| {},
        on_eof: |_, _, _, _| Eof::Close,
        on_conn_timer: |_, _, _, _| {},
        on_timer: |_, _, _| {},
        on_tick: |_, _, _| {},
        on_shutdown: |_, _| {},
        on_close: |_, _, _, _| {},
        on_message: |_, _, _| {},
        on_job: |_, _, _| {},
        on_child: |_, _, _| {},
    };

    /// Sends back what it reads.
    pub(crate) const ECHO: Self = Self {
        on_data: |probe, cx, id, data| {
            probe.send(cx, id, data);
            Take::all(data)
        },
        ..Self::SINK
    };
}

/// The state of a connection, which knows whose it is and whether it still exists.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Not known before a connection of our own is asked for.
    id: Rc<Cell<Option<ConnId>>>,
    _alive: Rc<()>,
}

/// The handler under test. The fields without a description belong to the scenario.
pub(crate) struct Probe {
    hooks: Hooks,
    /// Where it runs.
    pub(crate) kernel: Kernel,
    /// Every callback so far, ticks only if `logs_ticks`.
    pub(crate) log: Vec<Event>,
    pub(crate) logs_ticks: bool,
    /// Every connection that was opened, in this order.
    pub(crate) opened: Vec<ConnId>,
    /// Every connection that a layer was put on and is ready, in this order.
    pub(crate) secured: Vec<ConnId>,
    /// Every connection that was asked for, in this order.
    pub(crate) dialed: Vec<ConnId>,
    /// How many turns there were, and how many times the tick interval had passed.
    pub(crate) ticks: u64,
    pub(crate) intervals: u64,
    /// How many callbacks have panicked on purpose.
    pub(crate) panics_meant: u64,
    /// What sends were rejected with.
    pub(crate) rejected: Vec<SendError>,
    pub(crate) audit: Audit,
    /// The owners of what was sent to each connection without being copied.
    owners: BTreeMap<ConnId, Owners>,
    states: Rc<()>,

    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
    pub(crate) count: usize,
    pub(crate) size: usize,
    pub(crate) is_armed: bool,
    pub(crate) target: Option<ConnId>,
    pub(crate) addr: Option<Addr>,
    pub(crate) timers: Vec<TimerId>,
    pub(crate) times: Vec<Instant>,
    /// Why jobs had no result, and what names came to.
    pub(crate) failed: Vec<JobFailed>,
    pub(crate) names: Vec<Result<Vec<SocketAddr>, ResolveError>>,
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) children: Vec<ChildId>,
    /// The ends of all children.
    pub(crate) ends: Vec<(ChildId, u64, ChildExit)>,
}

impl Probe {
    pub(crate) fn new(hooks: Hooks) -> Self {
        Self {
            hooks,
            kernel: Kernel::Simulated,
            log: Vec::new(),
            logs_ticks: false,
            opened: Vec::new(),
            secured: Vec::new(),
            dialed: Vec::new(),
            addr: None,
            ticks: 0,
            intervals: 0,
            panics_meant: 0,
            rejected: Vec::new(),
            audit: Audit::default(),
            owners: BTreeMap::new(),
            states: Rc::new(()),
            input: Vec::new(),
            output: Vec::new(),
            count: 0,
            size: 0,
            is_armed: false,
            target: None,
            timers: Vec::new(),
            times: Vec::new(),
            failed: Vec::new(),
            names: Vec::new(),
            socket: None,
            children: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Says where it runs.
    pub(crate) fn on(mut self, kernel: Kernel) -> Self {
        self.kernel = kernel;
        self
    }

    /// Reading goes on while the outbox is high.
    pub(crate) fn without_holding(mut self) -> Self {
        self.audit.holds_reads = false;
        self
    }

    /// Sends, and notes what was accepted and what was not.
    pub(crate) fn send(&mut self, cx: &mut Cx<'_>, id: ConnId, bytes: &[u8]) -> Option<Accepted> {
        let before = cx.pending_bytes(id);
        let answer = cx.send(id, bytes);
        let after = cx.pending_bytes(id);
        self.audit.sent(id, bytes.len(), answer, before, after);
        match answer {
            Ok(accepted) => Some(accepted),
            Err(error) => {
                self.rejected.push(error);
                None
            }
        }
    }

    /// Begins to connect.
    pub(crate) fn connect(&mut self, cx: &mut Cx<'_>, addr: &Addr) -> Result<ConnId, ConnectError> {
        self.connect_with(cx, addr, &ConnectOptions::new())
    }

    pub(crate) fn connect_with(
        &mut self,
        cx: &mut Cx<'_>,
        addr: &Addr,
        options: &ConnectOptions,
    ) -> Result<ConnId, ConnectError> {
        let plain = *options == ConnectOptions::new();
        self.dial(|state| if plain { cx.connect(addr, state) } else { cx.connect_with(addr, options, state) })
    }

    pub(crate) fn connect_any(
        &mut self,
        cx: &mut Cx<'_>,
        addrs: &[SocketAddr],
        options: &ConnectOptions,
    ) -> Result<ConnId, ConnectError> {
        self.dial(|state| cx.connect_any(addrs, options, state))
    }

    pub(crate) fn connect_host(
        &mut self,
        cx: &mut Cx<'_>,
        (host, port): (&str, u16),
        options: &ConnectOptions,
    ) -> Result<ConnId, ConnectError> {
        self.dial(|state| cx.connect_host(host, port, options, state))
    }

    /// Begins to connect through a layer.
    pub(crate) fn connect_layered(
        &mut self,
        cx: &mut Cx<'_>,
        addr: &Addr,
        layer: Box<dyn Layer>,
    ) -> Result<ConnId, ConnectError> {
        self.dial(|state| cx.connect_layered(addr, &ConnectOptions::new(), layer, state))
    }

    fn dial(
        &mut self,
        dial: impl FnOnce(State) -> Result<ConnId, NotConnected<State>>,
    ) -> Result<ConnId, ConnectError> {
        let own = Rc::new(Cell::new(None));
        let state = State { id: Rc::clone(&own), _alive: Rc::clone(&self.states) };
        match dial(state) {
            Ok(id) => {
                own.set(Some(id));
                self.dialed.push(id);
                self.audit.dialing(id);
                Ok(id)
            }
            Err(NotConnected { error, state }) => {
                if !Rc::ptr_eq(&own, &state.id) {
                    self.audit.complain("connect gave another state back".to_owned());
                }
                Err(error)
            }
        }
    }

    /// A state for a connection whose id is not known yet.
    pub(crate) fn new_state(&self) -> State {
        State { id: Rc::new(Cell::new(None)), _alive: Rc::clone(&self.states) }
    }

    /// A connection with such a state has been asked for.
    pub(crate) fn own(&mut self, id: ConnId, state: &State) {
        state.id.set(Some(id));
        self.audit.dialing(id);
    }

    /// Adopts a socket, or gives it back with the reason.
    pub(crate) fn adopt(
        &mut self,
        cx: &mut Cx<'_>,
        socket: OwnedFd,
    ) -> Result<ConnId, (AdoptError, OwnedFd)> {
        let state = self.new_state();
        match cx.adopt(socket, state.clone()) {
            Ok(id) => {
                self.own(id, &state);
                Ok(id)
            }
            Err(NotAdopted { error, socket, state: back }) => {
                if !Rc::ptr_eq(&back.id, &state.id) {
                    self.audit.complain("adopt gave another state back".to_owned());
                }
                Err((error, socket))
            }
        }
    }

    /// The owners of what was lent for a connection.
    pub(crate) fn owners(&mut self, id: ConnId) -> Owners {
        self.owners.entry(id).or_default().clone()
    }

    /// A guard for a connection.
    pub(crate) fn lend(&mut self, id: ConnId, bytes: &[u8]) -> Bytes {
        self.owners(id).lend(bytes.to_vec())
    }

    /// Sends a guard with a copy of `bytes`.
    pub(crate) fn send_guard(&mut self, cx: &mut Cx<'_>, id: ConnId, bytes: &[u8]) -> Option<Accepted> {
        let guard = self.lend(id, bytes);
        self.sending(cx, id, bytes.len(), |cx| {
            cx.send_guard(id, guard).map_err(|Rejected { error, value, .. }| (error, value.len()))
        })
    }

    pub(crate) fn send_parts(&mut self, cx: &mut Cx<'_>, id: ConnId, parts: Parts<'_>) -> Option<Accepted> {
        self.sending(cx, id, parts.bytes(), |cx| {
            cx.send_parts(id, parts).map_err(|Rejected { error, value, .. }| (error, value.bytes()))
        })
    }

    pub(crate) fn send_chain(&mut self, cx: &mut Cx<'_>, id: ConnId, chain: Chain<'_>) -> Option<Accepted> {
        self.sending(cx, id, chain.bytes(), |cx| {
            cx.send_chain(id, chain).map_err(|Rejected { error, value, .. }| (error, value.bytes()))
        })
    }

    pub(crate) fn forward(&mut self, cx: &mut Cx<'_>, to: ConnId, data: &[u8]) -> Option<Accepted> {
        self.sending(cx, to, data.len(), |cx| cx.forward(to, data).map_err(|error| (error, data.len())))
    }

    /// Sends in whatever way, and notes what was accepted and what was not; that comes back whole.
    fn sending(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        len: usize,
        send: impl FnOnce(&mut Cx<'_>) -> Result<Accepted, (SendError, usize)>,
    ) -> Option<Accepted> {
        let before = cx.pending_bytes(id);
        let answer = send(cx);
        let after = cx.pending_bytes(id);
        if let Err((_, back)) = answer
            && back != len
        {
            self.audit.complain(format!("{id}: {back} of {len} rejected bytes came back"));
        }
        let answer = answer.map_err(|(error, _)| error);
        self.audit.sent(id, len, answer, before, after);
        answer.map_err(|error| self.rejected.push(error)).ok()
    }

    pub(crate) fn close(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        cx.close(id);
        self.audit.closing(id);
    }

    pub(crate) fn abort(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        cx.abort(id);
        self.audit.closing(id);
    }

    pub(crate) fn pause(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        cx.pause_reads(id);
        self.audit.paused(id, true);
    }

    pub(crate) fn resume(&mut self, cx: &mut Cx<'_>, id: ConnId) {
        cx.resume_reads(id);
        self.audit.paused(id, false);
    }

    /// Sets a timer whose key says when it may fire.
    pub(crate) fn set_timer(&mut self, cx: &mut Cx<'_>, after: Duration, key: u64) -> TimerId {
        let timer = cx.set_timer(after, TimerKey(key));
        self.audit.timer_set(key, cx.now() + after);
        timer
    }

    /// The same for a timer of a connection.
    pub(crate) fn set_conn_timer(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        after: Duration,
        key: u64,
    ) -> Option<TimerId> {
        let timer = cx.set_conn_timer(id, after, TimerKey(key))?;
        self.audit.timer_set(key, cx.now() + after);
        Some(timer)
    }

    /// Panics without a message on the terminal.
    pub(crate) fn panic(&mut self) -> ! {
        self.panics_meant += 1;
        std::panic::resume_unwind(Box::new("on purpose"))
    }

    /// Why a connection ended, if it has.
    pub(crate) fn reason(&self, id: ConnId) -> Option<CloseReason> {
        self.audit.reason(id)
    }

    /// The record as text, one callback to a line, and the promises found broken.
    pub(crate) fn record(&self) -> String {
        let mut text = String::new();
        for event in &self.log {
            let _ = writeln!(text, "{event:?}");
        }
        text + &self.audit.complaints()
    }

    /// Asserts that every promise was kept, to the end.
    pub(crate) fn check_finished(mut self) {
        self.audit.check_ended();
        let complaints = self.audit.complaints();
        assert!(complaints.is_empty(), "broken promises:\n{complaints}");
        assert_eq!(Rc::strong_count(&self.states), 1, "every state of a connection has come back");
    }

    fn note(&mut self, event: Event, state: Option<&State>) {
        self.log.push(event);
        if let (Some(id), Some(state)) = (event.conn(), state)
            && state.id.get() != Some(id)
        {
            self.audit.complain(format!("{event:?} came with the state of {:?}", state.id.get()));
        }
    }
}

impl EventHandler for Probe {
    type Conn = State;
    type Message = u64;

    fn on_start(&mut self, cx: &mut Cx<'_>) {
        (self.hooks.on_start)(self, cx);
    }

    fn on_accept(&mut self, cx: &mut Cx<'_>, id: ConnId, peer: &Peer) -> Admit<State> {
        self.note(Event::Accept(id), None);
        self.audit.accepted(id);
        if (self.hooks.on_accept)(self, cx, id, peer) {
            Admit::Accept(State { id: Rc::new(Cell::new(Some(id))), _alive: Rc::clone(&self.states) })
        } else {
            self.audit.refused(id);
            Admit::Refuse
        }
    }

    fn on_open(&mut self, cx: &mut Cx<'_>, id: ConnId, conn: &mut State) {
        self.note(Event::Open(id), Some(conn));
        self.audit.opened(id);
        self.opened.push(id);
        (self.hooks.on_open)(self, cx, id);
    }

    fn on_secured(&mut self, _: &mut Cx<'_>, id: ConnId, conn: &mut State) {
        self.note(Event::Secured(id), Some(conn));
        self.audit.secured(id);
        self.secured.push(id);
    }

    fn on_data(&mut self, cx: &mut Cx<'_>, id: ConnId, conn: &mut State, data: &[u8]) -> Consumed {
        self.note(Event::Data(id, data.len()), Some(conn));
        self.audit.data(id, data);
        let Take { bytes, need } = (self.hooks.on_data)(self, cx, id, data);
        self.audit.consumed(id, data, bytes, need);
        Consumed::bytes(bytes).need(need)
    }

    fn on_send_complete(&mut self, cx: &mut Cx<'_>, id: ConnId, conn: &mut State, sent: Sent) {
        self.note(Event::Sent(id, sent.through), Some(conn));
        self.audit.completed(id, sent);
        (self.hooks.on_send_complete)(self, cx, id, sent);
    }

    fn on_writable(&mut self, cx: &mut Cx<'_>, id: ConnId, conn: &mut State) {
        self.note(Event::Writable(id), Some(conn));
        self.audit.writable(id);
        (self.hooks.on_writable)(self, cx, id);
    }

    fn on_eof(&mut self, cx: &mut Cx<'_>, id: ConnId, conn: &mut State, unread: &[u8]) -> Eof {
        self.note(Event::Eof(id, unread.len()), Some(conn));
        self.audit.ended(id, unread);
        (self.hooks.on_eof)(self, cx, id, unread)
    }

    fn on_conn_timer(&mut self, cx: &mut Cx<'_>, id: ConnId, conn: &mut State, key: TimerKey) {
        self.note(Event::ConnTimer(id, key.0), Some(conn));
        self.audit.conn_timer(id);
        self.audit.timer_fired(key.0, cx.now());
        (self.hooks.on_conn_timer)(self, cx, id, key.0);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, key: TimerKey) {
        self.note(Event::Timer(key.0), None);
        self.audit.timer_fired(key.0, cx.now());
        (self.hooks.on_timer)(self, cx, key.0);
    }

    fn on_close(&mut self, cx: &mut Cx<'_>, id: ConnId, conn: State, reason: CloseReason) {
        self.note(Event::Close(id, reason), Some(&conn));
        self.audit.closed(id, reason);
        let owners = self.owners(id);
        if owners.alive() > 0 || !owners.are_untouched() {
            self.audit
                .complain(format!("{id}: guards are dropped before on_close, as they were: {owners:?}"));
        }
        (self.hooks.on_close)(self, cx, id, reason);
    }

    fn on_tick(&mut self, cx: &mut Cx<'_>, tick: Tick) {
        if self.logs_ticks {
            self.log.push(Event::Tick);
        }
        self.ticks += 1;
        self.intervals += u64::from(tick.interval);
        (self.hooks.on_tick)(self, cx, tick);
    }

    fn on_message(&mut self, cx: &mut Cx<'_>, message: u64) {
        self.note(Event::Message(message), None);
        (self.hooks.on_message)(self, cx, message);
    }

    fn on_socket_options(
        &mut self,
        _: &mut Cx<'_>,
        id: ConnId,
        conn: &mut State,
        result: Result<(), OptionRefused>,
    ) {
        self.note(Event::Options(id, result), Some(conn));
    }

    fn on_job(&mut self, cx: &mut Cx<'_>, key: JobKey, result: Result<u64, JobFailed>) {
        self.note(Event::Job(key.0, result.as_ref().ok().copied()), None);
        self.failed.extend(result.err());
        (self.hooks.on_job)(self, cx, key.0);
    }

    fn on_conn_job(
        &mut self,
        cx: &mut Cx<'_>,
        id: ConnId,
        conn: &mut State,
        key: JobKey,
        result: Result<u64, JobFailed>,
    ) {
        self.note(Event::ConnJob(id, key.0, result.as_ref().ok().copied()), Some(conn));
        if !cx.is_open(id) {
            self.audit.complain(format!("{id}: on_conn_job for a connection that is not open"));
        }
        self.failed.extend(result.err());
    }

    fn on_resolved(&mut self, _: &mut Cx<'_>, key: JobKey, result: Result<Vec<SocketAddr>, ResolveError>) {
        self.note(Event::Resolved(key.0), None);
        self.names.push(result);
    }

    fn on_shutdown(&mut self, cx: &mut Cx<'_>, _: Instant) {
        self.note(Event::Shutdown, None);
        (self.hooks.on_shutdown)(self, cx);
    }

    fn on_child(&mut self, cx: &mut Cx<'_>, child: ChildId, key: ChildKey, exit: ChildExit) {
        self.ends.push((child, key.0, exit));
        (self.hooks.on_child)(self, cx, child);
    }
}
