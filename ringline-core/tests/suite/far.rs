//! Worlds whose listeners have layers, and the far end of a connection with one.

use super::probe::Probe;
use super::{Kernel, base, pace, show, wait_closed};
use ringline_core::layer::{CHUNK_BYTES, Layer, LayerError};
use ringline_core::testing::{PeerId, Veil, Veils, World};
use ringline_core::{CloseReason, ConfigBuilder, ConnId};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Plays a scenario with layered listeners, on the simulated kernel and on the real one.
pub(crate) fn on_every_kernel(make: impl Fn() -> Probe, scenario: impl Fn(&mut World<Probe>)) {
    on_every_kernel_with(base(), make, scenario);
}

pub(crate) fn on_every_kernel_with(
    config: ConfigBuilder,
    make: impl Fn() -> Probe,
    scenario: impl Fn(&mut World<Probe>),
) {
    let config = config.build().expect("the configuration is valid");
    for kernel in Kernel::all() {
        let mut probe = make().on(kernel);
        probe.audit.is_layered = true;
        let mut world = match kernel {
            Kernel::Simulated => World::layered(&config, 1, kernel.faults(), Veils::shared(), probe),
            Kernel::Faulty { seed } => World::layered(&config, seed, kernel.faults(), Veils::shared(), probe),
            Kernel::Real => World::layered_loopback(&config, Veils::shared(), probe).expect("a ring"),
            Kernel::Old | Kernel::SimulatedUnix | Kernel::Unix => continue,
        };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(&mut world))) {
            eprintln!("this was {kernel:?}");
            show("the record ends with", &world.handler().record(), 40);
            resume_unwind(panic);
        }
        let metrics = world.metrics();
        assert_eq!(metrics.handler_panics, 0);
        world.finish().check_finished();
    }
}

/// The far end of a layered connection.
pub(crate) struct Far {
    pub(crate) peer: PeerId,
    pub(crate) veil: Veil,
    /// Wire bytes that were not taken yet, and those that came and were not understood yet.
    pub(crate) out: Vec<u8>,
    pub(crate) tail: Vec<u8>,
    pub(crate) plain: Vec<u8>,
    pub(crate) failed: Option<LayerError>,
}

impl Far {
    /// Connects and speaks first.
    pub(crate) fn connect(world: &mut World<Probe>) -> Self {
        Self::on(world.connect(), Veil::client())
    }

    pub(crate) fn on(peer: PeerId, mut veil: Veil) -> Self {
        let mut out = Vec::new();
        veil.begin(&mut out).expect("a veil begins");
        Self { peer, veil, out, tail: Vec::new(), plain: Vec::new(), failed: None }
    }

    /// Connects and turns until both sides are ready.
    pub(crate) fn open(world: &mut World<Probe>) -> (Self, ConnId) {
        let opened = world.handler().opened.len();
        let mut far = Self::connect(world);
        far.until(world, "on_open", |_, world| world.handler().opened.len() > opened);
        let id = world.handler().opened[opened];
        (far, id)
    }

    pub(crate) fn pump(&mut self, world: &mut World<Probe>) {
        let written = world.write(self.peer, &self.out);
        self.out.drain(..written);
        self.tail.extend(world.read(self.peer, usize::MAX));
        if self.failed.is_none() {
            match self.veil.read(&mut self.tail, &mut self.plain, &mut self.out) {
                Ok(through) => drop(self.tail.drain(..through)),
                Err(error) => self.failed = Some(error),
            }
        }
    }

    pub(crate) fn until(
        &mut self,
        world: &mut World<Probe>,
        what: &str,
        mut done: impl FnMut(&Self, &mut World<Probe>) -> bool,
    ) {
        // Time passes a little at a time, so that no deadline comes before this peer's turn.
        pace(world, what, |world| {
            self.pump(world);
            done(self, world)
        });
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let mut wire = vec![0; self.veil.wire_len(chunk.len())];
            let len = self.veil.write(chunk, &mut wire).expect("a veil writes");
            self.out.extend_from_slice(&wire[..len]);
        }
    }

    /// Turns until all it has to say is on its way.
    pub(crate) fn flush(&mut self, world: &mut World<Probe>) {
        self.until(world, "everything is written", |far, _| far.out.is_empty());
    }

    pub(crate) fn receive(&mut self, world: &mut World<Probe>, count: usize) -> Vec<u8> {
        self.until(world, "the bytes arrive", |far, _| far.plain.len() >= count);
        self.plain.drain(..count).collect()
    }

    /// Marks the end of its direction and ends it.
    pub(crate) fn bye(&mut self, world: &mut World<Probe>) {
        self.veil.close(&mut self.out);
        self.flush(world);
        world.end(self.peer);
    }

    /// Leaves in order and sees the other side do so too.
    pub(crate) fn leave(mut self, world: &mut World<Probe>, id: ConnId) {
        self.bye(world);
        self.until(world, "the end", |far, world| world.saw_eof(far.peer));
        assert!(self.veil.is_read_closed() && self.plain.is_empty() && self.failed.is_none());
        assert_eq!(wait_closed(world, id), CloseReason::PeerClosed { unread: 0 });
    }
}
