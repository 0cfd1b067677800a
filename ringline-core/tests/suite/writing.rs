//! What becomes of bytes that are sent: order, completeness, completions, and pressure.

use super::probe::{Event, Hooks, Probe, Take};
use super::{
    Kernel, assert_same, assert_serves, base, connect, events_of, exchange, leave, ms, on_every_kernel,
    on_every_kernel_with, pace, pattern, read_to_end, wait, wait_closed,
};
use ringline_core::testing::{PeerId, World};
use ringline_core::{ConnId, SendError};

/// Echoes without a look at the pressure, and notes how much was ever pending.
const NAIVE: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        probe.send(cx, id, data);
        probe.size = probe.size.max(cx.pending_bytes(id).unwrap_or(0));
        Take::all(data)
    },
    ..Hooks::SINK
};

/// Lets a peer write as much of `bytes` as the server takes without its reading anything.
fn write_without_reading(world: &mut World<Probe>, peer: PeerId, bytes: &[u8]) -> usize {
    let (mut written, mut idle_ms) = (0, 0);
    pace(world, "the server takes no more", |world| {
        let more = world.write(peer, &bytes[written..]);
        written += more;
        idle_ms = if more > 0 { 0 } else { idle_ms + 1 };
        idle_ms > 60
    });
    written
}

const HIGH: usize = 32 << 10;

#[test]
fn a_peer_that_never_reads_is_made_to_wait_and_harms_nobody() {
    on_every_kernel_with(
        base().outbox_high_bytes(HIGH).outbox_low_bytes(HIGH / 4),
        || Probe::new(NAIVE),
        |world| {
            let (peer, id) = connect(world);
            let (other, other_id) = connect(world);
            let request =
                pattern(1, if world.handler().kernel.is_simulated() { 300 << 10 } else { 24 << 20 });
            let mut written = write_without_reading(world, peer, &request);
            let metrics = world.metrics();
            assert!(metrics.outbox_high >= 1, "the outbox is high");
            assert!((metrics.bytes_received as usize) < request.len(), "reading has stopped");
            // The high mark, and one more presentation of all that one turn can bring.
            let most = world.handler().size;
            assert!(most <= HIGH + (2 << 20), "{most} bytes were pending");
            assert_eq!(exchange(world, other, b"hello", 5), b"hello");

            let mut received = Vec::new();
            wait(world, "everything arrives", |world| {
                written += world.write(peer, &request[written..]);
                received.extend(world.read(peer, 1 << 20));
                received.len() >= request.len()
            });
            assert_same(&received, &request);
            assert!(world.handler().rejected.is_empty(), "a naive handler never sees a full outbox");
            leave(world, peer, id);
            leave(world, other, other_id);
        },
    );
}

#[test]
fn without_holding_reads_a_full_outbox_rejects_whole_sends() {
    let config = base().hold_reads(false).outbox_high_bytes(32 << 10).outbox_low_bytes(8 << 10);
    on_every_kernel_with(
        config.outbox_bytes(64 << 10),
        // Answers each message of 100 bytes with 16 times as much, or not at all.
        || {
            let on_data = |probe: &mut Probe, cx: &mut super::Cx<'_>, id, data: &[u8]| {
                for message in data.chunks_exact(100) {
                    let answer: Vec<u8> = message.iter().flat_map(|byte| [*byte; 16]).collect();
                    if probe.send(cx, id, &answer).is_some() {
                        probe.output.extend(answer);
                    }
                }
                Take::bytes(data.len() / 100 * 100)
            };
            Probe::new(Hooks { on_data, ..Hooks::SINK }).without_holding()
        },
        |world| {
            let (peer, id) = connect(world);
            let request = pattern(2, world.handler().kernel.size(30_000, 2_000_000));
            let mut written = write_without_reading(world, peer, &request);
            wait(world, "the server reads everything", |world| {
                written += world.write(peer, &request[written..]);
                written == request.len() && world.metrics().bytes_received as usize == written
            });
            let probe = world.handler();
            let limit = 64 << 10;
            let is_full =
                |error: &SendError| matches!(error, SendError::Full { limit: said, .. } if *said == limit);
            assert!(!probe.rejected.is_empty() && probe.rejected.iter().all(is_full));
            assert_eq!(world.metrics().outbox_full as usize, probe.rejected.len());
            let expected = probe.output.clone();
            assert_same(&world.read_exactly(peer, expected.len()), &expected);
            leave(world, peer, id);
        },
    );
}

/// Sends 64 KiB at a time, the next chunk when the last has completed, up to `size`.
fn stream_next(probe: &mut Probe, cx: &mut super::Cx<'_>, id: ConnId) {
    if probe.count < probe.size {
        let chunk = probe.output[probe.count..].len().min(64 << 10);
        let bytes = probe.output[probe.count..probe.count + chunk].to_vec();
        probe.count += chunk;
        probe.send(cx, id, &bytes);
    }
}

