//! One seed: peers that talk, stop, end and reset, and the audit at the end.

use crate::chaos::{Account, Chaos, upstream};
use crate::children::{CHILDREN_MAX, Cast};
use crate::datagrams::Crowd;
use crate::dice::{self, Dice};
use crate::errands;
use crate::layers::{self, Lens};
use crate::limits::{self, Choice, KINDS};
use ringline_core::layer::LayerError;
use ringline_core::testing::{Fault, Faults, PeerId, Veils, World};
use ringline_core::{CloseReason, Config, Deadlines, Limit};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What all runs together have seen.
#[derive(Debug)]
pub(crate) struct Totals {
    turns: AtomicU64,
    connections: AtomicU64,
    /// Connections that the handler has asked for and that were made.
    connects: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
    closed: [AtomicU64; WAYS + KINDS],
    struck: [AtomicU64; Fault::ALL.len()],
    /// Connections turned away for each cause, and pauses of accepting.
    turned_away: [AtomicU64; 4],
    /// Sends of each kind: guards, chains, chains that broke and were reported, forwards in place, and
    /// zero-copy sends that were copied after all.
    kinds: [AtomicU64; 5],
    /// Datagrams that were shown, sent, not sent, turned away, and dropped by the kernel.
    datagrams: [AtomicU64; 5],
    /// Messages that were delivered and that found no room, and jobs that were accepted, rejected,
    /// dropped and that panicked.
    errands: [AtomicU64; 6],
    /// Handshakes that succeeded, that did not, and accepts that waited for one.
    handshakes: [AtomicU64; 3],
    /// Children that ended, that were let go, that the deadline of a shutdown ended; sockets that were adopted.
    children: [AtomicU64; 4],
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            turns: AtomicU64::default(),
            connections: AtomicU64::default(),
            connects: AtomicU64::default(),
            sent: AtomicU64::default(),
            received: AtomicU64::default(),
            closed: Default::default(),
            struck: std::array::from_fn(|_| AtomicU64::default()),
            turned_away: Default::default(),
            kinds: Default::default(),
            datagrams: Default::default(),
            errands: Default::default(),
            handshakes: Default::default(),
            children: Default::default(),
        }
    }
}

impl Totals {
    /// Every fault struck and every way to end was taken.
    pub(crate) fn assert_thorough(&self) {
        for (fault, count) in Fault::ALL.iter().zip(&self.struck) {
            assert!(count.load(Ordering::Relaxed) > 0, "{fault:?} never struck");
        }
        for (kind, count) in self.closed.iter().enumerate() {
            assert!(count.load(Ordering::Relaxed) > 0, "no connection ended in way {kind}");
        }
        for (cause, count) in self.turned_away.iter().enumerate() {
            assert!(count.load(Ordering::Relaxed) > 0, "nobody was turned away for cause {cause}");
        }
        for (fate, count) in self.datagrams.iter().enumerate() {
            assert!(count.load(Ordering::Relaxed) > 0, "no datagram met fate {fate}");
        }
        for (kind, count) in self.kinds.iter().enumerate() {
            assert!(count.load(Ordering::Relaxed) > 0, "nothing was sent in way {kind}");
        }
        for (errand, count) in self.errands.iter().enumerate() {
            assert!(count.load(Ordering::Relaxed) > 0, "errand {errand} was never run");
        }
        for (fate, count) in self.handshakes.iter().enumerate() {
            assert!(count.load(Ordering::Relaxed) > 0, "no handshake met fate {fate}");
        }
        for (kind, count) in self.children.iter().enumerate() {
            assert!(count.load(Ordering::Relaxed) > 0, "nothing happened to children in way {kind}");
        }
    }
}

fn add(to: &AtomicU64, count: u64) {
    to.fetch_add(count, Ordering::Relaxed);
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let closed: Vec<_> = self.closed.iter().map(of).collect();
        let kinds: Vec<_> = self.kinds.iter().map(of).collect();
        write!(
            f,
            "{} turns, {} connections, {} of them made, {} bytes sent, {} received, closed {closed:?}, kinds {kinds:?}",
            of(&self.turns),
            of(&self.connections),
            of(&self.connects),
            of(&self.sent),
            of(&self.received)
        )
    }
}

