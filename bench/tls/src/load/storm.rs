//! Established connections ping while others do nothing but begin handshakes: what do the pings notice?
//!
//! The two have a thread each, and the pings' goes first wherever the scheduler has a choice.

use crate::arguments::Arguments;
use crate::client::{Client, config, reset};
use crate::crowd::Crowd;
use crate::process;
use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use rustls::ClientConfig;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const PING: [u8; 64] = [9; 64];

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicU64,
    broken: AtomicU64,
}

pub fn run(arguments: &Arguments) -> String {
    let conns: usize = arguments.number("conns", 32);
    let storm: usize = arguments.number("storm", 1000);
    let whole = arguments.number("whole", 0) == 1;
    let gap = arguments.seconds("gap", 0.002);
    let (warmup, duration) = (arguments.seconds("warmup", 1.0), arguments.seconds("duration", 4.0));
    let (server, pid) = (arguments.server(), arguments.number("pid", 0));
    let tls = config(&arguments.word("suite"));
    let mut crowd = Crowd::connect(server, &tls, conns, 64);
    let quiet = ping(&mut crowd, gap, duration);
    let shared = Arc::new(Shared::default());
    let stormers = std::thread::spawn({
        let shared = Arc::clone(&shared);
        move || {
            if whole {
                handshakes(server, &tls, storm, &shared)
            } else {
                hellos(server, &tls, storm, &shared)
            }
        }
    });
    go_first();
    std::thread::sleep(warmup);
    let (before, cpu) = (shared.done.load(Ordering::Relaxed), process::cpu_ns(pid));
    let begun = Instant::now();
    let stormy = ping(&mut crowd, gap, duration);
    let (handshakes, cpu_ns) = (shared.done.load(Ordering::Relaxed) - before, process::cpu_ns(pid) - cpu);
    let secs = begun.elapsed().as_secs_f64();
    shared.stop.store(true, Ordering::Relaxed);
    stormers.join().expect("the storm ends well");
    let shown = |name: &str, latency: &Histogram<u64>| {
        let us = |q| latency.value_at_quantile(q) as f64 / 1e3;
        format!(
            "\"{name}_pings\":{},\"{name}_p50_us\":{:.0},\"{name}_p99_us\":{:.0},\"{name}_max_us\":{:.0}",
            latency.len(),
            us(0.5),
            us(0.99),
            us(1.0)
        )
    };
    format!(
        "{},{},\"handshakes_per_s\":{:.0},\"server_cores\":{:.2},\"broken\":{}",
        shown("quiet", &quiet),
        shown("stormy", &stormy),
        handshakes as f64 / secs,
        cpu_ns as f64 / 1e9 / secs,
        shared.broken.load(Ordering::Relaxed)
    )
}

/// One ping every `gap`, of a connection after the other.
fn ping(crowd: &mut Crowd, gap: Duration, duration: Duration) -> Histogram<u64> {
    let mut latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("a histogram");
    let mut sent_at: Vec<Option<Instant>> = vec![None; crowd.len()];
    let mut missing = vec![0; crowd.len()];
    let (mut turn, mut next) = (0, Instant::now());
    let end = next + duration;
    while next < end
        || (sent_at.iter().any(Option::is_some) && Instant::now() < end + Duration::from_secs(20))
    {
        let now = Instant::now();
        if next <= now && next < end {
            // One that has not been answered yet is what the figure is about: it is waited for.
            if sent_at[turn].is_none() {
                sent_at[turn] = Some(Instant::now());
                missing[turn] = PING.len();
                crowd.send(turn, &PING);
            }
            turn = (turn + 1) % crowd.len();
            next += gap;
        }
        let wait = if next < end {
            next.saturating_duration_since(Instant::now())
        } else {
            Duration::from_millis(1)
        };
        crowd.turn(Some(wait), |number, bytes, _| {
            missing[number] -= bytes.len();
            if missing[number] == 0
                && let Some(sent) = sent_at[number].take()
            {
                latency.saturating_record(sent.elapsed().as_nanos() as u64);
            }
        });
    }
    assert!(sent_at.iter().all(Option::is_none), "some pings were not answered");
    latency
}

/// Keeps `storm` handshakes going, each through to its end.
fn handshakes(to: SocketAddr, tls: &Arc<ClientConfig>, storm: usize, shared: &Shared) {
    let mut poll = Poll::new().expect("epoll");
    let mut events = Events::with_capacity(1024);
    let mut wire = vec![0; 64 * 1024];
    let begin = |registry: &Registry, number| Client::connect(to, tls, registry, number);
    let mut clients: Vec<_> = (0..storm).map(|number| begin(poll.registry(), number)).collect();
    while !shared.stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(10))).expect("epoll");
        for event in &events {
            let Token(number) = event.token();
            let client = &mut clients[number];
            let broken = client.receive(&mut wire, |_| {}).and_then(|()| client.flush()).is_err();
            if broken || !client.is_handshaking() {
                let counter = if broken { &shared.broken } else { &shared.done };
                counter.fetch_add(1, Ordering::Relaxed);
                std::mem::replace(client, begin(poll.registry(), number)).reset();
            }
        }
    }
}

/// Keeps `storm` connections going that send the same hello, wait for what the server says to it, and go
/// away: work for the server alone.
fn hellos(to: SocketAddr, tls: &Arc<ClientConfig>, storm: usize, shared: &Shared) {
    let mut hello = Vec::new();
    let name = "localhost".try_into().expect("a name");
    let mut client = rustls::ClientConnection::new(Arc::clone(tls), name).expect("a client");
    client.write_tls(&mut hello).expect("memory takes everything");
    let mut poll = Poll::new().expect("epoll");
    let mut events = Events::with_capacity(1024);
    let mut wire = vec![0; 64 * 1024];
    let begin = |registry: &Registry, number| {
        let mut stream = TcpStream::connect(to).expect("a socket");
        reset(&stream);
        registry
            .register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)
            .expect("a watch");
        (stream, false)
    };
    let mut streams: Vec<_> = (0..storm).map(|number| begin(poll.registry(), number)).collect();
    while !shared.stop.load(Ordering::Relaxed) {
        poll.poll(&mut events, Some(Duration::from_millis(10))).expect("epoll");
        for event in &events {
            let Token(number) = event.token();
            let (stream, has_said) = &mut streams[number];
            if !*has_said && event.is_writable() {
                *has_said = stream.write(&hello).is_ok();
            }
            let counter = match stream.read(&mut wire) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Ok(1..) => &shared.done,
                _ => &shared.broken,
            };
            counter.fetch_add(1, Ordering::Relaxed);
            streams[number] = begin(poll.registry(), number);
        }
    }
}

/// Before every other thread on this core.
fn go_first() {
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameter is valid; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const first) } != 0 {
        eprintln!("load: the pings cannot go first, so the storm's own work is in the figures");
    }
}
