//! The ends of connections: who ends them, what still goes out, and what is said about it.

use super::probe::{Event, Hooks, Probe, Take};
use super::{
    assert_same, assert_serves, base, connect, events_of, exchange, leave, ms, on_every_kernel,
    on_every_kernel_with, pace, pattern, read_to_end, wait, wait_closed, wait_over,
};
use ringline_core::{CloseReason, Eof, Initiator, Limit, SendError};

#[test]
fn a_half_close_by_the_peer_is_told_after_the_data_with_what_is_unread() {
    const TRIPLES: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            let whole = data.len() / 300 * 300;
            probe.send(cx, id, &data[..whole]);
            Take::bytes(whole)
        },
        on_eof: |probe, cx, id, unread| {
            probe.send(cx, id, unread);
            Eof::Close
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(TRIPLES),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(1, 1000);
            world.write_all(peer, &bytes);
            world.end(peer);
            assert_same(&read_to_end(world, peer), &bytes);
            let reason = wait_closed(world, id);
            assert_eq!(reason, CloseReason::PeerClosed { unread: 100 });
            assert!(!reason.is_clean());
            assert!(events_of(world, id).contains(&Event::Eof(id, 100)));
        },
    );
}

#[test]
fn after_the_end_of_the_peer_a_handler_can_go_on_writing() {
    const PATIENT: Hooks = Hooks {
        on_eof: |probe, cx, id, _| {
            probe.send(cx, id, b"one ");
            probe.set_conn_timer(cx, id, ms(20), 1);
            Eof::KeepWriting
        },
        on_conn_timer: |probe, cx, id, _| {
            probe.send(cx, id, b"two");
            probe.close(cx, id);
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(PATIENT),
        |world| {
            let (peer, id) = connect(world);
            world.end(peer);
            assert_eq!(read_to_end(world, peer), b"one two");
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
        },
    );
}

/// Answers the first byte with a megabyte and closes.
const LAST_WORDS: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        let size = probe.kernel.size(64 << 10, 1 << 20);
        probe.send(cx, id, &pattern(3, size));
        probe.close(cx, id);
        Take::all(data)
    },
    ..Hooks::SINK
};

#[test]
fn close_delivers_what_is_queued_and_ends_in_order_while_the_peer_keeps_sending() {
    // Long enough for a peer that is busy; it ends by itself.
    on_every_kernel_with(
        base().linger(ms(5000)),
        || Probe::new(LAST_WORDS),
        |world| {
            let (peer, id) = connect(world);
            let expected = pattern(3, world.handler().kernel.size(64 << 10, 1 << 20));
            world.write_all(peer, b"!");
            let mut received = Vec::new();
            pace(world, "the end", |world| {
                world.write(peer, &[0; 50]);
                received.extend(world.read(peer, 10_000));
                assert!(!world.saw_reset(peer), "a reset after {} bytes", received.len());
                world.saw_eof(peer)
            });
            assert_same(&received, &expected);
            world.end(peer);
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
            assert!(!world.handler().audit.has_failed(id));
        },
    );
}

#[test]
fn a_closed_connection_waits_for_the_end_of_the_peer_only_so_long() {
    on_every_kernel_with(
        base().linger(ms(200)),
        || Probe::new(LAST_WORDS),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            let started = world.elapsed();
            let received = read_to_end(world, peer);
            assert_eq!(received.len(), world.handler().kernel.size(64 << 10, 1 << 20));
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
            let took = world.elapsed() - started;
            assert!(took >= ms(200), "the peer had its time, not only {took:?}");
            assert!(took < ms(5000), "it took {took:?}");
            assert_serves_with_last_words(world);
        },
    );
}

fn assert_serves_with_last_words(world: &mut ringline_core::testing::World<Probe>) {
    let (peer, id) = connect(world);
    world.write_all(peer, b"!");
    read_to_end(world, peer);
    world.end(peer);
    wait_closed(world, id);
}

#[test]
fn without_linger_a_closed_connection_is_gone_at_once() {
    on_every_kernel_with(
        base().linger(ms(0)),
        || Probe::new(LAST_WORDS),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            let received = read_to_end(world, peer);
            assert_eq!(received.len(), world.handler().kernel.size(64 << 10, 1 << 20));
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
        },
    );
}

