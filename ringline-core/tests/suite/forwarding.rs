//! Received bytes that are sent on, to the same connection or to another.

use super::probe::{Event, Hooks, Probe, Take};
use super::{
    assert_same, base, connect, events_of, exchange, leave, ms, on_every_kernel, on_every_kernel_with, pace,
    pattern, read_to_end, wait, wait_closed, wait_over,
};
use ringline_core::testing::{PeerId, World};
use ringline_core::{CloseReason, ConnId, SendError};

/// Forwards everything to where it came from.
const MIRROR: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        probe.forward(cx, id, data);
        Take::all(data)
    },
    ..Hooks::SINK
};

/// Forwards what the first connection sends to the second, and the other way round; takes what is
/// accepted.
const RELAY: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        let to = probe.opened[usize::from(probe.opened[0] == id)];
        match probe.forward(cx, to, data) {
            Some(_) => Take::all(data),
            None if matches!(probe.rejected.last(), Some(SendError::Gone | SendError::Closing)) => {
                Take::all(data)
            }
            None => Take::none(),
        }
    },
    ..Hooks::SINK
};

fn pair(world: &mut World<Probe>) -> [(PeerId, ConnId); 2] {
    [connect(world), connect(world)]
}

#[test]
fn a_forwarded_echo_brings_every_byte_back() {
    on_every_kernel(
        || Probe::new(MIRROR),
        |world| {
            let (peer, id) = connect(world);
            let request = pattern(1, world.handler().kernel.size(60_000, 8 << 20));
            assert_same(&exchange(world, peer, &request, request.len()), &request);
            let held = world.metrics().forwards_held;
            assert!(world.handler().kernel.is_faulty() || held > 0, "large pieces are not copied");
            leave(world, peer, id);
        },
    );
}

#[test]
fn nothing_is_held_where_nothing_may_be() {
    on_every_kernel_with(
        base().forward_hold_bytes(0),
        || Probe::new(MIRROR),
        |world| {
            let (peer, id) = connect(world);
            let request = pattern(1, world.handler().kernel.size(20_000, 1 << 20));
            assert_same(&exchange(world, peer, &request, request.len()), &request);
            assert_eq!(world.metrics().forwards_held, 0);
            leave(world, peer, id);
        },
    );
}

#[test]
fn a_relay_brings_everything_both_ways() {
    on_every_kernel(
        || Probe::new(RELAY),
        |world| {
            let [(left, left_id), (right, right_id)] = pair(world);
            let size = world.handler().kernel.size(30_000, 4 << 20);
            let sent = [pattern(1, size), pattern(2, size)];
            let mut written = [0, 0];
            let mut received = [Vec::new(), Vec::new()];
            wait(world, "everything arrives", |world| {
                for (at, peer) in [left, right].into_iter().enumerate() {
                    written[at] += world.write(peer, &sent[at][written[at]..]);
                    received[1 - at].extend(world.read(peer, usize::MAX));
                }
                received.iter().all(|bytes| bytes.len() == size)
            });
            assert_same(&received[0], &sent[0]);
            assert_same(&received[1], &sent[1]);
            leave(world, left, left_id);
            leave(world, right, right_id);
        },
    );
}

#[test]
fn forwards_keep_their_place_among_other_sends() {
    const FRAMED: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            let guard = pattern(9, 3000);
            for message in data.chunks_exact(5000) {
                probe.send(cx, id, b"<");
                probe.forward(cx, id, &message[1000..]);
                probe.send_guard(cx, id, &guard);
                probe.forward(cx, id, &message[..2500]);
                probe.forward(cx, id, &message[..10]);
                probe.send(cx, id, b">");
            }
            Take::bytes(data.len() / 5000 * 5000).need(5000)
        },
        ..Hooks::SINK
    };
    on_every_kernel_with(
        base().zero_copy_threshold(1000),
        || Probe::new(FRAMED),
        |world| {
            let (peer, id) = connect(world);
            let mut request = Vec::new();
            let mut expected = Vec::new();
            for round in 0..10 {
                let message = pattern(round, 5000);
                let guard = pattern(9, 3000);
                let answer: [&[u8]; 6] =
                    [b"<", &message[1000..], &guard, &message[..2500], &message[..10], b">"];
                expected.extend(answer.concat());
                request.extend(message);
            }
            assert_same(&exchange(world, peer, &request, expected.len()), &expected);
            leave(world, peer, id);
        },
    );
}

