//! What the simulated network does when nothing goes wrong, and what it does to those who close.

use super::{Faults, Kind, LISTENER, Rig, errno, sent};
use crate::backend::sim::Sim;
use crate::backend::{Backend, Wait};
use crate::buf::{Lease, Stage};
use crate::op::{Op, Outcome, Tag};
use std::time::Duration;

impl Rig {
    /// Takes one completion of a receive and the bytes it brought.
    fn received(&mut self) -> Vec<u8> {
        match self.one().outcome {
            Outcome::Received(lease) => {
                let bytes = self.sim.received(&lease).to_vec();
                self.sim.release(lease);
                bytes
            }
            outcome => panic!("{outcome:?}"),
        }
    }
}

#[test]
fn bytes_go_both_ways_and_so_do_ends() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.recv(0, fd);
    assert_eq!(rig.sim.write(peer, b"hello"), 5);
    assert_eq!(rig.received(), b"hello");
    rig.sim.write(peer, b"again");
    assert_eq!(rig.received(), b"again", "the receive stays armed");
    rig.sim.end(peer);
    assert!(matches!(rig.one().outcome, Outcome::EndOfStream));

    rig.send_now(0, fd, b"good");
    assert_eq!(sent(&rig.turn(Wait::No)[0]), 4);
    rig.send(0, fd, b"bye");
    assert_eq!(sent(&rig.one()), 3);
    assert_eq!(rig.sim.read_at_most(peer, 5), b"goodb");
    rig.push(Kind::Shutdown, 0, Op::ShutdownWrite { fd });
    assert!(matches!(rig.one().outcome, Outcome::Done));
    assert!(!rig.sim.saw_eof(peer), "there is something to read before the end");
    assert_eq!(rig.sim.read(peer), b"ye");
    assert!(rig.sim.saw_eof(peer) && rig.sim.is_open(peer));
    rig.close(0, fd);
    rig.one();
    assert!(!rig.sim.is_open(peer) && !rig.sim.saw_reset(peer));
    rig.sim.assert_at_rest(&[]);
}

#[test]
fn nothing_happens_before_enter() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.send_now(0, fd, b"x");
    assert_eq!(rig.sim.arrived(peer), 0);
    assert!(!rig.sim.has_completions());
    rig.enter(Wait::No);
    assert_eq!(rig.sim.arrived(peer), 1);
}

#[test]
fn a_full_socket_refuses_what_does_not_wait_and_lets_the_rest_wait() {
    let mut faults = Faults::none();
    faults.send_buffer_bytes = 10;
    let mut rig = Rig::new(faults);
    let (peer, fd) = rig.accept(0);
    rig.send_now(0, fd, b"0123456789abc");
    assert_eq!(sent(&rig.one()), 10);
    rig.send_now(0, fd, b"abc");
    assert_eq!(errno(&rig.one()), libc::EAGAIN);
    rig.send(0, fd, b"abcdefghijklmno");
    assert!(rig.turn(Wait::Forever).is_empty() && rig.sim.is_idle());
    assert_eq!(rig.sim.read_at_most(peer, 2), b"01");
    assert!(rig.turn(Wait::Forever).is_empty() && rig.sim.is_idle());
    assert_eq!(rig.sim.read(peer), b"23456789ab");
    assert!(rig.turn(Wait::Forever).is_empty());
    assert_eq!(rig.sim.read(peer), b"cdefghijkl");
    let completion = rig.one();
    assert_eq!(sent(&completion), 15);
    let Outcome::Sent { parcel: Some(parcel), .. } = completion.outcome else { unreachable!() };
    assert_eq!(parcel.len(), 15, "counting is up to the core");
    assert_eq!(rig.sim.read(peer), b"mno");
}

#[test]
fn a_window_bounds_what_a_peer_writes_ahead() {
    let mut faults = Faults::none();
    faults.receive_window_bytes = 4;
    let mut rig = Rig::new(faults);
    let (peer, fd) = rig.accept(0);
    assert_eq!(rig.sim.write(peer, b"abcdef"), 4);
    rig.turn(Wait::Forever);
    assert_eq!((rig.sim.write(peer, b"ef"), rig.sim.unreceived(peer)), (0, 4));
    assert!(rig.sim.is_idle(), "what had no room is no news");
    rig.recv(0, fd);
    assert_eq!(rig.received(), b"abcd");
    assert_eq!(rig.sim.write(peer, b"ef"), 2);
}

