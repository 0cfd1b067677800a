//! Ends that the kernel forgets to tell, because they were there when it armed the receive.

use ringline_core::layer::Layer;
use ringline_core::testing::{Fault, Faults, PeerId, Veil, Veils, World};
use ringline_core::{Admit, CloseReason, Config, ConnId, Consumed, Ctx, EventHandler, Peer};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Answers or does not, closes or does not, and notes how connections end.
#[derive(Default)]
struct Ends {
    answers: bool,
    closes: bool,
    opened: Vec<ConnId>,
    heard: usize,
    reasons: Vec<CloseReason>,
}

impl EventHandler for Ends {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, _: &Peer) -> Admit<()> {
        self.opened.push(id);
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        self.heard += data.len();
        if self.answers {
            cx.send(id, b"yes").expect("there is room");
        }
        if self.closes {
            cx.close(id);
        }
        Consumed::all(data)
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): (), reason: CloseReason) {
        self.reasons.push(reason);
    }
}

/// A kernel that always forgets, and a peer that was accepted.
fn world(is_unix: bool, answers: bool) -> (World<Ends>, PeerId) {
    world_with(1, Faults::none(), is_unix, Ends { answers, ..Ends::default() })
}

fn world_with(seed: u64, faults: Faults, is_unix: bool, ends: Ends) -> (World<Ends>, PeerId) {
    let config = Config::builder().build().expect("a valid configuration");
    let faults = faults.with(Fault::EndForgotten, 1000);
    let make = if is_unix { World::simulated_unix } else { World::simulated };
    accepted(make(&config, seed, faults, ends))
}

fn accepted(mut world: World<Ends>) -> (World<Ends>, PeerId) {
    let peer = world.connect();
    assert!(world.run_until(|world| !world.handler().opened.is_empty()));
    world.sleep(MS);
    (world, peer)
}

/// The connection that there is has ended, or will not.
fn reasons(mut world: World<Ends>, heard: usize) -> Vec<CloseReason> {
    assert!(world.run_until(|world| world.struck(Fault::EndForgotten) > 0), "the kernel has forgotten it");
    world.run_until(|world| !world.handler().reasons.is_empty());
    assert_eq!(world.handler().heard, heard, "every byte came before");
    world.finish().reasons
}

#[test]
fn a_reset_that_comes_with_the_first_bytes_is_noticed() {
    for is_unix in [false, true] {
        let (mut world, peer) = world(is_unix, false);
        world.write_all(peer, b"first");
        world.reset(peer);
        assert_eq!(reasons(world, 5), [CloseReason::PeerReset]);
    }
}

#[test]
fn a_reset_is_noticed_when_reading_begins_again() {
    let (mut world, peer) = world(false, false);
    world.write_all(peer, b"first");
    assert!(world.run_until(|world| world.handler().heard == 5));
    let id = world.handler().opened[0];
    world.act(|_, cx| cx.pause_reads(id));
    world.sleep(MS);
    world.act(|_, cx| cx.resume_reads(id));
    world.write_all(peer, b"second");
    world.reset(peer);
    assert_eq!(reasons(world, 11), [CloseReason::PeerReset]);
}

#[test]
fn the_end_of_a_unix_socket_that_comes_with_the_first_bytes_is_noticed() {
    for answers in [false, true] {
        let (mut world, peer) = world(true, answers);
        world.write_all(peer, b"first");
        world.end(peer);
        assert_eq!(reasons(world, 5), [CloseReason::PeerClosed { unread: 0 }], "answers: {answers}");
    }
}

#[test]
fn a_reset_behind_many_receives_is_noticed() {
    const BYTES: usize = 2000;
    let mut faults = Faults::none().with(Fault::ShortReceive, 1000);
    faults.short_receive_bytes = 7;
    let (mut world, peer) = world_with(1, faults, false, Ends::default());
    world.write_all(peer, &[7; BYTES]);
    world.reset(peer);
    assert_eq!(reasons(world, BYTES), [CloseReason::PeerReset]);
}

#[test]
fn whom_there_is_no_room_to_ask_is_asked_later() {
    for seed in 0..50 {
        let faults = Faults::none().with(Fault::QueueFull, 500);
        let (mut world, peer) = world_with(seed, faults, false, Ends::default());
        world.write_all(peer, b"first");
        world.reset(peer);
        assert_eq!(reasons(world, 5), [CloseReason::PeerReset], "seed {seed}");
    }
}

#[test]
fn a_pause_that_is_over_before_the_receive_is_cancelled_keeps_the_question() {
    for seed in 0..200 {
        let faults = Faults::none().with(Fault::QueueFull, 700);
        let (mut world, peer) = world_with(seed, faults, false, Ends::default());
        let id = world.handler().opened[0];
        world.write_all(peer, b"first");
        world.reset(peer);
        assert!(world.run_until(|world| world.handler().heard == 5));
        for _ in 0..3 {
            world.act(|_, cx| cx.pause_reads(id));
            world.turn();
            world.act(|_, cx| cx.resume_reads(id));
        }
        world.run_until(|world| !world.handler().reasons.is_empty());
        assert_eq!(world.finish().reasons, [CloseReason::PeerReset], "seed {seed}");
    }
}