struct Client {
    id: PeerId,
    number: u64,
    /// Bytes of its stream that it has written, without the number in front.
    written: usize,
    has_introduced: usize,
    read: usize,
    is_reading: bool,
    has_ended: bool,
    is_gone: bool,
    /// Its layer, if it has one by now, and whether it has asked for one.
    lens: Option<Lens>,
    has_asked: bool,
}

impl Client {
    fn new(id: PeerId, number: u64, lens: Option<Lens>, dice: &mut Dice) -> Self {
        Self {
            id,
            number,
            written: 0,
            has_introduced: 0,
            read: 0,
            is_reading: dice.chance(850),
            has_ended: false,
            is_gone: false,
            lens,
            has_asked: false,
        }
    }

    /// Whether it does not come to read.
    fn is_busy(&self) -> bool {
        self.lens.as_ref().is_some_and(Lens::is_busy)
    }

    /// Whether it keeps to the rules of its layer, if it has one.
    fn is_honest(&self) -> bool {
        self.lens.as_ref().is_none_or(|lens| lens.is_honest)
    }

    /// Whether it has asked its layer's other side for more than it may leave unread.
    fn has_flooded(&self) -> bool {
        self.lens.as_ref().is_some_and(Lens::has_flooded)
    }
}

/// A linger that no client outlasts, so that an orderly close must lose nothing.
const PATIENT: Duration = Duration::from_secs(20);

fn linger(dice: &mut Dice) -> Duration {
    match dice.below(10) {
        0 => Duration::ZERO,
        1..5 => Duration::from_millis(50 + dice.below(500) as u64),
        _ => PATIENT,
    }
}

fn config(dice: &mut Dice, linger: Duration, deadlines: Deadlines, holds_reads: bool) -> Config {
    let high = 600 + dice.below(3_000);
    let full = high + 6_000 + dice.below(20_000);
    let policy = Config::builder()
        .workers(1)
        .connections_per_worker(4 + dice.below(12) as u32)
        .inbox_bytes(4_000 + dice.below(8_000))
        .outbox_low_bytes(dice.below(high))
        .outbox_high_bytes(high)
        .outbox_bytes(full)
        .worker_outbox_bytes(full * (1 + dice.below(6)))
        .hold_reads(holds_reads)
        .stage_bytes(4096)
        .zero_copy_threshold(1 + dice.length())
        .forward_hold_bytes(dice.below(20_000))
        .accept_batch(1 + dice.below(8) as u32)
        .children_per_worker(CHILDREN_MAX)
        .close_timeout(Duration::from_millis(200 + dice.below(2_000) as u64))
        .connect_timeout(Duration::from_millis(1 + dice.below(1_000) as u64))
        .handshake_timeout(Duration::from_millis(50 + dice.below(3_000) as u64))
        .handshakes_per_worker(1 + dice.below(8) as u32)
        .linger(linger)
        .deadlines(deadlines);
    let max = dice.chance(300).then(|| 1 + dice.below(8));
    let per_address = dice.chance(300).then(|| 1 + dice.below(max.unwrap_or(5)) as u32);
    let policy = policy.connections_max(max).connections_per_address(per_address);
    let interval = dice.chance(300).then(|| Duration::from_millis(1 + dice.below(50) as u64));
    let policy = policy
        .mailbox_messages(1 + dice.below(20))
        .blocking_threads(1 + dice.below(3))
        .blocking_queue(1 + dice.below(5))
        .resolve_queue(1 + dice.below(3));
    policy.tick_interval(interval).build().expect("a valid configuration")
}

