//! A handler that does anything it may at any time, and checks every promise made to it.

use crate::children::Offspring;
use crate::datagrams::Desk;
use crate::dice::{self, Dice};
use crate::errands::Errands;
use crate::layers::Layering;
use crate::limits::{Choice, Had};
use crate::options::{self, Tuned};
use crate::sending::Script;
use ringline_core::testing::Veil;
use ringline_core::{
    Admit, ChildExit, ChildId, ChildKey, CloseReason, ConnId, ConnectError, Consumed, Ctx, Datagram, Eof,
    EventHandler, JobFailed, JobKey, NotConnected, OptionRefused, Peer, ResolveError, SendError, SendFailure,
    Sent, Tick, TimerId, TimerKey, UdpClosed, UdpError, UdpId,
};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// The stream a server sends to the peer with this number.
pub(crate) fn downstream(peer: u64) -> u64 {
    peer * 2 + 1
}

/// The stream that the peer with this number sends, after its number.
pub(crate) fn upstream(peer: u64) -> u64 {
    peer * 2
}

/// What is known about one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// The number that the peer introduced itself with.
    pub(crate) peer: Option<u64>,
    pub(crate) is_open: bool,
    /// The last send was reported as failed: the connection is gone, only `on_close` is missing.
    pub(crate) is_over: bool,
    pub(crate) has_ended: bool,
    /// Bytes of the peer's stream that were consumed.
    pub(crate) consumed: usize,
    /// The most that was ever visible.
    pub(crate) seen: usize,
    /// The handler said not to be called before this much is visible.
    pub(crate) need: usize,
    /// Bytes and sends that were accepted.
    pub(crate) accepted_bytes: usize,
    pub(crate) sends: u64,
    /// What the peer is to receive.
    pub(crate) script: Script,
    /// Connections with high outboxes that its bytes were forwarded to.
    pub(crate) feeds: Vec<ConnId>,
    /// Sends that were reported, and their bytes.
    covered: u64,
    reported_bytes: u64,
    any_failed: bool,
    pub(crate) is_high: bool,
    timers: Vec<(TimerKey, TimerId)>,
    pub(crate) asked_to_close: bool,
    pub(crate) write_ended: bool,
    pub(crate) had: Had,
    pub(crate) tuning: Tuned,
    pub(crate) layering: Layering,
    pub(crate) reason: Option<CloseReason>,
}

/// The state of a connection: whose it is, once that is known.
pub(crate) type Badge = Rc<Cell<Option<ConnId>>>;

/// The handler.
#[derive(Debug)]
pub(crate) struct Chaos {
    pub(crate) dice: Dice,
    /// The deadlines that a connection begins with.
    pub(crate) choice: Choice,
    /// Per mille: how often a callback panics.
    panics: u64,
    pub(crate) accounts: BTreeMap<ConnId, Account>,
    /// Connections that are over.
    pub(crate) closed: Vec<Account>,
    /// Ids of all times.
    pub(crate) ids: Vec<ConnId>,
    armed: BTreeMap<TimerKey, Duration>,
    next_key: u64,
    pub(crate) ticks: u64,
    /// How many connections it has asked for.
    pub(crate) connects: u64,
    pub(crate) is_ending: bool,
    is_calm: bool,
    pub(crate) is_paused: bool,
    /// Whether reading is to stop while an outbox is high.
    pub(crate) holds_reads: bool,
    /// Whether peers come over a Unix socket.
    pub(crate) is_unix: bool,
    /// Whether connections have layers from the beginning.
    pub(crate) is_layered: bool,
    /// After how many bytes peers have asked for a layer.
    pub(crate) asks: BTreeMap<u64, usize>,
    started: Option<Instant>,
    pub(crate) udp: Desk,
    pub(crate) errands: Errands,
    pub(crate) offspring: Offspring,
}

