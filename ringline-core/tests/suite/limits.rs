//! What happens at limits, and at the end of the server.

use super::probe::{Event, Hooks, Probe, Take};
use super::{
    assert_same, assert_serves, base, connect, events_of, exchange, leave, ms, on_every_kernel,
    on_every_kernel_with, pace, pattern, read_to_end, wait, wait_closed, wait_over,
};
use ringline_core::testing::{Fault, Faults, World};
use ringline_core::{CloseReason, SendError};

#[test]
fn a_send_that_fits_no_outbox_is_rejected_whole_and_the_next_one_is_taken() {
    on_every_kernel_with(
        base().outbox_bytes(10_000).outbox_high_bytes(8000).outbox_low_bytes(1000),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            world.act(|probe, cx| {
                assert!(probe.send(cx, id, &pattern(1, 10_001)).is_none());
                assert!(probe.send(cx, id, &pattern(1, 9_999)).is_some());
                assert!(probe.send(cx, id, b"xy").is_none());
                assert!(probe.send(cx, id, b"z").is_some());
                assert!(probe.send(cx, id, b"").is_some(), "nothing always fits");
                let full = |pending| SendError::Full { pending, limit: 10_000 };
                assert_eq!(probe.rejected, [full(0), full(9_999)]);
            });
            let received = world.read_exactly(peer, 10_000);
            assert_same(&received, &[pattern(1, 9_999), b"z".to_vec()].concat());
            assert_eq!(world.metrics().outbox_full, 2);
            leave(world, peer, id);
        },
    );
}

#[test]
fn all_outboxes_together_have_a_limit_and_recover_from_it() {
    on_every_kernel_with(
        base().outbox_bytes(100_000).outbox_high_bytes(90_000).worker_outbox_bytes(100_000),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (first, first_id) = connect(world);
            let (second, second_id) = connect(world);
            world.act(|probe, cx| {
                assert!(probe.send(cx, first_id, &pattern(2, 70_000)).is_some());
                assert!(probe.send(cx, second_id, &pattern(3, 40_000)).is_none());
                assert_eq!(probe.rejected, [SendError::WorkerFull { pending: 70_000, limit: 100_000 }]);
                assert!(probe.send(cx, second_id, &pattern(4, 30_000)).is_some());
                assert!(probe.send(cx, second_id, b"!").is_none());
            });
            assert_same(&world.read_exactly(first, 70_000), &pattern(2, 70_000));
            assert_same(&world.read_exactly(second, 30_000), &pattern(4, 30_000));
            wait(world, "all is sent", |world| {
                world.act(|_, cx| {
                    cx.pending_bytes(first_id) == Some(0) && cx.pending_bytes(second_id) == Some(0)
                })
            });
            world.act(|probe, cx| assert!(probe.send(cx, second_id, &pattern(5, 100_000)).is_some()));
            assert_same(&world.read_exactly(second, 100_000), &pattern(5, 100_000));
            leave(world, first, first_id);
            leave(world, second, second_id);
        },
    );
}

#[test]
fn bytes_dropped_by_an_abort_make_room_for_others() {
    on_every_kernel_with(
        base().outbox_bytes(100_000).outbox_high_bytes(90_000).worker_outbox_bytes(100_000),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (first, first_id) = connect(world);
            let (second, second_id) = connect(world);
            world.act(|probe, cx| {
                assert!(probe.send(cx, first_id, &pattern(6, 100_000)).is_some());
                probe.abort(cx, first_id);
                assert!(probe.send(cx, second_id, &pattern(7, 100_000)).is_some());
            });
            assert_same(&world.read_exactly(second, 100_000), &pattern(7, 100_000));
            assert_eq!(wait_closed(world, first_id), CloseReason::Aborted);
            wait_over(world, first);
            leave(world, second, second_id);
        },
    );
}

#[test]
fn connections_beyond_the_limit_are_refused_until_one_ends() {
    on_every_kernel_with(
        base().connections_per_worker(3),
        || Probe::new(Hooks::ECHO),
        |world| {
            let mut peers: Vec<_> = (0..5).map(|_| world.connect()).collect();
            wait(world, "two are refused", |world| world.metrics().connections_refused == 2);
            wait(world, "three are open", |world| world.handler().opened.len() == 3);
            let mut refused = Vec::new();
            wait(world, "two see it", |world| {
                refused = peers
                    .iter()
                    .copied()
                    .filter(|peer| world.saw_eof(*peer) || world.saw_reset(*peer))
                    .collect();
                refused.len() == 2
            });
            peers.retain(|peer| !refused.contains(peer));
            for peer in &peers {
                assert_eq!(exchange(world, *peer, b"hello", 5), b"hello");
            }
            let first = peers.remove(0);
            world.end(first);
            wait(world, "one ends", |world| world.metrics().connections_closed == 1);
            assert_serves(world);
            for peer in peers {
                world.end(peer);
            }
            wait(world, "all end", |world| world.metrics().connections_active == 0);
        },
    );
}

#[test]
fn a_connection_without_an_address_is_turned_away_and_the_next_one_served() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            if !world.handler().kernel.is_simulated() {
                return;
            }
            world.set_faults(Faults::none().with(Fault::NoAddress, 1000));
            let peer = world.connect();
            wait_over(world, peer);
            assert!(world.handler().log.is_empty());
            world.set_faults(Faults::none());
            assert_serves(world);
        },
    );
}

