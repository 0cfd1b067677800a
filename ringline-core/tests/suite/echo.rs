//! Bytes come back as they were sent, whatever pieces they travel in.

use super::probe::{Hooks, Probe, Take};
use super::{assert_same, connect, exchange, leave, on_every_kernel, pattern, wait};

#[test]
fn every_byte_of_every_message_comes_back() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let large = world.handler().kernel.size(10_000, 1 << 20);
            for (salt, len) in [1, 2, 3, 100, 4095, 4096, 65_537, large].into_iter().enumerate() {
                let bytes = pattern(salt as u64, len.min(large));
                let echoed = exchange(world, peer, &bytes, bytes.len());
                assert_same(&echoed, &bytes);
            }
            leave(world, peer, id);
        },
    );
}

#[test]
fn a_peer_that_drips_single_bytes_gets_each_of_them_back() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            for byte in pattern(1, 100) {
                assert_eq!(world.write(peer, &[byte]), 1);
                assert_eq!(world.read_exactly(peer, 1), [byte]);
            }
            leave(world, peer, id);
        },
    );
}

#[test]
fn bytes_dripped_without_waiting_for_answers_stay_in_order() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let bytes = pattern(2, 200);
            let mut echoed = Vec::new();
            for byte in &bytes {
                world.write_all(peer, &[*byte]);
                world.turn();
                echoed.extend(world.read(peer, 1000));
            }
            let left = bytes.len() - echoed.len();
            echoed.extend(world.read_exactly(peer, left));
            assert_same(&echoed, &bytes);
            leave(world, peer, id);
        },
    );
}

/// Answers every line with a send of its own.
const LINES: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        let mut done = 0;
        while let Some(end) = data[done..].iter().position(|&byte| byte == b'\n') {
            let mut line = data[done..=done + end].to_vec();
            line.reverse();
            probe.send(cx, id, &line);
            probe.count += 1;
            done += end + 1;
        }
        Take::bytes(done)
    },
    ..Hooks::SINK
};

#[test]
fn pipelined_messages_are_answered_one_by_one_and_in_order() {
    on_every_kernel(
        || Probe::new(LINES),
        |world| {
            let (peer, id) = connect(world);
            let lines = world.handler().kernel.size(200, 2000);
            let (mut request, mut expected) = (Vec::new(), Vec::new());
            for line in 0..lines {
                let mut line = format!("line {line}\n").into_bytes();
                request.extend_from_slice(&line);
                line.reverse();
                expected.extend_from_slice(&line);
            }
            let answers = exchange(world, peer, &request, expected.len());
            assert_same(&answers, &expected);
            assert_eq!(world.handler().count, lines);
            leave(world, peer, id);
        },
    );
}

#[test]
fn many_peers_at_once_each_get_their_own_bytes() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let peers: Vec<_> = (0..30).map(|_| world.connect()).collect();
            let messages: Vec<_> = (0..30).map(|salt| pattern(salt, 500 + 37 * salt as usize)).collect();
            let mut written = vec![0; peers.len()];
            let mut echoed = vec![Vec::new(); peers.len()];
            wait(world, "all bytes are back", |world| {
                for (at, peer) in peers.iter().enumerate() {
                    let rest = &messages[at][written[at]..];
                    written[at] += world.write(*peer, &rest[..rest.len().min(100)]);
                    echoed[at].extend(world.read(*peer, usize::MAX));
                }
                echoed.iter().zip(&messages).all(|(echoed, message)| echoed.len() >= message.len())
            });
            for (echoed, message) in echoed.iter().zip(&messages) {
                assert_same(echoed, message);
            }
            for peer in peers {
                world.end(peer);
                wait(world, "the end", |world| world.saw_eof(peer));
            }
            wait(world, "all are closed", |world| world.metrics().connections_active == 0);
            assert_eq!(world.handler().opened.len(), 30);
        },
    );
}

#[test]
fn a_peer_that_writes_everything_and_ends_before_it_reads_gets_everything() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let peer = world.connect();
            // As much as the tightest kernel takes in one go, before the server knows of the peer.
            let bytes = pattern(3, 100);
            assert_eq!(world.write(peer, &bytes), bytes.len());
            world.end(peer);
            assert_same(&super::read_to_end(world, peer), &bytes);
            wait(world, "the connection is over", |world| world.metrics().connections_closed == 1);
        },
    );
}
