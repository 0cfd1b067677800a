//! Chains: links that leave one after the other, without anything in between, and complete as one.

use super::probe::{Event, Hooks, Probe};
use super::{
    Kernel, assert_same, base, connect, events_of, leave, ms, on_every_kernel_with, pace, pattern,
    read_to_end, wait, wait_closed,
};
use ringline_core::testing::World;
use ringline_core::{Chain, CloseReason, ConnId, OnBreak, Parts, SendError, SendFailure};

fn zero_copy() -> ringline_core::ConfigBuilder {
    base().zero_copy_threshold(1000).outbox_bytes(64 << 20).worker_outbox_bytes(64 << 20)
}

fn link_bytes(kernel: Kernel) -> usize {
    kernel.size(9000, 3 << 20)
}

/// A chain of copies, guards and parts, and its bytes.
fn mixed<'a>(probe: &mut Probe, id: ConnId, bytes: &'a [u8]) -> Chain<'a> {
    let third = bytes.len() / 3;
    let mut chain = Chain::new();
    chain.copy(&bytes[..100]).unwrap();
    chain.guard(probe.lend(id, &bytes[100..third])).unwrap();
    let mut parts = Parts::new();
    parts.copy(&bytes[third..third + 50]).unwrap();
    parts.guard(probe.lend(id, &bytes[third + 50..2 * third])).unwrap();
    parts.copy(b"").unwrap();
    chain.parts(parts).unwrap();
    chain.copy(b"").unwrap();
    chain.guard(probe.lend(id, &bytes[2 * third..bytes.len() - 10])).unwrap();
    chain.copy(&bytes[bytes.len() - 10..]).unwrap();
    chain
}

fn completions(world: &World<Probe>, id: ConnId) -> Vec<u64> {
    let through = |event| if let Event::Sent(_, through) = event { Some(through) } else { None };
    events_of(world, id).into_iter().filter_map(through).collect()
}

#[test]
fn a_chain_leaves_whole_between_other_sends_and_completes_once() {
    on_every_kernel_with(
        zero_copy(),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(1, 3 * link_bytes(world.handler().kernel));
            let expected = world.act(|probe, cx| {
                probe.send(cx, id, b"<");
                let chain = mixed(probe, id, &bytes);
                assert_eq!(probe.send_chain(cx, id, chain).map(|accepted| accepted.sequence), Some(2));
                probe.send(cx, id, b"|");
                let chain = mixed(probe, id, &bytes[..6000]);
                probe.send_chain(cx, id, chain);
                probe.send_guard(cx, id, &bytes[..2000]);
                [b"<", &bytes[..], b"|", &bytes[..6000], &bytes[..2000]].concat()
            });
            // A slow reader: the links have to wait for room, again and again.
            let mut received = Vec::new();
            let chunk = expected.len() / 100 + 1;
            pace(world, "everything arrives", |world| {
                received.extend(world.read(peer, chunk));
                received.len() == expected.len()
            });
            assert_same(&received, &expected);
            wait(world, "all complete", |world| completions(world, id).last() == Some(&5));
            assert_eq!(world.metrics().chains, 2);
            let lent = world.act(|probe, _| probe.owners(id));
            wait(world, "the guards are dropped", |_| lent.alive() == 0);
            leave(world, peer, id);
        },
    );
}

#[test]
fn a_chain_has_a_limit_and_one_without_bytes_completes() {
    on_every_kernel_with(
        zero_copy(),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            world.act(|probe, cx| {
                let limit = Chain::MAX;
                let mut chain = Chain::new();
                for _ in 0..limit {
                    chain.guard(probe.lend(id, b"link")).unwrap();
                }
                assert_eq!(chain.copy(b"x"), Err(SendError::TooManyLinks { limit }));
                let rejected = chain.guard(probe.lend(id, b"more")).unwrap_err();
                assert_eq!(
                    (rejected.error, &rejected.value[..]),
                    (SendError::TooManyLinks { limit }, &b"more"[..])
                );
                drop(rejected);
                let rejected = chain.guard(Vec::new()).unwrap_err();
                assert_eq!(rejected.error, SendError::TooManyLinks { limit });
                assert_eq!(Chain::new().guard(Vec::new()).unwrap_err().error, SendError::EmptyGuard);
                probe.send_chain(cx, id, chain).expect("there is room");
                assert_eq!(probe.owners(id).alive(), 0, "few bytes are copied at once");
                probe.send_chain(cx, id, Chain::new()).expect("no links are legal");
                let mut empty = Chain::new();
                empty.copy(b"").unwrap();
                empty.parts(Parts::new()).unwrap();
                probe.send_chain(cx, id, empty).expect("no bytes are legal");
            });
            assert_eq!(world.read_exactly(peer, 4 * Chain::MAX), b"link".repeat(Chain::MAX));
            wait(world, "all complete", |world| completions(world, id).last() == Some(&3));
            leave(world, peer, id);
        },
    );
}

