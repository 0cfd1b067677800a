//! Each rule for the core, broken once.

use super::{Faults, LISTENER, Rig, errno, parcel, tag};
use crate::backend::{Backend, Full, Wait};
use crate::buf::{Lease, Span};
use crate::op::{Fd, Kind, Op, Outcome, UserData};

#[test]
#[should_panic(expected = "an operation carries a tag, not 0xff")]
fn user_data_that_is_no_tag() {
    let mut rig = Rig::calm();
    let bits = UserData::from_bits(0xFF << 56);
    let _ = rig.sim.push(bits, Op::Accept { listener: LISTENER, is_unix: false }, &rig.stage);
}

#[test]
#[should_panic(expected = "tags of this kind never leave a backend: Tag { kind: Staged")]
fn a_tag_that_belongs_to_a_backend() {
    Rig::calm().push(Kind::Staged, 0, Op::Accept { listener: LISTENER, is_unix: false });
}

#[test]
#[should_panic(expected = "two operations are never in flight under one tag")]
fn one_tag_twice() {
    let mut rig = Rig::calm();
    rig.push(Kind::Accept, 0, Op::Accept { listener: LISTENER, is_unix: false });
    rig.push(Kind::Accept, 0, Op::Accept { listener: LISTENER, is_unix: false });
}

#[test]
#[should_panic(expected = "two operations are never in flight under one tag")]
fn a_tag_is_in_flight_until_its_last_completion_was_taken() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.sim.end(peer);
    rig.recv(0, fd);
    rig.enter(Wait::Forever);
    assert!(rig.sim.has_completions());
    rig.recv(0, fd);
}

#[test]
#[should_panic(expected = "one live receive for a socket: Tag { kind: Recv, generation: 9, row: 1 }")]
fn two_receives() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.recv(0, fd);
    rig.recv(1, fd);
}

#[test]
#[should_panic(expected = "one send in flight for a socket: Tag { kind: Send, generation: 9, row: 1 }")]
fn two_sends_that_wait() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.send(0, fd, b"one");
    rig.send(1, fd, b"two");
}

#[test]
#[should_panic(expected = "one send in flight for a socket")]
fn a_send_beside_a_staged_one_whose_completion_was_not_taken() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.send_now(0, fd, b"one");
    rig.enter(Wait::No);
    rig.send(1, fd, b"two");
}

#[test]
#[should_panic(expected = "nothing starts under a tag while a cancel of it is under way: Tag { kind: Send")]
fn a_send_beside_the_cancel_of_the_one_before() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.send_now(0, fd, b"one");
    rig.cancel(Kind::CancelSend, 0, Kind::Send);
    rig.enter(Wait::No);
    assert!(rig.sim.next_sent().is_some(), "what was to be cancelled is over");
    rig.send_now(0, fd, b"two");
}

#[test]
#[should_panic(expected = "a send has something to send")]
fn an_empty_span() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.push(Kind::Send, 0, Op::SendNow { fd, span: Span { start: 0, len: 0 } });
}

#[test]
#[should_panic(expected = "a send has something to send")]
fn an_empty_parcel() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.push(Kind::Send, 0, Op::Send { fd, parcel: Box::default(), waits: true });
}

#[test]
#[should_panic(expected = "no operation on a socket that is closed: Fd(5)")]
fn a_descriptor_that_never_was() {
    Rig::calm().recv(0, Fd(5));
}

#[test]
#[should_panic(expected = "no operation on a socket after its close: Fd(0)")]
fn a_descriptor_that_is_closing() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.close(0, fd);
    rig.push(Kind::Shutdown, 0, Op::ShutdownWrite { fd });
}

#[test]
#[should_panic(expected = "no operation on a socket that is closed: Fd(0)")]
fn a_descriptor_that_is_closed() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.close(0, fd);
    rig.one();
    rig.send(0, fd, b"late");
}

#[test]
#[should_panic(expected = "no operation on a socket after its close")]
fn two_closes() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.close(0, fd);
    rig.close(1, fd);
}

#[test]
#[should_panic(expected = "no close before everything else has completed: Tag { kind: Close")]
fn a_close_beside_a_receive() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.recv(0, fd);
    rig.close(0, fd);
}

#[test]
#[should_panic(expected = "no close before everything else has completed")]
fn a_close_before_the_end_of_a_receive_was_taken() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.sim.end(peer);
    rig.recv(0, fd);
    rig.enter(Wait::Forever);
    rig.close(0, fd);
}

#[test]
#[should_panic(expected = "no close before everything else has completed")]
fn a_close_beside_a_send() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.send_now(0, fd, b"last words");
    rig.close(0, fd);
}

#[test]
#[should_panic(expected = "no close before everything else has completed")]
fn a_close_beside_a_shutdown() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.push(Kind::Shutdown, 0, Op::ShutdownWrite { fd });
    rig.close(0, fd);
}

#[test]
#[should_panic(expected = "no close before everything else has completed")]
fn a_close_beside_a_cancel() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.recv(0, fd);
    rig.enter(Wait::No);
    rig.cancel(Kind::CancelRecv, 0, Kind::Recv);
    assert_eq!(errno(&rig.one()), libc::ECANCELED);
    rig.close(0, fd);
}

#[test]
#[should_panic(expected = "a cancel names an operation of a descriptor that is open: Tag { kind: CancelRecv")]
fn a_cancel_of_nothing() {
    let mut rig = Rig::calm();
    rig.accept(0);
    rig.cancel(Kind::CancelRecv, 0, Kind::Recv);
}

#[test]
#[should_panic(expected = "a cancel names an operation of a descriptor that is open")]
fn a_cancel_with_another_generation() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.recv(0, fd);
    let target = UserData::new(Kind::Recv, 8, 0);
    rig.push(Kind::CancelRecv, 0, Op::Cancel { target });
}