#[test]
fn a_close_with_unread_bytes_loses_what_the_peer_has_not_read() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.send_now(0, fd, b"the answer");
    rig.one();
    assert_eq!(rig.sim.read_at_most(peer, 4), b"the ");
    rig.sim.write(peer, b"one more question");
    rig.close(0, fd);
    rig.one();
    assert!(rig.sim.saw_reset(peer) && !rig.sim.saw_eof(peer));
    assert_eq!(rig.sim.read(peer), b"");
}

#[test]
fn a_close_before_the_peer_stops_writing_loses_it_too() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.send_now(0, fd, b"the answer");
    rig.one();
    rig.close(0, fd);
    rig.one();
    assert_eq!(rig.sim.arrived(peer), 10);
    rig.sim.write(peer, b"one more question");
    assert!(rig.sim.saw_reset(peer));
    assert_eq!(rig.sim.read(peer), b"");
}

#[test]
fn a_close_with_everything_read_delivers_the_rest_and_the_end() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.send_now(0, fd, b"the answer");
    rig.one();
    rig.close(0, fd);
    rig.one();
    assert_eq!(rig.sim.read(peer), b"the answer");
    assert!(rig.sim.saw_eof(peer) && !rig.sim.saw_reset(peer));
}

#[test]
fn a_reset_is_told_once_and_then_there_is_nothing() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.sim.write(peer, b"unread");
    rig.sim.reset(peer);
    rig.recv(0, fd);
    assert_eq!(rig.received(), b"unread", "what had arrived is still there");
    assert_eq!(errno(&rig.one()), libc::ECONNRESET);
    rig.recv(0, fd);
    assert!(matches!(rig.one().outcome, Outcome::EndOfStream));
    rig.send_now(0, fd, b"x");
    assert_eq!(errno(&rig.one()), libc::EPIPE);
    rig.push(Kind::Shutdown, 0, Op::ShutdownWrite { fd });
    assert_eq!(errno(&rig.one()), libc::ENOTCONN);
    assert_eq!(rig.sim.write(peer, b"x"), 0);
    assert!(!rig.sim.saw_reset(peer), "it was the peer who reset");
}

#[test]
fn a_send_may_learn_of_a_reset_before_the_receive() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.sim.reset(peer);
    rig.send_now(0, fd, b"x");
    assert_eq!(errno(&rig.one()), libc::ECONNRESET);
    rig.send_now(0, fd, b"x");
    assert_eq!(errno(&rig.one()), libc::EPIPE);
    rig.recv(0, fd);
    assert!(matches!(rig.one().outcome, Outcome::EndOfStream));
}

#[test]
fn what_a_peer_has_seen_it_has_seen() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.close(0, fd);
    rig.one();
    assert!(rig.sim.saw_eof(peer));
    rig.sim.write(peer, b"anybody there?");
    assert!(rig.sim.saw_eof(peer) && rig.sim.saw_reset(peer));
}

#[test]
fn a_peer_that_has_ended_writes_nothing_more() {
    let mut rig = Rig::calm();
    let (peer, _) = rig.accept(0);
    rig.sim.end(peer);
    assert_eq!((rig.sim.write(peer, b"x"), rig.sim.unreceived(peer)), (0, 0));
}

#[test]
fn a_long_stream_of_small_buffers_goes_on_by_itself() {
    let mut faults = Faults::none();
    faults.receive_buffer_bytes = 1;
    let mut rig = Rig::new(faults);
    let (peer, fd) = rig.accept(0);
    rig.sim.write(peer, &[b'x'; 40]);
    rig.recv(0, fd);
    let (first, second) = (rig.turn(Wait::Forever), rig.turn(Wait::Forever));
    assert_eq!((first.len(), second.len()), (32, 8));
}

#[test]
fn a_backlog_of_completions_comes_before_new_operations() {
    let mut faults = Faults::none();
    faults.completion_entries = 1;
    let mut rig = Rig::new(faults);
    let ends: Vec<_> = (0..3).map(|row| rig.accept(row)).collect();
    for (row, (peer, fd)) in (0..2).zip(&ends) {
        rig.sim.end(*peer);
        rig.recv(row, *fd);
    }
    rig.enter(Wait::No);
    assert_eq!(rig.sim.overflows(), 1);
    let (peer, fd) = ends[2];
    rig.send_now(2, fd, b"x");
    assert_eq!(rig.turn(Wait::Forever).len(), 2);
    assert_eq!(rig.sim.arrived(peer), 0);
    assert_eq!(sent(&rig.turn(Wait::No)[0]), 1);
}