#[test]
fn closing_towards_a_peer_that_never_reads_ends_after_the_close_timeout() {
    const ENDLESS: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            let size = probe.kernel.size(300 << 10, 24 << 20);
            probe.send(cx, id, &pattern(4, size));
            probe.close(cx, id);
            Take::all(data)
        },
        ..Hooks::SINK
    };
    let config = base().close_timeout(ms(300)).outbox_bytes(32 << 20);
    on_every_kernel_with(
        config,
        || Probe::new(ENDLESS),
        |world| {
            let (peer, id) = connect(world);
            let started = world.elapsed();
            world.write_all(peer, b"!");
            let reason = wait_closed(world, id);
            assert_eq!(reason, CloseReason::LimitExceeded(Limit::CloseTimeout));
            assert_eq!(reason.initiator(), Initiator::Limit);
            let took = world.elapsed() - started;
            assert!(took >= ms(300), "the peer had its time, not only {took:?}");
            assert!(took < ms(8000), "it took {took:?}");
            assert!(world.handler().audit.has_failed(id));
            assert_eq!(world.metrics().closed_timeout, 1);
        },
    );
}

#[test]
fn a_closing_connection_whose_peer_reads_slowly_is_not_cut_off() {
    // Everything takes far longer than the timeout, but there is progress all the time.
    on_every_kernel_with(
        base().close_timeout(ms(1000)).outbox_bytes(32 << 20),
        || {
            let on_data = |probe: &mut Probe, cx: &mut super::Cx<'_>, id, data: &[u8]| {
                probe.send(cx, id, &pattern(5, 8 << 20));
                probe.close(cx, id);
                Take::all(data)
            };
            Probe::new(Hooks { on_data, ..Hooks::SINK })
        },
        |world| {
            if world.handler().kernel.is_faulty() {
                return;
            }
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            let mut received = Vec::new();
            while received.len() < 8 << 20 {
                let left = (8 << 20) - received.len();
                received.extend(world.read_exactly(peer, left.min(256 << 10)));
                world.sleep(ms(60));
            }
            assert_same(&received, &pattern(5, 8 << 20));
            assert!(read_to_end(world, peer).is_empty());
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
        },
    );
}

#[test]
fn after_shutdown_write_receiving_goes_on_and_sending_does_not() {
    const BYE: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            probe.input.extend_from_slice(data);
            if probe.input.len() == data.len() {
                probe.send(cx, id, b"bye");
                cx.shutdown_write(id);
            }
            probe.send(cx, id, b"too late");
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(BYE),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"a");
            assert_eq!(read_to_end(world, peer), b"bye");
            let more = pattern(6, 5000);
            world.write_all(peer, &more);
            wait(world, "all is received", |world| world.handler().input.len() == 5001);
            assert_same(&world.handler().input[1..], &more);
            let rejected = &world.handler().rejected;
            assert!(!rejected.is_empty() && rejected.iter().all(|error| *error == SendError::Closing));
            world.act(|_, cx| {
                assert!(cx.is_open(id));
                cx.shutdown_write(id);
            });
            world.end(peer);
            assert_eq!(wait_closed(world, id), CloseReason::PeerClosed { unread: 0 });
        },
    );
}

#[test]
fn abort_drops_what_is_queued_and_says_so() {
    const ABORTING: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            let size = probe.kernel.size(300 << 10, 24 << 20);
            probe.send(cx, id, &pattern(7, size));
            probe.set_timer(cx, ms(20), 1);
            Take::all(data)
        },
        on_timer: |probe, cx, _| {
            let id = probe.opened[0];
            probe.abort(cx, id);
        },
        ..Hooks::SINK
    };
    on_every_kernel_with(
        base().outbox_bytes(32 << 20),
        || Probe::new(ABORTING),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            assert_eq!(wait_closed(world, id), CloseReason::Aborted);
            assert!(world.handler().audit.has_failed(id));
            wait_over(world, peer);
        },
    );
}

#[test]
fn an_abort_in_the_callback_that_sent_lets_nothing_out() {
    const REGRET: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            probe.send(cx, id, b"never mind");
            probe.abort(cx, id);
            probe.send(cx, id, b"really");
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(REGRET),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            assert_eq!(wait_closed(world, id), CloseReason::Aborted);
            assert_eq!(world.handler().rejected, [SendError::Closing]);
            assert_eq!(world.metrics().bytes_sent, 0);
            wait_over(world, peer);
        },
    );
}

