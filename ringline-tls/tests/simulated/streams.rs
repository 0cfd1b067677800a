//! Both directions at once, of any length, by every way to send, to peers that read as slowly as they
//! like and end whenever they want: every byte arrives, in order, and every promise is audited.

use super::certificates::Folder;
use super::peer::{Dice, Notes, Peer, Sides, pattern};
use ringline_core::testing::{Fault, Faults, World};
use ringline_core::{
    Accepted, Admit, Chain, CloseReason, Config, ConfigBuilder, ConnId, Consumed, Ctx, Deadlines, Eof,
    EventHandler, Parts, Pressure, SendError, Sent, TimerKey,
};
use ringline_tls::TlsVersions;
use std::sync::Arc;
use std::time::Duration;

/// The salts of the two directions.
const UP: u64 = 1;
const DOWN: u64 = 2;
/// More than this is never left unread.
const UNREAD_MAX: usize = 20_000;

/// What is known about the connection.
#[derive(Debug, Default)]
struct Track {
    sent: usize,
    sends: u64,
    through: u64,
    received: usize,
    /// The most that was ever visible.
    seen: usize,
    has_open: bool,
    peer_has_ended: bool,
    has_ended: bool,
}

/// Sends one stream while it receives the other.
struct Streams {
    dice: Dice,
    up: usize,
    down: usize,
    longest: usize,
    closed: Vec<CloseReason>,
    last: Track,
}

impl Notes for Streams {
    fn closed(&self) -> &[CloseReason] {
        &self.closed
    }
}

impl Streams {
    fn new(seed: u64, (up, down): (usize, usize), longest: usize) -> Self {
        Self { dice: Dice(seed), up, down, longest, closed: Vec::new(), last: Track::default() }
    }

    fn send(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, bytes: &[u8]) -> Result<Accepted, SendError> {
        let at = self.dice.below(bytes.len());
        let (first, rest) = bytes.split_at(at);
        match self.dice.below(4) {
            0 => cx.send(id, bytes),
            1 => cx.send_guard(id, bytes.to_vec()).map_err(|rejected| rejected.error),
            2 => {
                let mut parts = Parts::new();
                parts.copy(first).expect("two parts");
                parts.guard(rest.to_vec()).expect("two parts");
                cx.send_parts(id, parts).map_err(|rejected| rejected.error)
            }
            _ => {
                let mut whole = Chain::new();
                whole.copy(first).expect("two links");
                whole.guard(rest.to_vec()).expect("two links");
                cx.send_chain(id, whole).map_err(|rejected| rejected.error)
            }
        }
    }

    /// Sends as much as there is room for, and ends the direction behind the last byte.
    fn fill(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, track: &mut Track) {
        while track.sent < self.down {
            let len = (1 + self.dice.below(self.longest)).min(self.down - track.sent);
            let bytes = pattern(DOWN, track.sent, len);
            let before = cx.pending_bytes(id);
            match self.send(cx, id, &bytes) {
                Ok(accepted) => {
                    track.sends += 1;
                    assert_eq!(accepted.sequence, track.sends);
                    track.sent += len;
                    if accepted.pressure == Pressure::High {
                        return;
                    }
                }
                Err(error) => {
                    assert_eq!(cx.pending_bytes(id), before, "nothing of it is queued");
                    match error {
                        SendError::Full { pending, .. } => assert!(pending > 0, "each fits by itself"),
                        SendError::WorkerFull { .. } => {
                            cx.set_conn_timer(id, Duration::from_millis(1), TimerKey(0));
                        }
                        error => panic!("{error}"),
                    }
                    return;
                }
            }
        }
        if !std::mem::replace(&mut track.has_ended, true) {
            if track.peer_has_ended { cx.close(id) } else { cx.shutdown_write(id) }
        }
    }
}