#[test]
fn a_send_to_a_peer_that_has_closed_is_answered_with_a_reset() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.sim.close(peer);
    rig.recv(0, fd);
    assert!(matches!(rig.one().outcome, Outcome::EndOfStream));
    rig.send_now(0, fd, b"into the void");
    assert_eq!(sent(&rig.one()), 13);
    rig.send(0, fd, b"and again");
    assert_eq!(errno(&rig.one()), libc::EPIPE, "the peer had ended first");
    assert_eq!(rig.sim.arrived(peer), 0);
}

#[test]
fn a_send_that_waits_ends_when_the_peer_goes_away() {
    let mut faults = Faults::none();
    faults.send_buffer_bytes = 4;
    for goes_away in [Sim::close, Sim::reset] {
        let mut rig = Rig::new(faults.clone());
        let (peer, fd) = rig.accept(0);
        rig.send(0, fd, b"too long for this socket");
        rig.enter(Wait::No);
        goes_away(&mut rig.sim, peer);
        let completion = rig.one();
        assert_eq!((sent(&completion), errno(&completion)), (4, 0), "what has left is told");
        assert!(matches!(completion.outcome, Outcome::Sent { parcel: Some(_), .. }));
        rig.send(0, fd, b"more");
        assert_eq!(errno(&rig.one()), libc::EPIPE);
    }
    let mut rig = Rig::new(faults);
    let (peer, fd) = rig.accept(0);
    rig.sim.close(peer);
    rig.send(0, fd, b"too long for this socket");
    assert_eq!(sent(&rig.one()), 4);
    rig.send(0, fd, b"more");
    assert_eq!(errno(&rig.one()), libc::EPIPE, "the first part was answered with a reset");
}

#[test]
fn a_send_behind_our_own_end_fails() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.push(Kind::Shutdown, 0, Op::ShutdownWrite { fd });
    rig.one();
    rig.send_now(0, fd, b"x");
    assert_eq!(errno(&rig.one()), libc::EPIPE);
}

#[test]
fn when_every_buffer_is_out_the_receive_ends() {
    let mut faults = Faults::none();
    faults.receive_buffers = 1;
    let mut rig = Rig::new(faults);
    let (peer, fd) = rig.accept(0);
    rig.recv(0, fd);
    rig.sim.write(peer, b"first");
    let Outcome::Received(lease) = rig.one().outcome else { panic!("it has a buffer") };
    rig.sim.write(peer, b"second");
    assert_eq!(errno(&rig.one()), libc::ENOBUFS);
    rig.recv(0, fd);
    assert_eq!(errno(&rig.one()), libc::ENOBUFS, "and again, at once");
    assert_eq!((rig.sim.starved(), rig.sim.leases_out()), (2, 1));
    rig.sim.release(lease);
    rig.recv(0, fd);
    assert_eq!(rig.received(), b"second");
}

