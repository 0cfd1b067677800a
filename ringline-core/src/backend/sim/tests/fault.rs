//! Each fault by itself, struck with certainty.

use super::{Fault, Faults, Kind, LISTENER, Rig, errno, sent, tag};
use crate::backend::{Backend, Full, Wait};
use crate::op::{Op, Outcome};
use std::time::Duration;

fn certain(fault: Fault) -> Faults {
    Faults::none().with(fault, 1000)
}

/// A rig with one calm connection as row 0, on which `fault` is certain from now on.
fn connected(fault: Fault) -> (Rig, super::PeerId, crate::op::Fd) {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.sim.set_faults(certain(fault));
    (rig, peer, fd)
}

#[test]
fn short_sends() {
    let (mut rig, peer, fd) = connected(Fault::ShortSend);
    rig.send_now(0, fd, b"0123456789");
    let taken = sent(&rig.one());
    assert!((1..10).contains(&taken));
    assert_eq!(rig.sim.read(peer), b"0123456789"[..taken]);
    rig.send(0, fd, b"0123456789");
    assert_eq!(sent(&rig.one()), 10, "what waits goes out whole, in parts");
    assert!(rig.sim.struck(Fault::ShortSend) > 1);
}

#[test]
fn refused_sends() {
    let (mut rig, peer, fd) = connected(Fault::RefusedSend);
    let mut seen = Vec::new();
    for _ in 0..40 {
        rig.send_now(0, fd, b"x");
        seen.push(errno(&rig.one()));
    }
    assert!(seen.contains(&libc::EAGAIN) && seen.contains(&libc::ENOBUFS));
    assert!(seen.iter().all(|errno| [libc::EAGAIN, libc::ENOBUFS].contains(errno)));
    assert_eq!(rig.sim.arrived(peer), 0);
}

#[test]
fn failed_sends() {
    let mut rig = Rig::new(certain(Fault::FailedSend));
    let mut seen = Vec::new();
    for row in 0..40 {
        let (peer, fd) = rig.accept(row);
        rig.send(row, fd, b"x");
        let completion = rig.one();
        assert!(matches!(completion.outcome, Outcome::Sent { bytes: 0, parcel: Some(_), .. }));
        let is_lost = errno(&completion) != libc::ENOBUFS;
        assert_eq!((rig.sim.saw_reset(peer), rig.sim.is_broken(peer)), (is_lost, true));
        seen.push(errno(&completion));
    }
    for errno in [libc::EPIPE, libc::ECONNRESET, libc::ETIMEDOUT, libc::ENOBUFS] {
        assert!(seen.contains(&errno), "{errno}");
    }
}

#[test]
fn short_waiting_sends() {
    let (mut rig, peer, fd) = connected(Fault::ShortWaitingSend);
    rig.sim.set_faults(certain(Fault::ShortWaitingSend).with(Fault::ShortSend, 1000));
    rig.send(0, fd, b"0123456789");
    let taken = sent(&rig.one());
    assert!((1..10).contains(&taken));
    assert_eq!(rig.sim.read(peer), b"0123456789"[..taken]);
}

#[test]
fn short_receives() {
    let (mut rig, peer, fd) = connected(Fault::ShortReceive);
    rig.sim.write(peer, &[7; 100]);
    rig.recv(0, fd);
    let mut total = 0;
    while total < 100 {
        let Outcome::Received(lease) = rig.one().outcome else { panic!("there are bytes") };
        assert!(lease.len <= Faults::none().short_receive_bytes);
        total += lease.len;
        rig.sim.release(lease);
    }
}

#[test]
fn receives_without_buffers() {
    let (mut rig, peer, fd) = connected(Fault::NoBuffers);
    rig.sim.write(peer, b"x");
    rig.recv(0, fd);
    let completion = rig.one();
    assert_eq!((errno(&completion), completion.more), (libc::ENOBUFS, false));
    assert_eq!(rig.sim.starved(), 0, "there were buffers");
}

#[test]
fn receives_that_end_for_no_reason() {
    let (mut rig, peer, fd) = connected(Fault::ArmEnds);
    rig.sim.write(peer, b"x");
    rig.recv(0, fd);
    let completion = rig.one();
    assert!(matches!(completion.outcome, Outcome::Received(_)) && !completion.more);
    rig.sim.write(peer, b"y");
    rig.turn(Wait::Forever);
    assert!(rig.sim.is_idle(), "nobody listens");
}

