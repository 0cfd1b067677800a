//! Deadlines of connections whose link is cut: each ends them in time, with its own reason.

use crate::config;
use crate::faults::Faults;
use crate::foreign;
use crate::link::Link;
use crate::order::{HEAD_BYTES, Manner, Order};
use crate::station::Site;
use ringline_core::{CloseReason, ConfigBuilder, Deadlines, Limit};
use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_millis(300);
/// How long a peer has before its link is cut.
const BEFORE: Duration = Duration::from_millis(50);
/// A deadline is noticed within twice its time, and machines are busy.
const LATEST: Duration = Duration::from_secs(5);
/// More than sockets and an outbox hold.
const ENDLESS_BYTES: u64 = 64 << 20;

/// Has a foreign client do something, cuts the link, and wants the server to end the connection because
/// of a limit, in time.
fn cut_off(config: ConfigBuilder, act: impl Fn(&mut TcpStream), limit: Limit) {
    let link = Link::new(Faults::NONE);
    let server = Site::serve(&link.right, config, true);
    let began = Instant::now();
    let mut stream = foreign::connect(&link.left, server.addr());
    act(&mut stream);
    let mut reader = stream.try_clone().expect("a descriptor");
    // Whoever is sent to reads, for as long as something comes.
    let reading = thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    server.book.wait_opened(1);
    thread::sleep(BEFORE);
    link.set_cut(true);
    let cut = Instant::now();
    let reason = server.book.wait_ended(1)[0].reason;
    assert_eq!(reason, CloseReason::LimitExceeded(limit));
    let (after, after_cut) = (began.elapsed(), cut.elapsed());
    assert!(after >= DEADLINE && after_cut < LATEST, "{limit:?} after {after:?} and {after_cut:?}");
    link.set_cut(false);
    // The server still serves, and the peer is told.
    let order = Order::echo(7, 5000);
    let other = foreign::connect(&link.left, server.addr());
    assert_eq!(foreign::give(&other, &order).expect("the server answers"), order.down_bytes);
    // It resends what it has, or says something new, and hears that there is nobody.
    let _ = stream.write_all(b"?");
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let told = reading.join().expect("it reads").map_err(|error| error.kind());
    assert!(
        matches!(told, Ok(_) | Err(std::io::ErrorKind::ConnectionReset)),
        "an end or a reset, not silence: {told:?}"
    );
    server.finish(2);
}

fn give(stream: &mut TcpStream, order: &Order) {
    stream.write_all(&order.head()).expect("the server reads");
}

#[test]
fn who_has_never_said_anything() {
    let config = config().deadlines(Deadlines::none().first_byte(DEADLINE));
    cut_off(config, |_| {}, Limit::FirstByte);
}

#[test]
fn who_was_in_the_middle_of_a_message() {
    let config = config().deadlines(Deadlines::none().read(DEADLINE));
    let half = |stream: &mut TcpStream| {
        stream.write_all(&Order::echo(1, 9).head()[..HEAD_BYTES / 2]).expect("the server reads");
    };
    cut_off(config, half, Limit::Read);
}

#[test]
fn who_had_nothing_to_say() {
    let config = config().deadlines(Deadlines::none().idle(DEADLINE));
    cut_off(config, |stream| give(stream, &Order::echo(1, 9)), Limit::Idle);
}

#[test]
fn who_was_sent_much() {
    let config = config().deadlines(Deadlines::none().write_stall(DEADLINE));
    cut_off(config, |stream| give(stream, &Order::stream(1, 0, ENDLESS_BYTES)), Limit::WriteStall);
}

/// They have a link on which the queue is not out before it is cut.
#[test]
fn who_was_being_closed() {
    for (config, limit) in [
        (config().close_timeout(DEADLINE), Limit::CloseTimeout),
        (config().deadlines(Deadlines::none().drain(DEADLINE)), Limit::Drain),
    ] {
        let link = Link::new(Faults { bytes_per_second: 1_000_000, queue_bytes: 60_000, ..Faults::NONE });
        let server = Site::serve(&link.right, config.outbox_bytes(32 << 20), true);
        // Much more than the socket holds.
        let order = Order { salt: 1, manner: Manner::Leave, up_bytes: 0, down_bytes: 24 << 20 };
        let began = Instant::now();
        let client = Site::dial(&link.left, server.addr(), vec![order]);
        client.book.wait_received(1);
        link.set_cut(limit == Limit::CloseTimeout);
        let cut = Instant::now();
        let outcome = server.book.wait_ended(1)[0].clone();
        assert_eq!(outcome.reason, CloseReason::LimitExceeded(limit));
        let (after, after_cut) = (began.elapsed(), cut.elapsed());
        assert!(after >= DEADLINE && after_cut < LATEST, "{limit:?} after {after:?} and {after_cut:?}");
        server.stop(DEADLINE);
        client.stop(DEADLINE);
    }
}
