//! Peers that are gone for good, and peers that come back without a memory.

use crate::book::Outcome;
use crate::faults::Faults;
use crate::foreign;
use crate::link::Link;
use crate::order::{Manner, Order};
use crate::station::Site;
use crate::{SOON, config};
use ringline_core::CloseReason;
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// More than sockets and an outbox hold.
const ENDLESS_BYTES: u64 = 64 << 20;
/// How often a kernel sends again before it gives up.
const RETRIES: u32 = 2;

/// A peer that has got a part of what it asked for.
fn peer(link: &Link, server: &Site) -> TcpStream {
    let mut stream = foreign::connect(&link.left, server.addr());
    stream.write_all(&Order::stream(1, 0, ENDLESS_BYTES).head()).expect("the server reads");
    stream.read_exact(&mut [0; 10_000]).expect("the server sends");
    stream
}

fn only(outcomes: &[Outcome]) -> &Outcome {
    assert_eq!(outcomes.len(), 1, "{outcomes:?}");
    &outcomes[0]
}

/// The reason when the kernel has given a connection up, whatever was with it at that moment.
const GIVEN_UP: CloseReason = CloseReason::Failed { errno: libc::ETIMEDOUT };

#[test]
fn the_kernel_gives_up_a_peer_that_does_not_acknowledge() {
    let link = Link::new(Faults { delay: Duration::from_millis(40), ..Faults::NONE });
    link.right.set("ipv4/tcp_retries2", RETRIES);
    let server = Site::serve(&link.right, config(), true);
    let mut peer = foreign::connect(&link.left, server.addr());
    let order = Order { salt: 1, manner: Manner::Stay, up_bytes: 1, down_bytes: 5000 };
    peer.write_all(&[order.head(), order.up(0, 1)].concat()).expect("the server reads");
    server.book.wait_received(1);
    // The answer is on its way, and the kernel has all of it.
    link.set_cut(true);
    let outcomes = server.finish(1);
    assert_eq!(only(&outcomes).reason, GIVEN_UP);
}

#[test]
fn the_kernel_gives_up_a_peer_in_the_middle_of_a_send() {
    let link = Link::new(Faults::NONE);
    link.right.set("ipv4/tcp_retries2", RETRIES);
    let server = Site::serve(&link.right, config(), true);
    let _peer = peer(&link, &server);
    link.set_cut(true);
    let outcomes = server.finish(1);
    assert_eq!(only(&outcomes).reason, GIVEN_UP, "{outcomes:?}");
}

#[test]
fn the_kernel_gives_up_a_server_that_is_gone() {
    let link = Link::new(Faults::NONE);
    link.left.set("ipv4/tcp_retries2", RETRIES);
    let server = Site::serve(&link.right, config(), true);
    let client = Site::dial(&link.left, server.addr(), vec![Order::stream(1, ENDLESS_BYTES, 0)]);
    server.book.wait_received(10_000);
    link.set_cut(true);
    let outcomes = client.finish(1);
    assert_eq!(only(&outcomes).reason, GIVEN_UP, "{outcomes:?}");
    // To the server it is silence, and nobody told it how long to stand that.
    let outcomes = server.stop(Duration::from_millis(100));
    assert_eq!(only(&outcomes).reason, CloseReason::ShutdownDeadline);
}

#[test]
fn a_peer_that_has_started_anew_resets_the_connection() {
    let link = Link::new(Faults::NONE);
    let server = Site::serve(&link.right, config(), true);
    let peer = peer(&link, &server);
    link.set_cut(true);
    // Its reset gets nowhere.
    SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("a socket option");
    drop(peer);
    link.set_cut(false);
    let outcomes = server.finish(1);
    assert_eq!(only(&outcomes).reason, CloseReason::PeerReset);
    assert!(only(&outcomes).lasted < SOON);
}
