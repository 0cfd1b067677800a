//! Any configuration that can be built serves, whatever the kernel's sizes and faults: the input draws every knob, also
//! beyond its range, and every fault, and then what some peers write to an echo server.
//!
//! An echo must be a prefix of what its peer wrote, and all of it if the connection came to a clean end.

#![no_main]

#[path = "../tape.rs"]
mod dice;

use dice::Dice;
use libfuzzer_sys::{Corpus, fuzz_target};
use ringline_core::testing::{Fault, Faults, PeerId, World};
use ringline_core::{
    Admit, CloseReason, Config, ConfigError, ConnId, Consumed, Ctx, EventHandler, Peer, SendError, TimerKey,
};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a connection waits when others have taken the worker's memory.
const RETRY: Duration = Duration::from_millis(1);
/// A kernel that refuses more often than this gets nowhere in reasonable time.
const PER_MILLE_MAX: usize = 300;
/// The simulated kernel gives its peers ports in the order in which they connect, beginning with this one.
const FIRST_PORT: u16 = 40_000;

/// Echoes in pieces that fit.
struct Echo {
    full: usize,
    /// The port of each peer whose connection is over.
    closed: Vec<(u16, CloseReason)>,
}

impl EventHandler for Echo {
    type Conn = u16;
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, peer: &Peer) -> Admit<u16> {
        Admit::Accept(peer.ip().map_or(0, |addr| addr.port()))
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, _: &mut u16, data: &[u8]) -> Consumed {
        let room = self.full - cx.pending_bytes(id).expect("it is open");
        let fitting = &data[..room.min(data.len())];
        match cx.send(id, fitting) {
            Ok(_) => Consumed::bytes(fitting.len()),
            Err(SendError::WorkerFull { .. }) => {
                cx.set_conn_timer(id, RETRY, TimerKey(0)).expect("it is open");
                Consumed::none()
            }
            Err(error) => panic!("{error} although {room} bytes fit"),
        }
    }

    fn on_writable(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, _: &mut u16) {
        cx.resume_reads(id);
    }

    fn on_conn_timer(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, _: &mut u16, _: TimerKey) {
        cx.resume_reads(id);
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, port: u16, reason: CloseReason) {
        self.closed.push((port, reason));
    }
}

/// A number of any size, small ones as likely as large ones.
fn number(dice: &mut Dice) -> u64 {
    let bits = dice.below(37) as u32;
    (1 << bits) + dice.below(1 << bits.min(16)) as u64 - dice.below(2) as u64
}

fn time(dice: &mut Dice) -> Duration {
    Duration::from_micros(number(dice))
}

/// The limit of one outbox, and the configuration, if it is one.
fn config(dice: &mut Dice) -> (usize, Result<Config, ConfigError>) {
    let mut full = 1 << 20;
    let mut builder = Config::builder().workers(1).linger(Duration::from_millis(50));
    for _ in 0..dice.below(12) {
        builder = match dice.below(14) {
            0 => builder.connections_per_worker(number(dice) as u32),
            1 => builder.inbox_bytes(number(dice) as usize),
            2 => {
                full = number(dice) as usize;
                builder.outbox_bytes(full)
            }
            3 => builder.outbox_high_bytes(number(dice) as usize),
            4 => builder.outbox_low_bytes(number(dice) as usize),
            5 => builder.worker_outbox_bytes(number(dice) as usize),
            6 => builder.hold_reads(dice.chance(500)),
            7 => builder.receive_buffers(number(dice) as u16).receive_buffer_bytes(number(dice) as u32),
            8 => builder.ring_entries(number(dice) as u32),
            9 => builder.stage_bytes(number(dice) as u32),
            10 => builder.accept_batch(number(dice) as u32),
            11 => builder.close_timeout(time(dice)),
            12 => builder.linger(time(dice)),
            _ => builder.tick_interval(time(dice)),
        };
    }
    (full, builder.build())
}

fn faults(dice: &mut Dice) -> Faults {
    let mut faults = Faults::none();
    for _ in 0..dice.below(10) {
        let fault = Fault::ALL[dice.below(Fault::ALL.len())];
        faults = faults.with(fault, dice.below(PER_MILLE_MAX) as u16);
    }
    faults.send_buffer_bytes = 1 + dice.below(4096) as u32;
    faults.receive_window_bytes = 1 + dice.below(4096) as u32;
    faults.receive_buffers = 1 + dice.below(8) as u16;
    faults.receive_buffer_bytes = 1 + dice.below(4096) as u32;
    faults.short_receive_bytes = 1 + dice.below(64) as u32;
    faults.submission_entries = 1 + dice.below(64) as u32;
    faults.completion_entries = 1 + dice.below(64) as u32;
    faults.descriptors = 1 + dice.below(16) as u32;
    faults.late_turns_max = dice.below(16) as u32;
    faults.turn_us_max = dice.below(4096) as u32;
    faults
}

#[derive(Debug)]
struct Client {
    id: PeerId,
    to_write: Vec<u8>,
    written: usize,
    read: Vec<u8>,
    has_ended: bool,
}

impl Client {
    fn step(&mut self, world: &mut World<Echo>) {
        let left = &self.to_write[self.written..];
        if !left.is_empty() {
            self.written += world.write(self.id, left);
        } else if !self.has_ended {
            world.end(self.id);
            self.has_ended = true;
        }
        self.read.extend(world.read(self.id, usize::MAX));
        assert!(self.to_write.starts_with(&self.read), "an echo is what was written");
    }

    fn is_over(&self, world: &mut World<Echo>) -> bool {
        world.saw_eof(self.id) || world.saw_reset(self.id)
    }
}

fn serve(mut world: World<Echo>, dice: &mut Dice) {
    let mut clients = Vec::new();
    for number in 0..1 + dice.below(6) as u64 {
        let to_write = dice::bytes(number, 0, dice.below(3000));
        let id = world.connect();
        clients.push(Client { id, to_write, written: 0, read: Vec::new(), has_ended: false });
    }
    world.run_until(|world| {
        clients.iter_mut().for_each(|client| client.step(world));
        clients.iter().all(|client| client.is_over(world))
    });
    world.set_faults(Faults::none());
    world.shut_down(Duration::from_secs(5));
    let ended = world.run_until(|world| {
        clients.iter_mut().for_each(|client| client.step(world));
        world.is_done()
    });
    assert!(ended, "the worker does not end: {clients:?}");
    clients.iter_mut().for_each(|client| client.step(&mut world));
    let broken: Vec<bool> = clients.iter().map(|client| world.is_broken(client.id)).collect();
    let reasons: BTreeMap<u16, CloseReason> = world.finish().closed.into_iter().collect();
    for (number, (client, broken)) in clients.iter().zip(broken).enumerate() {
        let reason = reasons.get(&(FIRST_PORT + number as u16));
        if reason == Some(&CloseReason::PeerClosed { unread: 0 }) && !broken {
            assert_eq!(client.read.len(), client.written, "a clean end, and some of the echo is missing");
        }
    }
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((seed, tape)) = input.split_first_chunk::<4>() else { return Corpus::Reject };
    dice::insert(tape);
    let mut dice = Dice::new(0);
    let (full, config) = config(&mut dice);
    let Ok(config) = config else { return Corpus::Reject };
    let faults = faults(&mut dice);
    let handler = Echo { full, closed: Vec::new() };
    let world = World::simulated(&config, u32::from_le_bytes(*seed).into(), faults, handler);
    serve(world, &mut dice);
    Corpus::Keep
});