#[test]
fn ending_twice_and_using_stale_ids_is_harmless() {
    const TWICE: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            if data == b"close" {
                probe.close(cx, id);
                probe.close(cx, id);
                cx.shutdown_write(id);
                probe.send(cx, id, b"no");
                assert!(!cx.is_open(id));
                return Take::all(data);
            }
            (Hooks::ECHO.on_data)(probe, cx, id, data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(TWICE),
        |world| {
            let (peer, old) = connect(world);
            // In one piece on every kernel: the handler compares it as a whole.
            world.set_faults(ringline_core::testing::Faults::none());
            world.write_all(peer, b"close");
            wait(world, "the close", |world| !world.handler().rejected.is_empty());
            world.end(peer);
            assert_eq!(wait_closed(world, old), CloseReason::Closed);
            assert_eq!(world.handler().rejected, [SendError::Closing]);

            let (peer, new) = connect(world);
            assert_eq!(new.row(), old.row(), "the row is used again");
            assert_ne!(new, old);
            world.act(|probe, cx| {
                assert_eq!(probe.send(cx, old, b"for nobody"), None);
                assert_eq!(probe.rejected.pop(), Some(SendError::Gone));
                cx.close(old);
                cx.abort(old);
                cx.shutdown_write(old);
                cx.pause_reads(old);
                cx.resume_reads(old);
                assert_eq!(cx.pending_bytes(old), None);
                assert!(!cx.is_open(old) && cx.is_open(new));
                assert_eq!(cx.set_conn_timer(old, ms(1), ringline_core::TimerKey(1)), None);
                assert_eq!(cx.connections(), 1);
            });
            assert_eq!(exchange(world, peer, b"hello", 5), b"hello");
            leave(world, peer, new);
        },
    );
}

#[test]
fn rows_are_used_again_and_again_without_mixing_connections_up() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            for round in 0..30 {
                let (peer, id) = connect(world);
                let bytes = pattern(round, 200);
                assert_same(&exchange(world, peer, &bytes, 200), &bytes);
                world.act(|probe, cx| {
                    for stale in probe.opened.clone().into_iter().take(round as usize) {
                        probe.send(cx, stale, b"stale");
                    }
                });
                leave(world, peer, id);
            }
            let rejected = &world.handler().rejected;
            assert!(rejected.iter().all(|error| *error == SendError::Gone));
            assert_eq!(rejected.len(), 30 * 29 / 2);
            assert!(world.handler().opened.iter().all(|id| id.row() == 0));
        },
    );
}

#[test]
fn a_connection_takes_no_sends_before_it_is_open() {
    const EAGER: Hooks = Hooks {
        on_accept: |probe, cx, id, _| {
            probe.send(cx, id, b"too early");
            !cx.is_open(id)
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(EAGER),
        |world| {
            let (peer, id) = connect(world);
            assert_eq!(world.handler().rejected, [SendError::Closing]);
            assert_eq!(exchange(world, peer, b"hello", 5), b"hello");
            leave(world, peer, id);
        },
    );
}

#[test]
fn a_refused_connection_is_closed_and_nobody_hears_of_it_again() {
    const PICKY: Hooks = Hooks {
        on_accept: |probe, _, _, peer| {
            probe.count += 1;
            assert!(peer.ip().is_none_or(|addr| addr.port() != 0));
            assert_eq!(peer.ip().is_none(), peer.credentials().is_some());
            probe.count != 1
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(PICKY),
        |world| {
            let refused = world.connect();
            wait_over(world, refused);
            assert_eq!(world.handler().log.len(), 1, "on_accept alone");
            let metrics = world.metrics();
            assert_eq!((metrics.connections_refused, metrics.connections_accepted), (1, 0));
            assert_serves(world);
        },
    );
}

#[test]
fn a_connection_closed_in_on_open_ends_in_order() {
    const BRIEF: Hooks = Hooks {
        on_open: |probe, cx, id| {
            probe.send(cx, id, b"full");
            probe.close(cx, id);
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(BRIEF),
        |world| {
            let (peer, id) = connect(world);
            assert_eq!(read_to_end(world, peer), b"full");
            world.end(peer);
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
        },
    );
}

#[test]
fn a_peer_that_closes_right_after_connecting_leaves_nothing_behind() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            for round in 0..20 {
                let peer = world.connect();
                if round % 2 == 0 {
                    world.close(peer);
                } else {
                    world.reset(peer);
                }
            }
            // Long enough for a listener that has to rest after failed accepts.
            world.sleep(if world.handler().kernel.is_faulty() { ms(10_000) } else { ms(50) });
            wait(world, "all are gone", |world| world.metrics().connections_active == 0);
            assert_serves(world);
        },
    );
}