/// Runs one seed and returns the trace of the kernel if it was asked for.
pub(crate) fn run(seed: u64, traced: bool, totals: &Totals) -> String {
    let mut dice = Dice::new(!seed);
    let linger = linger(&mut dice);
    let often = if dice.chance(300) { 300 } else { 0 };
    let choice = Choice::random(&mut dice, often);
    let holds_reads = dice.chance(800);
    let config = config(&mut dice, linger, choice.deadlines, holds_reads);
    let mut chaos = Chaos::new(seed, choice, holds_reads);
    chaos.is_unix = seed % 4 == 3;
    chaos.is_layered = seed % 4 == 1;
    let faults = Faults::random(seed);
    let mut world = match seed % 4 {
        1 => World::layered(&config, seed, faults, Veils::shared(), chaos),
        3 => World::simulated_unix(&config, seed, faults, chaos),
        _ => World::simulated(&config, seed, faults, chaos),
    };
    world.set_name(errands::NAME, Ok(errands::ips()));
    if traced {
        world.enable_trace();
    }
    let mut clients = Vec::new();
    let mut crowd = Crowd::default();
    let mut cast = Cast::default();
    let steps = 60 + dice.below(200);
    for _ in 0..steps {
        step(&mut world, &mut clients, &mut dice, seed);
        crowd.step(&mut world, &mut dice);
        cast.step(&mut world, &mut dice);
        world.sleep(Duration::from_millis(1 + dice.below(4) as u64));
    }
    finish(&mut world, &mut clients, &mut dice);
    let (turns, trace) = (world.turns(), world.trace());
    for (fault, count) in Fault::ALL.iter().zip(&totals.struck) {
        add(count, world.struck(*fault));
    }
    let metrics = world.metrics();
    add(&totals.sent, metrics.bytes_sent);
    add(&totals.received, metrics.bytes_received);
    add(&totals.turns, turns);
    add(&totals.connects, metrics.connects);
    let causes =
        [metrics.refused_full, metrics.refused_server, metrics.refused_address, metrics.accept_pauses];
    for (count, total) in causes.into_iter().zip(&totals.turned_away) {
        add(total, count);
    }
    let kinds = [metrics.guards, metrics.chains, 0, metrics.forwards_held, metrics.zero_copy_copied];
    for (count, total) in kinds.into_iter().zip(&totals.kinds) {
        add(total, count);
    }
    let fates = [
        metrics.udp_received,
        metrics.udp_sent,
        metrics.udp_sends_failed,
        metrics.udp_sends_dropped,
        metrics.udp_dropped_by_kernel,
    ];
    for (count, total) in fates.into_iter().zip(&totals.datagrams) {
        add(total, count);
    }
    world.handler().udp.judge(&metrics);
    let errands = [
        metrics.mailbox_messages,
        metrics.mailbox_full,
        metrics.jobs,
        metrics.jobs_rejected,
        metrics.jobs_dropped,
        metrics.jobs_panicked,
    ];
    for (count, total) in errands.into_iter().zip(&totals.errands) {
        add(total, count);
    }
    let handshakes = [metrics.handshakes, metrics.handshakes_failed, metrics.handshakes_waits];
    for (count, total) in handshakes.into_iter().zip(&totals.handshakes) {
        add(total, count);
    }
    add(&totals.children[2], metrics.children_killed);
    add(&totals.children[3], metrics.connections_adopted);
    let broken: Vec<bool> = clients.iter().map(|client| world.is_broken(client.id)).collect();
    let handler = world.finish();
    if traced {
        eprintln!("{trace}");
    }
    judge(&handler, &clients, &broken, linger == PATIENT, totals);
    trace
}

fn step(world: &mut World<Chaos>, clients: &mut Vec<Client>, dice: &mut Dice, seed: u64) {
    let number = |clients: &[Client]| (seed << 8) + clients.len() as u64;
    let is_layered = world.handler().is_layered;
    if clients.len() < 24 && dice.chance(if clients.is_empty() { 1000 } else { 80 }) {
        let id = world.connect();
        let lens = is_layered.then(|| Lens::new(true, dice));
        clients.push(Client::new(id, number(clients), lens, dice));
    }
    while let Some(id) = world.dialed() {
        let lens = is_layered.then(|| Lens::new(false, dice));
        clients.push(Client::new(id, number(clients), lens, dice));
    }
    if dice.chance(30) {
        world.act(Chaos::accept_again);
    }
    meddle_with_errands(world, dice);
    for client in clients.iter_mut().filter(|client| !client.is_gone) {
        match dice.below(100) {
            0..40 => write(world, client, dice),
            40..70 if client.is_reading && !client.is_busy() => _ = read(world, client, dice.length() * 20),
            70..73 => client.is_reading ^= true,
            73 => end(world, client, dice.chance(300)),
            76..79 => ask(world, client),
            74 if dice.chance(300) => {
                world.close(client.id);
                client.is_gone = true;
            }
            75 if dice.chance(300) => {
                world.reset(client.id);
                client.is_gone = true;
            }
            _ => {}
        }
    }
}