impl EventHandler for Streams {
    type Conn = Track;
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &ringline_core::Peer) -> Admit<Track> {
        Admit::Accept(Track::default())
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, track: &mut Track) {
        assert!(!std::mem::replace(&mut track.has_open, true), "on_open comes once");
        self.fill(cx, id, track);
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, track: &mut Track, data: &[u8]) -> Consumed {
        assert!(track.has_open && !track.peer_has_ended && !data.is_empty());
        assert!(data == pattern(UP, track.received, data.len()), "what was written, in order");
        assert!(track.received + data.len() > track.seen, "something is new");
        track.seen = track.received + data.len();
        self.fill(cx, id, track);
        let takes_all = data.len() > UNREAD_MAX || self.dice.chance(60);
        let bytes = if takes_all { data.len() } else { self.dice.below(data.len() + 1) };
        track.received += bytes;
        Consumed::bytes(bytes)
    }

    fn on_writable(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, track: &mut Track) {
        self.fill(cx, id, track);
    }

    fn on_conn_timer(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, track: &mut Track, _: TimerKey) {
        self.fill(cx, id, track);
    }

    fn on_send_complete(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, track: &mut Track, sent: Sent) {
        assert!(sent.through > track.through && sent.through <= track.sends);
        track.through = sent.through;
    }

    fn on_eof(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, track: &mut Track, unread: &[u8]) -> Eof {
        assert!(!std::mem::replace(&mut track.peer_has_ended, true), "on_eof comes once");
        assert!(unread == pattern(UP, track.received, unread.len()));
        track.received += unread.len();
        assert_eq!(track.received, self.up, "the mark is behind everything");
        if track.has_ended { Eof::Close } else { Eof::KeepWriting }
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, track: Track, reason: CloseReason) {
        assert_eq!(track.through, track.sends, "every send is covered");
        assert!(!reason.is_clean() || track.sent == self.down && track.peer_has_ended, "{reason:?}");
        self.closed.push(reason);
        self.last = track;
    }
}

/// How a peer behaves.
#[derive(Clone, Copy, Debug)]
struct Manners {
    write: usize,
    read: usize,
    /// How many times in a hundred it does not come to read.
    idles: usize,
    /// It ends the connection with its direction, and does not wait for the server's end.
    ends_early: bool,
}

/// Plays both streams to the end and says how the connection ended.
fn play(world: &mut World<Streams>, sides: &Sides, manners: Manners, seed: u64, is_sure: bool) {
    let (up, down) = (world.handler().up, world.handler().down);
    let mut dice = Dice(!seed);
    let mut peer = Peer::connect(world, sides);
    let (mut written, mut read, mut has_marked, mut has_ended) = (0, 0, false, false);
    let mut steps = 0u32;
    while world.handler().closed().is_empty() {
        let at_most = if dice.chance(manners.idles) { 0 } else { manners.read };
        peer.pump(world, manners.write, at_most);
        assert!(!is_sure || peer.failed.is_none(), "seed {seed}: {:?}", peer.failed);
        assert!(peer.plain == pattern(DOWN, read, peer.plain.len()), "seed {seed}: what was sent, in order");
        read += std::mem::take(&mut peer.plain).len();
        if !peer.layer.is_handshaking() && written < up && peer.out.len() < 2 * manners.write {
            let len = (1 + dice.below(2 * manners.write)).min(up - written);
            peer.send(&pattern(UP, written, len));
            written += len;
        }
        if written == up && !peer.layer.is_handshaking() && !std::mem::replace(&mut has_marked, true) {
            peer.layer.close(&mut peer.out);
        }
        let may_end = has_marked && peer.out.is_empty();
        if may_end && (manners.ends_early || peer.layer.is_read_closed()) && !has_ended {
            has_ended = true;
            world.end(peer.id);
        }
        if at_most == 0 || world.run_until(|_| true) {
            world.sleep(Duration::from_millis(u64::from(steps.is_multiple_of(4))));
        }
        steps += 1;
        assert!(steps < 3_000_000, "seed {seed}: {written} of {up} written, {read} of {down} read");
    }
    let reason = world.handler().closed()[0];
    if is_sure {
        // What was unread at the end was looked at.
        let is_orderly = matches!(reason, CloseReason::Closed | CloseReason::PeerClosed { .. });
        assert!(is_orderly, "seed {seed}: {reason:?}");
    }
    // What the kernel of the server has is for the peer to read.
    for _ in 0..2_000 {
        peer.pump(world, usize::MAX, usize::MAX);
        assert!(peer.plain == pattern(DOWN, read, peer.plain.len()), "seed {seed}: what was sent, in order");
        read += std::mem::take(&mut peer.plain).len();
        if world.saw_eof(peer.id) || world.saw_reset(peer.id) {
            break;
        }
        world.sleep(Duration::from_millis(1));
    }
    if is_sure {
        assert_eq!((written, read), (up, down), "seed {seed}: {reason:?}");
        assert!(peer.layer.is_read_closed(), "seed {seed}: the server's end is marked");
    }
    assert!(read <= down && world.handler().last.received <= written);
}

