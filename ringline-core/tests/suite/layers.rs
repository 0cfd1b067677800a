//! Connections with a layer: what is promised of plain ones, and the ends that only a layer can tell
//! apart.

use super::far::{Far, on_every_kernel, on_every_kernel_with};
use super::probe::{Event, Hooks, Probe, Take};
use super::{assert_same, base, events_of, ms, pace, pattern, wait, wait_closed};
use ringline_core::layer::{Layer, LayerError};
use ringline_core::testing::Veil;
use ringline_core::{Chain, CloseReason, Deadlines, Eof, Limit, Parts, Pressure, SendError};

#[test]
fn every_byte_of_every_message_comes_back_through_the_layer() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (mut far, id) = Far::open(world);
            assert_eq!(events_of(world, id), [Event::Accept(id), Event::Open(id)]);
            let large = world.handler().kernel.size(9000, 1 << 20);
            for (salt, len) in [1, 2, 100, 3999, 4001, 16_384, 16_385, large].into_iter().enumerate() {
                let bytes = pattern(salt as u64, len.min(large));
                far.send(&bytes);
                assert_same(&far.receive(world, bytes.len()), &bytes);
            }
            far.leave(world, id);
            let metrics = world.metrics();
            assert_eq!((metrics.handshakes, metrics.handshakes_failed, metrics.handshakes_active), (1, 0, 0));
            assert_eq!((metrics.connections_accepted, metrics.closed_peer), (1, 1));
        },
    );
}

/// Sends one message in every way there is.
const ALL_WAYS: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        let size = probe.size;
        let bytes = pattern(5, size);
        let (first, rest) = bytes.split_at(size / 3);
        probe.send(cx, id, &bytes);
        probe.send(cx, id, b"");
        probe.send_guard(cx, id, &bytes);
        let mut parts = Parts::new();
        parts.copy(first).expect("one part");
        parts.guard(probe.lend(id, rest)).expect("one guard");
        probe.send_parts(cx, id, parts);
        probe.forward(cx, id, data);
        let mut chain = Chain::new();
        chain.copy(first).expect("one link");
        chain.guard(probe.lend(id, rest)).expect("one more");
        probe.send_chain(cx, id, chain.then_close());
        Take::all(data)
    },
    ..Hooks::SINK
};

#[test]
fn every_way_of_sending_goes_through_the_layer_in_order() {
    for size in [9, 30_000] {
        on_every_kernel(
            || {
                let mut probe = Probe::new(ALL_WAYS);
                probe.size = size;
                probe
            },
            |world| {
                let (mut far, id) = Far::open(world);
                far.send(b"go");
                let bytes = pattern(5, size);
                let expected = [&bytes[..], &bytes, &bytes, b"go", &bytes].concat();
                assert_same(&far.receive(world, expected.len()), &expected);
                far.until(world, "the end", |far, world| world.saw_eof(far.peer));
                assert!(far.veil.is_read_closed(), "the end is marked behind everything");
                world.close(far.peer);
                assert_eq!(wait_closed(world, id), CloseReason::Closed);
                let sent = events_of(world, id);
                assert!(sent.iter().any(|event| matches!(event, Event::Sent(_, 6))), "{sent:?}");
            },
        );
    }
}

#[test]
fn an_end_without_a_mark_is_never_clean() {
    on_every_kernel(
        || Probe::new(Hooks { on_data: |_, _, _, data| Take::bytes(data.len() / 2), ..Hooks::SINK }),
        |world| {
            for (bytes, unread) in [(0, 0), (10, 5)] {
                let (mut far, id) = Far::open(world);
                if bytes > 0 {
                    far.send(&pattern(1, bytes));
                    far.flush(world);
                    wait(world, "the data", |world| {
                        events_of(world, id).iter().any(|event| matches!(event, Event::Data(..)))
                    });
                }
                world.end(far.peer);
                let reason = wait_closed(world, id);
                let is_end = matches!(reason, CloseReason::Truncated { unread: left } if left <= bytes && left * 2 >= unread);
                assert!(is_end && !reason.is_clean(), "{reason:?}");
                assert!(!events_of(world, id).iter().any(|event| matches!(event, Event::Eof(..))));
                far.until(world, "our mark", |far, _| far.veil.is_read_closed());
            }
            assert_eq!(world.metrics().closed_truncated, 2);
        },
    );
}

#[test]
fn what_was_cut_off_in_the_middle_of_a_frame_is_truncated() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            let (mut far, id) = Far::open(world);
            far.send(&pattern(1, 100));
            far.out.truncate(60);
            far.flush(world);
            world.end(far.peer);
            assert_eq!(wait_closed(world, id), CloseReason::Truncated { unread: 0 });
            assert!(world.handler().input.is_empty(), "half a frame is for nobody");
        },
    );
}

