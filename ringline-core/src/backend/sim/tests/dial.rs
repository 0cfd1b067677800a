//! Sockets that the core connects: the contract, and each fault by itself.

use super::{Fault, Faults, Kind, Rig, errno, tag};
use crate::backend::sim::{REFUSED_PORT, SILENT_PORT};
use crate::backend::{Backend, Wait};
use crate::net::{Addr, Dial};
use crate::op::{Fd, Op, Outcome};
use std::net::SocketAddr;
use std::time::Duration;

fn dial_of(port: u16) -> Dial {
    Addr::from(SocketAddr::from(([192, 0, 2, 1], port))).into()
}

impl Rig {
    fn dial(&mut self, row: u32, port: u16) -> Fd {
        let dial = dial_of(port);
        let fd = self.sim.socket(&dial).unwrap();
        self.push(Kind::Connect, row, Op::Connect { fd, dial: Box::new(dial) });
        fd
    }
}

#[test]
fn a_connection_that_was_made_carries_bytes_and_ends() {
    let mut rig = Rig::calm();
    let fd = rig.dial(0, 7000);
    assert!(matches!(rig.one().outcome, Outcome::Done));
    let peer = rig.sim.dialed().unwrap();
    assert_eq!(rig.sim.dialed(), None, "each peer once");
    rig.send_now(0, fd, b"hello");
    rig.one();
    assert_eq!(rig.sim.read(peer), b"hello");
    rig.close(0, fd);
    rig.one();
    assert!(rig.sim.saw_eof(peer));
    rig.sim.assert_at_rest(&[]);
}

#[test]
fn every_way_to_fail_leaves_nothing() {
    let ways = [
        (Faults::none(), REFUSED_PORT, libc::ECONNREFUSED),
        (Faults::none(), SILENT_PORT, libc::ETIMEDOUT),
        (Faults::none().with(Fault::ConnectRefused, 1000), 7000, libc::ECONNREFUSED),
        (Faults::none().with(Fault::ConnectUnreachable, 1000), 7000, libc::EHOSTUNREACH),
        (Faults::none().with(Fault::ConnectUnanswered, 1000), 7000, libc::ETIMEDOUT),
    ];
    for (faults, port, expected) in ways {
        let mut rig = Rig::new(faults);
        let fd = rig.dial(0, port);
        assert_eq!(errno(&rig.one()), expected);
        assert_eq!(rig.sim.dialed(), None);
        rig.close(0, fd);
        rig.one();
        rig.sim.assert_at_rest(&[]);
    }
}

#[test]
fn a_socket_that_cannot_be_made_is_none() {
    let mut rig = Rig::new(Faults::none().with(Fault::NoSocket, 1000));
    assert_eq!(rig.sim.socket(&dial_of(7000)), Err(libc::EMFILE));
    let mut faults = Faults::none();
    faults.descriptors = 1;
    let mut rig = Rig::new(faults);
    rig.dial(0, 7000);
    assert_eq!(rig.sim.socket(&dial_of(7000)), Err(libc::EMFILE));
}

#[test]
fn a_connect_that_is_not_answered_can_be_cancelled() {
    let mut rig = Rig::calm();
    let fd = rig.dial(0, SILENT_PORT);
    assert!(rig.turn(Wait::For(Duration::from_secs(60))).is_empty());
    rig.cancel(Kind::CancelConnect, 0, Kind::Connect);
    let ends = [rig.one(), rig.one()];
    assert!(ends.iter().any(|end| end.tag == tag(Kind::Connect, 0).decode().unwrap()
        && matches!(end.outcome, Outcome::Failed { errno: libc::ECANCELED })));
    rig.close(0, fd);
    rig.one();
    assert!(rig.turn(Wait::For(Duration::from_secs(200))).is_empty(), "no answer comes later");
    rig.sim.assert_at_rest(&[]);
}

#[test]
#[should_panic(expected = "nothing but a close on a socket that is not connected")]
fn a_receive_before_the_answer_was_taken() {
    let mut rig = Rig::calm();
    let fd = rig.dial(0, 7000);
    rig.enter(Wait::Forever);
    rig.recv(0, fd);
}

#[test]
#[should_panic(expected = "nothing but a close on a socket that is not connected")]
fn a_send_after_a_connect_that_failed() {
    let mut rig = Rig::calm();
    let fd = rig.dial(0, REFUSED_PORT);
    rig.one();
    rig.send(0, fd, b"x");
}

#[test]
#[should_panic(expected = "a socket of ours is connected once")]
fn a_second_connect() {
    let mut rig = Rig::calm();
    let fd = rig.dial(0, REFUSED_PORT);
    rig.one();
    let dial = Box::new(dial_of(7000));
    rig.push(Kind::Connect, 0, Op::Connect { fd, dial });
}

#[test]
#[should_panic(expected = "a socket of ours is connected once")]
fn a_connect_of_an_accepted_socket() {
    let mut rig = Rig::calm();
    let (_, fd) = rig.accept(0);
    rig.push(Kind::Connect, 0, Op::Connect { fd, dial: Box::new(dial_of(7000)) });
}

#[test]
#[should_panic(expected = "no close before everything else has completed")]
fn a_close_beside_a_connect() {
    let mut rig = Rig::calm();
    let fd = rig.dial(0, 7000);
    rig.close(0, fd);
}
