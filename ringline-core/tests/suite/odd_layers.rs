//! Layers that panic, cheat, or have other ideas of what a layer does: whoever wrote them, they harm
//! their own connections and no others.

use super::far::Far;
use super::probe::{Event, Hooks, Probe, Take};
use super::{Kernel, base, events_of, pace, wait_closed};
use ringline_core::layer::{Layer, LayerError, LayerFactory};
use ringline_core::testing::{Veil, World};
use ringline_core::{CloseReason, Eof};
use std::any::Any;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is odd about a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oddity {
    /// It panics where the name says.
    AcceptPanics,
    BeginPanics,
    ReadPanics,
    LookPanics,
    LengthPanics,
    WritePanics,
    ClosePanics,
    DropPanics,
    /// It claims what cannot be.
    ReadsTooMuch,
    WritesTooMuch,
    WritesNothing,
    TakesPlainAway,
    /// It announces far longer wire bytes than it writes.
    Boasts,
    /// It has its peer's mark before it agrees with it.
    EndsEarly,
    /// It has nothing to agree on, and changes nothing.
    IsClear,
    /// Once it has failed, it fails in other ways, too.
    FailsTwice,
}

const TWICE: LayerError = LayerError::by_us(77, "it has failed before");

#[derive(Debug)]
struct Odd {
    veil: Veil,
    oddity: Oddity,
    has_failed: bool,
    has_ended: bool,
}

impl Odd {
    fn new(oddity: Oddity) -> Self {
        Self { veil: Veil::server(), oddity, has_failed: false, has_ended: false }
    }

    fn is(&self, oddity: Oddity) -> bool {
        self.oddity == oddity
    }

    fn panic_if(&self, oddity: Oddity) {
        if self.is(oddity) {
            resume_unwind(Box::new("a layer panics on purpose"));
        }
    }
}

impl Drop for Odd {
    fn drop(&mut self) {
        self.panic_if(Oddity::DropPanics);
    }
}

impl Layer for Odd {
    fn begin(&mut self, wire: &mut Vec<u8>) -> Result<(), LayerError> {
        self.panic_if(Oddity::BeginPanics);
        self.veil.begin(wire)
    }