#[test]
fn a_peer_that_has_marked_its_end_still_gets_everything() {
    let hooks = Hooks {
        on_data: |_, _, _, _| Take::none(),
        on_eof: |probe, cx, id, unread| {
            assert_eq!(unread, b"a question");
            probe.send(cx, id, &pattern(2, 5000));
            probe.close(cx, id);
            Eof::KeepWriting
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let (mut far, id) = Far::open(world);
            far.send(b"a question");
            far.bye(world);
            assert_same(&far.receive(world, 5000), &pattern(2, 5000));
            far.until(world, "the end", |far, world| world.saw_eof(far.peer));
            assert!(far.veil.is_read_closed());
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
        },
    );
}

#[test]
fn a_layer_says_nothing_more_behind_our_end_and_reads_on() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            let ((mut far, id), (mut bad, bad_id)) = (Far::open(world), Far::open(world));
            world.act(|_, cx| [id, bad_id].map(|id| cx.shutdown_write(id)));
            for end in [&mut far, &mut bad] {
                end.until(world, "our end", |end, world| world.saw_eof(end.peer));
                assert!(end.veil.is_read_closed());
            }
            let mut said = Vec::new();
            for line in [b"a question, ", b"and another."] {
                far.veil.ping(&mut far.out);
                far.send(line);
                said.extend_from_slice(line);
                far.until(world, "the line", |_, world| world.handler().input.len() >= said.len());
            }
            assert_same(&world.handler().input, &said);
            far.bye(world);
            assert_eq!(wait_closed(world, id), CloseReason::PeerClosed { unread: 0 });
            assert!(events_of(world, id).contains(&Event::Eof(id, 0)));
            assert_eq!(far.veil.pongs(), 0);
            bad.send(b"broken");
            if let Some(byte) = bad.out.last_mut() {
                *byte ^= 1;
            }
            bad.flush(world);
            world.end(bad.peer);
            assert_eq!(wait_closed(world, bad_id), CloseReason::LayerFailed(Veil::BROKEN));
        },
    );
}

#[test]
fn a_broken_frame_ends_the_connection_with_an_alert_and_no_other() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (mut good, good_id) = Far::open(world);
            let (mut bad, id) = Far::open(world);
            bad.send(b"fine");
            assert_eq!(bad.receive(world, 4), b"fine");
            bad.send(b"broken");
            if let Some(byte) = bad.out.last_mut() {
                *byte ^= 1;
            }
            bad.until(world, "the alert", |far, _| far.failed.is_some());
            assert_eq!(bad.failed, Some(Veil::ALERTED));
            world.close(bad.peer);
            let reason = wait_closed(world, id);
            assert_eq!(reason, CloseReason::LayerFailed(Veil::BROKEN));
            assert!(!reason.is_clean());
            good.send(b"undisturbed");
            assert_eq!(good.receive(world, 11), b"undisturbed");
            good.leave(world, good_id);
            assert_eq!(world.metrics().closed_error, 1);
        },
    );
}

#[test]
fn a_send_that_finds_no_room_on_the_wire_is_not_accepted_in_part() {
    let config = base().outbox_low_bytes(100).outbox_high_bytes(5000).outbox_bytes(6000);
    on_every_kernel_with(
        config,
        || Probe::new(Hooks { on_data: |_, _, _, data| Take::all(data), ..Hooks::SINK }),
        |world| {
            let (mut far, id) = Far::open(world);
            world.act(|probe, cx| {
                // 6000 plain bytes are 6010 on the wire.
                assert_eq!(probe.send(cx, id, &pattern(1, 6000)), None);
                let mut parts = Parts::new();
                parts.copy(&[1; 3000]).expect("a part");
                parts.copy(&[2; 3000]).expect("another");
                assert_eq!(probe.send_parts(cx, id, parts), None);
                let mut chain = Chain::new();
                chain.guard(probe.lend(id, &pattern(3, 20_000))).expect("a link");
                assert_eq!(probe.send_chain(cx, id, chain), None);
                let accepted = probe.send(cx, id, &pattern(4, 5990));
                assert_eq!(accepted.map(|accepted| accepted.pressure), Some(Pressure::High));
                assert_eq!(cx.pending_bytes(id), Some(6000));
            });
            assert!(world.handler().rejected.iter().all(|error| matches!(error, SendError::Full { .. })));
            assert_same(&far.receive(world, 5990), &pattern(4, 5990));
            far.leave(world, id);
        },
    );
}

#[test]
fn who_asks_for_answers_and_does_not_read_them_is_not_served() {
    on_every_kernel_with(
        base().outbox_low_bytes(1).outbox_high_bytes(2).outbox_bytes(1000),
        || Probe::new(Hooks::SINK),
        |world| {
            let (mut far, id) = Far::open(world);
            let mut pings = Vec::new();
            for _ in 0..200_000 {
                far.veil.ping(&mut pings);
            }
            let mut written = 0;
            wait(world, "the end of patience", |world| {
                written += world.write(far.peer, &pings[written..]);
                world.handler().reason(id).is_some()
            });
            assert_eq!(world.handler().reason(id), Some(CloseReason::LayerFailed(LayerError::FLOOD)));
            assert_eq!(world.metrics().connections_active, 0);
        },
    );
}

