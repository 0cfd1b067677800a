//! Ten thousand connections in one process, in good and in bad company.
//!
//! Every byte that comes back is compared with a pattern that depends on the connection, the round
//! and the position, so bytes that are lost, doubled, swapped or sent to a neighbour are all seen.
//! How much is sent depends on the build and the machine; how much of it may go wrong does not.

mod company;
mod crowd;
mod message;
mod service;

use company::Company;
use crowd::Crowd;
use message::Pattern;
use ringline_core::{Config, Running, Server};
use service::{Ends, Service};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The limit for everything together; nothing that works comes close.
const PATIENCE: Duration = Duration::from_secs(240);

/// Bytes of the three kinds of messages, without their heads.
const SMALL_BYTES: usize = 64;
const MEDIUM_BYTES: usize = 4 << 10;
const LARGE_BYTES: usize = 1 << 20;

/// How much is done.
struct Plan {
    connections: usize,
    small_rounds: u32,
    medium_rounds: u32,
    /// How many of the connections exchange large messages.
    large_connections: usize,
    /// How many of those do so at a time.
    large_at_once: usize,
}

impl Plan {
    fn new() -> Self {
        if std::env::var_os("RINGLINE_GUEST").is_some() {
            // A small machine that is emulated.
            return Self {
                connections: 500,
                small_rounds: 2,
                medium_rounds: 1,
                large_connections: 20,
                large_at_once: 10,
            };
        }
        let large_connections = if cfg!(debug_assertions) { 600 } else { 10_000 };
        let (small_rounds, medium_rounds) = if cfg!(debug_assertions) { (3, 1) } else { (10, 5) };
        Self { connections: 10_000, small_rounds, medium_rounds, large_connections, large_at_once: 200 }
    }
}

/// Launches the service on two workers: streams on the first listener, messages on the second.
///
/// Launching raises the limit of open files for a table of this size, which makes room for the
/// clients' ends as well.
fn launch(ends: &Arc<Ends>) -> Running {
    let config = Config::builder()
        .workers(2)
        .pin(false)
        .connections_per_worker(12_000)
        .inbox_bytes(2 * LARGE_BYTES)
        .build()
        .expect("the configuration is valid");
    let ends = Arc::clone(ends);
    Server::new(config)
        .listen("127.0.0.1:0")
        .and_then(|server| server.listen("127.0.0.1:0"))
        .expect("the loopback network has free ports")
        .launch(move |_seat| Service::new(Arc::clone(&ends)))
        .expect("12,128 open files are allowed, and io_uring is")
}

#[test]
fn ten_thousand_connections_are_served_whatever_some_peers_do() {
    let began = Instant::now();
    let deadline = began + PATIENCE;
    let plan = Plan::new();
    let ends = Arc::new(Ends::default());
    let running = launch(&ends);
    let (streams, messages) = (running.local_addrs()[0], running.local_addrs()[1]);
    let pattern = Arc::new(Pattern::new(plan.connections, LARGE_BYTES));

    let company = Company::assemble(streams, messages, &pattern, deadline);
    let crowd = Crowd::connect(plan.connections, [streams, messages], deadline);
    let log = |what: &str| eprintln!("{:6.2} s: {what}", began.elapsed().as_secs_f64());
    log("all connected");
    for round in 0..plan.small_rounds {
        crowd.exchange(&pattern, round, SMALL_BYTES, plan.connections, plan.connections);
    }
    log("small messages");
    for round in 0..plan.medium_rounds {
        crowd.exchange(&pattern, round, MEDIUM_BYTES, plan.connections, 2_000);
    }
    log("medium messages");
    crowd.exchange(&pattern, 0, LARGE_BYTES, plan.large_connections, plan.large_at_once);
    log("large messages");
    // Whoever was silent meanwhile has not been forgotten.
    crowd.exchange(&pattern, 1, SMALL_BYTES, plan.connections, plan.connections);
    let done = company.dismiss();
    log("bad company gone");
    assert!(done.is_busy(), "every kind of bad company was there: {done:?}");

    let members = crowd.len() as u64;
    let farewells = crowd.leave();
    assert_eq!(farewells, members, "nobody was left behind");
    let is_over = || running.metrics().snapshot().connections_active == 0;
    while !is_over() {
        assert!(Instant::now() < deadline, "connections stay: {}", running.metrics().snapshot());
        std::thread::sleep(Duration::from_millis(5));
    }
    check(&running, &ends, members, &done);
    running.shutdown(Duration::from_secs(10)).expect("both workers end well");
    log("over");
}

/// What the server says about it all.
fn check(running: &Running, ends: &Ends, members: u64, company: &company::Done) {
    let counted = running.metrics().snapshot();
    let orderly = members + company.half_closed + company.dripped;
    assert_eq!(ends.clean(), orderly, "orderly ends are told as such: {ends:?}");
    assert_eq!(ends.reset(), company.deaf + company.resets, "so are resets: {ends:?}");
    assert_eq!(ends.other(), 0, "and there is nothing else: {ends:?}");
    assert_eq!(counted.connections_accepted, orderly + company.deaf + company.resets);
    assert_eq!(counted.connections_closed, counted.connections_accepted);
    assert_eq!(counted.connections_refused, 0);
    assert!(counted.outbox_high >= company.deaf, "peers that do not read were noticed");
    assert_eq!((counted.outbox_full, counted.inbox_overflows, counted.handler_panics), (0, 0, 0));
    for worker in 0..2 {
        let share = running.metrics().worker(worker).connections_accepted;
        assert!(share >= counted.connections_accepted / 4, "worker {worker} served {share}");
    }
}

/// Reads to the end of a stream and returns how many bytes there were.
fn drain(stream: &mut impl Read) -> std::io::Result<usize> {
    let mut scratch = vec![0; 64 << 10];
    let mut total = 0;
    loop {
        match stream.read(&mut scratch)? {
            0 => return Ok(total),
            bytes => total += bytes,
        }
    }
}
