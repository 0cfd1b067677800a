//! What becomes of bytes that are sent without being copied, and of those who own them.

use super::probe::{Event, Hooks, Probe};
use super::tracked::Owners;
use super::{
    Kernel, assert_same, assert_serves, base, connect, events_of, leave, ms, on_every_kernel,
    on_every_kernel_with, pace, pattern, read_to_end, wait, wait_closed, wait_over,
};
use ringline_core::testing::World;
use ringline_core::{CloseReason, ConnId, Limit, Parts, SendError, SendFailure};
use std::sync::Arc;

const THRESHOLD: usize = 1000;

fn zero_copy() -> ringline_core::ConfigBuilder {
    base().zero_copy_threshold(THRESHOLD).outbox_bytes(64 << 20).worker_outbox_bytes(64 << 20)
}

/// More than any socket of this kernel takes at once.
fn large(kernel: Kernel) -> usize {
    match kernel {
        Kernel::Faulty { .. } | Kernel::Simulated | Kernel::SimulatedUnix => 90_000,
        Kernel::Real | Kernel::Old | Kernel::Unix => 12 << 20,
    }
}

/// A socket whose peer has ended is only tried from time to time.
fn after_the_end(kernel: Kernel) -> usize {
    kernel.size(3000, large(kernel))
}

fn owners(world: &mut World<Probe>, id: ConnId) -> Owners {
    world.act(|probe, _| probe.owners(id))
}

#[test]
fn guards_and_copies_leave_in_order_and_few_bytes_are_copied_at_once() {
    on_every_kernel_with(
        zero_copy(),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let middle = world.handler().kernel.size(6000, 3 << 20);
            let expected = world.act(|probe, cx| {
                let mut expected = Vec::new();
                let lens = [10, THRESHOLD, THRESHOLD - 1, 5000, middle, 1, 70_000, 2000, 2000, 30];
                for (at, len) in lens.into_iter().enumerate() {
                    let bytes = pattern(at as u64, len);
                    let alive = probe.owners(id).alive();
                    probe.send_guard(cx, id, &bytes).expect("there is room");
                    let is_kept = probe.owners(id).alive() > alive;
                    assert_eq!(is_kept, len >= THRESHOLD, "{len} bytes");
                    probe.send(cx, id, b"and").expect("there is room");
                    expected.extend(bytes);
                    expected.extend(b"and");
                }
                expected
            });
            assert_same(&world.read_exactly(peer, expected.len()), &expected);
            let lent = owners(world, id);
            wait(world, "every guard is dropped", |_| lent.alive() == 0);
            assert_eq!((lent.made(), world.metrics().guards), (10, 6));
            leave(world, peer, id);
        },
    );
}

#[test]
fn what_is_not_accepted_comes_back() {
    const FULL: usize = 100_000;
    on_every_kernel_with(
        zero_copy()
            .outbox_high_bytes(50_000)
            .outbox_low_bytes(0)
            .outbox_bytes(FULL)
            .worker_outbox_bytes(FULL + 50_000),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let (other, other_id) = connect(world);
            let (gone, gone_id) = connect(world);
            leave(world, gone, gone_id);
            world.act(|probe, cx| {
                assert_eq!(cx.send_guard(id, Vec::new()).unwrap_err().error, SendError::EmptyGuard);
                assert_eq!(cx.send_guard(id, "").unwrap_err().error, SendError::EmptyGuard);
                let guard = probe.lend(id, &pattern(1, 5000));
                let rejected = cx.send_guard(gone_id, guard).unwrap_err();
                assert_eq!(rejected.error, SendError::Gone);
                assert_same(&rejected.value, &pattern(1, 5000));
                assert_eq!(probe.owners(id).alive(), 1);
                drop(rejected);
                for len in [FULL + 1, FULL, 1000, 20_000] {
                    probe.send_guard(cx, id, &pattern(2, len));
                }
                let full = SendError::Full { pending: 0, limit: FULL };
                assert_eq!(probe.rejected.remove(0), full);
                assert!(
                    probe.rejected.iter().all(|error| matches!(error, SendError::Full { pending: FULL, .. }))
                );
                assert_eq!(probe.rejected.len(), 2);
                probe.rejected.clear();
                probe.send_guard(cx, other_id, &pattern(3, 60_000));
                let limit = FULL + 50_000;
                assert_eq!(probe.rejected, [SendError::WorkerFull { pending: FULL, limit }]);
                assert_eq!((probe.owners(id).alive(), probe.owners(other_id).alive()), (1, 0));
            });
            assert_same(&world.read_exactly(peer, FULL), &pattern(2, FULL));
            world.act(|probe, cx| {
                probe.close(cx, other_id);
                probe.send_guard(cx, other_id, &pattern(3, 6000));
                assert_eq!(probe.rejected[1..], [SendError::Closing]);
            });
            wait_over(world, other);
            leave(world, peer, id);
        },
    );
}

