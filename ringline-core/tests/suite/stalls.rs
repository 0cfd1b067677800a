//! Deadlines of connections whose peers read slowly or not at all.

use super::deadlines::{more_than_fits, none, wait_limit, with};
use super::probe::{Hooks, Probe, Take};
use super::{
    assert_same, base, connect, leave, ms, on_every_kernel_with, pattern, read_to_end, wait, wait_closed,
    wait_over,
};
use ringline_core::testing::{PeerId, World};
use ringline_core::{CloseReason, ConnId, Limit};

/// Answers whatever comes first with as much as `size` says.
const FLOOD: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        if probe.output.is_empty() {
            probe.output = pattern(3, probe.size);
            let output = std::mem::take(&mut probe.output);
            probe.send(cx, id, &output);
            probe.output = output;
        }
        Take::all(data)
    },
    ..Hooks::SINK
};

/// The same, and closes.
const FAREWELL: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        let take = (FLOOD.on_data)(probe, cx, id, data);
        probe.close(cx, id);
        take
    },
    ..Hooks::SINK
};

/// Has a peer read a little at a time until the kernel has everything or the connection is over.
fn read_slowly(world: &mut World<Probe>, peer: PeerId, id: ConnId) -> Vec<u8> {
    let is_simulated = world.handler().kernel.is_simulated();
    let (piece, pause) = if is_simulated { (1 << 10, ms(5)) } else { (256 << 10, ms(10)) };
    let mut received = Vec::new();
    while world.act(|_, cx| cx.pending_bytes(id)).is_some_and(|pending| pending > 0) {
        received.extend(world.read(peer, piece));
        world.sleep(pause);
    }
    received
}

#[test]
fn a_peer_that_never_reads_is_not_waited_for_for_ever() {
    on_every_kernel_with(
        with(none().write_stall(ms(150))),
        || Probe::new(FLOOD),
        |world| {
            let size = more_than_fits(world);
            world.act(|probe, _| probe.size = size);
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            wait_limit(world, id, Limit::WriteStall, ms(149));
            assert!(world.handler().audit.has_failed(id));
            assert_eq!(world.metrics().closed_write_stall, 1);
            wait_over(world, peer);
            world.act(|probe, _| probe.output.push(0));
        },
    );
}

#[test]
fn a_peer_that_has_ended_and_never_reads_is_not_waited_for_for_ever() {
    const STAYS: Hooks = Hooks { on_eof: |_, _, _, _| ringline_core::Eof::KeepWriting, ..FLOOD };
    on_every_kernel_with(
        with(none().write_stall(ms(150))),
        || Probe::new(STAYS),
        |world| {
            let size = more_than_fits(world);
            world.act(|probe, _| probe.size = size);
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            world.end(peer);
            wait_limit(world, id, Limit::WriteStall, ms(149));
            wait_over(world, peer);
        },
    );
}

#[test]
fn a_peer_that_reads_slowly_but_steadily_gets_everything() {
    // Simulated, one block takes 320 ms, and nothing is heard of it before all of it is out.
    on_every_kernel_with(
        with(none().write_stall(ms(40)).idle(ms(40))),
        || Probe::new(FLOOD),
        |world| {
            let is_simulated = world.handler().kernel.is_simulated();
            let size = if is_simulated { 200 << 10 } else { 12 << 20 };
            world.act(|probe, _| probe.size = size);
            let (peer, id) = connect(world);
            if !is_simulated {
                // Real buffers empty in larger steps.
                let patient = none().write_stall(ms(1000)).idle(ms(1000));
                assert!(world.act(|_, cx| cx.set_deadlines(id, patient)));
            }
            world.write_all(peer, b"!");
            wait(world, "it is sent", |world| !world.handler().output.is_empty());
            let mut received = read_slowly(world, peer, id);
            assert_eq!(world.handler().reason(id), None, "after {} bytes", received.len());
            // What is still to be read says nothing to the server.
            assert!(world.act(|_, cx| cx.set_deadlines(id, none())));
            received.extend(world.read_exactly(peer, size - received.len()));
            assert_same(&received, &pattern(3, size));
            if world.handler().kernel == super::Kernel::Simulated {
                assert!(world.metrics().sends_short > 10, "the kernel was asked how far it has come");
            }
            leave(world, peer, id);
        },
    );
}