#[test]
fn a_full_completion_queue_ends_the_receive_and_loses_nothing() {
    let mut faults = Faults::none();
    faults.completion_entries = 2;
    faults.receive_buffer_bytes = 4;
    let mut rig = Rig::new(faults);
    let (peer, fd) = rig.accept(0);
    rig.recv(0, fd);
    rig.sim.write(peer, b"aaaabbbbccccdddd");
    let completions = rig.turn(Wait::No);
    assert_eq!(completions.iter().map(|c| c.more).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!(rig.sim.overflows(), 1);
    for (completion, bytes) in completions.into_iter().zip([b"aaaa", b"bbbb", b"cccc"]) {
        let Outcome::Received(lease) = completion.outcome else { panic!("they are bytes") };
        assert_eq!(rig.sim.received(&lease), bytes);
        rig.sim.release(lease);
    }
    rig.recv(0, fd);
    assert_eq!(rig.received(), b"dddd");
}

#[test]
fn the_lowest_descriptor_is_used_again_at_once() {
    let mut rig = Rig::calm();
    let fds: Vec<_> = (0..3).map(|row| rig.accept(row).1).collect();
    rig.close(2, fds[2]);
    rig.close(1, fds[1]);
    rig.turn(Wait::Forever);
    assert_eq!(rig.accept(3).1, fds[1]);
    assert_eq!(rig.accept(4).1, fds[2]);
}

#[test]
fn an_accept_without_a_free_descriptor_keeps_the_client_waiting() {
    let mut faults = Faults::none();
    faults.descriptors = 1;
    let mut rig = Rig::new(faults);
    let (_, fd) = rig.accept(0);
    let peer = rig.sim.connect(LISTENER);
    rig.push(Kind::Accept, 1, Op::Accept { listener: LISTENER, is_unix: false });
    assert_eq!(errno(&rig.one()), libc::EMFILE);
    assert!(!rig.sim.is_accepted(peer));
    rig.close(0, fd);
    rig.one();
    rig.push(Kind::Accept, 1, Op::Accept { listener: LISTENER, is_unix: false });
    assert!(matches!(rig.one().outcome, Outcome::Accepted { .. }));
    assert!(rig.sim.is_accepted(peer));
}

#[test]
fn peers_have_addresses_of_both_families() {
    let mut rig = Rig::calm();
    for row in 0..4 {
        let peer = rig.sim.connect(LISTENER);
        rig.push(Kind::Accept, row, Op::Accept { listener: LISTENER, is_unix: false });
        let Outcome::Accepted { peer: address, .. } = rig.one().outcome else { panic!("accepted") };
        let address = address.unwrap().addr;
        assert_eq!(address, rig.sim.address(peer));
        assert_eq!(address.ip().unwrap().is_ipv4(), row % 2 == 0);
    }
}

#[test]
fn time_passes_only_while_the_worker_waits_for_nothing() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.recv(0, fd);
    rig.turn(Wait::No);
    assert_eq!(rig.sim.time_ms(), Some(0));
    rig.turn(Wait::For(Duration::from_millis(250)));
    assert_eq!(rig.sim.time_ms(), Some(250));
    rig.sim.write(peer, b"x");
    assert_eq!(rig.turn(Wait::For(Duration::from_millis(250))).len(), 1);
    assert_eq!(rig.sim.time_ms(), Some(250));
    assert!(!rig.sim.is_idle());
    rig.turn(Wait::Forever);
    assert!(rig.sim.is_idle() && rig.sim.is_quiet());
    rig.sim.read(peer);
    assert!(rig.sim.is_idle(), "there was nothing to read");
    rig.sim.write(peer, b"x");
    assert!(!rig.sim.is_idle() && !rig.sim.is_quiet());
}

#[test]
fn a_staged_send_is_nothing_to_come_back_for() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.send_now(0, fd, b"x");
    assert_eq!(rig.turn(Wait::For(Duration::from_millis(40))).len(), 1);
    assert_eq!(rig.sim.time_ms(), Some(40));
    rig.send_now(0, fd, b"x");
    assert_eq!(rig.turn(Wait::Forever).len(), 1);
    assert!(rig.sim.is_idle());
}

#[test]
fn a_wake_up_ends_the_wait_and_owes_nothing() {
    let mut rig = Rig::calm();
    rig.turn(Wait::Forever);
    assert!(rig.sim.is_idle());
    rig.sim.wake();
    assert!(!rig.sim.is_idle());
    let completions = rig.turn(Wait::Forever);
    assert_eq!(completions[0].tag, Tag { kind: Kind::Wake, generation: 0, row: 0 });
    assert!(!rig.sim.is_idle());
    rig.sim.assert_at_rest(&[]);
}

#[test]
fn a_broken_kernel_says_so() {
    let mut rig = Rig::calm();
    rig.sim.fail_enter(libc::EBADF);
    let error = rig.sim.enter(&rig.stage, Wait::No).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
}

#[test]
fn leases_of_one_buffer_are_told_apart() {
    let faults = Faults::none().with(super::Fault::SharedBuffer, 1000);
    let mut rig = Rig::new(faults);
    let (peers, fds): (Vec<_>, Vec<_>) = (0..2).map(|row| rig.accept(row)).unzip();
    let mut leases: Vec<Lease> = Vec::new();
    for (row, text) in [b"first", b"other"].into_iter().enumerate() {
        rig.recv(row as u32, fds[row]);
        rig.sim.write(peers[row], text);
        match rig.one().outcome {
            Outcome::Received(lease) => leases.push(lease),
            outcome => panic!("{outcome:?}"),
        }
    }
    assert_eq!(leases[0].buffer, leases[1].buffer);
    assert_eq!((leases[0].offset, leases[1].offset), (0, 5));
    let second = leases.pop().unwrap();
    rig.sim.release(leases.pop().unwrap());
    assert_eq!(rig.sim.received(&second), b"other");
    rig.sim.release(second);
    assert_eq!(rig.sim.leases_out(), 0);
}

#[test]
fn a_stage_of_another_turn_is_not_looked_at() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    let span = rig.send_now(0, fd, b"first");
    rig.one();
    rig.stage.retire(span);
    rig.stage = Stage::new(16).unwrap();
    rig.enter(Wait::No);
}