#[test]
fn an_answer_that_comes_late_is_not_about_what_came_meanwhile() {
    for seed in 0..2000 {
        let faults = Faults::none()
            .with(Fault::Late, 500)
            .with(Fault::Overtaking, 300)
            .with(Fault::NoBuffers, 200)
            .with(Fault::ShortReceive, 300);
        let is_unix = seed % 2 == 0;
        let (mut world, peer) = world_with(seed, faults, is_unix, Ends::default());
        world.write_all(peer, &[7; 100]);
        for _ in 0..seed % 7 {
            world.turn();
        }
        world.write_all(peer, &[7; 100]);
        if is_unix {
            world.end(peer);
        } else {
            world.reset(peer);
        }
        world.run_until(|world| !world.handler().reasons.is_empty());
        let reason = if is_unix { CloseReason::PeerClosed { unread: 0 } } else { CloseReason::PeerReset };
        let ends = world.finish();
        assert_eq!(ends.reasons, [reason], "seed {seed}");
        // A reset may be told before bytes whose completions are late; an end is behind all of them.
        assert!(ends.heard == 200 || !is_unix, "seed {seed}: {} of 200 bytes", ends.heard);
    }
}

#[test]
fn a_close_does_not_wait_for_an_end_that_was_there() {
    let ends = Ends { answers: true, closes: true, ..Ends::default() };
    let (mut world, peer) = world_with(1, Faults::none(), true, ends);
    world.write_all(peer, b"first");
    world.end(peer);
    let began = world.elapsed();
    assert!(world.run_until(|world| !world.handler().reasons.is_empty()));
    assert_eq!(world.struck(Fault::EndForgotten), 1);
    assert!(world.elapsed() - began < Duration::from_millis(100), "it does not linger");
    assert_eq!(world.finish().reasons, [CloseReason::Closed]);
}

#[test]
fn a_reset_in_a_handshake_is_noticed() {
    let config = Config::builder().build().expect("a valid configuration");
    let faults = Faults::none().with(Fault::EndForgotten, 1000);
    let mut world = World::layered(&config, 1, faults, Veils::shared(), Ends::default());
    let peer = world.connect();
    assert!(world.run_until(|world| world.metrics().handshakes_active == 1));
    world.sleep(MS);
    // The beginning of a frame.
    world.write_all(peer, &[1, 0]);
    world.reset(peer);
    assert!(world.run_until(|world| world.struck(Fault::EndForgotten) > 0), "the kernel has forgotten it");
    world.sleep(Duration::from_millis(100));
    assert_eq!(world.metrics().handshakes_active, 0, "it takes nobody's place");
    world.finish();
}

#[test]
fn a_reset_in_a_frame_is_noticed() {
    let config = Config::builder().build().expect("a valid configuration");
    let mut world = World::layered(&config, 1, Faults::none(), Veils::shared(), Ends::default());
    let peer = world.connect();
    let (mut veil, mut wire, mut out) = (Veil::client(), Vec::new(), Vec::new());
    veil.begin(&mut out).expect("a veil begins");
    world.write_all(peer, &out);
    out.clear();
    assert!(world.run_until(|world| {
        wire.extend(world.read(peer, usize::MAX));
        !wire.is_empty()
    }));
    veil.read(&mut wire, &mut Vec::new(), &mut out).expect("the server agrees");
    world.write_all(peer, &out);
    assert!(world.run_until(|world| world.metrics().handshakes_active == 0));
    let id = world.handler().opened[0];
    world.act(|_, cx| cx.pause_reads(id));
    world.sleep(MS);
    world.set_faults(Faults::none().with(Fault::EndForgotten, 1000));
    world.act(|_, cx| cx.resume_reads(id));
    world.sleep(MS);
    world.write_all(peer, &[1, 0]);
    world.reset(peer);
    assert_eq!(reasons(world, 0), [CloseReason::PeerReset]);
}

#[test]
fn who_is_answered_is_not_asked_for() {
    let (mut world, peer) = world(false, true);
    world.enable_trace();
    world.write_all(peer, b"first");
    assert_eq!(world.read_exactly(peer, 3), b"yes");
    world.sleep(MS);
    assert!(!world.trace().contains("Peek"), "{}", world.trace());
    world.act(|ends, _| ends.answers = false);
    world.write_all(peer, b"second");
    world.sleep(MS);
    assert!(!world.trace().contains("Peek"), "only behind the first bytes: {}", world.trace());
    world.end(peer);
    assert!(world.run_until(|world| !world.handler().reasons.is_empty()));
    world.finish();
}
