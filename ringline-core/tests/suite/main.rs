//! One suite for every kernel.
//!
//! Each test describes a scenario once, by what the handler does and what its peers do and see.
//! The scenario runs on the simulated kernel without faults, on the simulated kernel with the
//! faults of some twenty seeds, and on the real kernel. What is promised must hold on all of them,
//! so a scenario never asks how the kernel behaves, only how much of everything it can afford.
//!
//! `RINGLINE_SUITE_SEED=7 cargo test --test suite name_of_the_test` runs one seed alone.

mod accepting;
mod adopting;
mod agreeing;
mod audit;
mod chains;
mod children;
mod connecting;
mod datagrams;
mod deadlines;
mod desk;
mod echo;
mod ending;
mod far;
mod forwarding;
mod guards;
mod handshakes;
mod jobs;
mod layers;
mod limits;
mod mail;
mod names;
mod odd_layers;
mod options;
mod panics;
mod probe;
mod racing;
mod reading;
mod resets;
mod securing;
mod stalls;
mod stamps;
mod time;
#[path = "../common/tracked.rs"]
mod tracked;
mod writing;

use probe::{Event, Probe};
use ringline_core::testing::{Fault, Faults, PeerId, World};
use ringline_core::{CloseReason, Config, ConfigBuilder, ConnId, Ctx, Deadlines};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

type Cx<'a> = Ctx<'a, Probe>;

const SEEDS: std::ops::Range<u64> = 0..20;
/// An emulated guest is slow, and the simulated kernel is the same there.
const SEEDS_IN_A_GUEST: std::ops::Range<u64> = 0..2;
/// Which seed to run alone, from the environment.
const SEED_VARIABLE: &str = "RINGLINE_SUITE_SEED";
/// How much of the record a failure shows.
const RECORD_SHOWN: usize = 40;
const TRACE_SHOWN: usize = 120;
/// When pacing gives up.
const PACE_STEPS_MAX: usize = 20_000;

/// Where a scenario runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kernel {
    Simulated,
    Faulty {
        seed: u64,
    },
    Real,
    /// The real kernel without what those before 6.13 lack.
    Old,
    /// The simulated kernel without faults, and the real one, with peers that come over Unix sockets.
    SimulatedUnix,
    Unix,
}

impl Kernel {
    const UNIX: [Self; 2] = [Self::SimulatedUnix, Self::Unix];

    fn all() -> Vec<Self> {
        if let Ok(seed) = std::env::var(SEED_VARIABLE) {
            return vec![Self::Faulty { seed: seed.parse().expect("a seed is a number") }];
        }
        let is_guest = std::env::var_os("RINGLINE_GUEST").is_some();
        let seeds = if is_guest { SEEDS_IN_A_GUEST } else { SEEDS };
        let faulty = seeds.map(|seed| Self::Faulty { seed });
        [Self::Simulated].into_iter().chain(faulty).chain([Self::Real, Self::Old]).chain(Self::UNIX).collect()
    }

    /// A smaller size for a kernel that hands out a few bytes at a time.
    fn size(self, faulty: usize, others: usize) -> usize {
        if self.is_faulty() { faulty } else { others }
    }

    pub(crate) fn is_simulated(self) -> bool {
        matches!(self, Self::Simulated | Self::Faulty { .. } | Self::SimulatedUnix)
    }

    /// Whether peers come over Unix sockets, which have no addresses to be told apart by.
    pub(crate) fn is_unix(self) -> bool {
        Self::UNIX.contains(&self)
    }

    fn is_faulty(self) -> bool {
        matches!(self, Self::Faulty { .. })
    }

    fn faults(self) -> Faults {
        let Self::Faulty { seed } = self else { return Faults::none() };
        let mut faults = Faults::random(seed).with(Fault::NoAddress, 0);
        for fault in Fault::ALL.iter().copied().filter(|fault| fault.breaks_connections()) {
            faults = faults.with(fault, 0);
        }
        // Too few of them is a matter of its own; here every peer of a scenario is to be served.
        faults.descriptors = faults.descriptors.max(1 << 10);
        faults
    }

    fn world(self, config: &Config, probe: Probe) -> World<Probe> {
        match self {
            Self::Simulated => World::simulated(config, 1, Faults::none(), probe),
            Self::Faulty { seed } => World::simulated(config, seed, self.faults(), probe),
            Self::Real => World::loopback(config, probe).expect("a ring and a listener"),
            Self::Old => World::loopback_as_on_old_kernels(config, probe).expect("a ring and a listener"),
            Self::SimulatedUnix => World::simulated_unix(config, 1, Faults::none(), probe),
            Self::Unix => World::loopback_unix(config, probe).expect("a ring and a listener"),
        }
    }

    fn run(
        self,
        config: &Config,
        make: &impl Fn() -> Probe,
        scenario: &impl Fn(&mut World<Probe>),
        traces: bool,
    ) -> Result<(), Box<dyn Any + Send>> {
        let mut world = self.world(config, make().on(self));
        if traces {
            world.enable_trace();
        }
        let played = catch_unwind(AssertUnwindSafe(|| {
            scenario(&mut world);
            check_panics(&world);
        }));
        if played.is_err() {
            show("the record ends with", &world.handler().record(), RECORD_SHOWN);
            show("the trace ends with", &world.trace(), TRACE_SHOWN);
            return played;
        }
        catch_unwind(AssertUnwindSafe(|| world.finish().check_finished()))
    }
}

/// The configuration of most scenarios: peers that do not end are not waited for long, and others as
/// long as it takes.
fn base() -> ConfigBuilder {
    Config::builder().linger(ms(40)).deadlines(Deadlines::none())
}

