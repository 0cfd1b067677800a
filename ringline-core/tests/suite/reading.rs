//! What `on_data` and `on_eof` are shown, and when.

use super::probe::{Event, Hooks, Probe, Take};
use super::{
    assert_same, assert_serves, base, connect, events_of, exchange, leave, ms, on_every_kernel,
    on_every_kernel_with, pattern, read_to_end, wait, wait_closed, wait_over,
};
use ringline_core::{CloseReason, ConnId, Eof, Limit};

/// How often `on_data` was called.
fn data_calls(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::Data(..))).count()
}

/// Messages of four bytes of length and a body; keeps the bodies.
const FRAMES: Hooks = Hooks {
    on_data: |probe, _, _, data| {
        let mut done = 0;
        while let Some(head) = data[done..].first_chunk::<4>() {
            let end = 4 + u32::from_be_bytes(*head) as usize;
            if data.len() - done < end {
                return Take::bytes(done).need(end);
            }
            probe.input.extend_from_slice(&data[done + 4..done + end]);
            probe.count += 1;
            done += end;
        }
        Take::bytes(done).need(4)
    },
    ..Hooks::SINK
};

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}

#[test]
fn a_message_announced_with_need_is_shown_whole_and_looked_at_three_times_at_most() {
    on_every_kernel(
        || Probe::new(FRAMES),
        |world| {
            let (peer, id) = connect(world);
            let len = world.handler().kernel.size(20_000, 500_000);
            let bodies = [pattern(1, len), pattern(2, 1), Vec::new(), pattern(3, len / 3)];
            for body in &bodies {
                world.write_all(peer, &frame(body));
            }
            wait(world, "all messages are read", |world| world.handler().count == bodies.len());
            assert_same(&world.handler().input, &bodies.concat());
            let calls = data_calls(&events_of(world, id));
            assert!(calls <= 3 * bodies.len() + 1, "{calls} calls for {} messages", bodies.len());
            leave(world, peer, id);
        },
    );
}

#[test]
fn nothing_consumed_is_presented_again_with_more() {
    const TEN: Hooks = Hooks {
        on_data: |probe, _, _, data| {
            if data.len() < 10 {
                return Take::none();
            }
            probe.input.extend_from_slice(data);
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(TEN),
        |world| {
            let (peer, id) = connect(world);
            for byte in 0..10 {
                assert_eq!(world.write(peer, &[byte]), 1);
                world.sleep(ms(3));
            }
            wait(world, "ten bytes are there", |world| !world.handler().input.is_empty());
            assert_eq!(world.handler().input, (0..10).collect::<Vec<u8>>());
            let calls = data_calls(&events_of(world, id));
            assert!(calls <= 10, "{calls} calls for ten bytes");
            leave(world, peer, id);
        },
    );
}

#[test]
fn what_is_consumed_in_parts_is_seen_once_and_in_order() {
    const SEVENS: Hooks = Hooks {
        on_data: |probe, _, _, data| {
            let whole = data.len() / 7 * 7;
            probe.input.extend_from_slice(&data[..whole]);
            Take::bytes(whole)
        },
        on_eof: |probe, _, _, unread| {
            probe.output = unread.to_vec();
            Eof::Close
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(SEVENS),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(4, 7 * 1000 + 5);
            world.write_all(peer, &bytes);
            world.end(peer);
            assert_eq!(wait_closed(world, id), CloseReason::PeerClosed { unread: 5 });
            assert_same(&world.handler().input, &bytes[..7000]);
            assert_same(&world.handler().output, &bytes[7000..]);
        },
    );
}

#[test]
fn consuming_one_byte_at_a_time_waits_for_more_each_time() {
    const ONE: Hooks = Hooks {
        on_data: |probe, _, _, data| {
            probe.input.push(data[0]);
            Take::bytes(1)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(ONE),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(5, 60);
            world.write_all(peer, &bytes);
            world.end(peer);
            let reason = wait_closed(world, id);
            let read = world.handler().input.len();
            assert_eq!(reason, CloseReason::PeerClosed { unread: 60 - read });
            assert_same(&world.handler().input, &bytes[..read]);
        },
    );
}

fn inbox_limit_is_kept(on_data: Hooks, calls_max: usize) {
    const LIMIT: Limit = Limit::Inbox { bytes: 1000 };
    on_every_kernel_with(
        base().inbox_bytes(1000),
        || Probe::new(on_data),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            let mut sent = 0;
            wait(world, "the limit", |world| {
                sent += world.write(peer, &[0; 100]);
                world.handler().reason(id).is_some()
            });
            assert_eq!(world.handler().reason(id), Some(CloseReason::LimitExceeded(LIMIT)));
            assert!(data_calls(&events_of(world, id)) <= calls_max);
            assert_eq!(world.metrics().inbox_overflows, 1);
            wait_over(world, peer);
            world.close(peer);
            assert_serves(world);
        },
    );
}

