//! Who gets in: caps on connections, and accepting that is paused.

use super::probe::{Event, Hooks, Probe};
use super::{
    assert_serves, base, connect, exchange, leave, ms, on_every_kernel, on_every_kernel_with, pace, wait,
    wait_closed, wait_over,
};
use ringline_core::testing::{Fault, Faults, PeerId, World};
use ringline_core::{CloseReason, ConnId};

/// How many times the handler was asked to accept.
fn asked(world: &World<Probe>) -> usize {
    world.handler().log.iter().filter(|event| matches!(event, Event::Accept(_))).count()
}

/// Connects a peer and waits until the accept for the next one is with the kernel.
fn connect_and_rest(world: &mut World<Probe>) -> (PeerId, ConnId) {
    let connected = connect(world);
    world.sleep(ms(20));
    connected
}

/// Of these peers, those that are turned away, once there are `count` of them.
fn turned_away(world: &mut World<Probe>, peers: &[PeerId], count: usize) -> Vec<PeerId> {
    let mut away = Vec::new();
    wait(world, "some are turned away", |world| {
        let is_away = |peer: &PeerId| world.saw_eof(*peer) || world.saw_reset(*peer);
        away = peers.iter().copied().filter(is_away).collect();
        away.len() == count
    });
    away
}

#[test]
fn connections_beyond_the_cap_of_the_server_are_turned_away_unseen_until_one_ends() {
    on_every_kernel_with(
        base().connections_max(3),
        || Probe::new(Hooks::ECHO),
        |world| {
            let mut peers: Vec<_> = (0..8).map(|_| world.connect()).collect();
            wait(world, "five are refused", |world| world.metrics().refused_server == 5);
            wait(world, "three are open", |world| world.handler().opened.len() == 3);
            let away = turned_away(world, &peers, 5);
            peers.retain(|peer| !away.contains(peer));
            for peer in &peers {
                assert_eq!(exchange(world, *peer, b"hello", 5), b"hello");
            }
            assert_eq!(asked(world), 3, "the handler has not heard of the others");
            for round in 1..=4 {
                let first = peers.remove(0);
                world.end(first);
                wait(world, "one ends", |world| world.metrics().connections_closed == round);
                let (next, _) = connect(world);
                assert_eq!(exchange(world, next, b"me too", 6), b"me too");
                peers.push(next);
            }
            let metrics = world.metrics();
            assert_eq!((metrics.connections_refused, metrics.refused_server), (5, 5));
            assert_eq!((metrics.refused_full, metrics.refused_address), (0, 0));
        },
    );
}

#[test]
fn connections_beyond_the_cap_of_an_address_are_turned_away_until_one_ends() {
    on_every_kernel_with(
        base().connections_per_address(2),
        || Probe::new(Hooks::ECHO),
        |world| {
            // Every other simulated peer has an IPv4 address of its own, and the rest are of one IPv6
            // network; real ones are all of this host.
            let is_simulated = world.handler().kernel.is_simulated();
            let (served, refused) = match world.handler().kernel {
                kernel if kernel.is_unix() => (8, 0),
                _ if is_simulated => (6, 2),
                _ => (2, 6),
            };
            let peers: Vec<_> = (0..8).map(|_| world.connect()).collect();
            wait(world, "some are refused", |world| world.metrics().refused_address == refused);
            wait(world, "the others are open", |world| world.handler().opened.len() == served);
            let away = turned_away(world, &peers, refused as usize);
            if is_simulated {
                let shared: Vec<_> = peers.iter().copied().skip(1).step_by(2).collect();
                assert!(away.iter().all(|peer| shared.contains(peer)), "the others are alone");
            }
            for peer in peers.iter().filter(|peer| !away.contains(peer)) {
                assert_eq!(exchange(world, *peer, b"hello", 5), b"hello");
                world.end(*peer);
            }
            wait(world, "all end", |world| world.metrics().connections_active == 0);
            let peers: Vec<_> = (0..2).map(|_| connect(world)).collect();
            for (peer, id) in peers {
                leave(world, peer, id);
            }
            let metrics = world.metrics();
            assert_eq!((metrics.connections_refused, metrics.refused_address), (refused, refused));
        },
    );
}