const STREAM: Hooks = Hooks {
    on_open: |probe, cx, id| {
        probe.size = probe.kernel.size(200 << 10, 4 << 20);
        probe.output = pattern(3, probe.size);
        stream_next(probe, cx, id);
    },
    on_send_complete: |probe, cx, id, sent| {
        if sent.result.is_ok() {
            stream_next(probe, cx, id);
        }
    },
    ..Hooks::SINK
};

#[test]
fn a_stream_that_goes_on_from_completion_to_completion_does_not_stall() {
    on_every_kernel(
        || Probe::new(STREAM),
        |world| {
            let (peer, id) = connect(world);
            let expected = world.handler().output.clone();
            let started = world.elapsed();
            assert_same(&world.read_exactly(peer, expected.len()), &expected);
            let took = world.elapsed() - started;
            // Waiting for a chance event instead of the completion would show as seconds.
            assert!(world.handler().kernel.is_faulty() || took < ms(5000), "it took {took:?}");
            leave(world, peer, id);
        },
    );
}

#[test]
fn a_completion_is_reported_even_if_nothing_else_happens() {
    const ONCE: Hooks = Hooks {
        on_open: |probe, cx, id| {
            // Far away, so that a report that waits for it comes late.
            probe.set_conn_timer(cx, id, ms(10_000), 1);
            probe.send(cx, id, b"hello");
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(ONCE),
        |world| {
            let (peer, id) = connect(world);
            for sends in 1..=20 {
                let started = world.elapsed();
                let reported =
                    |world: &mut World<Probe>| events_of(world, id).contains(&Event::Sent(id, sends));
                wait(world, "the completion", reported);
                let took = world.elapsed() - started;
                assert!(took < ms(5000), "send {sends} was reported after {took:?}");
                assert_eq!(world.read_exactly(peer, 5), b"hello");
                if sends < 20 {
                    world.act(|probe, cx| probe.send(cx, id, b"hello"));
                }
            }
            leave(world, peer, id);
        },
    );
}

#[test]
fn empty_sends_complete_like_any_other() {
    const EMPTY: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            probe.send(cx, id, b"");
            if data.len() > 1 {
                probe.send(cx, id, data);
                probe.send(cx, id, b"");
            }
            Take::all(data)
        },
        on_send_complete: |probe, _, _, sent| probe.count = sent.through as usize,
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(EMPTY),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"x");
            wait(world, "the empty send completes", |world| world.handler().count == 1);
            world.act(|probe, cx| {
                probe.send(cx, id, b"");
                probe.send(cx, id, b"");
            });
            wait(world, "both complete", |world| world.handler().count == 3);
            world.act(|probe, cx| {
                probe.send(cx, id, b"");
                probe.send(cx, id, b"word");
                probe.send(cx, id, b"");
            });
            assert_eq!(world.read_exactly(peer, 4), b"word");
            wait(world, "all complete", |world| world.handler().count == 6);
            leave(world, peer, id);
        },
    );
}

#[test]
fn a_send_larger_than_the_stage_and_every_block_arrives_whole_between_small_ones() {
    const MIXED: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            for len in [10, 300 << 10, 10, 5000, 70_000, 1] {
                let bytes = pattern(len as u64, len);
                probe.send(cx, id, &bytes);
                probe.output.extend(bytes);
            }
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(MIXED),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            wait(world, "everything is queued", |world| !world.handler().output.is_empty());
            let expected = world.handler().output.clone();
            assert_same(&world.read_exactly(peer, expected.len()), &expected);
            leave(world, peer, id);
        },
    );
}

#[test]
fn a_thousand_small_sends_of_one_callback_leave_in_few_operations() {
    const SMALL: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            for at in 0..1000_u32 {
                probe.send(cx, id, &at.to_be_bytes());
            }
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(SMALL),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            let expected: Vec<u8> = (0..1000_u32).flat_map(u32::to_be_bytes).collect();
            assert_same(&world.read_exactly(peer, 4000), &expected);
            let sends = world.metrics().sends;
            assert!(world.handler().kernel.is_faulty() || sends <= 3, "{sends} operations");
            leave(world, peer, id);
        },
    );
}

#[test]
fn on_writable_comes_once_for_each_time_the_outbox_was_high() {
    let config = base().outbox_high_bytes(20_000).outbox_low_bytes(5000);
    on_every_kernel_with(
        config,
        || {
            let fill = |probe: &mut Probe, cx: &mut super::Cx<'_>, id| {
                // A kernel with room may take everything at once, so it takes some turns to get high.
                while probe.count < 20 && probe.send(cx, id, &pattern(4, 30_000)).is_some() {
                    probe.count += 1;
                }
            };
            let on_writable = |probe: &mut Probe, cx: &mut super::Cx<'_>, id| {
                probe.times.push(cx.now());
                if probe.times.len() < 4 {
                    probe.count -= 5;
                    for _ in 0..5 {
                        probe.send(cx, id, &pattern(4, 30_000));
                        probe.count += 1;
                    }
                }
            };
            Probe::new(Hooks { on_open: fill, on_writable, ..Hooks::SINK })
        },
        |world| {
            let (peer, id) = connect(world);
            let expected = |world: &World<Probe>| world.handler().audit.bytes_accepted(id) as usize;
            let mut received = Vec::new();
            wait(world, "everything arrives", |world| {
                received.extend(world.read(peer, 50_000));
                received.len() == expected(world) && world.handler().times.len() >= 4
            });
            let chunks: Vec<u8> = pattern(4, 30_000).repeat(received.len() / 30_000);
            assert_same(&received, &chunks);
            world.sleep(ms(5));
            let (risen, fallen) = (world.metrics().outbox_high, world.handler().times.len());
            assert_eq!(risen as usize, fallen, "high so often, writable so often");
            leave(world, peer, id);
        },
    );
}