#[test]
fn a_connection_of_ours_opens_through_its_layer() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let addr = world.dial_addr();
            let id = world
                .act(|probe, cx| probe.connect_layered(cx, &addr, Box::new(Veil::client())))
                .expect("room");
            let mut peer = None;
            pace(world, "the worker connects", |world| {
                peer = peer.or_else(|| world.dialed());
                peer.is_some()
            });
            let mut far = Far::on(peer.expect("it has just been there"), Veil::server());
            assert_eq!(world.handler().opened, []);
            far.until(world, "on_open", |_, world| world.handler().opened == [id]);
            far.send(b"hello");
            assert_eq!(far.receive(world, 5), b"hello");
            far.leave(world, id);
            assert_eq!((world.metrics().connects, world.metrics().handshakes), (1, 1));
        },
    );
}

#[test]
fn a_frame_that_comes_byte_by_byte_has_a_deadline_and_a_silent_peer_has_none() {
    on_every_kernel_with(
        base().deadlines(Deadlines::none().read(ms(50))),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (mut far, id) = Far::open(world);
            far.send(b"whole");
            assert_eq!(far.receive(world, 5), b"whole");
            world.sleep(ms(120));
            assert_eq!(world.handler().reason(id), None, "nothing has begun");
            far.send(&pattern(1, 400));
            let frame = std::mem::take(&mut far.out);
            for byte in &frame[..200] {
                world.write(far.peer, &[*byte]);
                world.sleep(ms(1));
            }
            assert_eq!(wait_closed(world, id), CloseReason::LimitExceeded(Limit::Read));
            world.close(far.peer);
        },
    );
}

#[test]
fn nothing_is_presented_again_because_a_layer_has_talked_to_the_other() {
    // The audit complains if it is.
    on_every_kernel(
        || Probe::new(Hooks { on_data: |_, _, _, _| Take::none(), ..Hooks::SINK }),
        |world| {
            let (mut far, id) = Far::open(world);
            far.send(b"left unread");
            far.flush(world);
            wait(world, "the data", |world| matches!(world.handler().log.last(), Some(Event::Data(..))));
            let mut ping = Vec::new();
            far.veil.ping(&mut ping);
            far.out = ping;
            far.until(world, "the answer", |far, _| far.veil.pongs() == 1);
            world.reset(far.peer);
            wait_closed(world, id);
        },
    );
}

#[test]
fn who_asks_for_more_than_there_may_be_is_closed_and_nothing_else_happens() {
    on_every_kernel(
        || Probe::new(Hooks { on_data: |_, _, _, _| Take::bytes(1).need(usize::MAX), ..Hooks::SINK }),
        |world| {
            let (mut far, id) = Far::open(world);
            far.send(b"left unread");
            far.flush(world);
            let reason = wait_closed(world, id);
            assert!(matches!(reason, CloseReason::LimitExceeded(Limit::Inbox { .. })), "{reason:?}");
        },
    );
}

#[test]
fn bytes_with_a_time_go_through_the_layer_like_any_other() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            world.stamp_accepted();
            let (mut far, id) = Far::open(world);
            for len in [1, 5000] {
                far.send(&pattern(1, len));
                assert_same(&far.receive(world, len), &pattern(1, len));
            }
            // The real kernel begins to note times some while after it was asked to.
            let is_sure = world.handler().kernel.is_simulated();
            world.act(|_, cx| assert!(cx.received_at(id).is_some() || !is_sure));
            far.leave(world, id);
        },
    );
}

#[test]
fn a_send_of_many_records_is_over_when_the_last_of_them_is() {
    let hooks = Hooks {
        on_data: |probe, cx, id, data| {
            let size = probe.size;
            probe.send(cx, id, &pattern(5, size)).expect("room");
            Take::all(data)
        },
        on_send_complete: |probe, cx, id, _| {
            probe.count += 1;
            if cx.pending_bytes(id) != Some(0) {
                probe.audit.complain("a send is over while some of it waits".to_owned());
            }
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || {
            let mut probe = Probe::new(hooks);
            probe.size = 400_000;
            probe
        },
        |world| {
            let size = world.handler().kernel.size(200_000, 400_000);
            world.act(|probe, _| probe.size = size);
            let (mut far, id) = Far::open(world);
            far.send(b"go");
            assert_same(&far.receive(world, size), &pattern(5, size));
            far.until(world, "it is told", |_, world| world.handler().count == 1);
            far.leave(world, id);
        },
    );
}
