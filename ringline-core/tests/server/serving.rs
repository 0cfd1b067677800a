//! Serving: who gets which connection, what is counted, and that nothing happens when nothing does.

use super::{
    Echo, SOON, Told, alone, assert_echoes, connect, next_accepted, pattern, server, stop, wait_until,
    worker_threads,
};
use ringline_core::{CloseReason, ListenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

#[test]
fn every_listener_is_reported_with_its_port_and_every_peer_with_its_address() {
    let _alone = alone();
    let (factory, told) = Echo::factory();
    let running = server(2)
        .listen("127.0.0.1:0")
        .and_then(|server| server.listen("[::1]:0"))
        .and_then(|server| server.listen("[::]:0"))
        .and_then(|server| server.listen_with("[::]:0", &ListenOptions::default().v6_only(true)))
        .expect("this host has IPv4 and IPv6")
        .launch(factory)
        .expect("the server starts");
    let addrs = running.local_addrs().to_vec();
    assert_eq!(addrs.len(), 4);
    assert!(addrs.iter().all(|addr| addr.port() != 0), "{addrs:?}");
    assert_eq!(running.workers(), 2);
    let v4 = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = |port| SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    let ways = [
        (addrs[0], 0),
        (addrs[1], 1),
        (v4(addrs[2].port()), 2),
        (v6(addrs[2].port()), 2),
        (v6(addrs[3].port()), 3),
    ];
    for (addr, expected) in ways {
        let mut client = connect(addr);
        assert_echoes(&mut client, b"hello");
        let (_, seen, listener) = next_accepted(&told);
        assert_eq!(seen, client.local_addr().expect("it is connected"));
        assert_eq!(listener, expected);
    }
    let refused = TcpStream::connect_timeout(&v4(addrs[3].port()), SOON);
    assert!(refused.is_err(), "IPv6 only");
    stop(running);
}

/// How many of `count` connections each of `workers` got.
fn spread(workers: usize, count: usize, told: &Receiver<Told>) -> Vec<usize> {
    let mut shares = vec![0; workers];
    for _ in 0..count {
        shares[next_accepted(told).0] += 1;
    }
    shares
}

#[test]
fn sequential_connections_are_shared_fairly() {
    let _alone = alone();
    let (factory, told) = Echo::factory();
    let running = server(4).listen("127.0.0.1:0").unwrap().launch(factory).unwrap();
    let addr = running.local_addrs()[0];
    for _ in 0..400 {
        assert_echoes(&mut connect(addr), b"x");
    }
    let shares = spread(4, 400, &told);
    assert!(shares.iter().all(|share| *share >= 60), "{shares:?}");
    stop(running);
}

#[test]
fn a_burst_of_connections_reaches_every_worker() {
    let _alone = alone();
    let (factory, told) = Echo::factory();
    let running = server(4).listen("127.0.0.1:0").unwrap().launch(factory).unwrap();
    let addr = running.local_addrs()[0];
    let clients: Vec<_> = (0..400).map(|_| connect(addr)).collect();
    let shares = spread(4, 400, &told);
    assert!(shares.iter().all(|share| *share >= 40), "{shares:?}");
    for mut client in clients {
        assert_echoes(&mut client, b"x");
    }
    stop(running);
}

#[test]
fn a_large_echo_through_threads_is_intact() {
    let _alone = alone();
    let (factory, told) = Echo::factory();
    let running = server(2).listen("127.0.0.1:0").unwrap().launch(factory).unwrap();
    let mut client = connect(running.local_addrs()[0]);
    let bytes = Arc::new(pattern(32 << 20));
    let sent = Arc::clone(&bytes);
    let mut writing = client.try_clone().unwrap();
    let writer = thread::spawn(move || {
        writing.write_all(&sent).expect("the server reads");
        writing.shutdown(Shutdown::Write).expect("it is connected");
    });
    let mut received = Vec::new();
    client.read_to_end(&mut received).expect("an end, no reset");
    writer.join().unwrap();
    assert_eq!(received.len(), bytes.len());
    assert!(received == *bytes, "every byte is the right one");
    next_accepted(&told);
    let closed = told.recv_timeout(SOON).expect("on_close");
    assert!(matches!(closed, Told::Closed(CloseReason::PeerClosed { unread: 0 })), "{closed:?}");
    stop(running);
}

#[test]
fn the_registry_shows_what_the_server_counts() {
    let _alone = alone();
    let registered = |name: &str| -> i128 {
        let registry = metriken::metrics();
        let entry = registry.iter().find(|entry| entry.name() == name).expect("it is registered");
        match entry.value() {
            Some(metriken::Value::Counter(count)) => i128::from(count),
            Some(metriken::Value::Gauge(level)) => i128::from(level),
            _ => panic!("{name} is a number"),
        }
    };
    let names = [
        "ringline/connections/accepted",
        "ringline/connections/closed",
        "ringline/connections/active",
        "ringline/bytes/received",
        "ringline/bytes/sent",
        "ringline/closed/peer",
    ];
    let before = names.map(registered);
    let (factory, _told) = Echo::factory();
    let running = server(2).listen("127.0.0.1:0").unwrap().launch(factory).unwrap();
    let metrics = running.metrics().clone();
    let mut staying = connect(running.local_addrs()[0]);
    assert_echoes(&mut staying, &[1; 1000]);
    for _ in 0..10 {
        assert_echoes(&mut connect(running.local_addrs()[0]), &[2; 100]);
    }
    wait_until("ten are closed", || metrics.snapshot().connections_closed == 10);
    let now = metrics.snapshot();
    let own = [
        i128::from(now.connections_accepted),
        i128::from(now.connections_closed),
        i128::from(now.connections_active),
        i128::from(now.bytes_received),
        i128::from(now.bytes_sent),
        i128::from(now.closed_peer),
    ];
    assert_eq!(own, [11, 10, 1, 2000, 2000, 10]);
    let after = names.map(registered);
    for ((name, before), (after, own)) in names.iter().zip(before).zip(after.into_iter().zip(own)) {
        assert_eq!(after - before, own, "{name}");
    }
    let workers: u64 = (0..2).map(|worker| metrics.worker(worker).connections_accepted).sum();
    assert_eq!(workers, 11);
    drop(staying);
    stop(running);
    assert_eq!(registered("ringline/connections/active"), before[2]);
    assert_eq!(metrics.snapshot().connections_closed, 11, "the last values stay");
}

/// How often a thread has gone to sleep of its own accord.
pub(crate) fn sleeps(thread: u64) -> u64 {
    let path = format!("/proc/self/task/{thread}/status");
    let status = std::fs::read_to_string(path).expect("the thread is there");
    let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).expect("a count")
}

#[test]
fn an_idle_worker_is_never_woken() {
    let _alone = alone();
    let (factory, _told) = Echo::factory();
    let running = server(1).listen("127.0.0.1:0").unwrap().launch(factory).unwrap();
    // One connection that has said something and stays, so that there is something to watch.
    let mut client = connect(running.local_addrs()[0]);
    assert_echoes(&mut client, b"hello");
    thread::sleep(Duration::from_millis(300));
    let threads = worker_threads();
    assert_eq!(threads.len(), 1);
    let (before, turns) = (sleeps(threads[0]), running.metrics().snapshot().turns);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(sleeps(threads[0]) - before, 0, "it slept all the time");
    assert_eq!(running.metrics().snapshot().turns, turns);
    assert_echoes(&mut client, b"and still serves");
    stop(running);
}
