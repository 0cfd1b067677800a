//! Deadlines of connections: who is ended by one, and who is not.

use super::probe::{Hooks, Probe, Take};
use super::{
    Cx, assert_same, assert_serves, base, connect, exchange, leave, ms, on_every_kernel_with, pace, pattern,
    wait, wait_closed, wait_over,
};
use ringline_core::testing::World;
use ringline_core::{CloseReason, Config, ConfigBuilder, ConnId, Deadlines, Initiator, Limit};
use std::time::Duration;

/// What the steps of a scenario take, which is well below each of its deadlines.
const STEP: Duration = ms(20);

/// Takes whole lines and leaves the rest.
const LINES: Hooks = Hooks {
    on_data: |probe, _, _, data| {
        let whole = data.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        probe.input.extend_from_slice(&data[..whole]);
        Take::bytes(whole)
    },
    ..Hooks::SINK
};

pub(crate) fn with(deadlines: Deadlines) -> ConfigBuilder {
    base().deadlines(deadlines).outbox_bytes(32 << 20)
}

pub(crate) fn none() -> Deadlines {
    Deadlines::none()
}

/// More than the buffers of the kernel take.
pub(crate) fn more_than_fits(world: &World<Probe>) -> usize {
    if world.handler().kernel.is_simulated() { 300 << 10 } else { 24 << 20 }
}

/// Turns until a connection has run into `limit`, not before `least` has passed.
pub(crate) fn wait_limit(world: &mut World<Probe>, id: ConnId, limit: Limit, least: Duration) {
    let started = world.elapsed();
    let reason = wait_closed(world, id);
    let took = world.elapsed() - started;
    assert_eq!(reason, CloseReason::LimitExceeded(limit));
    assert_eq!(reason.initiator(), Initiator::Limit);
    assert!(took >= least, "it came after {took:?}");
    assert!(took < ms(8000), "it took {took:?}");
}

/// Asserts that a connection stays for this long.
fn assert_stays(world: &mut World<Probe>, id: ConnId, time: Duration) {
    world.sleep(time);
    assert_eq!(world.handler().reason(id), None);
}

#[test]
fn a_message_that_drips_in_is_not_waited_for_for_ever() {
    on_every_kernel_with(
        with(none().read(ms(150))),
        || Probe::new(LINES),
        |world| {
            let (peer, id) = connect(world);
            let started = world.elapsed();
            pace(world, "the deadline", |world| {
                world.write(peer, b"x");
                world.sleep(STEP);
                world.handler().reason(id).is_some()
            });
            let took = world.elapsed() - started;
            assert!(took >= ms(150) && took < ms(8000), "it took {took:?}");
            assert_eq!(world.handler().reason(id), Some(CloseReason::LimitExceeded(Limit::Read)));
            assert_eq!(world.metrics().closed_read, 1);
            wait_over(world, peer);
        },
    );
}

#[test]
fn a_message_that_waits_for_its_length_has_the_same_deadline() {
    const NEEDS: Hooks = Hooks { on_data: |_, _, _, data| Take::all(data).need(100), ..Hooks::SINK };
    on_every_kernel_with(
        with(none().read(ms(100))),
        || Probe::new(NEEDS),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            wait(world, "it is read", |world| world.metrics().bytes_received == 1);
            assert_stays(world, id, ms(200));
            // The handler never sees this.
            world.write_all(peer, b"of a hundred");
            wait_limit(world, id, Limit::Read, Duration::ZERO);
            assert_eq!(super::events_of(world, id).len(), 4, "accept, open, data, close");
            wait_over(world, peer);
        },
    );
}

#[test]
fn every_message_has_its_own_time() {
    // Something is unread all the time, far longer than the deadline, but never of one message.
    on_every_kernel_with(
        with(none().read(ms(300))),
        || Probe::new(LINES),
        |world| {
            let (peer, id) = connect(world);
            for _ in 0..12 {
                for piece in [&b"b"[..], b"c", b"\na"] {
                    world.write_all(peer, piece);
                    world.sleep(STEP);
                }
            }
            assert_eq!(world.handler().reason(id), None);
            world.write_all(peer, b"\n");
            wait(world, "all is read", |world| world.handler().input.len() == 12 * 4 + 1);
            assert_stays(world, id, ms(400));
            leave(world, peer, id);
        },
    );
}