fn config(dice: &mut Dice) -> (ConfigBuilder, usize) {
    let full = 3_000 + dice.below(100_000);
    let high = 1 + dice.below(full);
    let config = Config::builder()
        .deadlines(Deadlines::none())
        .handshake_timeout(Duration::from_secs(3_600))
        .linger(Duration::from_secs(60))
        .close_timeout(Duration::from_secs(3_600))
        .stage_bytes(4096 << dice.below(6))
        .outbox_low_bytes(dice.below(high))
        .outbox_high_bytes(high)
        .outbox_bytes(full)
        .worker_outbox_bytes(full * (1 + dice.below(3)));
    // What a record adds is bounded by so much of a send.
    (config, (full / 3).min(70_000))
}

fn length(dice: &mut Dice) -> usize {
    match dice.below(8) {
        0 => 0,
        1 => 1,
        2 => 1 + dice.below(300_000),
        3 => 16_384 + dice.below(3) - 1,
        _ => 1 + dice.below(20_000),
    }
}

fn run_seed(folder: &Folder, seed: u64, breaks: bool) {
    let mut dice = Dice(seed.wrapping_mul(77));
    let versions = if dice.chance(50) { TlsVersions::Tls13 } else { TlsVersions::Tls12 };
    let fragment = dice.chance(40).then(|| 100 + dice.below(16_000));
    let sides = Sides::new(folder, versions, fragment);
    let mut faults = Faults::random(seed).with(Fault::NoAddress, 0);
    for fault in Fault::ALL.iter().copied().filter(|fault| fault.breaks_connections() && !breaks) {
        faults = faults.with(fault, 0);
    }
    faults.descriptors = faults.descriptors.max(1 << 10);
    let (config, longest) = config(&mut dice);
    let lens = (length(&mut dice), length(&mut dice));
    let most = lens.0.max(lens.1) / 200 + 1;
    let manners = Manners {
        write: most + dice.below(5_000),
        read: most + dice.below(5_000),
        idles: dice.below(90),
        ends_early: dice.chance(50),
    };
    let streams = Streams::new(seed, lens, longest);
    let config = config.build().expect("a valid configuration");
    let mut world = World::layered(&config, seed, faults, Arc::new(sides.server.clone()), streams);
    play(&mut world, &sides, manners, seed, !breaks);
    assert_eq!(world.metrics().handler_panics, 0, "seed {seed}: a check failed in a callback");
    world.finish();
}

#[test]
fn every_byte_arrives_whatever_the_lengths_the_records_the_peers_and_the_kernel() {
    let folder = Folder::new();
    for seed in 0..120 {
        run_seed(&folder, seed, false);
    }
}

#[test]
fn what_arrives_of_a_connection_that_breaks_is_what_was_sent() {
    let folder = Folder::new();
    for seed in 0..60 {
        run_seed(&folder, seed, true);
    }
}

#[test]
fn streams_of_64_mebibytes_arrive_on_the_real_kernel() {
    let folder = Folder::new();
    for (versions, fragment) in [(TlsVersions::Tls13, None), (TlsVersions::Tls12, Some(5_000))] {
        let sides = Sides::new(&folder, versions, fragment);
        for lens in [(1, 1), (0, 64 << 20), (64 << 20, 1 << 20)] {
            let config = Config::builder().deadlines(Deadlines::none()).build().expect("valid");
            let streams = Streams::new(1, lens, 300_000);
            let server = Arc::new(sides.server.clone());
            let mut world = World::layered_loopback(&config, server, streams).expect("a ring");
            let manners = Manners { write: 1 << 20, read: usize::MAX, idles: 0, ends_early: false };
            play(&mut world, &sides, manners, 1, true);
            let metrics = world.metrics();
            assert_eq!(metrics.handler_panics, 0, "a check failed in a callback");
            assert!(metrics.bytes_received > lens.0 as u64 && metrics.bytes_sent > lens.1 as u64);
            world.finish();
        }
    }
}