#[test]
fn a_full_worker_is_told_apart_from_a_full_server() {
    on_every_kernel_with(
        base().connections_per_worker(1).connections_max(2).connections_per_address(2),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (first, id) = connect(world);
            let second = world.connect();
            wait_over(world, second);
            let metrics = world.metrics();
            assert_eq!((metrics.connections_refused, metrics.refused_full), (1, 1));
            assert_eq!((metrics.refused_server, metrics.refused_address), (0, 0));
            leave(world, first, id);
            assert_serves(world);
        },
    );
}

#[test]
fn who_is_refused_by_the_handler_is_not_counted_any_more() {
    const ROUNDS: usize = 12;
    let hooks = Hooks {
        on_accept: |probe, _, _, _| {
            probe.count += 1;
            if probe.count.is_multiple_of(3) {
                probe.panic();
            }
            probe.count % 3 == 1
        },
        ..Hooks::ECHO
    };
    on_every_kernel_with(
        base().connections_max(1).connections_per_address(1),
        || Probe::new(hooks),
        |world| {
            for round in 1..=ROUNDS {
                let peer = world.connect();
                wait(world, "on_accept", |world| asked(world) == round);
                if round % 3 == 1 {
                    assert_eq!(exchange(world, peer, b"hello", 5), b"hello");
                    world.end(peer);
                    wait(world, "it ends", |world| world.metrics().connections_active == 0);
                } else {
                    wait_over(world, peer);
                }
            }
            let metrics = world.metrics();
            assert_eq!(metrics.connections_refused, ROUNDS as u64 * 2 / 3);
            assert_eq!((metrics.refused_server, metrics.refused_address), (0, 0));
        },
    );
}

#[test]
fn a_handler_that_pauses_when_it_has_enough_serves_everybody_in_the_end() {
    const ENOUGH: usize = 2;
    const PEERS: usize = 12;
    let hooks = Hooks {
        on_open: |probe, cx, _| {
            probe.size = probe.size.max(cx.connections());
            if cx.connections() >= ENOUGH {
                cx.pause_accepts();
                assert!(cx.accepts_are_paused());
            }
        },
        on_close: |_, cx, _, _| {
            cx.resume_accepts();
            assert!(!cx.accepts_are_paused());
        },
        ..Hooks::ECHO
    };
    on_every_kernel_with(
        base().accept_batch(1),
        || Probe::new(hooks),
        |world| {
            let peers: Vec<_> = (0..PEERS).map(|_| world.connect()).collect();
            let mut answers = vec![Vec::new(); PEERS];
            for peer in &peers {
                assert_eq!(world.write(*peer, b"hello"), 5);
            }
            pace(world, "everybody is served", |world| {
                for (peer, answer) in peers.iter().zip(&mut answers) {
                    if answer.len() < 5 {
                        answer.extend(world.read(*peer, 5 - answer.len()));
                        if answer.len() == 5 {
                            world.end(*peer);
                        }
                    }
                }
                world.metrics().connections_closed == PEERS as u64
            });
            assert!(answers.iter().all(|answer| answer == b"hello"));
            assert_eq!(world.handler().size, ENOUGH, "with one accept at a time there are never more");
            let metrics = world.metrics();
            assert!(metrics.accept_pauses > 1, "{}", metrics.accept_pauses);
            assert_eq!(metrics.connections_refused, 0);
        },
    );
}

#[test]
fn a_worker_that_is_paused_from_the_start_accepts_nobody_until_it_resumes() {
    let hooks = Hooks { on_start: |_, cx| cx.pause_accepts(), ..Hooks::ECHO };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let peers: Vec<_> = (0..3).map(|_| world.connect()).collect();
            for peer in &peers {
                assert_eq!(world.write(*peer, b"hello"), 5);
            }
            if world.handler().kernel.is_simulated() {
                assert!(!world.run_until(|_| false));
                assert!(world.turns() < 50, "a worker with nothing to do sleeps: {}", world.turns());
            }
            world.sleep(ms(60));
            assert_eq!(asked(world), 0);
            world.act(|_, cx| {
                assert!(cx.accepts_are_paused());
                cx.resume_accepts();
            });
            for peer in peers {
                assert_eq!(world.read_exactly(peer, 5), b"hello");
            }
            assert_eq!(world.metrics().accept_pauses, 1);
        },
    );
}