#[test]
fn the_time_of_a_message_stands_still_while_reading_is_paused() {
    on_every_kernel_with(
        with(none().read(ms(100))),
        || Probe::new(LINES),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"half");
            wait(world, "half a line is here", |world| world.metrics().bytes_received == 4);
            world.act(|probe, cx| probe.pause(cx, id));
            assert_stays(world, id, ms(150));
            world.act(|_, cx| assert!(cx.set_deadlines(id, none().read(ms(100)))));
            assert_stays(world, id, ms(150));
            world.act(|probe, cx| probe.resume(cx, id));
            wait_limit(world, id, Limit::Read, ms(99));
            wait_over(world, peer);
        },
    );
}

#[test]
fn the_time_of_a_message_stands_still_while_the_outbox_holds_reading_back() {
    const HELD: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            if probe.count == 0 {
                probe.count = 1;
                let answer = pattern(3, probe.size);
                probe.send(cx, id, &answer);
            }
            (LINES.on_data)(probe, cx, id, data)
        },
        ..Hooks::SINK
    };
    on_every_kernel_with(
        with(none().read(ms(100))).outbox_high_bytes(32 << 10).outbox_low_bytes(8 << 10),
        || Probe::new(HELD),
        |world| {
            let size = more_than_fits(world);
            world.act(|probe, _| probe.size = size);
            let (peer, id) = connect(world);
            world.write_all(peer, b"half");
            wait(world, "the outbox is high", |world| world.metrics().outbox_high == 1);
            assert_stays(world, id, ms(300));
            pace(world, "the deadline", |world| {
                world.read(peer, usize::MAX);
                world.handler().reason(id).is_some()
            });
            assert_eq!(world.handler().reason(id), Some(CloseReason::LimitExceeded(Limit::Read)));
            wait_over(world, peer);
        },
    );
}

#[test]
fn what_is_left_unread_at_the_end_of_the_peer_has_no_deadline() {
    const STAYS: Hooks = Hooks { on_eof: |_, _, _, _| ringline_core::Eof::KeepWriting, ..LINES };
    on_every_kernel_with(
        with(none().read(ms(60))),
        || Probe::new(STAYS),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"half");
            world.end(peer);
            wait(world, "the end", |world| super::events_of(world, id).contains(&super::Event::Eof(id, 4)));
            assert_stays(world, id, ms(200));
            world.act(|probe, cx| probe.close(cx, id));
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
        },
    );
}

#[test]
fn a_peer_that_says_nothing_at_all_is_not_waited_for_for_ever() {
    on_every_kernel_with(
        with(none().first_byte(ms(150))),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (silent, silent_id) = connect(world);
            let (other, other_id) = connect(world);
            assert_eq!(exchange(world, other, b"x", 1), b"x");
            wait_limit(world, silent_id, Limit::FirstByte, ms(1));
            assert_eq!(world.metrics().closed_first_byte, 1);
            wait_over(world, silent);
            // Having spoken once is enough.
            assert_stays(world, other_id, ms(300));
            leave(world, other, other_id);
        },
    );
}

#[test]
fn a_connection_on_which_nothing_happens_ends() {
    const GREETS: Hooks = Hooks {
        on_conn_timer: |probe, cx, id, key| {
            probe.send(cx, id, b"tick");
            probe.set_conn_timer(cx, id, STEP, key);
        },
        ..Hooks::ECHO
    };
    on_every_kernel_with(
        with(none().idle(ms(400))),
        || Probe::new(GREETS),
        |world| {
            let (quiet, quiet_id) = connect(world);
            let (writer, writer_id) = connect(world);
            let (reader, reader_id) = connect(world);
            world.act(|probe, cx| probe.set_conn_timer(cx, reader_id, STEP, 1));
            let mut echoed = 0;
            let until = world.elapsed() + ms(1000);
            while world.elapsed() < until {
                world.write(writer, b"x");
                world.sleep(STEP);
                echoed += world.read(writer, 100).len();
                world.read(reader, 1000);
            }
            assert!(echoed > 0, "the writer is served");
            let limit = CloseReason::LimitExceeded(Limit::Idle);
            assert_eq!(world.handler().reason(quiet_id), Some(limit));
            assert_eq!(world.handler().reason(writer_id), None, "it has written");
            assert_eq!(world.handler().reason(reader_id), None, "it has read");
            assert_eq!(world.metrics().closed_idle, 1);
            wait_over(world, quiet);
            world.act(|probe, cx| {
                probe.abort(cx, reader_id);
                probe.abort(cx, writer_id);
            });
            wait_closed(world, reader_id);
            wait_over(world, reader);
        },
    );
}