#[test]
fn parts_complete_as_one_send_when_the_last_is_out() {
    on_every_kernel_with(
        zero_copy(),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let body = pattern(8, large(world.handler().kernel));
            let expected = world.act(|probe, cx| {
                let (a, b) = (pattern(1, 700), pattern(2, 400));
                let mut parts = Parts::new();
                parts.copy(b"head").unwrap();
                parts.guard(probe.lend(id, &a)).unwrap();
                parts.copy(b"").unwrap();
                parts.guard(probe.lend(id, &body)).unwrap();
                parts.copy(&b).unwrap();
                probe.send_parts(cx, id, parts).expect("there is room");
                assert_eq!(probe.owners(id).alive(), 1, "few bytes are copied at once");
                probe.send(cx, id, b"!").expect("there is room");
                [b"head".as_slice(), &a, &body, &b, b"!"].concat()
            });
            let mut received = Vec::new();
            pace(world, "all but the end arrives", |world| {
                received.extend(world.read(peer, (expected.len() / 3 - received.len()).min(50_000)));
                received.len() == expected.len() / 3
            });
            assert!(
                !events_of(world, id).iter().any(|event| matches!(event, Event::Sent(..))),
                "not out yet"
            );
            received.extend(world.read_exactly(peer, expected.len() - received.len()));
            assert_same(&received, &expected);
            wait(world, "both complete", |world| events_of(world, id).contains(&Event::Sent(id, 2)));
            world.act(|probe, cx| probe.send_parts(cx, id, Parts::new()).expect("no parts are legal"));
            wait(world, "nothing completes", |world| events_of(world, id).contains(&Event::Sent(id, 3)));
            leave(world, peer, id);
        },
    );
}

#[test]
fn an_abort_gives_the_guards_of_a_peer_that_does_not_read_back() {
    on_every_kernel_with(
        zero_copy(),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(1, large(world.handler().kernel));
            world.act(|probe, cx| {
                probe.send_guard(cx, id, &bytes);
                probe.send_guard(cx, id, &bytes[..THRESHOLD]);
            });
            // Some of it is on its way by then, and some of it is not.
            assert_same(&world.read_exactly(peer, 40_000), &bytes[..40_000]);
            world.sleep(ms(20));
            let lent = owners(world, id);
            assert!(world.handler().kernel.is_faulty() || lent.alive() > 0, "the peer has not read it");
            world.act(|probe, cx| probe.abort(cx, id));
            let aborted = world.elapsed();
            assert_eq!(wait_closed(world, id), CloseReason::Aborted);
            assert!(world.elapsed() - aborted < ms(4000), "nobody waits for the peer");
            assert_eq!(lent.alive(), 0);
            wait_over(world, peer);
            assert_serves(world);
        },
    );
}

#[test]
fn a_close_waits_for_a_peer_that_does_not_read_only_so_long() {
    on_every_kernel_with(
        zero_copy().close_timeout(ms(300)),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let kernel = world.handler().kernel;
            let bytes = pattern(1, large(kernel));
            world.act(|probe, cx| {
                probe.send_guard(cx, id, &bytes);
            });
            // Simulated, the rest is then with the kernel, which needs its memory until it is read.
            let first = if kernel.is_simulated() { 50_000 } else { 40_000 };
            assert_same(&world.read_exactly(peer, first), &bytes[..first]);
            world.sleep(ms(20));
            let begin = world.elapsed();
            world.act(|probe, cx| probe.close(cx, id));
            match wait_closed(world, id) {
                // Some kernels copy the rest, and then there is nothing to wait for.
                CloseReason::Closed => assert!(kernel.is_faulty()),
                reason => {
                    assert_eq!(reason, CloseReason::LimitExceeded(Limit::CloseTimeout));
                    assert!(world.elapsed() - begin >= ms(300), "the peer had its chance");
                    wait_over(world, peer);
                }
            }
        },
    );
}