/// Whether a connection is the one to misbehave with: the first.
fn is_marked(probe: &Probe, id: ConnId) -> bool {
    probe.opened[0] == id
}

#[test]
fn needing_more_than_the_inbox_holds_ends_the_connection() {
    let greedy = Hooks {
        on_data: |probe, cx, id, data| {
            if is_marked(probe, id) {
                return Take::none().need(1001);
            }
            (Hooks::ECHO.on_data)(probe, cx, id, data)
        },
        ..Hooks::SINK
    };
    inbox_limit_is_kept(greedy, 1);
}

#[test]
fn leaving_more_unread_than_the_inbox_holds_ends_the_connection() {
    let idle = Hooks {
        on_data: |probe, cx, id, data| {
            if is_marked(probe, id) {
                return Take::none();
            }
            (Hooks::ECHO.on_data)(probe, cx, id, data)
        },
        ..Hooks::SINK
    };
    inbox_limit_is_kept(idle, 1002);
}

#[test]
fn the_inbox_holds_as_much_as_the_limit_says() {
    on_every_kernel_with(
        base().inbox_bytes(1000),
        || Probe::new(FRAMES),
        |world| {
            let (peer, id) = connect(world);
            let body = pattern(6, 996);
            world.write_all(peer, &frame(&body));
            wait(world, "the message is read", |world| world.handler().count == 1);
            assert_same(&world.handler().input, &body);
            leave(world, peer, id);
        },
    );
}

#[test]
fn claiming_more_than_there_is_ends_the_connection_and_no_other() {
    let liar = Hooks {
        on_data: |probe, cx, id, data| {
            if is_marked(probe, id) {
                probe.panics_meant += 1;
                return Take::bytes(data.len() + 1);
            }
            (Hooks::ECHO.on_data)(probe, cx, id, data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(liar),
        |world| {
            let (peer, id) = connect(world);
            let (other, other_id) = connect(world);
            world.write_all(peer, b"!");
            assert_eq!(wait_closed(world, id), CloseReason::HandlerPanicked);
            wait_over(world, peer);
            world.close(peer);
            assert_same(&exchange(world, other, b"still here", 10), b"still here");
            leave(world, other, other_id);
        },
    );
}

/// Pauses after the first byte of each connection, which it keeps.
const PAUSING: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        probe.input.extend_from_slice(data);
        if !std::mem::replace(&mut probe.is_armed, true) {
            probe.pause(cx, id);
        }
        Take::all(data)
    },
    ..Hooks::SINK
};

#[test]
fn while_reading_is_paused_nothing_is_shown_and_nothing_is_lost() {
    on_every_kernel(
        || Probe::new(PAUSING),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(7, 3000);
            world.write_all(peer, &bytes[..1]);
            wait(world, "the first byte", |world| world.handler().is_armed);
            let mut written = 1;
            for _ in 0..10 {
                written += world.write(peer, &bytes[written..]);
                world.sleep(ms(2));
            }
            assert_eq!(world.handler().input.len(), 1, "nothing is shown");
            world.act(|probe, cx| probe.resume(cx, id));
            wait(world, "all bytes are read", |world| {
                written += world.write(peer, &bytes[written..]);
                world.handler().input.len() == bytes.len()
            });
            assert_same(&world.handler().input, &bytes);
            leave(world, peer, id);
        },
    );
}

#[test]
fn a_peer_cannot_make_a_paused_connection_hold_more_than_its_buffers() {
    on_every_kernel(
        || Probe::new(PAUSING),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"a");
            wait(world, "the first byte", |world| world.handler().is_armed);
            let chunk = vec![b'b'; 1 << 20];
            let mut written = 0;
            for _ in 0..60 {
                written += world.write(peer, &chunk);
                world.sleep(ms(1));
            }
            let received = world.metrics().bytes_received;
            assert!(received < 4 << 20, "{received} bytes were received while reading was paused");
            world.act(|probe, cx| probe.resume(cx, id));
            wait(world, "all bytes are read", |world| world.handler().input.len() == written + 1);
            leave(world, peer, id);
        },
    );
}

#[test]
fn what_is_resumed_and_what_arrives_in_the_same_turn_is_shown_once() {
    on_every_kernel(
        || Probe::new(LEAVING),
        |world| {
            let (peer, id) = connect(world);
            world.act(|_, cx| cx.pause_reads(id));
            world.write_all(peer, b"early");
            world.sleep(ms(5));
            world.write_all(peer, b", late");
            world.act(|probe, cx| probe.resume(cx, id));
            // The audit minds bytes that are shown again although nothing has arrived.
            wait(world, "all have arrived", |world| world.metrics().bytes_received == 11);
            world.sleep(ms(5));
            let shown = |event: &Event| matches!(event, Event::Data(_, 11));
            assert_eq!(events_of(world, id).into_iter().filter(shown).count(), 1);
            world.act(|probe, cx| {
                probe.is_armed = true;
                probe.resume(cx, id);
            });
            wait(world, "they are shown again", |world| !world.handler().input.is_empty());
            assert_same(&world.handler().input, b"early, late");
            leave(world, peer, id);
        },
    );
}