/// Ends a client's direction; with a layer, with its mark or without.
fn end(world: &mut World<Chaos>, client: &mut Client, cuts_off: bool) {
    if client.has_ended {
        return;
    }
    client.has_ended = true;
    match &mut client.lens {
        Some(lens) => lens.end(world, client.id, cuts_off),
        None => world.end(client.id),
    }
}

/// A client wants a layer on its connection and says nothing more before there is one.
fn ask(world: &mut World<Chaos>, client: &mut Client) {
    let is_plain = client.lens.is_none() && client.has_introduced == 8 && !client.has_ended;
    if is_plain && !std::mem::replace(&mut client.has_asked, true) {
        let (number, written) = (client.number, client.written);
        world.act(|chaos, _| chaos.asked_for_layer(number, written));
    }
}

/// Posts from outside, and decides when jobs begin.
fn meddle_with_errands(world: &mut World<Chaos>, dice: &mut Dice) {
    match dice.below(40) {
        0..4 => {
            for _ in 0..=dice.below(3) {
                let number = world.act(|chaos, _| chaos.errands.number());
                let answer = world.post(number);
                world.act(|chaos, _| chaos.errands.posted(answer));
            }
        }
        4 => world.hold_jobs(),
        5 | 6 => _ = world.run_job(),
        7 => world.release_jobs(),
        _ => {}
    }
}

fn write(world: &mut World<Chaos>, client: &mut Client, dice: &mut Dice) {
    if client.lens.is_some() {
        return write_layered(world, client, dice);
    }
    if client.has_ended || client.has_asked {
        return;
    }
    let head = client.number.to_le_bytes();
    if client.has_introduced < head.len() {
        client.has_introduced += world.write(client.id, &head[client.has_introduced..]);
        return;
    }
    let bytes = dice::bytes(upstream(client.number), client.written, dice.length());
    client.written += world.write(client.id, &bytes);
}

fn write_layered(world: &mut World<Chaos>, client: &mut Client, dice: &mut Dice) {
    let Some(lens) = &mut client.lens else { return };
    if !client.has_ended && lens.takes_more() {
        if client.has_introduced == 0 {
            lens.send(&client.number.to_le_bytes());
            client.has_introduced = 8;
        }
        let bytes = dice::bytes(upstream(client.number), client.written, dice.length());
        lens.send(&bytes);
        client.written += bytes.len();
    }
    lens.push(world, client.id, dice);
}

/// Reads, and says whether there was anything.
fn read(world: &mut World<Chaos>, client: &mut Client, at_most: usize) -> bool {
    let bytes = world.read(client.id, at_most);
    let has_read = !bytes.is_empty();
    let bytes = layers::uncover(
        world,
        (&mut client.lens, client.number),
        (client.read, client.has_asked && !client.has_ended),
        bytes,
    );
    match world.handler().script(client.number) {
        Some(script) => script.check(client.read, &bytes, "peer"),
        None => assert!(bytes.is_empty(), "nobody has sent anything"),
    }
    client.read += bytes.len();
    has_read
}

/// A connection whose peer has ended without the handler being told, or that was asked to close and
/// does not.
fn deaf(world: &World<Chaos>, ended: &[u64]) -> Option<Account> {
    let is_deaf = |account: &&Account| {
        let has_ended = account.peer.is_some_and(|peer| ended.contains(&peer));
        has_ended && !account.has_ended || account.asked_to_close || account.waits_for_options()
    };
    world.handler().accounts.values().find(is_deaf).cloned()
}