impl Chaos {
    pub(crate) fn new(seed: u64, choice: Choice, holds_reads: bool) -> Self {
        let mut dice = Dice::new(seed);
        let panics = if dice.chance(300) { 3 } else { 0 };
        Self {
            dice,
            choice,
            panics,
            accounts: BTreeMap::new(),
            closed: Vec::new(),
            ids: Vec::new(),
            armed: BTreeMap::new(),
            next_key: 0,
            ticks: 0,
            connects: 0,
            is_ending: false,
            is_calm: false,
            is_paused: false,
            holds_reads,
            is_unix: false,
            is_layered: false,
            asks: BTreeMap::new(),
            started: None,
            udp: Desk::default(),
            errands: Errands::default(),
            offspring: Offspring::default(),
        }
    }

    fn maybe_panic(&mut self) {
        if self.dice.chance(self.panics) {
            resume_unwind(Box::new("chaos"));
        }
    }

    /// Asks for a connection, now and then to where nobody answers.
    fn connect(&mut self, cx: &mut Ctx<'_, Self>) {
        let to = options::target(&mut self.dice);
        let badge = Badge::default();
        let connected = if self.dice.chance(500) {
            let options = options::connect_options(&mut self.dice, &to);
            if self.is_layered {
                cx.connect_layered(to, &options, Box::new(Veil::client()), Rc::clone(&badge))
            } else {
                cx.connect_with(to, &options, Rc::clone(&badge))
            }
        } else {
            cx.connect(to, Rc::clone(&badge))
        };
        match connected {
            Ok(id) => {
                assert!(!self.is_ending, "no connection after the end has begun");
                badge.set(Some(id));
                self.note_own(id);
                self.cover_own(cx, id);
                assert_eq!(cx.send(id, b"early"), Err(SendError::Closing));
                self.connects += 1;
            }
            Err(NotConnected { error, state }) => {
                assert!(Rc::ptr_eq(&state, &badge), "the state comes back");
                assert!(!self.is_ending || error == ConnectError::ShuttingDown);
            }
        }
    }

    pub(crate) fn any_id(&mut self) -> Option<ConnId> {
        let count = self.ids.len();
        (count > 0).then(|| self.ids[self.dice.below(count)])
    }

    fn set_timer(&mut self, cx: &mut Ctx<'_, Self>, id: Option<ConnId>) {
        let after = Duration::from_micros(self.dice.below(60_000) as u64);
        let key = TimerKey(self.next_key);
        self.next_key += 1;
        let due = cx.now().duration_since(self.started.expect("on_start came first")) + after;
        match id {
            None => {
                let timer = cx.set_timer(after, key);
                self.armed.insert(key, due);
                if self.dice.chance(300) {
                    assert!(cx.cancel_timer(timer));
                    assert!(!cx.cancel_timer(timer));
                    self.armed.remove(&key);
                }
            }
            Some(id) => {
                let timer = cx.set_conn_timer(id, after, key);
                match (timer, self.accounts.get_mut(&id)) {
                    (Some(timer), Some(account)) => {
                        account.timers.push((key, timer));
                        self.armed.insert(key, due);
                    }
                    (Some(_), None) => panic!("no timers for connections that are gone"),
                    (None, _) => {}
                }
            }
        }
    }

    fn fired(&mut self, cx: &mut Ctx<'_, Self>, key: TimerKey) {
        let due = self.armed.remove(&key).expect("only armed timers fire, once");
        let now = cx.now().duration_since(self.started.expect("on_start came first"));
        assert!(now >= due, "a timer due at {due:?} fired at {now:?}");
    }

    /// Whoever waits in the backlog is next.
    pub(crate) fn accept_again(&mut self, cx: &mut Ctx<'_, Self>) {
        assert_eq!(cx.accepts_are_paused(), self.is_paused, "nobody else pauses or resumes");
        cx.resume_accepts();
        self.is_paused = false;
    }

    /// No more mischief: everything is read and consumed from now on.
    pub(crate) fn calm_down(&mut self, cx: &mut Ctx<'_, Self>) {
        self.is_calm = true;
        self.accept_again(cx);
        for id in self.accounts.keys() {
            cx.resume_reads(*id);
        }
    }