/// Writes to `from` until the server takes no more.
fn stuff(world: &mut World<Probe>, from: PeerId, bytes: &[u8]) -> usize {
    let (mut written, mut idle_ms) = (0, 0);
    pace(world, "the server takes no more", |world| {
        let more = world.write(from, &bytes[written..]);
        written += more;
        idle_ms = if more > 0 { 0 } else { idle_ms + 1 };
        idle_ms > 60
    });
    written
}

fn flood(world: &World<Probe>) -> Vec<u8> {
    pattern(1, if world.handler().kernel.is_simulated() { 300 << 10 } else { 24 << 20 })
}

fn tight() -> ringline_core::ConfigBuilder {
    base().outbox_high_bytes(32 << 10).outbox_low_bytes(8 << 10)
}

#[test]
fn a_target_that_is_slow_makes_the_source_wait() {
    on_every_kernel_with(
        tight(),
        || Probe::new(RELAY),
        |world| {
            let [(left, left_id), (right, right_id)] = pair(world);
            let bytes = flood(world);
            let mut written = stuff(world, left, &bytes);
            assert!(written < bytes.len(), "the source is made to wait");
            assert!((world.metrics().bytes_received as usize) < bytes.len());
            let mut received = Vec::new();
            wait(world, "everything arrives", |world| {
                written += world.write(left, &bytes[written..]);
                received.extend(world.read(right, 1 << 20));
                received.len() == bytes.len()
            });
            assert_same(&received, &bytes);
            assert!(world.handler().rejected.is_empty(), "{:?}", world.handler().rejected);
            leave(world, left, left_id);
            leave(world, right, right_id);
        },
    );
}

#[test]
fn a_source_does_not_wait_for_a_target_that_is_gone() {
    on_every_kernel_with(
        tight(),
        || Probe::new(RELAY),
        |world| {
            let [(left, left_id), (right, right_id)] = pair(world);
            let bytes = flood(world);
            let mut written = stuff(world, left, &bytes);
            assert!(written < bytes.len(), "the source is made to wait");
            world.reset(right);
            assert_eq!(wait_closed(world, right_id), CloseReason::PeerReset);
            wait(world, "everything is read", |world| {
                written += world.write(left, &bytes[written..]);
                world.metrics().bytes_received as usize == bytes.len()
            });
            assert!(world.handler().rejected.contains(&SendError::Gone));
            leave(world, left, left_id);
        },
    );
}

#[test]
fn a_source_does_not_wait_for_a_target_that_lingers() {
    on_every_kernel_with(
        tight().linger(ms(3000)),
        || Probe::new(RELAY),
        |world| {
            let [(left, _), (right, right_id)] = pair(world);
            let bytes = flood(world);
            let mut written = stuff(world, left, &bytes);
            assert!(written < bytes.len(), "the source is made to wait");
            world.act(|probe, cx| probe.close(cx, right_id));
            // Its peer reads everything, and does not end its direction for a long time.
            read_to_end(world, right);
            let begin = world.elapsed();
            let seen = world.metrics().bytes_received;
            pace(world, "the source is read", |world| {
                written += world.write(left, &bytes[written..]);
                world.metrics().bytes_received > seen
            });
            assert!(world.elapsed() - begin < ms(2500), "it was not the end of the target");
            world.reset(left);
            world.reset(right);
        },
    );
}

#[test]
fn a_source_that_is_gone_leaves_its_bytes() {
    const ONCE: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            if data.len() < 4000 {
                return Take::none().need(4000);
            }
            let to = probe.opened[1];
            probe.forward(cx, to, data);
            probe.abort(cx, id);
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(ONCE),
        |world| {
            let [(left, left_id), (right, right_id)] = pair(world);
            let bytes = pattern(1, 4000);
            world.write_all(left, &bytes);
            assert_eq!(wait_closed(world, left_id), CloseReason::Aborted);
            wait_over(world, left);
            assert_same(&world.read_exactly(right, 4000), &bytes);
            leave(world, right, right_id);
        },
    );
}