#[test]
fn a_pause_holds_whoever_connects_later_back_and_nobody_is_lost() {
    on_every_kernel_with(
        base().accept_batch(1),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (first, id) = connect_and_rest(world);
            world.act(|_, cx| cx.pause_accepts());
            world.sleep(ms(60));
            let before = asked(world);
            let peers: Vec<_> = (0..5).map(|_| world.connect()).collect();
            for peer in &peers {
                assert_eq!(world.write(*peer, b"hello"), 5);
            }
            world.sleep(ms(60));
            // A cancel that misses leaves the one accept that it was meant for.
            let is_faulty = matches!(world.handler().kernel, super::Kernel::Faulty { .. });
            assert!(asked(world) <= before + usize::from(is_faulty), "{} came in", asked(world) - before);
            assert_eq!(exchange(world, first, b"still here", 10), b"still here");
            world.act(|_, cx| cx.resume_accepts());
            for peer in peers {
                assert_eq!(world.read_exactly(peer, 5), b"hello");
            }
            leave(world, first, id);
        },
    );
}

#[test]
fn pausing_and_resuming_in_quick_succession_leaves_a_worker_that_accepts() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            for round in 0..24 {
                world.act(|_, cx| cx.pause_accepts());
                if round % 3 > 0 {
                    world.turn();
                }
                world.act(|_, cx| cx.resume_accepts());
                if round % 4 > 1 {
                    world.turn();
                }
                if round % 5 == 0 {
                    assert_serves(world);
                }
            }
            assert_serves(world);
            assert_eq!(world.metrics().accept_pauses, 24);
        },
    );
}

#[test]
fn pausing_twice_is_pausing_once() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            world.act(|_, cx| {
                assert!(!cx.accepts_are_paused());
                cx.resume_accepts();
                assert!(!cx.accepts_are_paused());
                cx.pause_accepts();
                cx.pause_accepts();
                assert!(cx.accepts_are_paused());
            });
            world.turn();
            world.act(|_, cx| {
                cx.pause_accepts();
                cx.resume_accepts();
                cx.resume_accepts();
                assert!(!cx.accepts_are_paused());
            });
            assert_eq!(world.metrics().accept_pauses, 1);
            assert_serves(world);
        },
    );
}

#[test]
fn a_paused_worker_shuts_down_like_any_other() {
    on_every_kernel_with(
        base().accept_batch(1),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect_and_rest(world);
            world.act(|_, cx| cx.pause_accepts());
            world.sleep(ms(60));
            let before = asked(world);
            world.connect();
            world.shut_down(ms(60_000));
            world.act(|_, cx| cx.resume_accepts());
            world.end(peer);
            assert_eq!(wait_closed(world, id), CloseReason::Shutdown);
            wait(world, "the worker is done", |world| world.is_done());
            assert_eq!(asked(world), before, "resuming has no effect any more");
        },
    );
}

#[test]
fn cancels_that_come_late_meet_no_accept_of_a_later_time() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let mut faults = Faults::none().with(Fault::Late, 600).with(Fault::EarlyReturn, 800);
            faults.late_turns_max = 12;
            world.set_faults(faults);
            for round in 0..150 {
                world.act(|_, cx| cx.pause_accepts());
                world.turn();
                if round % 2 == 0 {
                    let peer = world.connect();
                    world.turn();
                    world.close(peer);
                }
                world.act(|_, cx| cx.resume_accepts());
                (0..round % 4).for_each(|_| world.turn());
            }
            world.set_faults(Faults::none());
            assert_serves(world);
        },
    );
}