#[test]
fn what_follows_a_chain_comes_behind_it() {
    const KEEP: Hooks = Hooks { on_eof: |_, _, _, _| ringline_core::Eof::KeepWriting, ..Hooks::SINK };
    on_every_kernel_with(
        zero_copy().linger(ms(5000)),
        || Probe::new(KEEP),
        |world| {
            for closes in [false, true] {
                let (peer, id) = connect(world);
                let bytes = pattern(1, 3 * link_bytes(world.handler().kernel));
                world.act(|probe, cx| {
                    let chain = mixed(probe, id, &bytes);
                    let chain = if closes { chain.then_close() } else { chain.then_shutdown() };
                    probe.send_chain(cx, id, chain).expect("there is room");
                    assert_eq!(cx.is_open(id), !closes);
                    if closes {
                        probe.audit.closing(id);
                    }
                    assert_eq!(cx.send(id, b"x"), Err(SendError::Closing));
                });
                let mut received = Vec::new();
                pace(world, "the end", |world| {
                    received.extend(world.read(peer, bytes.len() / 50));
                    world.saw_eof(peer)
                });
                assert_same(&received, &bytes);
                assert_eq!(completions(world, id), [1]);
                if !closes {
                    world.write_all(peer, b"still here");
                    wait(world, "reading goes on", |world| world.handler().input.ends_with(b"still here"));
                    world.act(|probe, cx| probe.close(cx, id));
                }
                world.end(peer);
                assert_eq!(wait_closed(world, id), CloseReason::Closed);
            }
        },
    );
}

#[test]
fn a_rejected_chain_changes_nothing() {
    on_every_kernel_with(
        zero_copy().outbox_high_bytes(1000).outbox_low_bytes(10).outbox_bytes(5000),
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            world.act(|probe, cx| {
                let bytes = pattern(1, 6000);
                let chain = mixed(probe, id, &bytes).then_close();
                assert_eq!(probe.send_chain(cx, id, chain), None);
                assert_eq!(probe.rejected, [SendError::Full { pending: 0, limit: 5000 }]);
                assert!(cx.is_open(id), "nothing follows a chain that was not sent");
                assert_eq!(probe.owners(id).alive(), 0);
            });
            leave(world, peer, id);
        },
    );
}

/// Notes in `count` how many bytes of chains were lost, and in `size` how many chains broke.
const BREAKS: Hooks = Hooks {
    on_send_complete: |probe, _, id, sent| {
        if let Err(SendFailure::Broken { sent: out, of }) = sent.result {
            assert!(out < of);
            probe.output.extend(pattern(sent.through, 5000).drain(..out as usize));
            probe.size += 1;
        } else if sent.result.is_ok() {
            let first = probe.count as u64 + 1;
            for number in first..=sent.through {
                probe.output.extend(pattern(number, 5000));
            }
        }
        probe.count = sent.through as usize;
        probe.target = Some(id);
    },
    ..Hooks::SINK
};

#[test]
fn a_chain_that_breaks_is_reported_and_the_rest_goes_on() {
    on_every_kernel_with(
        zero_copy(),
        || Probe::new(BREAKS),
        |world| {
            let (peer, id) = connect(world);
            for number in 1..=20 {
                world.act(|probe, cx| {
                    let bytes = pattern(number, 5000);
                    let chain = mixed(probe, id, &bytes).on_break(OnBreak::Report);
                    probe.send_chain(cx, id, chain).expect("there is room");
                });
            }
            let mut received = Vec::new();
            pace(world, "all complete", |world| {
                received.extend(world.read(peer, usize::MAX));
                world.handler().count == 20
            });
            let expected = world.handler().output.clone();
            received.extend(world.read_exactly(peer, expected.len() - received.len()));
            assert_same(&received, &expected);
            assert!(world.handler().kernel.is_faulty() || world.handler().size == 0, "nothing breaks there");
            world.end(peer);
            assert!(read_to_end(world, peer).is_empty());
            wait_closed(world, id);
        },
    );
}

#[test]
fn a_chain_that_breaks_may_end_its_connection() {
    on_every_kernel_with(
        zero_copy(),
        || Probe::new(Hooks::SINK),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(1, 60_000);
            world.act(|probe, cx| {
                let chain = mixed(probe, id, &bytes).on_break(OnBreak::Abort).then_close();
                probe.send_chain(cx, id, chain).expect("there is room");
                probe.audit.closing(id);
            });
            let mut received = Vec::new();
            pace(world, "the end, or a reset", |world| {
                received.extend(world.read(peer, usize::MAX));
                world.saw_eof(peer) || world.saw_reset(peer) || world.handler().reason(id).is_some()
            });
            world.end(peer);
            match wait_closed(world, id) {
                CloseReason::Closed => assert_same(&received, &bytes),
                CloseReason::ChainBroken { sent, of } => {
                    assert!(world.handler().kernel.is_faulty(), "nothing breaks there");
                    assert!(sent < of && of == 60_000);
                    assert_same(&received, &bytes[..received.len()]);
                }
                reason => panic!("{reason:?}"),
            }
        },
    );
}