#[test]
fn a_target_aborted_in_the_same_callback_gives_the_buffers_back() {
    const CRUEL: Hooks = Hooks {
        on_data: |probe, cx, _, data| {
            let to = probe.opened[1];
            probe.forward(cx, to, data);
            if probe.is_armed {
                probe.abort(cx, to);
            }
            probe.count += data.len();
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(CRUEL),
        |world| {
            let [(left, left_id), (_, right_id)] = pair(world);
            let bytes = pattern(1, world.handler().kernel.size(20_000, 1 << 20));
            world.act(|probe, _| probe.is_armed = true);
            world.write_all(left, &bytes);
            assert_eq!(wait_closed(world, right_id), CloseReason::Aborted);
            wait(world, "the rest is read", |world| world.handler().count == bytes.len());
            leave(world, left, left_id);
        },
    );
}

/// Answers each message of 1,000 bytes with 6,000, which may find no room.
const TENFOLD: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        probe.count += 1;
        let mut taken = 0;
        for message in data.chunks_exact(1000) {
            if probe.send(cx, id, &message.repeat(6)).is_none() {
                break;
            }
            taken += 1000;
        }
        Take::bytes(taken)
    },
    ..Hooks::SINK
};

fn answers(request: &[u8]) -> Vec<u8> {
    request.chunks_exact(1000).flat_map(|message| message.repeat(6)).collect()
}

#[test]
fn data_without_room_in_the_outbox_is_presented_again_when_there_is_some() {
    // The high mark is above what is pending when a send no longer fits.
    on_every_kernel_with(
        base().outbox_bytes(10_000).outbox_high_bytes(9_000).outbox_low_bytes(3_000),
        || Probe::new(TENFOLD),
        |world| {
            let (peer, id) = connect(world);
            let request = pattern(1, 20_000);
            let expected = answers(&request);
            assert_same(&exchange(world, peer, &request, expected.len()), &expected);
            leave(world, peer, id);
        },
    );
}

#[test]
fn data_without_room_on_the_worker_is_presented_again_when_there_is_some() {
    on_every_kernel_with(
        base()
            .worker_outbox_bytes(400_000)
            .outbox_bytes(400_000)
            .outbox_high_bytes(400_000)
            .outbox_low_bytes(1000),
        || Probe::new(TENFOLD),
        |world| {
            let (greedy, greedy_id) = connect(world);
            let (peer, id) = connect(world);
            world.act(|probe, cx| {
                // Most of the worker's memory, for a peer that does not read; on the real kernel, the
                // sockets take all of it.
                probe.send(cx, greedy_id, &pattern(7, 396_000)).expect("there is room");
            });
            let request = pattern(1, 20_000);
            let mut written = 0;
            let (turns, mut received) = (world.turns(), Vec::new());
            for _ in 0..40 {
                written += world.write(peer, &request[written..]);
                received.extend(world.read(peer, usize::MAX));
                world.sleep(ms(1));
            }
            let spent = world.turns() - turns;
            assert!(spent < 5000, "{spent} turns of waiting");
            assert_same(&world.read_exactly(greedy, 396_000), &pattern(7, 396_000));
            let expected = answers(&request);
            wait(world, "everything is answered", |world| {
                written += world.write(peer, &request[written..]);
                received.extend(world.read(peer, usize::MAX));
                received.len() == expected.len()
            });
            assert_same(&received, &expected);
            leave(world, peer, id);
            leave(world, greedy, greedy_id);
        },
    );
}

#[test]
fn nobody_is_forwarded_to_who_is_gone() {
    on_every_kernel(
        || Probe::new(RELAY),
        |world| {
            let [(left, left_id), (right, right_id)] = pair(world);
            leave(world, right, right_id);
            // Its row may be somebody else's by now.
            let (other, other_id) = connect(world);
            world.write_all(left, &pattern(1, 6000));
            wait(world, "it is rejected", |world| world.handler().rejected.contains(&SendError::Gone));
            world.sleep(ms(5));
            assert!(world.read(other, 1).is_empty());
            assert!(!events_of(world, other_id).iter().any(|event| matches!(event, Event::Sent(..))));
            leave(world, left, left_id);
            leave(world, other, other_id);
        },
    );
}
