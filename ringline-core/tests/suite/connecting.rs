//! Connections that the handler asks for.

use super::probe::{Event, Hooks, Probe, Take};
use super::{
    assert_same, assert_serves, base, connect, events_of, exchange, leave, ms, on_every_kernel,
    on_every_kernel_with, pattern, read_to_end, wait, wait_closed, wait_over,
};
use ringline_core::net::Addr;
use ringline_core::testing::{PeerId, World};
use ringline_core::{CloseReason, ConnId, ConnectError, Eof, Limit, SendError, TimerKey};

/// Has the handler connect, between two turns.
fn dial(world: &mut World<Probe>, addr: &Addr) -> ConnId {
    world.act(|probe, cx| probe.connect(cx, addr)).expect("there is room for a connection")
}

/// The next peer that the worker has connected to.
fn answer(world: &mut World<Probe>) -> PeerId {
    let mut peer = None;
    wait(world, "the worker connects", |world| {
        peer = peer.or_else(|| world.dialed());
        peer.is_some()
    });
    peer.expect("it has just been there")
}

/// Has the handler connect to a peer and turns until both know of it.
fn dial_peer(world: &mut World<Probe>) -> (PeerId, ConnId) {
    let addr = world.dial_addr();
    let id = dial(world, &addr);
    let peer = answer(world);
    wait(world, "on_open", |world| world.handler().opened.contains(&id));
    (peer, id)
}

#[test]
fn a_connection_of_ours_is_like_any_other_once_it_is_open() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = dial_peer(world);
            assert_eq!(events_of(world, id), [Event::Open(id)], "on_open comes first");
            let bytes = pattern(1, world.handler().kernel.size(3_000, 300_000));
            assert_same(&exchange(world, peer, &bytes, bytes.len()), &bytes);
            assert_eq!(world.metrics().connects, 1);
            assert_eq!(world.metrics().connections_active, 1);
            leave(world, peer, id);
            assert_eq!(world.metrics().connects_failed, 0);
            assert_serves(world);
        },
    );
}

#[test]
fn what_is_sent_in_on_open_arrives_and_nothing_can_be_sent_before() {
    let hooks = Hooks {
        on_open: |probe, cx, id| {
            probe.send(cx, id, b"hello");
            probe.close(cx, id);
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let addr = world.dial_addr();
            let id = dial(world, &addr);
            world.act(|probe, cx| {
                assert!(!cx.is_open(id));
                assert_eq!(cx.set_conn_timer(id, ms(1), TimerKey(1)), None);
                assert!(probe.send(cx, id, b"early").is_none());
            });
            assert_eq!(world.handler().rejected, [SendError::Closing]);
            let peer = answer(world);
            assert_eq!(read_to_end(world, peer), b"hello");
            world.close(peer);
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
        },
    );
}

#[test]
fn a_refusal_gives_the_state_back_with_the_reason() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let addr = world.refused_addr();
            for round in 1..=3 {
                let id = dial(world, &addr);
                let reason = CloseReason::ConnectFailed { errno: libc::ECONNREFUSED };
                assert_eq!(wait_closed(world, id), reason);
                assert_eq!(events_of(world, id), [Event::Close(id, reason)]);
                assert_eq!(world.metrics().connects_failed, round);
            }
            assert_eq!(world.metrics().connections_closed, 0, "only what has opened is counted as closed");
            assert_serves(world);
        },
    );
}

#[test]
fn a_peer_that_does_not_answer_is_given_up_in_time() {
    on_every_kernel_with(
        base().connect_timeout(ms(150)),
        || Probe::new(Hooks::ECHO),
        |world| {
            let addr = world.silent_addr();
            let begin = world.elapsed();
            let id = dial(world, &addr);
            assert_eq!(wait_closed(world, id), CloseReason::LimitExceeded(Limit::ConnectTimeout));
            assert!(world.elapsed() - begin >= ms(150), "not early");
            assert!(world.elapsed() - begin < ms(20_000), "and not when the kernel gives up");
            assert_serves(world);
        },
    );
}

#[test]
fn the_timeout_ends_with_the_connect() {
    on_every_kernel_with(
        base().connect_timeout(ms(300)),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = dial_peer(world);
            world.sleep(ms(600));
            assert_eq!(exchange(world, peer, b"still here", 10), b"still here");
            leave(world, peer, id);
        },
    );
}

#[test]
fn what_is_given_up_before_it_is_made_ends_with_the_reason_and_nothing_before() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (answered, silent) = (world.dial_addr(), world.silent_addr());
            for addr in [answered, silent] {
                // At once, and when the connect is on its way.
                for turns in 0..4 {
                    for aborts in [false, true] {
                        let id = dial(world, &addr);
                        for _ in 0..turns {
                            world.sleep(ms(1));
                        }
                        let was_open = world.handler().opened.contains(&id);
                        world.act(|probe, cx| if aborts { probe.abort(cx, id) } else { probe.close(cx, id) });
                        let reason = if aborts { CloseReason::Aborted } else { CloseReason::Closed };
                        assert_eq!(wait_closed(world, id), reason);
                        if !was_open {
                            assert_eq!(events_of(world, id), [Event::Close(id, reason)]);
                        }
                    }
                }
            }
            // Whoever was connected to all the same learns that it is over.
            while let Some(peer) = world.dialed() {
                wait_over(world, peer);
                world.close(peer);
            }
            assert_serves(world);
        },
    );
}