    /// Some things that any callback may do, to any connection.
    fn meddle(&mut self, cx: &mut Ctx<'_, Self>, id: Option<ConnId>) {
        if self.is_calm {
            return;
        }
        for _ in 0..self.dice.below(3) {
            let id = if self.dice.chance(200) { self.any_id() } else { id };
            let Some(id) = id else { continue };
            match self.dice.below(50) {
                48 | 49 if self.may_secure(id, 0) => self.secure(cx, id, false),
                48 if self.is_known(id) && self.dice.chance(20) => self.secure(cx, id, true),
                49 => {
                    let account = self.accounts.get(&id).filter(|account| !account.is_over);
                    let is_there = account.is_some_and(|account| account.layering.is_there);
                    assert_eq!(cx.layer::<Veil>(id).is_some(), is_there);
                }
                0..20 => self.send(cx, id),
                20..23 => cx.pause_reads(id),
                23..29 => cx.resume_reads(id),
                29 => self.close(cx, id),
                30 if self.dice.chance(300) => {
                    self.note_close(id);
                    cx.abort(id);
                }
                31 if self.dice.chance(300) => {
                    cx.shutdown_write(id);
                    if let Some(account) = self.accounts.get_mut(&id) {
                        account.write_ended |= cx.is_open(id);
                    }
                }
                32..36 => self.set_timer(cx, Some(id)),
                36 => self.set_timer(cx, None),
                37 => self.cancel_one(cx, id),
                38 if self.dice.chance(250) => self.connect(cx),
                38 => self.accept_again(cx),
                39 if self.dice.chance(300) => {
                    cx.pause_accepts();
                    self.is_paused = true;
                }
                40 => self.set_deadlines(cx, id),
                41 if self.dice.chance(500) => self.set_socket_options(cx, id),
                41 => self.udp.meddle(&mut self.dice, cx),
                42..45 => self.run_errand(cx, id),
                45 => self.breed(cx),
                46 if self.dice.chance(250) => self.adopt(cx),
                _ => {
                    let is_there = self.accounts.get(&id).is_some_and(|account| !account.is_over);
                    assert_eq!(cx.pending_bytes(id).is_some(), is_there);
                }
            }
        }
        self.maybe_panic();
    }

    /// Whether the peer has introduced itself.
    fn is_known(&self, id: ConnId) -> bool {
        self.accounts.get(&id).is_some_and(|account| account.peer.is_some())
    }

    fn set_deadlines(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId) {
        let choice = Choice::random(&mut self.dice, 400);
        let is_open = cx.is_open(id);
        assert_eq!(cx.set_deadlines(id, choice.deadlines), is_open, "only open connections have deadlines");
        if let Some(account) = self.accounts.get_mut(&id) {
            account.had.add(&choice);
        }
    }

    /// What the peer with this number is to receive; nobody has sent to one that is not known.
    pub(crate) fn script(&self, peer: u64) -> Option<&Script> {
        let all = self.accounts.values().chain(&self.closed);
        all.filter(|account| account.peer == Some(peer)).map(|account| &account.script).next()
    }

    fn cancel_one(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId) {
        let Some(account) = self.accounts.get_mut(&id) else { return };
        let Some((key, timer)) = account.timers.pop() else { return };
        let was_armed = self.armed.remove(&key).is_some();
        // One that expires while its connection is closing is gone without a call.
        let is_live = cx.is_open(id);
        assert!(cx.cancel_timer(timer) == was_armed || !is_live && was_armed);
    }

    fn close(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId) {
        self.note_close(id);
        cx.close(id);
    }

    pub(crate) fn note_close(&mut self, id: ConnId) {
        if let Some(account) = self.accounts.get_mut(&id) {
            account.asked_to_close = true;
        }
    }

    pub(crate) fn account(&mut self, id: ConnId) -> &mut Account {
        self.accounts.get_mut(&id).expect("callbacks come between on_accept and on_close")
    }
}