#[test]
fn deadlines_of_one_connection_replace_those_of_the_configuration() {
    /// The connections in order: one that is let off, one that gets less time, one that keeps its own.
    const CHOOSES: Hooks = Hooks {
        on_accept: |probe, cx, id, _| {
            if probe.opened.is_empty() {
                assert!(cx.set_deadlines(id, Deadlines::none()));
            }
            true
        },
        on_open: |probe, cx, id| {
            if probe.opened.len() == 2 {
                assert!(cx.set_deadlines(id, Deadlines::none().first_byte(ms(60))));
            }
        },
        ..Hooks::ECHO
    };
    on_every_kernel_with(
        with(none().idle(ms(150))),
        || Probe::new(CHOOSES),
        |world| {
            let peers: Vec<_> = (0..3).map(|_| connect(world)).collect();
            let [(first, first_id), (_, second_id), (_, third_id)] = peers[..] else { unreachable!() };
            wait_limit(world, second_id, Limit::FirstByte, ms(1));
            wait_limit(world, third_id, Limit::Idle, Duration::ZERO);
            assert_stays(world, first_id, ms(200));
            // In the middle of its life, and with what has been going on for longer.
            let short = none().idle(ms(50)).first_byte(ms(5000));
            assert!(world.act(|_, cx| cx.set_deadlines(first_id, short)));
            wait_limit(world, first_id, Limit::Idle, ms(49));
            wait_over(world, first);
            world.act(|_, cx: &mut Cx<'_>| assert!(!cx.set_deadlines(first_id, none()), "it is gone"));
        },
    );
}

#[test]
fn deadlines_set_later_cover_what_is_unread_and_what_waits_already() {
    on_every_kernel_with(
        with(none()),
        || Probe::new(LINES),
        |world| {
            let (half, half_id) = connect(world);
            world.write_all(half, b"half");
            wait(world, "half a line is here", |world| world.metrics().bytes_received == 4);
            let (slow, slow_id) = connect(world);
            let output = pattern(5, more_than_fits(world));
            world.act(|probe, cx| probe.send(cx, slow_id, &output));
            assert_stays(world, slow_id, ms(100));
            world.act(|_, cx| {
                assert!(cx.set_deadlines(half_id, none().read(ms(60))));
                assert!(cx.set_deadlines(slow_id, none().write_stall(ms(60))));
            });
            wait_limit(world, half_id, Limit::Read, ms(59));
            wait_limit(world, slow_id, Limit::WriteStall, Duration::ZERO);
            wait_over(world, half);
            wait_over(world, slow);
        },
    );
}

#[test]
fn a_closing_connection_takes_no_deadlines() {
    const CLOSING: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            probe.close(cx, id);
            probe.is_armed = cx.set_deadlines(id, Deadlines::none().drain(ms(1)));
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_every_kernel_with(
        with(none()),
        || Probe::new(CLOSING),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
            assert!(!world.handler().is_armed);
            wait_over(world, peer);
        },
    );
}

#[test]
fn a_busy_connection_runs_into_no_deadline() {
    let all = none().first_byte(ms(500)).idle(ms(500)).read(ms(500)).write_stall(ms(500)).drain(ms(500));
    on_every_kernel_with(
        with(all),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let until = world.elapsed() + ms(1200);
            let bytes = pattern(8, 500);
            while world.elapsed() < until {
                assert_same(&exchange(world, peer, &bytes, bytes.len()), &bytes);
                world.sleep(ms(10));
            }
            leave(world, peer, id);
        },
    );
}

#[test]
fn deadlines_end_with_their_connection() {
    on_every_kernel_with(
        with(none().first_byte(ms(300)).idle(ms(300))).connections_per_worker(1),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            leave(world, peer, id);
            let (next, next_id) = connect(world);
            assert_eq!(next_id.row(), id.row(), "the row is used again");
            world.act(|_, cx| assert!(cx.set_deadlines(next_id, none())));
            assert_stays(world, next_id, ms(600));
            if world.handler().kernel == super::Kernel::Simulated {
                assert_eq!(world.metrics().timers_fired, 1, "that of the second connection alone");
            }
            leave(world, next, next_id);
            assert_serves(world);
        },
    );
}

#[test]
fn by_default_nothing_is_armed_for_a_connection_of_which_nothing_is_unread_or_waiting() {
    on_every_kernel_with(
        Config::builder(),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            for salt in 0..20 {
                let bytes = pattern(salt, 64);
                assert_same(&exchange(world, peer, &bytes, bytes.len()), &bytes);
            }
            if world.handler().kernel == super::Kernel::Simulated {
                // A turn that may wait as long as it likes would wait for a timer.
                (0..5).for_each(|_| world.turn());
                assert!(world.elapsed() < ms(1000), "{:?} have passed", world.elapsed());
                assert_eq!(world.metrics().timers_fired, 0);
            }
            leave(world, peer, id);
        },
    );
}
