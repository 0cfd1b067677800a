//! Connections that are not made, each for a reason of its own, and that nothing is left of them.

use crate::book::Outcome;
use crate::faults::{Deed, Faults};
use crate::foreign;
use crate::link::{ELSEWHERE, Link, NOBODY};
use crate::order::Order;
use crate::station::Site;
use crate::{SOON, config};
use ringline_core::{CloseReason, ConfigBuilder, Limit};
use socket2::SockRef;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

/// Clients of each kind.
const CLIENTS: usize = 20;
/// How many clients a kernel tells at once that there is no route.
const TOLD_AT_ONCE: usize = 3;
const CONNECT_TIMEOUT: Duration = Duration::from_millis(300);
/// Machines are busy.
const LATEST: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(2);

fn orders(clients: usize) -> Vec<Order> {
    (1..=clients as u64).map(|salt| Order::echo(salt, 1000)).collect()
}

/// A program without a listener connects to an address and is told that it does not work. Its state
/// comes back for each connection, and no descriptor is left.
fn fail(
    link: &Link,
    clients: usize,
    target: SocketAddr,
    config: ConfigBuilder,
    wanted: impl Fn(&Outcome) -> bool,
) {
    let before = descriptors();
    let client = Site::dial_with(&link.left, config, target, orders(clients), false);
    // The audit notices if one comes back twice or not at all.
    for outcome in client.finish(clients) {
        assert!(wanted(&outcome), "{target}: {outcome:?}");
    }
    assert_eq!(descriptors(), before, "descriptors after connecting to {target}");
}

fn failed_with(errno: i32) -> impl Fn(&Outcome) -> bool {
    move |outcome| !outcome.has_opened && outcome.reason == CloseReason::ConnectFailed { errno }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux has /proc").count()
}

/// A port of the right side that nobody listens on any more.
fn closed_port(link: &Link) -> SocketAddr {
    let bound = link.right.enter(|| TcpListener::bind((link.right.address(), 0))).expect("a free port");
    bound.local_addr().expect("it is bound")
}

#[test]
fn every_way_not_to_connect_has_its_own_reason_and_leaves_nothing() {
    let link = Link::alone(Faults::NONE);
    let closed = closed_port(&link);
    let port = closed.port();
    let to = |address: Ipv4Addr| SocketAddr::from((address, port));
    fail(&link, CLIENTS, closed, config(), failed_with(libc::ECONNREFUSED));
    fail(&link, CLIENTS, to(ELSEWHERE), config(), failed_with(libc::ENETUNREACH));
    // The other side says that it knows no way to the address.
    link.right.set("ipv4/ip_forward", 1);
    link.right.set("ipv4/icmp_ratemask", 0);
    link.right.reject(NOBODY);
    fail(&link, TOLD_AT_ONCE, to(NOBODY), config(), |outcome| {
        // The kernel wakes who waits a moment before it notes the error, and takes that for success.
        let too_early = CloseReason::Failed { errno: libc::EHOSTUNREACH };
        failed_with(libc::EHOSTUNREACH)(outcome) || outcome.has_opened && outcome.reason == too_early
    });
    // This side knows it itself.
    link.left.reject(NOBODY);
    fail(&link, CLIENTS, to(NOBODY), config(), failed_with(libc::EHOSTUNREACH));
    link.set_cut(true);
    let in_time = config().connect_timeout(CONNECT_TIMEOUT);
    fail(&link, CLIENTS, closed, in_time, |outcome| {
        outcome.reason == CloseReason::LimitExceeded(Limit::ConnectTimeout)
            && !outcome.has_opened
            && outcome.lasted >= CONNECT_TIMEOUT
            && outcome.lasted < LATEST
    });
    link.tally.assert_done(&[Deed::Cut]);
    link.set_cut(false);
    link.left.set_up(false);
    fail(&link, CLIENTS, closed, config(), failed_with(libc::ENETUNREACH));
    link.left.set_up(true);
    // It was not the link's fault: connecting works again.
    let server = Site::serve(&link.right, config(), true);
    let client = Site::dial(&link.left, server.addr(), orders(CLIENTS));
    crate::echo::assert_complete(&client.finish(CLIENTS));
    crate::echo::assert_complete(&server.finish(CLIENTS));
}

#[test]
fn the_kernel_may_give_up_before_we_do() {
    let link = Link::new(Faults::NONE);
    link.left.set("ipv4/tcp_syn_retries", 1);
    let target = closed_port(&link);
    link.set_cut(true);
    let client = Site::dial(&link.left, target, orders(CLIENTS));
    for outcome in client.finish(CLIENTS) {
        assert!(failed_with(libc::ETIMEDOUT)(&outcome), "{outcome:?}");
    }
}

#[test]
fn a_refusal_gets_through_a_bad_link() {
    let link = Link::new(Faults::ALL);
    let client = Site::dial(&link.left, closed_port(&link), orders(CLIENTS));
    for outcome in client.finish(CLIENTS) {
        assert!(failed_with(libc::ECONNREFUSED)(&outcome), "{outcome:?}");
    }
}

/// Whether a connection was reset as soon as it was made, or before that was noticed.
fn was_reset(outcome: &Outcome) -> bool {
    match outcome.reason {
        CloseReason::PeerReset => outcome.has_opened,
        CloseReason::ConnectFailed { errno: libc::ECONNRESET } => !outcome.has_opened,
        _ => false,
    }
}

#[test]
fn a_peer_may_reset_at_once() {
    let link = Link::alone(Faults::NONE);
    let listener = link.right.enter(|| TcpListener::bind((link.right.address(), 0))).expect("a free port");
    let target = listener.local_addr().expect("it is bound");
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..CLIENTS {
                let (stream, _) = listener.accept().expect("a client connects");
                SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a socket option");
            }
        });
        let client = Site::dial(&link.left, target, orders(CLIENTS));
        for outcome in client.finish(CLIENTS) {
            assert!(was_reset(&outcome), "{outcome:?}");
        }
    });
}

/// A server that ends before it has accepted anybody.
#[test]
fn a_peer_may_end_with_its_backlog() {
    let link = Link::new(Faults::NONE);
    let listener = link.right.enter(|| TcpListener::bind((link.right.address(), 0))).expect("a free port");
    let client = Site::dial(&link.left, listener.local_addr().expect("it is bound"), orders(CLIENTS));
    client.book.wait_opened(CLIENTS);
    thread::sleep(PAUSE);
    drop(listener);
    for outcome in client.finish(CLIENTS) {
        assert!(was_reset(&outcome), "{outcome:?}");
    }
}

#[test]
fn nobody_answers_for_a_server_that_has_stopped() {
    let link = Link::new(Faults::NONE);
    let server = Site::serve(&link.right, config(), true);
    let addr = server.addr();
    let order = Order::echo(1, 100_000);
    let stream = foreign::connect(&link.left, addr);
    assert_eq!(foreign::give(&stream, &order).expect("an answer"), order.down_bytes);
    drop(stream);
    server.finish(1);
    let refused = link.left.enter(|| std::net::TcpStream::connect_timeout(&addr, SOON));
    assert_eq!(refused.expect_err("nobody listens").kind(), std::io::ErrorKind::ConnectionRefused);
}