impl EventHandler for Chaos {
    type Conn = Badge;
    type Message = u64;

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        self.started = Some(cx.now());
        self.set_timer(cx, None);
    }

    fn on_accept(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, peer: &Peer) -> Admit<Badge> {
        self.check_peer(peer);
        assert!(!self.is_ending, "no connection after the end has begun");
        assert_eq!(cx.send(id, b"early"), Err(SendError::Closing));
        if self.dice.chance(50) {
            return Admit::Refuse;
        }
        self.maybe_panic();
        let mut account = Account::default();
        account.had.add(&self.choice);
        assert!(self.accounts.insert(id, account).is_none(), "ids are unique");
        self.ids.push(id);
        if self.is_layered {
            self.note_layer(id);
        }
        Admit::Accept(Rc::new(Cell::new(Some(id))))
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Badge) {
        assert_eq!(Some(id), conn.get(), "each connection has its own state");
        assert!(!std::mem::replace(&mut self.account(id).is_open, true), "on_open comes once");
        self.meddle(cx, Some(id));
    }

    fn on_secured(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Badge) {
        assert_eq!(Some(id), conn.get());
        self.secured(id);
        self.meddle(cx, Some(id));
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Badge, data: &[u8]) -> Consumed {
        assert_eq!(Some(id), conn.get());
        assert!(!data.is_empty());
        let account = self.account(id);
        assert!(account.is_open && !account.has_ended && !account.layering.is_securing);
        assert!(data.len() >= account.need, "called with less than was asked for");
        account.need = 0;
        let Some(peer) = account.peer else {
            let Some(number) = data.first_chunk::<8>() else {
                account.need = 8;
                return Consumed::none().need(8);
            };
            account.peer = Some(u64::from_le_bytes(*number));
            return Consumed::bytes(8);
        };
        dice::check(upstream(peer), account.consumed, data, "server");
        let from = account.consumed;
        account.seen = account.seen.max(from + data.len());
        self.check_held(cx, id);
        if !self.is_calm && self.dice.chance(150) {
            self.forward(cx, id, upstream(peer), data);
        }
        // What is unread is for a layer that comes, so that none may come in the middle of it.
        let seen = self.asks.remove(&peer);
        self.meddle(cx, Some(id));
        self.asks.extend(seen.map(|asked| (peer, asked)));
        let is_covered = self.may_secure(id, data.len()) && cx.is_open(id);
        if is_covered {
            self.secure(cx, id, false);
        }
        let bytes = match self.dice.below(6) {
            _ if self.is_calm || is_covered => data.len(),
            0 => self.dice.below(data.len() + 1),
            1 => 0,
            _ => data.len(),
        };
        let need =
            if !self.is_calm && !is_covered && self.dice.chance(200) { self.dice.below(3_000) } else { 0 };
        let account = self.account(id);
        account.consumed += bytes;
        account.need = if account.layering.is_securing { 0 } else { need };
        Consumed::bytes(bytes).need(need)
    }

    fn on_send_complete(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Badge, sent: Sent) {
        assert_eq!(Some(id), conn.get());
        let account = self.account(id);
        assert!(sent.through > account.covered, "each completion covers something new");
        assert!(sent.through <= account.sends, "and only what was sent");
        account.covered = sent.through;
        account.reported_bytes += sent.bytes;
        account.completed(sent);
        let is_over = matches!(sent.result, Err(SendFailure::Ended(_)));
        account.any_failed |= is_over;
        account.is_over = is_over;
        self.meddle(cx, Some(id));
    }

    fn on_writable(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Badge) {
        assert_eq!(Some(id), conn.get());
        assert!(std::mem::take(&mut self.account(id).is_high), "room follows pressure");
        self.note_room(id);
        self.meddle(cx, Some(id));
    }

    fn on_eof(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Badge, unread: &[u8]) -> Eof {
        assert_eq!(Some(id), conn.get());
        let account = self.account(id);
        assert!(!account.layering.is_securing, "nothing is presented before the layer is ready");
        assert!(!std::mem::replace(&mut account.has_ended, true), "on_eof comes once");
        if let Some(peer) = account.peer {
            account.seen = account.seen.max(account.consumed + unread.len());
            let from = account.consumed;
            dice::check(upstream(peer), from, unread, "server at the end");
        }
        self.meddle(cx, Some(id));
        if self.dice.chance(300) {
            // A connection that is kept must be closed some time: here, by a timer of the run.
            return Eof::KeepWriting;
        }
        self.note_close(id);
        Eof::Close
    }

    fn on_socket_options(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        id: ConnId,
        conn: &mut Badge,
        result: Result<(), OptionRefused>,
    ) {
        assert_eq!(Some(id), conn.get());
        assert!(cx.is_open(id), "no answer once the end has begun");
        self.options_set(id, result);
        self.meddle(cx, Some(id));
    }

    fn on_conn_timer(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Badge, key: TimerKey) {
        assert_eq!(Some(id), conn.get());
        self.fired(cx, key);
        self.account(id).timers.retain(|(other, _)| *other != key);
        self.meddle(cx, Some(id));
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, key: TimerKey) {
        self.fired(cx, key);
        let id = self.any_id();
        self.meddle(cx, id);
    }

    fn on_close(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: Badge, reason: CloseReason) {
        assert_eq!(Some(id), conn.get(), "the state comes back");
        let mut account = self.accounts.remove(&id).expect("on_close comes once");
        assert_eq!(account.covered, account.sends, "every send was answered before on_close");
        assert_eq!(account.script.owners.alive(), 0, "every guard was dropped before on_close");
        if account.any_failed || account.script.broken > 0 {
            let most = account.accepted_bytes as u64;
            assert!(account.layering.is_there || account.reported_bytes <= most);
        } else if account.layering.is_there {
            assert!(account.reported_bytes >= account.layering.wire_bytes, "{account:?} {reason:?}");
        } else {
            assert_eq!(account.reported_bytes, account.accepted_bytes as u64, "{account:?} {reason:?}");
        }
        account.check_layer(reason);
        assert!(!account.any_failed || !reason.is_clean(), "{reason:?} although sends failed");
        assert!(account.had.allows(reason), "{reason:?} without such a deadline");
        for (key, timer) in account.timers.drain(..) {
            self.armed.remove(&key);
            assert!(!cx.cancel_timer(timer), "timers end with their connection");
        }
        self.errands.forget(id);
        assert!(!cx.is_open(id));
        account.reason = Some(reason);
        self.closed.push(account);
        self.meddle(cx, Some(id));
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, message: u64) {
        self.take_message(message);
        let id = self.any_id();
        self.meddle(cx, id);
    }

    fn on_job(&mut self, cx: &mut Ctx<'_, Self>, key: JobKey, result: Result<u64, JobFailed>) {
        self.take_answer(None, key, result);
        let id = self.any_id();
        self.meddle(cx, id);
    }

    fn on_conn_job(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        id: ConnId,
        conn: &mut Badge,
        key: JobKey,
        result: Result<u64, JobFailed>,
    ) {
        assert_eq!(Some(id), conn.get());
        assert!(cx.is_open(id), "the jobs of a connection end with it");
        self.take_answer(Some(id), key, result);
        self.meddle(cx, Some(id));
    }

    fn on_resolved(
        &mut self,
        _: &mut Ctx<'_, Self>,
        key: JobKey,
        result: Result<Vec<SocketAddr>, ResolveError>,
    ) {
        self.take_names(key, result);
    }

    fn on_tick(&mut self, cx: &mut Ctx<'_, Self>, _: Tick) {
        self.ticks += 1;
        if self.dice.chance(100) {
            let id = self.any_id();
            self.meddle(cx, id);
        }
    }

    fn on_datagram(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, datagram: Datagram<'_>) {
        self.udp.on_datagram(&mut self.dice, cx, socket, datagram);
        self.maybe_panic();
    }

    fn on_udp_error(&mut self, _: &mut Ctx<'_, Self>, socket: UdpId, error: UdpError) {
        self.udp.on_error(socket, error);
        self.maybe_panic();
    }

    fn on_udp_close(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, reason: UdpClosed) {
        self.udp.on_close(cx, socket, reason);
        self.maybe_panic();
    }

    fn on_shutdown(&mut self, cx: &mut Ctx<'_, Self>, _: Instant) {
        self.udp.end();
        self.is_ending = true;
        // Whom the worker lets go by itself is still there, but only until this returns.
        self.offspring.forget();
        let id = self.any_id();
        self.meddle(cx, id);
    }

    fn on_child(&mut self, cx: &mut Ctx<'_, Self>, child: ChildId, key: ChildKey, _: ChildExit) {
        self.child_ended(cx, child, key);
        let id = self.any_id();
        self.meddle(cx, id);
    }
}