/// Everybody reads to the end, most say goodbye, and the worker shuts down.
fn finish(world: &mut World<Chaos>, clients: &mut [Client], dice: &mut Dice) {
    let ends: Vec<bool> = clients.iter().map(|_| dice.chance(700)).collect();
    for (client, ends) in clients.iter_mut().zip(ends) {
        if ends && !client.is_gone {
            end(world, client, false);
        }
    }
    let ended: Vec<u64> = clients
        .iter()
        .filter(|client| client.has_ended && !client.is_gone)
        .map(|client| client.number)
        .collect();
    let mut read_all = |world: &mut World<Chaos>| {
        let mut is_moving = false;
        for client in clients.iter_mut().filter(|client| !client.is_gone) {
            is_moving |= read(world, client, usize::MAX);
            is_moving |= client.lens.as_mut().is_some_and(|lens| lens.flush_all(world, client.id));
        }
        is_moving
    };
    if dice.chance(600) {
        // Without mischief and faults, whatever was asked for happens by itself.
        world.set_faults(Faults::none());
        world.act(Chaos::calm_down);
        // Time may leap only while nobody is being sent anything.
        let until = world.elapsed() + PATIENT * 2;
        while deaf(world, &ended).is_some() && world.elapsed() < until {
            if read_all(world) { world.sleep(Duration::from_millis(1)) } else { world.turn() }
        }
        assert!(
            deaf(world, &ended).is_none(),
            "deaf, or does not come to its end: {:?}",
            deaf(world, &ended)
        );
        // Whatever was paused and resumed before: who connects now gets an answer, if only that there
        // is no descriptor left.
        let answered = |world: &World<Chaos>| {
            let metrics = world.metrics();
            metrics.connections_accepted + metrics.connections_refused + metrics.accept_errors
        };
        let before = answered(world);
        world.connect();
        assert!(world.run_until(|world| answered(world) > before), "nobody accepts any more");
    }
    world.shut_down(Duration::from_secs(60));
    let ended = world.run_until(|world| {
        read_all(world);
        world.is_done()
    });
    assert!(ended, "the worker does not end: {:?}", world.handler().accounts);
    for client in clients.iter_mut().filter(|client| !client.is_gone) {
        read(world, client, usize::MAX);
    }
}

fn judge(handler: &Chaos, clients: &[Client], broken: &[bool], is_patient: bool, totals: &Totals) {
    handler.errands.check_finished();
    assert!(handler.accounts.is_empty(), "every connection was closed: {:?}", handler.accounts);
    handler.check_children();
    add(&totals.children[0], handler.offspring.ended);
    add(&totals.children[1], handler.offspring.detached);
    let by_number: HashMap<u64, (&Client, bool)> =
        clients.iter().zip(broken).map(|(client, broken)| (client.number, (client, *broken))).collect();
    add(&totals.connections, handler.closed.len() as u64);
    for account in &handler.closed {
        let reason = account.reason.expect("a closed connection has a reason");
        add(&totals.closed[way(reason)], 1);
        add(&totals.kinds[2], account.script.broken);
        if let Some((client, broken)) = account.peer.map(|peer| by_number[&peer]) {
            judge_one(account, reason, client, broken, is_patient);
        }
    }
}

fn judge_one(account: &Account, reason: CloseReason, client: &Client, broken: bool, is_patient: bool) {
    assert!(account.seen <= client.written, "the server saw more than was written");
    assert!(client.read <= account.accepted_bytes, "the peer read more than was sent");
    if broken || client.is_gone || !client.is_honest() {
        return;
    }
    // One that asks for answers and does not read them keeps the rules of its layer, but not for long.
    let is_flood = reason == CloseReason::LayerFailed(LayerError::FLOOD) && client.has_flooded();
    let is_failure = matches!(reason, CloseReason::LayerFailed(_));
    assert!(is_flood || !is_failure, "{reason:?}, but the peer keeps the rules");
    // A peer that goes on writing after the end of `linger` is reset and may lose what it has not read.
    if reason.is_clean() && (is_patient || account.has_ended) {
        assert_eq!(
            client.read, account.script.len,
            "{reason:?}, but the peer did not get everything: {account:?}"
        );
    }
    if account.has_ended {
        assert_eq!(account.seen, client.written, "on_eof came before the last byte");
        assert!(client.has_ended, "on_eof without an end");
    }
}

/// How many ways to end there are beside deadlines.
const WAYS: usize = 12;

fn way(reason: CloseReason) -> usize {
    if let Some(kind) = limits::kind(reason) {
        return WAYS + kind;
    }
    match reason {
        CloseReason::Closed => 0,
        CloseReason::Aborted => 1,
        CloseReason::PeerClosed { .. } => 2,
        CloseReason::PeerReset => 3,
        CloseReason::LimitExceeded(Limit::Handshake) => 8,
        CloseReason::LayerFailed(_) => 9,
        CloseReason::Truncated { .. } => 10,
        CloseReason::LimitExceeded(_) => 4,
        CloseReason::Shutdown => 5,
        CloseReason::HandlerPanicked => 6,
        CloseReason::ChainBroken { .. } => 7,
        _ => 11,
    }
}