#[test]
fn bytes_of_one_turn_from_several_callbacks_keep_their_order() {
    const ECHO_TWICE: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            probe.send(cx, id, b"<");
            probe.send(cx, id, data);
            probe.send(cx, id, b">");
            probe.target = Some(id);
            Take::all(data)
        },
        on_tick: |probe, cx, _| {
            if let Some(id) = probe.target.take() {
                probe.send(cx, id, b"|");
            }
        },
        on_eof: |probe, cx, id, _| {
            probe.send(cx, id, b"$");
            ringline_core::Eof::Close
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(ECHO_TWICE),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"x");
            assert_eq!(world.read_exactly(peer, 4), b"<x>|");
            world.end(peer);
            assert_eq!(read_to_end(world, peer), b"$");
            wait_closed(world, id);
        },
    );
}

#[test]
fn a_slow_reader_gets_everything_while_fast_ones_are_served() {
    const LARGE: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            if probe.opened[0] == id {
                let bytes = pattern(5, probe.kernel.size(100 << 10, 3 << 20));
                probe.send(cx, id, &bytes);
                return Take::all(data);
            }
            (Hooks::ECHO.on_data)(probe, cx, id, data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(LARGE),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            let expected = pattern(5, world.handler().kernel.size(100 << 10, 3 << 20));
            let mut received = Vec::new();
            for _ in 0..5 {
                assert_serves(world);
                let chunk = expected.len() / 10;
                received.extend(world.read_exactly(peer, chunk));
            }
            let rest = expected.len() - received.len();
            received.extend(world.read_exactly(peer, rest));
            assert_same(&received, &expected);
            leave(world, peer, id);
        },
    );
}

#[test]
fn one_connection_can_send_to_all_others() {
    const BROADCAST: Hooks = Hooks {
        on_data: |probe, cx, _, data| {
            for id in probe.opened.clone() {
                probe.send(cx, id, data);
            }
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(BROADCAST),
        |world| {
            let peers: Vec<_> = (0..20).map(|_| connect(world)).collect();
            let news = pattern(6, 2000);
            world.write_all(peers[7].0, &news);
            for (peer, _) in &peers {
                assert_same(&world.read_exactly(*peer, news.len()), &news);
            }
            for (peer, id) in peers {
                leave(world, peer, id);
            }
        },
    );
}

#[test]
fn sends_from_timers_and_ticks_go_out_without_anything_else_happening() {
    const CLOCK: Hooks = Hooks {
        on_open: |probe, cx, id| {
            probe.target = Some(id);
            probe.set_timer(cx, ms(5), 1);
            probe.set_conn_timer(cx, id, ms(10), 2);
        },
        on_timer: |probe, cx, _| {
            if let Some(id) = probe.target {
                probe.send(cx, id, b"timer ");
            }
        },
        on_conn_timer: |probe, cx, id, _| {
            probe.send(cx, id, b"connection ");
            probe.is_armed = true;
        },
        on_tick: |probe, cx, _| {
            if let Some(id) = probe.target
                && std::mem::take(&mut probe.is_armed)
            {
                probe.send(cx, id, b"tick");
            }
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(CLOCK),
        |world| {
            let (peer, id) = connect(world);
            assert_eq!(world.read_exactly(peer, 21), b"timer connection tick");
            leave(world, peer, id);
        },
    );
}

#[test]
fn a_greeting_is_sent_before_the_peer_has_said_anything() {
    const GREETER: Hooks = Hooks {
        on_open: |probe, cx, id| {
            probe.send(cx, id, b"220 ready\r\n");
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(GREETER),
        |world| {
            let (peer, id) = connect(world);
            assert_eq!(world.read_exactly(peer, 11), b"220 ready\r\n");
            assert_eq!(exchange(world, peer, b"hi", 2), b"hi");
            assert_eq!(events_of(world, id)[..2], [Event::Accept(id), Event::Open(id)]);
            leave(world, peer, id);
        },
    );
}

#[test]
fn on_a_calm_kernel_a_reply_costs_one_send_and_no_block() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            for _ in 0..100 {
                assert_eq!(exchange(world, peer, b"ping", 4), b"ping");
            }
            wait(world, "all is counted", |world| world.metrics().bytes_sent == 400);
            let metrics = world.metrics();
            if world.handler().kernel == Kernel::Simulated {
                assert_eq!((metrics.sends, metrics.receives, metrics.pool_waits), (100, 100, 0));
            }
            leave(world, peer, id);
        },
    );
}