#[test]
fn receives_that_forget_a_reset() {
    let (mut rig, peer, fd) = connected(Fault::EndForgotten);
    rig.recv(0, fd);
    rig.sim.write(peer, b"x");
    rig.sim.reset(peer);
    let completion = rig.one();
    assert!(matches!(completion.outcome, Outcome::Received(_)) && completion.more);
    rig.turn(Wait::Forever);
    assert!(rig.sim.is_idle(), "it listens, and there is nothing to hear");
    rig.push(Kind::Peek, 0, Op::Peek { fd });
    assert_eq!(errno(&rig.one()), libc::ECONNRESET, "but to see");
    rig.push(Kind::Peek, 0, Op::Peek { fd });
    assert!(matches!(rig.one().outcome, Outcome::EndOfStream), "once");
}

#[test]
fn receives_cancelled_by_nobody() {
    let (mut rig, _, fd) = connected(Fault::ReceiveCancelled);
    rig.recv(0, fd);
    let completion = rig.one();
    assert_eq!((errno(&completion), completion.more), (libc::ECANCELED, false));
    rig.sim.set_faults(certain(Fault::ReceiveCancelled).with(Fault::CancelledWithMore, 1000));
    rig.recv(0, fd);
    let completion = rig.one();
    assert_eq!((errno(&completion), completion.more), (libc::ECANCELED, true));
    assert_eq!(rig.sim.outstanding(), 0, "it is gone all the same");
    rig.sim.set_faults(Faults::none());
    rig.recv(0, fd);
    rig.turn(Wait::Forever);
    assert!(rig.sim.is_idle());
}

#[test]
fn lost_connections() {
    let (mut rig, peer, fd) = connected(Fault::ConnectionReset);
    rig.recv(0, fd);
    assert_eq!(errno(&rig.one()), libc::ECONNRESET);
    assert!(rig.sim.saw_reset(peer) && rig.sim.is_broken(peer));
}

#[test]
fn resets_that_discard() {
    let (mut rig, peer, fd) = connected(Fault::ResetDiscards);
    rig.sim.write(peer, b"never received");
    rig.sim.reset(peer);
    rig.recv(0, fd);
    assert_eq!(errno(&rig.one()), libc::ECONNRESET);
}

#[test]
fn full_queues() {
    let (mut rig, _, fd) = connected(Fault::QueueFull);
    let pushed = rig.sim.push(tag(Kind::Recv, 0), Op::Recv { fd }, &rig.stage);
    assert!(matches!(pushed, Err(Full(Op::Recv { .. }))));
    assert_eq!(rig.sim.outstanding(), 0);
}

#[test]
fn operations_left_in_the_queue() {
    let (mut rig, peer, fd) = connected(Fault::LeftInQueue);
    rig.recv(0, fd);
    rig.send_now(0, fd, b"x");
    for wait in [Wait::Forever, Wait::For(Duration::from_secs(1)), Wait::No] {
        assert!(rig.turn(wait).is_empty() && !rig.sim.is_idle());
    }
    assert_eq!((rig.sim.arrived(peer), rig.sim.time_ms()), (0, Some(0)));
    rig.sim.set_faults(Faults::none());
    assert_eq!(sent(&rig.turn(Wait::No)[0]), 1);
}

#[test]
fn late_completions() {
    let (mut rig, peer, fd) = connected(Fault::Late);
    rig.sim.write(peer, b"x");
    rig.recv(0, fd);
    assert!(rig.turn(Wait::No).is_empty());
    assert!(!rig.sim.is_quiet());
    let waited = (0..10).find(|_| !rig.turn(Wait::No).is_empty()).unwrap();
    assert!(waited < Faults::none().late_turns_max);
    rig.sim.write(peer, b"y");
    assert_eq!(rig.turn(Wait::Forever).len(), 1, "waiting lets the turns pass");
    assert!(rig.sim.time_ms().unwrap() > 0);
}