    fn read(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<usize, LayerError> {
        self.panic_if(Oddity::ReadPanics);
        match self.oddity {
            Oddity::ReadsTooMuch => return Ok(incoming.len() + 1),
            Oddity::TakesPlainAway => plain.clear(),
            Oddity::EndsEarly => {
                self.has_ended = true;
                return Ok(incoming.len());
            }
            Oddity::IsClear => {
                plain.extend_from_slice(incoming);
                return Ok(incoming.len());
            }
            _ => {}
        }
        let read = self.veil.read(incoming, plain, wire);
        self.has_failed |= read.is_err();
        read
    }

    fn wire_len(&self, plain_bytes: usize) -> usize {
        self.panic_if(Oddity::LengthPanics);
        if self.is(Oddity::Boasts) { usize::MAX } else { self.veil.wire_len(plain_bytes) }
    }

    fn write(&mut self, plain: &[u8], wire: &mut [u8]) -> Result<usize, LayerError> {
        self.panic_if(Oddity::WritePanics);
        match self.oddity {
            Oddity::WritesTooMuch => return Ok(wire.len() + 1),
            Oddity::WritesNothing => return Ok(0),
            Oddity::IsClear => {
                wire[..plain.len()].copy_from_slice(plain);
                return Ok(plain.len());
            }
            Oddity::FailsTwice if self.has_failed => return Err(TWICE),
            _ => {}
        }
        self.veil.write(plain, wire)
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        self.panic_if(Oddity::ClosePanics);
        if !self.is(Oddity::IsClear) {
            self.veil.close(wire);
        }
    }

    fn is_handshaking(&self) -> bool {
        self.panic_if(Oddity::LookPanics);
        !self.is(Oddity::IsClear) && self.veil.is_handshaking()
    }

    fn is_read_closed(&self) -> bool {
        self.has_ended || self.veil.is_read_closed()
    }

    fn facts(&self) -> &dyn Any {
        self
    }
}

/// The first connection gets a sound layer, and all others get odd ones.
#[derive(Debug)]
struct Odds {
    oddity: Oddity,
    made: AtomicUsize,
}

impl LayerFactory for Odds {
    fn accept(&self) -> Result<Box<dyn Layer>, LayerError> {
        if self.made.fetch_add(1, Ordering::Relaxed) == 0 {
            return Ok(Box::new(Veil::server()));
        }
        if self.oddity == Oddity::AcceptPanics {
            resume_unwind(Box::new("a factory panics on purpose"));
        }
        Ok(Box::new(Odd::new(self.oddity)))
    }
}

/// Plays a scenario beside a connection with a sound layer, which has to be undisturbed.
fn beside_a_sound_one(oddity: Oddity, hooks: Hooks, panics: u64, scenario: impl Fn(&mut World<Probe>)) {
    let config = base().build().expect("the configuration is valid");
    for kernel in Kernel::all() {
        let mut probe = Probe::new(hooks).on(kernel);
        probe.audit.is_layered = true;
        let odds = Arc::new(Odds { oddity, made: AtomicUsize::new(0) });
        let mut world = match kernel {
            Kernel::Simulated => World::layered(&config, 1, kernel.faults(), odds, probe),
            Kernel::Faulty { seed } => World::layered(&config, seed, kernel.faults(), odds, probe),
            Kernel::Real => World::layered_loopback(&config, odds, probe).expect("a ring"),
            Kernel::Old | Kernel::SimulatedUnix | Kernel::Unix => continue,
        };
        let (mut good, good_id) = Far::open(&mut world);
        scenario(&mut world);
        good.send(b"undisturbed");
        assert_eq!(good.receive(&mut world, 11), b"undisturbed", "{oddity:?} on {kernel:?}");
        good.leave(&mut world, good_id);
        assert_eq!(world.metrics().handler_panics, panics, "{oddity:?} on {kernel:?}");
        world.finish().check_finished();
    }
}

/// How a connection ends whose peer says something, waits for the echo, and leaves.
fn end_of_a_visit(world: &mut World<Probe>) -> CloseReason {
    let accepted = |event: &Event| if let Event::Accept(id) = event { Some(*id) } else { None };
    let mut bad = Far::connect(world);
    let (mut has_spoken, mut has_left, mut reason) = (false, false, None);
    pace(world, "the end of the visit", |world| {
        bad.pump(world);
        let id = world.handler().log.iter().filter_map(accepted).nth(1);
        if !bad.veil.is_handshaking() && !std::mem::replace(&mut has_spoken, true) {
            bad.send(b"hello");
        }
        if bad.plain == b"hello" && !std::mem::replace(&mut has_left, true) {
            bad.veil.close(&mut bad.out);
        }
        reason = id.and_then(|id| world.handler().reason(id));
        reason.is_some()
    });
    world.close(bad.peer);
    reason.expect("it was just seen")
}

#[test]
fn a_layer_that_panics_ends_its_connection_and_no_other() {
    for oddity in [
        Oddity::AcceptPanics,
        Oddity::BeginPanics,
        Oddity::ReadPanics,
        Oddity::LookPanics,
        Oddity::LengthPanics,
        Oddity::WritePanics,
        Oddity::ClosePanics,
    ] {
        beside_a_sound_one(oddity, Hooks::ECHO, 1, |world| {
            assert_eq!(end_of_a_visit(world), CloseReason::LayerFailed(LayerError::PANICKED), "{oddity:?}");
        });
    }
    beside_a_sound_one(Oddity::DropPanics, Hooks::ECHO, 1, |world| {
        assert_eq!(end_of_a_visit(world), CloseReason::PeerClosed { unread: 0 });
    });
}

#[test]
fn a_layer_that_cheats_ends_its_connection_and_no_other() {
    for oddity in [Oddity::ReadsTooMuch, Oddity::WritesTooMuch, Oddity::WritesNothing] {
        beside_a_sound_one(oddity, Hooks::ECHO, 0, |world| {
            assert_eq!(end_of_a_visit(world), CloseReason::LayerFailed(LayerError::UNSOUND), "{oddity:?}");
        });
    }
    beside_a_sound_one(Oddity::Boasts, Hooks::ECHO, 0, |world| {
        assert_eq!(end_of_a_visit(world), CloseReason::PeerClosed { unread: 0 });
    });
    // It takes two reads to lose what the first has left.
    let hooks = Hooks {
        on_data: |probe, cx, id, data| {
            if data.len() == 4 {
                return Take::none();
            }
            probe.send(cx, id, data);
            Take::all(data)
        },
        ..Hooks::SINK
    };
    beside_a_sound_one(Oddity::TakesPlainAway, hooks, 0, |world| {
        let (mut bad, id) = Far::open(world);
        bad.send(b"left");
        bad.flush(world);
        pace(world, "it is left", |world| events_of(world, id).contains(&Event::Data(id, 4)));
        bad.send(b"x");
        bad.flush(world);
        world.end(bad.peer);
        assert_eq!(wait_closed(world, id), CloseReason::LayerFailed(LayerError::UNSOUND));
    });
}

#[test]
fn an_end_before_the_layers_agree_is_a_failed_handshake() {
    beside_a_sound_one(Oddity::EndsEarly, Hooks::ECHO, 0, |world| {
        assert_eq!(end_of_a_visit(world), CloseReason::LayerFailed(LayerError::ENDED));
        assert_eq!(world.metrics().handshakes_failed, 1);
    });
    // The same on a connection that is open: no on_eof, and nothing else but the end.
    let config = base().build().expect("the configuration is valid");
    let hooks = Hooks {
        on_data: |_, cx, id, data| {
            cx.secure(id, Box::new(Odd::new(Oddity::EndsEarly))).expect("it is open and plain");
            Take::all(data)
        },
        on_eof: |_, _, _, _| Eof::KeepWriting,
        ..Hooks::SINK
    };
    for kernel in Kernel::all() {
        let mut world = kernel.world(&config, Probe::new(hooks).on(kernel));
        let peer = world.connect();
        world.write_all(peer, b"GO");
        pace(&mut world, "on_open", |world| !world.handler().opened.is_empty());
        let id = world.handler().opened[0];
        assert_eq!(wait_closed(&mut world, id), CloseReason::LayerFailed(LayerError::ENDED));
        assert!(!events_of(&world, id).iter().any(|event| matches!(event, Event::Eof(..))));
        world.finish().check_finished();
    }
}

#[test]
fn a_layer_with_nothing_to_agree_on_is_ready_at_once() {
    let hooks = Hooks {
        on_open: |probe, cx, id| {
            if probe.opened.len() > 1 {
                probe.send(cx, id, b"welcome");
            }
        },
        ..Hooks::ECHO
    };
    beside_a_sound_one(Oddity::IsClear, hooks, 0, |world| {
        let peer = world.connect();
        let mut got = Vec::new();
        pace(world, "a greeting", |world| {
            got.extend(world.read(peer, usize::MAX));
            got == b"welcome"
        });
        let id = world.handler().opened[1];
        world.end(peer);
        assert_eq!(wait_closed(world, id), CloseReason::Truncated { unread: 0 });
    });
}

#[test]
fn who_sends_when_the_layer_has_just_failed_does_not_change_why_it_did() {
    beside_a_sound_one(Oddity::FailsTwice, Hooks::ECHO, 0, |world| {
        let (mut bad, id) = Far::open(world);
        bad.send(b"good");
        bad.send(b"bad");
        if let Some(byte) = bad.out.last_mut() {
            *byte ^= 1;
        }
        bad.until(world, "the alert", |far, _| far.failed.is_some());
        assert_eq!(bad.failed, Some(Veil::ALERTED));
        world.close(bad.peer);
        assert_eq!(wait_closed(world, id), CloseReason::LayerFailed(Veil::BROKEN));
        assert!(events_of(world, id).iter().any(|event| matches!(event, Event::Data(..))), "the good part");
    });
}