/// Plays a scenario on every kernel, each time with a new handler.
fn on_every_kernel(make: impl Fn() -> Probe, scenario: impl Fn(&mut World<Probe>)) {
    on_every_kernel_with(base(), make, scenario);
}

/// The same with a configuration.
fn on_every_kernel_with(
    config: ConfigBuilder,
    make: impl Fn() -> Probe,
    scenario: impl Fn(&mut World<Probe>),
) {
    let config = config.build().expect("the configuration is valid");
    for kernel in Kernel::all() {
        if let Err(panic) = kernel.run(&config, &make, &scenario, false) {
            eprintln!("this was {kernel:?} with {:?}", kernel.faults());
            if kernel.is_simulated() {
                // The same run once more, this time with a trace.
                let _ = kernel.run(&config, &make, &scenario, true);
            }
            resume_unwind(panic);
        }
    }
}

fn check_panics(world: &World<Probe>) {
    let (seen, meant) = (world.metrics().handler_panics, world.handler().panics_meant);
    assert_eq!(seen, meant, "callbacks panic only where a scenario wants it");
}

fn show(what: &str, text: &str, lines_max: usize) {
    let count = text.lines().count();
    if count > 0 {
        eprintln!("{what}:");
        text.lines().skip(count.saturating_sub(lines_max)).for_each(|line| eprintln!("  {line}"));
    }
}

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// `len` bytes that look different at every place and for every `salt`.
fn pattern(salt: u64, len: usize) -> Vec<u8> {
    let mixed =
        |at: u64| (at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ salt.wrapping_mul(0xD6E8_FEB8_6659_FD93));
    (0..len as u64).map(|at| (mixed(at) >> 40) as u8).collect()
}

/// Compares without printing a megabyte.
fn assert_same(received: &[u8], sent: &[u8]) {
    let differs = received.iter().zip(sent).position(|(left, right)| left != right);
    assert_eq!(differs, None, "the place where the bytes differ");
    assert_eq!(received.len(), sent.len(), "how many bytes there are");
}

/// Lets time pass a millisecond at a time until `condition` holds. On the simulated kernel, a turn
/// that may wait as long as it likes skips to the next timer while a peer that reads slowly has no
/// chance to read; this is for scenarios in which that matters.
fn pace(world: &mut World<Probe>, what: &str, mut condition: impl FnMut(&mut World<Probe>) -> bool) {
    let steps_left = (0..PACE_STEPS_MAX).find(|_| {
        let holds = condition(world);
        if !holds {
            world.sleep(ms(1));
        }
        holds
    });
    assert!(steps_left.is_some(), "this never happens: {what}");
}

/// Turns until `condition` holds.
fn wait(world: &mut World<Probe>, what: &str, condition: impl FnMut(&mut World<Probe>) -> bool) {
    assert!(world.run_until(condition), "this never happens: {what}");
}

/// Connects a peer and turns until the handler has its connection.
fn connect(world: &mut World<Probe>) -> (PeerId, ConnId) {
    let opened = world.handler().opened.len();
    let peer = world.connect();
    wait(world, "the connection opens", |world| world.handler().opened.len() > opened);
    (peer, world.handler().opened[opened])
}

/// Has a peer write all of `bytes` while it reads, until `count` bytes have come back.
fn exchange(world: &mut World<Probe>, peer: PeerId, bytes: &[u8], count: usize) -> Vec<u8> {
    let mut written = 0;
    let mut received = Vec::new();
    let done = world.run_until(|world| {
        if written < bytes.len() {
            written += world.write(peer, &bytes[written..]);
        }
        received.extend(world.read(peer, count - received.len()));
        written == bytes.len() && received.len() == count
    });
    assert!(done, "{written} of {} bytes were written, {} of {count} came back", bytes.len(), received.len());
    received
}

/// Everything a peer receives until the end of the server's direction, which must be orderly.
fn read_to_end(world: &mut World<Probe>, peer: PeerId) -> Vec<u8> {
    let mut received = Vec::new();
    pace(world, "the end", |world| {
        received.extend(world.read(peer, usize::MAX));
        world.saw_eof(peer) || world.saw_reset(peer)
    });
    assert!(!world.saw_reset(peer), "a reset after {} bytes instead of an end", received.len());
    received
}

/// Turns until a connection is over.
fn wait_closed(world: &mut World<Probe>, id: ConnId) -> CloseReason {
    wait(world, "on_close", |world| world.handler().reason(id).is_some());
    world.handler().reason(id).expect("it has just been there")
}

/// Turns until a peer knows that its connection is over, one way or the other.
fn wait_over(world: &mut World<Probe>, peer: PeerId) {
    wait(world, "an end or a reset for the peer", |world| {
        world.read(peer, usize::MAX);
        world.saw_eof(peer) || world.saw_reset(peer)
    });
}

/// Shows that the worker still serves: a fresh peer gets its bytes echoed and leaves.
fn assert_serves(world: &mut World<Probe>) {
    let (peer, id) = connect(world);
    let bytes = pattern(99, 300);
    let echoed = exchange(world, peer, &bytes, bytes.len());
    assert_same(&echoed, &bytes);
    leave(world, peer, id);
}

/// Has a peer end its direction, read the rest, and see the connection closed in order.
fn leave(world: &mut World<Probe>, peer: PeerId, id: ConnId) {
    world.end(peer);
    let rest = read_to_end(world, peer);
    assert!(rest.is_empty(), "{} bytes nobody expected", rest.len());
    assert_eq!(wait_closed(world, id), CloseReason::PeerClosed { unread: 0 });
}

/// What the record says about one connection.
fn events_of(world: &World<Probe>, id: ConnId) -> Vec<Event> {
    world.handler().log.iter().filter(|event| event.conn() == Some(id)).copied().collect()
}