#[test]
fn too_few_descriptors_delay_connections_and_lose_none() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            if !world.handler().kernel.is_simulated() {
                return;
            }
            let mut faults = Faults::none().with(Fault::AcceptFails, 900);
            faults.late_turns_max = 2;
            world.set_faults(faults);
            let peers: Vec<_> = (0..10).map(|_| world.connect()).collect();
            wait(world, "all are accepted", |world| world.handler().opened.len() == 10);
            assert!(world.metrics().accept_errors > 0);
            for peer in peers {
                assert_eq!(exchange(world, peer, b"hello", 5), b"hello");
                world.end(peer);
            }
            wait(world, "all end", |world| world.metrics().connections_active == 0);
        },
    );
}

/// Queues a lot for whoever asks.
const GENEROUS: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        let size = probe.kernel.size(100 << 10, 4 << 20);
        probe.send(cx, id, &pattern(8, size));
        Take::all(data)
    },
    ..Hooks::SINK
};

#[test]
fn a_shutdown_delivers_everything_queued_to_a_slow_reader() {
    on_every_kernel(
        || Probe::new(GENEROUS),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            wait(world, "all is queued", |world| world.handler().audit.bytes_accepted(id) > 0);
            world.shut_down(ms(60_000));
            let expected = pattern(8, world.handler().kernel.size(100 << 10, 4 << 20));
            let mut received = Vec::new();
            pace(world, "the end", |world| {
                received.extend(world.read(peer, 40_000));
                assert!(!world.saw_reset(peer), "a reset after {} bytes", received.len());
                world.saw_eof(peer)
            });
            assert_same(&received, &expected);
            world.end(peer);
            assert_eq!(wait_closed(world, id), CloseReason::Shutdown);
            wait(world, "the worker is done", |world| world.is_done());
            assert_eq!(world.metrics().closed_shutdown, 1);
        },
    );
}

#[test]
fn a_shutdown_aborts_who_does_not_read_at_the_deadline() {
    on_every_kernel_with(
        base().outbox_bytes(32 << 20),
        || {
            let on_data = |probe: &mut Probe, cx: &mut super::Cx<'_>, id, data: &[u8]| {
                let size = probe.kernel.size(300 << 10, 24 << 20);
                probe.send(cx, id, &pattern(8, size));
                Take::all(data)
            };
            Probe::new(Hooks { on_data, ..Hooks::SINK })
        },
        |world| {
            let (idle, idle_id) = connect(world);
            let (_, id) = {
                let (peer, id) = connect(world);
                world.write_all(peer, b"!");
                (peer, id)
            };
            wait(world, "all is queued", |world| world.handler().audit.bytes_accepted(id) > 0);
            let started = world.elapsed();
            world.shut_down(ms(500));
            world.end(idle);
            assert_eq!(wait_closed(world, idle_id), CloseReason::Shutdown);
            assert_eq!(wait_closed(world, id), CloseReason::ShutdownDeadline);
            wait(world, "the worker is done", |world| world.is_done());
            let took = world.elapsed() - started;
            assert!(took >= ms(499) && took < ms(8000), "it took {took:?}");
            assert!(world.handler().audit.has_failed(id));
        },
    );
}

#[test]
fn a_shutdown_lets_the_handler_say_farewell() {
    const POLITE: Hooks = Hooks {
        on_shutdown: |probe, cx| {
            for id in probe.opened.clone() {
                probe.send(cx, id, b"farewell");
            }
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(POLITE),
        |world| {
            let peers: Vec<_> = (0..5).map(|_| connect(world)).collect();
            assert_eq!(exchange(world, peers[2].0, b"hello", 5), b"hello");
            world.shut_down(ms(60_000));
            for (peer, _) in &peers {
                assert_eq!(read_to_end(world, *peer), b"farewell");
                world.end(*peer);
            }
            for (_, id) in peers {
                assert_eq!(wait_closed(world, id), CloseReason::Shutdown);
                let sends = if id.row() == 2 { 2 } else { 1 };
                assert!(events_of(world, id).len() >= 3 + sends, "on_close is the last of several");
            }
            wait(world, "the worker is done", |world| world.is_done());
        },
    );
}

#[test]
fn a_shutdown_without_connections_is_done_at_once() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            world.turn();
            world.shut_down(ms(60_000));
            let started = world.elapsed();
            wait(world, "the worker is done", |world| world.is_done());
            assert!(world.elapsed() - started < ms(5000));
            assert_eq!(world.handler().log, [Event::Shutdown]);
        },
    );
}

#[test]
fn a_second_shutdown_can_only_move_the_deadline() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            assert_eq!(exchange(world, peer, b"hello", 5), b"hello");
            world.shut_down(ms(60_000));
            world.shut_down(ms(60_000));
            assert!(read_to_end(world, peer).is_empty());
            world.end(peer);
            assert_eq!(wait_closed(world, id), CloseReason::Shutdown);
            let told = world.handler().log.iter().filter(|event| **event == Event::Shutdown).count();
            assert_eq!(told, 1, "on_shutdown comes once");
        },
    );
}

#[test]
fn who_connects_during_a_shutdown_is_not_served() {
    on_every_kernel(
        || Probe::new(GENEROUS),
        |world: &mut World<Probe>| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            wait(world, "all is queued", |world| world.handler().audit.bytes_accepted(id) > 0);
            world.shut_down(ms(60_000));
            if world.handler().kernel.is_simulated() {
                // A real one would find nobody listening after some turns.
                world.connect();
            }
            let expected = world.handler().audit.bytes_accepted(id) as usize;
            assert_eq!(read_to_end(world, peer).len(), expected);
            world.end(peer);
            wait(world, "the worker is done", |world| world.is_done());
            assert_eq!(world.handler().opened.len(), 1);
        },
    );
}
