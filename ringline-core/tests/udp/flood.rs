//! More datagrams than a server can take: nothing spins, and every one that is lost is counted.

use super::{PAUSE, alone, client, config, launch_silent, pattern, server, wait};
use ringline_core::{Config, Running, UdpOptions};
use socket2::SockRef;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const LOCAL: &str = "127.0.0.1:0";
/// How many datagrams the long test sends; `RINGLINE_DATAGRAMS` says otherwise.
const DATAGRAMS: u64 = 100_000;
/// How many a client sends before it looks for answers. Larger ones overflow its socket.
const BURSTS: [u64; 4] = [1, 32, 64, 1024];
/// How long a client waits for the rest of a burst.
const PATIENCE: Duration = Duration::from_millis(2);

/// What the thread of the first worker has used of the processor.
fn worker_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").expect("a list of threads");
    let ticks: u64 = tasks
        .map(|task| task.expect("a thread").path())
        .filter(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name == "ringline-0\n"))
        .map(|task| {
            let stat = std::fs::read_to_string(task.join("stat")).expect("a thread has numbers");
            // What follows the name begins with field 3; times are fields 14 and 15.
            let rest = stat.rsplit_once(')').expect("a name in brackets").1;
            let field =
                |at: usize| rest.split_whitespace().nth(at - 3).and_then(|text| text.parse::<u64>().ok());
            field(14).zip(field(15)).map_or(0, |(user, system)| user + system)
        })
        .sum();
    // A tick is 10 ms wherever we run.
    Duration::from_millis(ticks * 10)
}

/// How many datagrams the kernel has dropped on this socket of ours.
fn drops_of(socket: &UdpSocket) -> u64 {
    let port = format!(":{:04X}", socket.local_addr().expect("an address").port());
    let table = std::fs::read_to_string("/proc/net/udp").expect("a list of sockets");
    let line = table
        .lines()
        .find(|line| line.split_whitespace().nth(1).is_some_and(|address| address.ends_with(&port)));
    let drops = line.and_then(|line| line.split_whitespace().last()).expect("our socket is in the list");
    drops.parse().expect("a number")
}

fn stop(running: Running) -> ringline_core::metrics::Snapshot {
    let metrics = running.metrics().clone();
    running.shutdown(Duration::from_secs(5)).expect("the server ends well");
    metrics.snapshot()
}

#[test]
fn a_consumer_that_stops_costs_nothing() {
    let _alone = alone();
    let config = config(1).datagram_buffers(8);
    let running = launch_silent(server(config).bind_udp(LOCAL, &UdpOptions::default()).unwrap());
    let to = running.udp_addrs()[0];
    let ends = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let client = client();
    client.send_to(b"pause", to).unwrap();
    wait("it pauses", || running.metrics().snapshot().udp_pauses == 1);
    let flood = {
        let (ends, sent) = (Arc::clone(&ends), Arc::clone(&sent));
        std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                for _ in 0..100 {
                    sent.fetch_add(u64::from(client.send_to(&[7; 100], to).is_ok()), Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            client
        })
    };
    std::thread::sleep(Duration::from_millis(200));
    let before = (worker_time(), running.metrics().snapshot().turns, Instant::now());
    std::thread::sleep(PAUSE - Duration::from_millis(800));
    let (used, turns) = (worker_time() - before.0, running.metrics().snapshot().turns - before.1);
    let share = used.as_secs_f64() / before.2.elapsed().as_secs_f64();
    assert!(share < 0.01, "a paused worker uses {:.1} % of its processor", share * 100.0);
    assert!(turns < 50, "{turns} turns while nothing is wanted");
    ends.store(true, Ordering::Relaxed);
    let client = flood.join().unwrap();
    // It goes on by itself.
    let received = running.metrics().snapshot().udp_received;
    wait("it goes on", || running.metrics().snapshot().udp_received > received);
    let sent = sent.load(Ordering::Relaxed) + 1;
    wait("it is through", || {
        client.send_to(b"last", to).unwrap();
        running.metrics().snapshot().udp_dropped_by_kernel > 0
    });
    let counts = stop(running);
    assert!(counts.udp_received + counts.udp_dropped_by_kernel >= sent, "{sent} sent: {counts}");
}

