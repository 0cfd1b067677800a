//! Datagrams over a link that fails: what arrives is whole, what the kernel has delivered is presented,
//! what was accepted leaves once, and errors are reported.

use crate::dice::Dice;
use crate::faults::{Deed, Faults};
use crate::link::{Link, MTU_BYTES};
use crate::post::{Office, message};
use crate::{SOON, echo, rounds, seed};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The longest datagram in one packet, and one that takes several.
const PACKET_BYTES: usize = MTU_BYTES as usize - 28;
const LARGE_BYTES: usize = 5000;
/// How many are sent; multiples of eight.
const DATAGRAMS: u64 = 2000;
const FEW: u64 = 400;
/// How long nothing arrives any more before everything has arrived.
const SILENCE: Duration = Duration::from_millis(100);

/// Has a client send so many more, and waits until nothing of it is under way any more.
fn send(client: &Office, server: Option<&Office>, count: u64) {
    let quota = client.log.quota.fetch_add(count, Ordering::Relaxed) + count;
    client.log.wait("everything is sent", |page| page.sent + page.full >= quota);
    let arrivals = || client.log.page().arrivals() + server.map_or(0, |server| server.log.page().arrivals());
    let until = Instant::now() + SOON;
    loop {
        let before = arrivals();
        thread::sleep(SILENCE);
        if arrivals() == before {
            return;
        }
        assert!(Instant::now() < until, "datagrams arrive without end");
    }
}

#[test]
fn every_datagram_is_accounted_for() {
    let link = Link::new(Faults::ALL);
    let server = Office::serve(&link.right, PACKET_BYTES);
    let client = Office::send(&link.left, server.addr(), PACKET_BYTES);
    send(&client, Some(&server), DATAGRAMS * rounds());
    let (client, server) = (client.stop(), server.stop());
    let count = |deed| link.tally.count(deed);
    link.tally.assert_done(&echo::ALL_DEEDS);
    // Everything that was accepted has left, as one packet, once.
    let taken = count(Deed::Carried) + count(Deed::Refused) + count(Deed::Lost) + count(Deed::Overflowed);
    assert_eq!(client.unsent() + server.unsent(), 0, "{:?} {:?}", client.errors, server.errors);
    assert_eq!(taken - count(Deed::Doubled), client.sent + server.sent);
    // Everything that the kernels have handed out was presented, once.
    let in_kernel = |name| link.left.counted("Udp", name) + link.right.counted("Udp", name);
    let presented = client.arrivals() + server.arrivals();
    assert_eq!(presented, in_kernel("InDatagrams"));
    // What is missing was damaged, perhaps before it was doubled, or found a socket full.
    let missing = count(Deed::Carried) - presented;
    assert!(missing <= 2 * count(Deed::Damaged) + in_kernel("RcvbufErrors"), "{missing}: {}", link.tally);
    assert!(in_kernel("InCsumErrors") > 0, "checksums notice damage");
    let extra =
        |arrived: &std::collections::BTreeMap<u64, u64>| arrived.values().map(|times| times - 1).sum::<u64>();
    assert!(extra(&server.arrived) <= count(Deed::Doubled), "nothing else is doubled");
    assert_eq!(server.arrivals(), server.sent + server.full, "every datagram is answered");
}

#[test]
fn datagrams_in_pieces_arrive_whole_or_not_at_all() {
    let link = Link::with_mtu(Faults::ALL, 576);
    let server = Office::serve(&link.right, LARGE_BYTES);
    let client = Office::send(&link.left, server.addr(), LARGE_BYTES);
    send(&client, Some(&server), FEW * rounds());
    let (client, server) = (client.stop(), server.stop());
    link.tally.assert_done(&echo::ALL_DEEDS);
    for page in [&client, &server] {
        let large = page.arrived.keys().filter(|number| message(**number, LARGE_BYTES).len() > 4000).count();
        assert!(large > 10, "only {large} large ones have arrived");
    }
    assert!((client.arrived.len() as u64) < client.sent, "pieces were lost, and all of their datagram");
}