#[test]
#[should_panic(expected = "a cancel names an operation of a descriptor that is open")]
fn a_cancel_after_the_close() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.sim.end(peer);
    rig.recv(0, fd);
    rig.one();
    rig.close(0, fd);
    rig.cancel(Kind::CancelRecv, 0, Kind::Recv);
}

#[test]
fn a_cancel_of_something_that_has_just_ended_is_no_fault() {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.sim.end(peer);
    rig.recv(0, fd);
    rig.one();
    rig.cancel(Kind::CancelRecv, 0, Kind::Recv);
    assert_eq!(errno(&rig.one()), libc::ENOENT);
    rig.close(0, fd);
    rig.one();
    rig.sim.assert_at_rest(&[]);
}

#[test]
#[should_panic(expected = "an accept names a listener, not 3")]
fn an_accept_of_no_listener() {
    let mut rig = Rig::calm();
    rig.push(Kind::Accept, 0, Op::Accept { listener: 3, is_unix: false });
    rig.enter(Wait::No);
}

/// A rig with one lease out, of the bytes "hello".
fn with_lease() -> (Rig, Lease) {
    let mut rig = Rig::calm();
    let (peer, fd) = rig.accept(0);
    rig.sim.write(peer, b"hello");
    rig.recv(0, fd);
    match rig.one().outcome {
        Outcome::Received(lease) => (rig, lease),
        outcome => panic!("{outcome:?}"),
    }
}

fn copy(lease: &Lease) -> Lease {
    Lease { buffer: lease.buffer, offset: lease.offset, len: lease.len }
}

#[test]
#[should_panic(expected = "a lease comes back exactly once, as it was lent")]
fn a_lease_released_twice() {
    let (mut rig, lease) = with_lease();
    let forged = copy(&lease);
    rig.sim.release(lease);
    rig.sim.release(forged);
}

#[test]
#[should_panic(expected = "a lease comes back exactly once, as it was lent")]
fn a_lease_that_was_changed() {
    let (mut rig, mut lease) = with_lease();
    lease.len -= 1;
    rig.sim.release(lease);
}

#[test]
#[should_panic(expected = "only bytes on loan are read")]
fn bytes_read_after_their_release() {
    let (mut rig, lease) = with_lease();
    let forged = copy(&lease);
    assert_eq!(rig.sim.received(&lease), b"hello");
    rig.sim.release(lease);
    let _ = rig.sim.received(&forged);
}

#[test]
#[should_panic(expected = "staged bytes are left alone until their send has completed")]
fn staged_bytes_changed_before_the_kernel_had_them() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    let span = rig.send_now(0, fd, b"first");
    rig.stage.retire(span);
    rig.stage.append(b"other").unwrap();
    rig.enter(Wait::No);
}

#[test]
#[should_panic(expected = "staged bytes are left alone until their send has completed")]
fn staged_bytes_changed_before_their_completion_was_taken() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    let span = rig.send_now(0, fd, b"first");
    rig.enter(Wait::No);
    rig.stage.retire(span);
    rig.stage.append(b"other").unwrap();
    rig.enter(Wait::No);
}

#[test]
#[should_panic(expected = "at rest nothing is under way, but there is [Some(Tag { kind: Accept")]
fn at_rest_with_something_under_way() {
    let mut rig = Rig::calm();
    rig.push(Kind::Accept, 0, Op::Accept { listener: LISTENER, is_unix: false });
    rig.sim.assert_at_rest(&[]);
}

#[test]
#[should_panic(expected = "at rest no socket is open, but number 0 is")]
fn at_rest_with_an_open_socket() {
    let mut rig = Rig::calm();
    rig.accept(0);
    rig.sim.assert_at_rest(&[]);
}

#[test]
#[should_panic(expected = "at rest no lease is out, but 1 are")]
fn at_rest_with_a_lease_out() {
    let (mut rig, _lease) = with_lease();
    rig.cancel(Kind::CancelRecv, 0, Kind::Recv);
    rig.one();
    rig.one();
    rig.close(0, Fd(0));
    rig.one();
    rig.sim.assert_at_rest(&[]);
}

#[test]
fn at_rest_with_what_was_expected() {
    let mut rig = Rig::calm();
    rig.push(Kind::Accept, 0, Op::Accept { listener: LISTENER, is_unix: false });
    rig.enter(Wait::No);
    assert_eq!((rig.sim.outstanding(), rig.sim.sockets_open()), (1, 0));
    rig.sim.assert_at_rest(&[tag(Kind::Accept, 0)]);
}

#[test]
#[should_panic(expected = "push Recv { fd: Fd(0) } as Some(Tag { kind: Recv, generation: 9, row: 0 })")]
fn a_broken_rule_comes_with_what_led_to_it() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.recv(0, fd);
    rig.recv(1, fd);
}

#[test]
fn an_operation_that_finds_the_queue_full_was_not_pushed() {
    let mut faults = Faults::none();
    faults.submission_entries = 1;
    let mut rig = Rig::new(faults);
    let (_, fd) = rig.accept(0);
    rig.recv(0, fd);
    let op = Op::Send { fd, parcel: parcel(b"abc"), waits: true };
    let Err(Full(Op::Send { parcel, .. })) = rig.sim.push(tag(Kind::Send, 0), op, &rig.stage) else {
        panic!("there was no room");
    };
    assert_eq!(parcel.len(), 3);
    assert_eq!(rig.sim.outstanding(), 1);
    rig.enter(Wait::No);
    rig.send(0, fd, b"abc");
    assert_eq!(rig.sim.outstanding(), 2);
}