#[test]
fn resuming_shows_what_was_left_without_new_bytes() {
    on_every_kernel(
        || Probe::new(LEAVING),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"left over");
            wait(world, "all have arrived", |world| world.metrics().bytes_received == 9);
            world.sleep(ms(5));
            world.act(|probe, cx| {
                probe.is_armed = true;
                probe.resume(cx, id);
            });
            wait(world, "they are shown again", |world| !world.handler().input.is_empty());
            assert_same(&world.handler().input, b"left over");
            leave(world, peer, id);
        },
    );
}

/// Leaves everything until it is armed.
const LEAVING: Hooks = Hooks {
    on_data: |probe, _, _, data| {
        if !probe.is_armed {
            return Take::none();
        }
        probe.input.extend_from_slice(data);
        Take::all(data)
    },
    ..Hooks::SINK
};

#[test]
fn the_end_is_told_after_what_is_shown_again_even_if_it_comes_first() {
    on_every_kernel(
        || Probe::new(LEAVING),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"left over");
            wait(world, "all have arrived", |world| world.metrics().bytes_received == 9);
            world.end(peer);
            world.act(|probe, cx| {
                probe.is_armed = true;
                probe.resume(cx, id);
            });
            assert_eq!(wait_closed(world, id), CloseReason::PeerClosed { unread: 0 });
            assert_eq!(world.handler().input, b"left over");
        },
    );
}

#[test]
fn what_a_high_outbox_has_held_back_is_shown_before_the_end() {
    on_every_kernel_with(
        base().outbox_high_bytes(4000).outbox_low_bytes(1000),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(9, world.handler().kernel.size(40_000, 2_000_000));
            let (mut written, mut received) = (0, Vec::new());
            wait(world, "all is written", |world| {
                written += world.write(peer, &bytes[written..]);
                if written < bytes.len() {
                    received.extend(world.read(peer, 1000));
                }
                written == bytes.len()
            });
            world.end(peer);
            received.extend(read_to_end(world, peer));
            assert_same(&received, &bytes);
            assert_eq!(wait_closed(world, id), CloseReason::PeerClosed { unread: 0 });
        },
    );
}

#[test]
fn the_end_is_told_after_the_data_when_both_came_while_paused() {
    on_every_kernel(
        || Probe::new(PAUSING),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"1");
            wait(world, "the first byte", |world| world.handler().is_armed);
            assert_eq!(world.write(peer, b"2345"), 4);
            world.end(peer);
            world.sleep(ms(30));
            assert_eq!(world.handler().input, b"1");
            assert!(!events_of(world, id).iter().any(|event| matches!(event, Event::Eof(..))));
            world.act(|probe, cx| probe.resume(cx, id));
            assert_eq!(wait_closed(world, id), CloseReason::PeerClosed { unread: 0 });
            assert_eq!(world.handler().input, b"12345");
            assert!(read_to_end(world, peer).is_empty());
        },
    );
}

#[test]
fn a_connection_opened_paused_shows_nothing_until_it_is_resumed() {
    const SHY: Hooks = Hooks { on_open: |probe, cx, id| probe.pause(cx, id), ..Hooks::ECHO };
    on_every_kernel(
        || Probe::new(SHY),
        |world| {
            let (peer, id) = connect(world);
            assert_eq!(world.write(peer, b"hello"), 5);
            world.sleep(ms(20));
            assert_eq!(data_calls(&events_of(world, id)), 0);
            world.act(|probe, cx| probe.resume(cx, id));
            assert_eq!(world.read_exactly(peer, 5), b"hello");
            leave(world, peer, id);
        },
    );
}

#[test]
fn pausing_and_resuming_over_and_over_loses_nothing() {
    const FLICKER: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            probe.input.extend_from_slice(data);
            probe.pause(cx, id);
            probe.set_timer(cx, ms(1), id.row() as u64);
            Take::all(data)
        },
        on_timer: |probe, cx, _| {
            if let Some(&id) = probe.opened.last() {
                probe.resume(cx, id);
                probe.pause(cx, id);
                probe.resume(cx, id);
            }
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(FLICKER),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(8, world.handler().kernel.size(2000, 100_000));
            let mut written = 0;
            wait(world, "all bytes are read", |world| {
                let chunk = &bytes[written..bytes.len().min(written + 1000)];
                written += world.write(peer, chunk);
                world.handler().input.len() == bytes.len()
            });
            assert_same(&world.handler().input, &bytes);
            leave(world, peer, id);
        },
    );
}