#[test]
fn every_callback_can_connect() {
    let hooks = Hooks {
        on_data: |probe, cx, _, data| {
            let addr = probe.addr.clone().expect("set before");
            probe.connect(cx, &addr).expect("there is room");
            Take::all(data)
        },
        on_eof: |probe, cx, _, _| {
            let addr = probe.addr.clone().expect("set before");
            probe.connect(cx, &addr).expect("there is room");
            Eof::Close
        },
        on_timer: |probe, cx, _| {
            let addr = probe.addr.clone().expect("set before");
            probe.connect(cx, &addr).expect("there is room");
        },
        on_close: |probe, cx, _, _| {
            if probe.count == 0 {
                probe.count = 1;
                let addr = probe.addr.clone().expect("set before");
                probe.connect(cx, &addr).expect("there is room");
            }
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let addr = world.dial_addr();
            let (peer, id) = connect(world);
            world.act(|probe, cx| {
                probe.addr = Some(addr);
                probe.set_timer(cx, ms(1), 0);
            });
            assert_eq!(world.write(peer, b"!"), 1);
            world.end(peer);
            wait_closed(world, id);
            wait(world, "all of them open", |world| world.metrics().connects == 4);
            for _ in 0..4 {
                let peer = answer(world);
                world.close(peer);
            }
            wait(world, "all of them end", |world| world.metrics().connections_closed == 5);
        },
    );
}

#[test]
fn a_full_table_gives_the_state_back_and_has_room_again_later() {
    on_every_kernel_with(
        base().connections_per_worker(3),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let mut ours = Vec::new();
            for _ in 0..2 {
                ours.push(dial_peer(world));
            }
            let addr = world.dial_addr();
            let refused = world.act(|probe, cx| probe.connect(cx, &addr));
            assert_eq!(refused, Err(ConnectError::Full { limit: 3 }));
            let (other, other_id) = ours.pop().expect("there are two");
            leave(world, other, other_id);
            ours.push(dial_peer(world));
            leave(world, peer, id);
            for (peer, id) in ours {
                leave(world, peer, id);
            }
        },
    );
}

#[test]
fn a_panic_of_who_has_just_connected_does_not_lose_the_connection() {
    let hooks = Hooks {
        on_data: |probe, cx, _, _| {
            let addr = probe.addr.clone().expect("set before");
            probe.connect(cx, &addr).expect("there is room");
            probe.panic()
        },
        on_timer: |probe, cx, _| {
            let addr = probe.addr.clone().expect("set before");
            probe.connect(cx, &addr).expect("there is room");
            probe.panic()
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let addr = world.dial_addr();
            let (peer, id) = connect(world);
            world.act(|probe, cx| {
                probe.addr = Some(addr);
                probe.set_timer(cx, ms(1), 0);
            });
            assert_eq!(world.write(peer, b"!"), 1);
            assert_eq!(wait_closed(world, id), CloseReason::HandlerPanicked);
            for _ in 0..2 {
                let peer = answer(world);
                world.close(peer);
            }
            wait(world, "all of them end", |world| world.metrics().connections_closed == 3);
        },
    );
}

#[test]
fn a_panic_in_on_open_ends_the_connection() {
    let hooks = Hooks { on_open: |probe, _, _| probe.panic(), ..Hooks::SINK };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let addr = world.dial_addr();
            let id = dial(world, &addr);
            assert_eq!(wait_closed(world, id), CloseReason::HandlerPanicked);
            let peer = answer(world);
            wait_over(world, peer);
        },
    );
}

#[test]
fn a_shutdown_gives_up_what_is_not_made_and_lets_nothing_new_begin() {
    let hooks = Hooks {
        on_shutdown: |probe, cx| {
            let addr = probe.addr.clone().expect("set before");
            probe.is_armed = probe.connect(cx, &addr) == Err(ConnectError::ShuttingDown);
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let addr = world.silent_addr();
            world.act(|probe, _| probe.addr = Some(addr.clone()));
            let waiting = dial(world, &addr);
            for _ in 0..3 {
                world.sleep(ms(1));
            }
            let fresh = dial(world, &addr);
            let begin = world.elapsed();
            world.shut_down(ms(60_000));
            for id in [waiting, fresh] {
                assert_eq!(wait_closed(world, id), CloseReason::Shutdown);
            }
            assert!(world.elapsed() - begin < ms(20_000), "a shutdown does not wait for an answer");
            assert!(world.handler().is_armed, "no connection is begun during a shutdown");
        },
    );
}

#[test]
fn a_thousand_connections_leave_nothing() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let addr = world.dial_addr();
            let rounds = world.handler().kernel.size(10, 50);
            for _ in 0..rounds {
                let ids: Vec<_> = (0..20).map(|_| dial(world, &addr)).collect();
                for _ in &ids {
                    let peer = answer(world);
                    world.close(peer);
                }
                for id in ids {
                    assert_eq!(wait_closed(world, id), CloseReason::PeerClosed { unread: 0 });
                }
            }
            let metrics = world.metrics();
            assert_eq!(metrics.connects, 20 * rounds as u64);
            assert_eq!(metrics.connections_closed, metrics.connects);
            assert_eq!(metrics.connections_active, 0);
        },
    );
}