#[test]
fn few_buffers_park_a_receive_and_lose_nothing() {
    let _alone = alone();
    let config = config(1).datagram_buffers(8);
    let options = UdpOptions::default().receive_buffer_bytes(1 << 20);
    let running = launch_silent(server(config).bind_udp(LOCAL, &options).unwrap());
    let to = running.udp_addrs()[0];
    let client = client();
    // More than there are buffers is there at once, because the worker sleeps on the pause.
    client.send_to(b"pause", to).unwrap();
    wait("it pauses", || running.metrics().snapshot().udp_pauses == 1);
    for at in 0..200_u32 {
        client.send_to(&at.to_le_bytes(), to).unwrap();
    }
    let mut answer = [0; 16];
    for at in 0..200_u32 {
        let len = client.recv(&mut answer).expect("an answer");
        assert_eq!(answer[..len], at.to_le_bytes(), "in the order of arrival");
    }
    let counts = stop(running);
    assert!(counts.udp_buffers_empty > 0, "the buffers were not enough: {counts}");
    assert!(counts.udp_buffers_empty < 100, "and were not asked for in circles");
    assert_eq!((counts.udp_received, counts.udp_dropped_by_kernel), (201, 0));
}

/// `RINGLINE_DATAGRAMS=10000000 cargo test --release --test udp to_the_last` is the long run.
#[test]
fn loss_is_counted_to_the_last_datagram() {
    let _alone = alone();
    let total = std::env::var("RINGLINE_DATAGRAMS").map_or(DATAGRAMS, |text| text.parse().expect("a number"));
    let options = UdpOptions::default().receive_buffer_bytes(64 << 10);
    let running = launch_silent(server(config(1)).bind_udp(LOCAL, &options).unwrap());
    let to = running.udp_addrs()[0];
    let client = client();
    SockRef::from(&client).set_recv_buffer_size(64 << 10).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let message = pattern(64);
    let (mut sent, mut received) = (0_u64, 0_u64);
    let mut buffer = [0; 128];
    let mut take = |received: &mut u64| match client.recv(&mut buffer) {
        Ok(len) => {
            assert_eq!(buffer[..len], message, "an answer is wrong");
            *received += 1;
            true
        }
        Err(_) => false,
    };
    let began = Instant::now();
    let mut round = 0;
    while sent < total {
        // Now and then more than anybody has room for.
        let burst = if round % 200 == 199 { BURSTS[3] } else { BURSTS[round % 3] }.min(total - sent);
        round += 1;
        for _ in 0..burst {
            client.send_to(&message, to).expect("the datagram leaves");
        }
        sent += burst;
        for _ in 0..burst {
            if !take(&mut received) {
                break;
            }
        }
    }
    while take(&mut received) {}
    let elapsed = began.elapsed();
    let lost_back = drops_of(&client);
    let counts = stop(running);
    while take(&mut received) {}
    let lost_out = counts.udp_dropped_by_kernel;
    println!(
        "{sent} datagrams in {elapsed:.1?}: {received} came back, {lost_out} were dropped on the way there, \
         {lost_back} on the way back, {} receives found no buffer",
        counts.udp_buffers_empty
    );
    assert_eq!(counts.udp_received + lost_out, sent, "{counts}");
    assert_eq!(counts.udp_sent, counts.udp_received, "{counts}");
    assert_eq!(received + lost_back, counts.udp_sent, "{counts}");
    assert!(lost_out + lost_back < sent / 2, "most came back");
}

#[test]
fn a_server_without_datagram_sockets_has_no_buffers_for_them() {
    let _alone = alone();
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").expect("numbers");
        status.split_whitespace().next().and_then(|pages| pages.parse::<usize>().ok()).expect("a number")
    };
    let launch = |bind: bool| {
        let config = Config::builder().workers(1).pin(false).datagram_buffers(1024);
        let mut server = server(config).listen(LOCAL).unwrap();
        if bind {
            server = server.bind_udp(LOCAL, &UdpOptions::default()).unwrap();
        }
        let running = launch_silent(server);
        if bind {
            let client = client();
            client.send_to(b"x", running.udp_addrs()[0]).unwrap();
            client.recv(&mut [0]).unwrap();
        }
        running
    };
    let without = launch(false);
    let before = resident();
    let with = launch(true);
    // The memory is only reserved, so it shows in the size of the process alone.
    let grown = (resident() - before) * 4096;
    assert!(grown > 60 << 20, "{grown} bytes");
    drop(with);
    drop(without);
}