#[test]
fn a_close_waits_for_a_slow_reader_and_loses_nothing() {
    on_every_kernel_with(
        zero_copy().linger(ms(5000)).close_timeout(ms(5000)),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(1, large(world.handler().kernel));
            world.act(|probe, cx| {
                probe.send_guard(cx, id, &bytes);
                probe.send(cx, id, b"bye");
                probe.close(cx, id);
            });
            let mut received = Vec::new();
            let chunk = bytes.len() / 200;
            pace(world, "the end", |world| {
                received.extend(world.read(peer, chunk));
                world.saw_eof(peer)
            });
            assert_same(&received, &[&bytes, b"bye".as_slice()].concat());
            world.end(peer);
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
        },
    );
}

#[test]
fn a_peer_that_has_ended_its_direction_gets_all_guards() {
    const LATE: Hooks = Hooks {
        on_eof: |probe, cx, id, _| {
            let bytes = pattern(1, after_the_end(probe.kernel));
            probe.send_guard(cx, id, &bytes);
            probe.send_guard(cx, id, &bytes[..2000]);
            ringline_core::Eof::Close
        },
        ..Hooks::SINK
    };
    // Whose outbox is high is not read, and its end not noticed.
    on_every_kernel_with(
        zero_copy().outbox_high_bytes(64 << 20),
        || Probe::new(LATE),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(1, after_the_end(world.handler().kernel));
            // One guard waits for room already when the peer ends.
            world.act(|probe, cx| probe.send_guard(cx, id, &bytes).expect("there is room"));
            world.sleep(ms(5));
            world.end(peer);
            wait(world, "the end is told", |world| events_of(world, id).contains(&Event::Eof(id, 0)));
            let expected = [&bytes, &bytes, &bytes[..2000]].concat();
            assert_same(&read_to_end(world, peer), &expected);
            assert_eq!(wait_closed(world, id), CloseReason::PeerClosed { unread: 0 });
        },
    );
}

#[test]
fn a_peer_that_resets_fails_the_sends_and_gives_the_guards_back() {
    const WATCH: Hooks = Hooks {
        on_send_complete: |probe, _, _, sent| {
            probe.is_armed |= matches!(sent.result, Err(SendFailure::Ended(CloseReason::PeerReset)));
        },
        ..Hooks::SINK
    };
    on_every_kernel_with(
        zero_copy(),
        || Probe::new(WATCH),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(1, large(world.handler().kernel));
            world.act(|probe, cx| probe.send_guard(cx, id, &bytes).expect("there is room"));
            world.read_exactly(peer, 1000);
            world.sleep(ms(5));
            world.reset(peer);
            assert_eq!(wait_closed(world, id), CloseReason::PeerReset);
            assert!(world.handler().is_armed, "the send was reported as lost");
        },
    );
}

#[test]
fn a_guard_whose_drop_panics_harms_nobody() {
    on_every_kernel_with(
        zero_copy(),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            for len in [10, 20_000] {
                let bytes = pattern(1, len);
                let lent = owners(world, id);
                world.act(|probe, cx| {
                    let before = cx.pending_bytes(id);
                    let guard = lent.lend_with(pattern(1, len), true);
                    let answer = cx.send_guard(id, guard).map_err(|rejected| rejected.error);
                    probe.audit.sent(id, len, answer, before, cx.pending_bytes(id));
                });
                assert_same(&world.read_exactly(peer, len), &bytes);
                wait(world, "it is dropped", |_| lent.alive() == 0);
            }
            leave(world, peer, id);
        },
    );
}

#[test]
fn many_connections_share_what_is_sent_to_all() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let peers: Vec<_> = (0..8).map(|_| connect(world)).collect();
            let news: Arc<[u8]> = pattern(6, world.handler().kernel.size(20_000, 2 << 20)).into();
            world.act(|probe, cx| {
                for (_, id) in &peers {
                    let before = cx.pending_bytes(*id);
                    let answer = cx.send_guard(*id, Arc::clone(&news)).map_err(|rejected| rejected.error);
                    probe.audit.sent(*id, news.len(), answer, before, cx.pending_bytes(*id));
                }
            });
            for (peer, _) in &peers {
                assert_same(&world.read_exactly(*peer, news.len()), &news);
            }
            wait(world, "nobody keeps it", |_| Arc::strong_count(&news) == 1);
            for (peer, id) in peers {
                leave(world, peer, id);
            }
        },
    );
}