#[test]
fn completions_of_one_operation_stay_in_order() {
    let mut faults = Faults::none().with(Fault::Late, 500).with(Fault::Overtaking, 1000);
    faults.receive_buffer_bytes = 1;
    let mut rig = Rig::new(faults);
    let rows = 0..4;
    let ends: Vec<_> = rows.clone().map(|row| rig.accept(row)).collect();
    for (row, (peer, fd)) in rows.zip(&ends) {
        rig.recv(row, *fd);
        rig.sim.write(*peer, b"abcdefghijklmnop");
    }
    let mut texts = [const { String::new() }; 4];
    let mut rows = Vec::new();
    while rows.len() < 64 {
        let completion = rig.one();
        let Outcome::Received(lease) = completion.outcome else { panic!("there are bytes") };
        let row = completion.tag.row as usize;
        texts[row].push(char::from(rig.sim.received(&lease)[0]));
        rig.sim.release(lease);
        rows.push(row);
    }
    assert_eq!(texts, ["abcdefghijklmnop"; 4]);
    assert!(!rows.is_sorted(), "different operations overtake each other");
}

#[test]
fn held_batches() {
    let (mut rig, peer, fd) = connected(Fault::HeldBatch);
    rig.sim.write(peer, b"x");
    rig.recv(0, fd);
    rig.send_now(0, fd, b"y");
    assert_eq!(rig.turn(Wait::No).len(), 1, "staged sends are not held");
    assert!(rig.turn(Wait::No).is_empty());
    assert_eq!(rig.turn(Wait::Forever).len(), 1);
}

#[test]
fn early_returns() {
    let (mut rig, _, fd) = connected(Fault::EarlyReturn);
    rig.recv(0, fd);
    assert!(rig.turn(Wait::Forever).is_empty() && !rig.sim.is_idle());
    rig.send_now(0, fd, b"y");
    assert_eq!(rig.turn(Wait::Forever).len(), 1, "staged sends are reported even so");
}

#[test]
fn cancels_of_everything() {
    let mut faults = Faults::none();
    faults.send_buffer_bytes = 1;
    let mut rig = Rig::new(faults);
    let (_, fd) = rig.accept(0);
    rig.recv(0, fd);
    rig.send(0, fd, b"stuck");
    rig.push(Kind::Accept, 0, Op::Accept { listener: LISTENER, is_unix: false });
    rig.enter(Wait::No);
    rig.cancel(Kind::CancelRecv, 0, Kind::Recv);
    rig.cancel(Kind::CancelSend, 0, Kind::Send);
    rig.cancel(Kind::CancelAccept, 0, Kind::Accept);
    let completions = rig.turn(Wait::Forever);
    let errnos: Vec<_> = completions.iter().map(|c| (c.tag.kind, errno(c))).collect();
    let gone = libc::ECANCELED;
    assert_eq!(errnos[..2], [(Kind::Recv, gone), (Kind::CancelRecv, 0)]);
    assert_eq!(errnos[2..4], [(Kind::Send, 0), (Kind::CancelSend, 0)]);
    assert_eq!(errnos[4..], [(Kind::Accept, gone), (Kind::CancelAccept, 0)]);
    let part = &completions[2].outcome;
    assert!(
        matches!(part, Outcome::Sent { bytes: 1, parcel: Some(_), .. }),
        "what has left is told: {part:?}"
    );
    rig.close(0, fd);
    rig.one();
    rig.sim.assert_at_rest(&[]);
    rig.accept(1);
    assert_eq!(rig.sim.outstanding(), 0, "a cancelled accept takes no client");
}

#[test]
fn cancels_that_come_first() {
    let (mut rig, _, fd) = connected(Fault::CancelFirst);
    rig.recv(0, fd);
    rig.enter(Wait::No);
    rig.cancel(Kind::CancelRecv, 0, Kind::Recv);
    assert_eq!(rig.one().tag.kind, Kind::CancelRecv);
    assert_eq!(errno(&rig.one()), libc::ECANCELED);
}

