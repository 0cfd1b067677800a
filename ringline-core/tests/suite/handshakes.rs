//! Handshakes that go on at the same time: they take turns, and open connections go first.

use super::far::{Far, on_every_kernel};
use super::probe::{Event, Hooks, Probe};
use super::{assert_same, pace, pattern, wait, wait_closed};
use ringline_core::CloseReason;
use ringline_core::layer::{Layer, LayerError};
use ringline_core::testing::World;

/// How many begin at once, and how many of them can go on in one turn at most.
const CROWD: usize = 60;
const STEPS_PER_TURN: usize = 4;
const ENDED: CloseReason = CloseReason::LayerFailed(LayerError::ENDED);

/// Peers that all have a greeting for the server and none of which was heard.
fn crowd(world: &mut World<Probe>) -> Vec<Far> {
    let mut fars: Vec<_> = (0..CROWD).map(|_| Far::connect(world)).collect();
    let accepted = world.metrics().handshakes_active as usize;
    pace(world, "all are accepted", |world| world.metrics().handshakes_active as usize == CROWD + accepted);
    for far in &mut fars {
        let written = world.write(far.peer, &far.out);
        assert_eq!(written, far.out.len(), "a greeting is short");
        far.out.clear();
    }
    fars
}

#[test]
fn handshakes_take_turns_and_open_connections_go_first() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (mut open, id) = Far::open(world);
            let mut fars = crowd(world);
            open.send(b"ping");
            world.write(open.peer, &open.out);
            open.out.clear();
            let (mut waiting, mut turns, mut before_ping) = (fars.iter().collect::<Vec<_>>(), 0, None);
            while !waiting.is_empty() {
                world.turn();
                turns += 1;
                assert!(turns < 10_000, "{} of {CROWD} are not answered", waiting.len());
                waiting.retain(|far| world.read(far.peer, usize::MAX).is_empty());
                let answered = CROWD - waiting.len();
                assert!(answered <= STEPS_PER_TURN * turns, "{answered} answers in {turns} turns");
                open.pump(world);
                if before_ping.is_none() && open.plain.len() == 4 {
                    before_ping = Some(answered);
                }
            }
            let before = before_ping.unwrap_or(CROWD);
            // A kernel that hands out a few bytes at a time may be slow with those of the ping.
            if !world.handler().kernel.is_faulty() {
                assert!(before <= CROWD / 2, "{before} handshakes went on before the ping was answered");
                assert!(world.metrics().handshakes_postponed > 0);
            }
            assert_eq!(open.receive(world, 4), b"ping");
            open.leave(world, id);
            for far in fars.drain(..) {
                world.reset(far.peer);
            }
            wait(world, "all are gone", |world| world.metrics().handshakes_active == 0);
        },
    );
}

#[test]
fn an_end_behind_a_greeting_waits_for_its_turn() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let mut fars = crowd(world);
            for far in &fars {
                world.end(far.peer);
            }
            let is_end = |event: &&Event| matches!(event, Event::Close(_, reason) if *reason == ENDED);
            pace(world, "all are told so", |world| {
                for far in &mut fars {
                    far.pump(world);
                }
                world.handler().log.iter().filter(is_end).count() == CROWD
            });
            // The server has said hello to each before it noticed.
            pace(world, "all answers arrive", |world| {
                for far in &mut fars {
                    far.pump(world);
                }
                fars.iter().all(|far| !far.veil.is_handshaking())
            });
        },
    );
}

#[test]
fn what_comes_along_with_the_end_of_a_handshake_is_presented_whole_and_in_order() {
    const BYTES: usize = 40_000;
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let mut fars = crowd(world);
            let mut far = Far::connect(world);
            far.until(world, "it may speak", |far, _| !far.veil.is_handshaking());
            // Its last word has not gone out yet, and everybody else's goes first.
            far.send(&pattern(3, BYTES));
            for far in &mut fars {
                far.pump(world);
            }
            assert_same(&far.receive(world, BYTES), &pattern(3, BYTES));
            let said = |event: &Event| if let Event::Data(id, _) = event { Some(*id) } else { None };
            let id = world.handler().log.iter().find_map(said).expect("it has said something");
            far.leave(world, id);
            for far in fars.drain(..) {
                world.reset(far.peer);
            }
            wait(world, "all are gone", |world| world.metrics().connections_active == 0);
        },
    );
}

#[test]
fn a_handshake_that_waits_can_be_given_up() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let fars = crowd(world);
            world.turn();
            if !world.handler().kernel.is_faulty() {
                assert!(world.metrics().handshakes_postponed > 0);
            }
            assert!(world.metrics().handshakes_active > 0);
            for far in &fars {
                world.reset(far.peer);
            }
            wait(world, "all are gone", |world| world.metrics().connections_active == 0);
            let (mut far, id) = Far::open(world);
            far.send(b"next");
            assert_eq!(far.receive(world, 4), b"next");
            world.reset(far.peer);
            wait_closed(world, id);
        },
    );
}