#[test]
fn being_asked_how_far_it_has_come_costs_a_send_no_byte() {
    // A time so short that a busy machine may miss it: whatever has arrived must be right.
    on_every_kernel_with(
        with(none().write_stall(ms(30))),
        || Probe::new(FLOOD),
        |world| {
            let size = more_than_fits(world);
            world.act(|probe, _| probe.size = size);
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            wait(world, "it is sent", |world| !world.handler().output.is_empty());
            let mut received = read_slowly(world, peer, id);
            if world.act(|_, cx| cx.is_open(id)) {
                received.extend(world.read_exactly(peer, size - received.len()));
                assert_eq!(received.len(), size);
                leave(world, peer, id);
            } else {
                wait_over(world, peer);
            }
            assert_same(&received, &pattern(3, size)[..received.len()]);
        },
    );
}

#[test]
fn a_closing_connection_whose_peer_reads_a_large_operation_slowly_is_not_cut_off() {
    on_every_kernel_with(
        with(none()).close_timeout(ms(40)),
        || Probe::new(FAREWELL),
        |world| {
            if !world.handler().kernel.is_simulated() {
                return;
            }
            let size = 200 << 10;
            world.act(|probe, _| probe.size = size);
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            wait(world, "it is sent", |world| !world.handler().output.is_empty());
            let mut received = read_slowly(world, peer, id);
            received.extend(read_to_end(world, peer));
            assert_same(&received, &pattern(3, size));
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
        },
    );
}

#[test]
fn an_orderly_close_may_take_only_so_long_however_steadily_the_peer_reads() {
    on_every_kernel_with(
        with(none().drain(ms(200))),
        || Probe::new(FAREWELL),
        |world| {
            let size = more_than_fits(world);
            world.act(|probe, _| probe.size = size);
            let (peer, id) = connect(world);
            let started = world.elapsed();
            world.write_all(peer, b"!");
            if world.handler().kernel.is_simulated() {
                wait(world, "it is sent", |world| !world.handler().output.is_empty());
                let received = read_slowly(world, peer, id);
                assert!(!received.is_empty(), "the peer has read all the time");
            }
            assert_eq!(wait_closed(world, id), CloseReason::LimitExceeded(Limit::Drain));
            let took = world.elapsed() - started;
            assert!(took >= ms(199) && took < ms(8000), "it took {took:?}");
            assert_eq!(world.metrics().closed_drain, 1);
            wait_over(world, peer);
        },
    );
}

#[test]
fn a_close_that_got_everything_out_may_linger_beyond_its_deadline() {
    on_every_kernel_with(
        with(none().drain(ms(150))).linger(ms(400)),
        || Probe::new(FAREWELL),
        |world| {
            world.act(|probe, _| probe.size = 1000);
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            let started = world.elapsed();
            assert_eq!(read_to_end(world, peer).len(), 1000);
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
            assert!(world.elapsed() - started >= ms(300), "it has lingered");
        },
    );
}

#[test]
fn a_lingering_that_ends_while_operations_come_home_is_no_timeout() {
    on_every_kernel_with(
        base().linger(ms(1)),
        || Probe::new(Hooks::ECHO),
        |world| {
            for turns in 0..12 {
                let (peer, id) = connect(world);
                world.act(|probe, cx| probe.close(cx, id));
                for _ in 0..turns % 4 {
                    world.turn();
                }
                world.end(peer);
                assert_eq!(wait_closed(world, id), CloseReason::Closed);
            }
        },
    );
}