#[test]
fn clients_of_others_are_answered_when_they_ask_often_enough() {
    let link = Link::new(Faults::ALL);
    let server = Office::serve(&link.right, PACKET_BYTES);
    let client = link.left.enter(|| UdpSocket::bind((link.left.address(), 0))).expect("a free port");
    client.connect(server.addr()).expect("there is a route");
    client.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket option");
    let mut buffer = vec![0; 1 << 16];
    for number in 0..FEW / 2 * rounds() {
        let question = message(number, PACKET_BYTES);
        let until = Instant::now() + SOON;
        client.send(&question).expect("it leaves");
        // Late answers to earlier questions are passed over.
        loop {
            assert!(Instant::now() < until, "datagram {number} is never answered");
            match client.recv(&mut buffer) {
                Ok(len) if buffer[..len] == question => break,
                Ok(len) => {
                    let earlier = buffer.first_chunk().map(|head| u64::from_be_bytes(*head));
                    let earlier = earlier.filter(|earlier| *earlier < number).expect("an earlier one");
                    assert!(
                        buffer[..len] == message(earlier, PACKET_BYTES),
                        "datagram {earlier} was changed"
                    );
                }
                Err(_) => drop(client.send(&question).expect("it leaves")),
            }
        }
    }
    server.stop();
}

#[test]
fn servers_of_others_get_what_is_sent() {
    let link = Link::new(Faults::ALL);
    let server = link.right.enter(|| UdpSocket::bind((link.right.address(), 0))).expect("a free port");
    server.set_read_timeout(Some(SILENCE)).expect("a socket option");
    let client = Office::send(&link.left, server.local_addr().expect("it is bound"), PACKET_BYTES);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = vec![0; 1 << 16];
            while !is_over.load(Ordering::Relaxed) {
                if let Ok((len, from)) = server.recv_from(&mut buffer) {
                    server.send_to(&buffer[..len], from).expect("it leaves");
                }
            }
        });
        send(&client, None, FEW * rounds());
        is_over.store(true, Ordering::Relaxed);
    });
    let page = client.stop();
    assert!(page.arrived.len() as u64 > page.sent / 2, "{} of {} came back", page.arrived.len(), page.sent);
}

#[test]
fn nobody_there_is_reported_and_the_socket_goes_on() {
    let link = Link::new(Faults::NONE);
    let nobody = link.right.enter(|| UdpSocket::bind((link.right.address(), 0))).expect("a free port");
    let target: SocketAddr = nobody.local_addr().expect("it is bound");
    drop(nobody);
    let client = Office::send(&link.left, target, PACKET_BYTES);
    send(&client, None, 8);
    client.log.wait("nobody is there", |page| page.errors.iter().any(|error| error.is_refused()));
    // Now somebody is.
    let somebody = link.right.enter(|| UdpSocket::bind(target)).expect("the port is free");
    somebody.set_read_timeout(Some(SOON)).expect("a socket option");
    send(&client, None, 8);
    let mut buffer = vec![0; 1 << 16];
    let len = somebody.recv(&mut buffer).expect("the socket still sends");
    let number = u64::from_be_bytes(*buffer.first_chunk().expect("a head"));
    assert!(buffer[..len] == message(number, PACKET_BYTES));
    client.stop();
}

#[test]
fn links_that_go_down_and_up_lose_datagrams_and_nothing_else() {
    let link = Link::new(Faults::NONE);
    let mut dice = Dice::new(seed());
    let server = Office::serve(&link.right, PACKET_BYTES);
    let client = Office::send(&link.left, server.addr(), PACKET_BYTES);
    let (mut lost, mut unsent) = (0, 0);
    for _ in 0..3 * rounds() {
        let mut some = || 8 * (1 + dice.below(20) as u64);
        send(&client, Some(&server), some());
        // Nobody can tell that the cable is cut.
        link.set_cut(true);
        let count = some();
        send(&client, Some(&server), count);
        lost += count;
        link.set_cut(false);
        // Without an interface there is no route, which is said of every datagram.
        link.left.set_up(false);
        let count = some();
        unsent += count;
        send(&client, Some(&server), count);
        client.log.wait("every datagram that did not leave is reported", |page| page.unsent() >= unsent);
        link.left.set_up(true);
    }
    send(&client, Some(&server), 80);
    let (client, server) = (client.stop(), server.stop());
    assert_eq!((client.unsent(), server.unsent()), (unsent, 0));
    assert!(client.errors.iter().all(|error| error.errno() == libc::ENETUNREACH), "{:?}", client.errors);
    assert_eq!(server.arrivals(), client.sent - lost - unsent);
    assert_eq!(client.arrivals(), server.sent);
    assert_eq!((client.full, server.full), (0, 0));
}
