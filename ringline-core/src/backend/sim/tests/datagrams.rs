//! Datagram sockets: what the kernel does by itself, and the rules that it asserts.

use super::{Fault, Faults, Rig, errno, tag};
use crate::backend::{Backend, Wait};
use crate::buf::{Outgoing, Pool};
use crate::net::{BindError, BoundUdp, Datagram, UdpOptions};
use crate::op::{Kind, Op, Outcome};
use std::net::SocketAddr;

fn local() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

fn bind(rig: &Rig, options: &UdpOptions) -> Box<dyn BoundUdp> {
    rig.sim.udp_maker().bind(local(), options).unwrap()
}

fn receiving(rig: &mut Rig) -> Box<dyn BoundUdp> {
    let socket = bind(rig, &UdpOptions::default());
    rig.sim.prepare_datagrams().unwrap();
    rig.push(Kind::UdpRecv, 1, Op::RecvDatagrams { fd: socket.fd() });
    rig.enter(Wait::No);
    socket
}

fn outgoing(to: SocketAddr, bytes: &[u8]) -> Box<Outgoing> {
    let mut datagram = Box::<Outgoing>::default();
    datagram.to = Some(to);
    datagram.fill(bytes, &mut Pool::default());
    datagram
}

#[test]
fn what_arrives_is_written_as_a_kernel_writes_it() {
    let mut rig = Rig::calm();
    let socket = receiving(&mut rig);
    let peer = rig.sim.udp_peer();
    rig.sim.udp_send(peer, socket.local_addr(), b"hello");
    let Outcome::Datagram(lease) = rig.one().outcome else { panic!("a datagram comes") };
    let datagram = Datagram::parse(rig.sim.datagram(&lease)).unwrap();
    assert_eq!((datagram.data(), datagram.from()), (b"hello".as_slice(), peer));
    rig.sim.release_datagram(lease);
    rig.push(Kind::CancelUdpRecv, 1, Op::Cancel { target: tag(Kind::UdpRecv, 1) });
    let ends: Vec<_> = (0..2).map(|_| errno(&rig.one())).collect();
    assert!(ends.contains(&libc::ECANCELED) && ends.contains(&0), "{ends:?}");
    drop(socket);
    rig.sim.assert_at_rest(&[]);
}

#[test]
fn what_finds_the_socket_full_is_dropped_and_counted() {
    let mut rig = Rig::calm();
    let socket = bind(&rig, &UdpOptions::default());
    let peer = rig.sim.udp_peer();
    for _ in 0..100 {
        rig.sim.udp_send(peer, socket.local_addr(), b"x");
    }
    assert_eq!(socket.drops(), 36);
}

#[test]
fn a_connected_socket_is_told_that_nobody_is_there() {
    let mut rig = Rig::calm();
    let nobody = ([10, 9, 9, 9], 9).into();
    let socket = bind(&rig, &UdpOptions::default().connect(nobody));
    rig.sim.prepare_datagrams().unwrap();
    rig.push(Kind::UdpRecv, 1, Op::RecvDatagrams { fd: socket.fd() });
    rig.push(Kind::UdpSend, 2, Op::SendDatagram { fd: socket.fd(), datagram: outgoing(nobody, b"x") });
    let ends = [rig.one(), rig.one()];
    assert!(ends.iter().any(|end| matches!(end.outcome, Outcome::DatagramSent { errno: 0, .. })));
    assert!(ends.iter().any(|end| errno(end) == libc::ECONNREFUSED));
    drop(socket);
    rig.sim.assert_at_rest(&[]);
}

#[test]
fn an_address_is_taken_once() {
    let rig = Rig::calm();
    let socket = bind(&rig, &UdpOptions::default());
    let again = |options| rig.sim.udp_maker().bind(socket.local_addr(), &options);
    assert!(matches!(again(UdpOptions::default()), Err(BindError::AddressInUse { .. })));
    assert!(again(UdpOptions::default().reuse_port(true)).is_ok());
}

#[test]
#[should_panic(expected = "no close before everything else has completed")]
fn a_close_beside_a_receive_of_datagrams() {
    let mut rig = Rig::calm();
    drop(receiving(&mut rig));
    rig.enter(Wait::No);
}

#[test]
#[should_panic(expected = "no close before everything else has completed")]
fn a_close_beside_a_datagram_on_its_way() {
    let mut faults = Faults::none().with(Fault::Late, 1000);
    faults.late_turns_max = 1000;
    let mut rig = Rig::new(faults);
    let socket = bind(&rig, &UdpOptions::default());
    let to = rig.sim.udp_peer();
    rig.push(Kind::UdpSend, 1, Op::SendDatagram { fd: socket.fd(), datagram: outgoing(to, b"x") });
    rig.enter(Wait::No);
    drop(socket);
    rig.enter(Wait::No);
}

#[test]
#[should_panic(expected = "a receive of datagrams names a socket that is open")]
fn a_receive_behind_the_close() {
    let mut rig = Rig::calm();
    let socket = bind(&rig, &UdpOptions::default());
    let fd = socket.fd();
    drop(socket);
    rig.push(Kind::UdpRecv, 1, Op::RecvDatagrams { fd });
    rig.enter(Wait::No);
}

#[test]
#[should_panic(expected = "buffers for datagrams are ready before the first receive")]
fn a_receive_without_buffers() {
    let mut rig = Rig::calm();
    let socket = bind(&rig, &UdpOptions::default());
    rig.push(Kind::UdpRecv, 1, Op::RecvDatagrams { fd: socket.fd() });
    let peer = rig.sim.udp_peer();
    rig.sim.udp_send(peer, socket.local_addr(), b"x");
    rig.enter(Wait::No);
}

#[test]
#[should_panic(expected = "at rest no datagram is on loan")]
fn a_datagram_that_is_kept() {
    let mut rig = Rig::calm();
    let socket = receiving(&mut rig);
    let peer = rig.sim.udp_peer();
    rig.sim.udp_send(peer, socket.local_addr(), b"x");
    assert!(matches!(rig.one().outcome, Outcome::Datagram(_)));
    rig.push(Kind::CancelUdpRecv, 1, Op::Cancel { target: tag(Kind::UdpRecv, 1) });
    rig.one();
    rig.one();
    drop(socket);
    rig.sim.assert_at_rest(&[]);
}