#[test]
fn cancels_that_miss() {
    let mut errnos = Vec::new();
    for seed in 0..20 {
        let mut rig = Rig::seeded(seed, certain(Fault::CancelMisses));
        let (peer, fd) = rig.accept(0);
        rig.recv(0, fd);
        rig.enter(Wait::No);
        rig.cancel(Kind::CancelRecv, 0, Kind::Recv);
        errnos.push(errno(&rig.one()));
        if errnos.len() % 2 == 0 {
            rig.sim.write(peer, b"just in time");
            let completion = rig.one();
            assert!(matches!(completion.outcome, Outcome::Received(_)) && !completion.more);
        } else {
            assert_eq!(errno(&rig.one()), libc::ECANCELED, "it ends in the end");
        }
        assert_eq!(rig.sim.outstanding(), 0);
    }
    assert!(errnos.contains(&libc::ENOENT) && errnos.contains(&libc::EALREADY), "{errnos:?}");
}

#[test]
fn a_missed_cancel_does_not_hit_the_next_send() {
    for seed in 0..20 {
        let mut faults = certain(Fault::CancelMisses);
        faults.send_buffer_bytes = 4;
        let mut rig = Rig::seeded(seed, faults);
        let (peer, fd) = rig.accept(0);
        rig.send(0, fd, b"eight ch");
        rig.cancel(Kind::CancelSend, 0, Kind::Send);
        assert!([libc::ENOENT, libc::EALREADY].contains(&errno(&rig.turn(Wait::No)[0])));
        rig.sim.read(peer);
        assert_eq!(sent(&rig.turn(Wait::No)[0]), 8, "it ends in its own way");
        rig.send(0, fd, b"again");
        assert!(rig.turn(Wait::Forever).is_empty() && rig.sim.is_idle());
        rig.sim.read(peer);
        rig.turn(Wait::Forever);
        rig.sim.read(peer);
        assert_eq!(sent(&rig.one()), 5);
    }
}

#[test]
fn failed_accepts() {
    let mut rig = Rig::new(certain(Fault::AcceptFails));
    let peer = rig.sim.connect(LISTENER);
    let mut seen = Vec::new();
    for row in 0..60 {
        rig.push(Kind::Accept, row, Op::Accept { listener: LISTENER, is_unix: false });
        seen.push(errno(&rig.one()));
    }
    for errno in super::super::accept::ERRNOS {
        assert!(seen.contains(&errno), "{errno}");
    }
    assert!(!rig.sim.is_accepted(peer));
    rig.sim.reset(peer);
    rig.push(Kind::Accept, 0, Op::Accept { listener: LISTENER, is_unix: false });
    assert_eq!(errno(&rig.one()), libc::ECONNABORTED);
    assert!(!rig.sim.is_open(peer) && !rig.sim.is_accepted(peer));
    rig.push(Kind::Accept, 0, Op::Accept { listener: LISTENER, is_unix: false });
    rig.turn(Wait::Forever);
    assert!(rig.sim.is_idle(), "the client is gone");
}

#[test]
fn missing_addresses() {
    let mut rig = Rig::new(certain(Fault::NoAddress));
    rig.sim.connect(LISTENER);
    rig.push(Kind::Accept, 0, Op::Accept { listener: LISTENER, is_unix: false });
    assert!(matches!(rig.one().outcome, Outcome::Accepted { peer: None, .. }));
}

#[test]
fn failed_shutdowns() {
    let (mut rig, peer, fd) = connected(Fault::ShutdownFails);
    rig.push(Kind::Shutdown, 0, Op::ShutdownWrite { fd });
    assert_eq!(errno(&rig.one()), libc::ENOTCONN);
    assert!(!rig.sim.saw_eof(peer) && rig.sim.is_broken(peer));
}

#[test]
fn failed_closes() {
    let (mut rig, peer, fd) = connected(Fault::CloseFails);
    rig.close(0, fd);
    assert_eq!(errno(&rig.one()), libc::EIO);
    assert!(!rig.sim.is_open(peer));
    rig.sim.assert_at_rest(&[]);
}

#[test]
fn late_closes() {
    let (mut rig, peer, fd) = connected(Fault::LateClose);
    rig.close(0, fd);
    rig.turn(Wait::No);
    assert!(rig.sim.is_open(peer) && !rig.sim.is_quiet());
    rig.one();
    assert!(!rig.sim.is_open(peer));
}

#[test]
fn turns_take_time_if_they_should() {
    let mut faults = Faults::none();
    faults.turn_us_max = 3000;
    let mut rig = Rig::new(faults);
    for _ in 0..100 {
        rig.turn(Wait::No);
    }
    assert!((50..300).contains(&rig.sim.time_ms().unwrap()));
}
