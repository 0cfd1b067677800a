//! Whole servers on real sockets: listeners, threads, starting, stopping and what can go wrong.
//!
//! The tests run one at a time, because some of them count the threads and the metrics of the
//! process.

use ringline_core::{
    Admit, CloseReason, Config, ConfigBuilder, ConnId, Consumed, Ctx, EventHandler, LaunchError, ListenError,
    ListenOptions, PanicPolicy, Peer, RunError, Running, Seat, SendError, Server,
};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(20);

fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config(workers: usize) -> ConfigBuilder {
    Config::builder().workers(workers).pin(false).linger(Duration::from_millis(200))
}

fn server(workers: usize) -> Server {
    Server::new(config(workers).build().expect("the configuration is valid"))
}

/// What a handler tells its test.
#[derive(Debug)]
enum Told {
    Accepted { worker: usize, addr: SocketAddr, listener: usize },
    Closed(CloseReason),
}

/// Echoes, and tells of connections. The `Rc` keeps it on one thread for good.
struct Echo {
    seat: Seat,
    tell: Sender<Told>,
    served: Rc<()>,
}

impl Echo {
    fn factory() -> (impl Fn(Seat) -> Self + Send + Sync + 'static, Receiver<Told>) {
        let (tell, told) = mpsc::channel();
        (move |seat| Self { seat, tell: tell.clone(), served: Rc::new(()) }, told)
    }
}

impl EventHandler for Echo {
    type Conn = Rc<()>;

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, peer: &Peer) -> Admit<Rc<()>> {
        let (addr, listener) = (peer.addr(), peer.listener().index());
        // A test that does not listen has gone away on purpose.
        let _ = self.tell.send(Told::Accepted { worker: self.seat.worker, addr, listener });
        Admit::Accept(Rc::clone(&self.served))
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, _: &mut Rc<()>, data: &[u8]) -> Consumed {
        match cx.send(id, data) {
            Ok(_) => Consumed::all(data),
            Err(SendError::Full { .. }) => Consumed::none(),
            Err(_) => {
                cx.abort(id);
                Consumed::all(data)
            }
        }
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: Rc<()>, reason: CloseReason) {
        let _ = self.tell.send(Told::Closed(reason));
    }
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, SOON).expect("the server takes connections");
    stream.set_read_timeout(Some(SOON)).expect("a socket option");
    stream.set_write_timeout(Some(SOON)).expect("a socket option");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

fn assert_echoes(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).expect("the server reads");
    let mut echoed = vec![0; bytes.len()];
    stream.read_exact(&mut echoed).expect("the server answers");
    assert_eq!(echoed, bytes);
}

/// The next connection that a handler tells of: its worker, address and listener.
fn next_accepted(told: &Receiver<Told>) -> (usize, SocketAddr, usize) {
    loop {
        if let Told::Accepted { worker, addr, listener } = told.recv_timeout(SOON).expect("a connection") {
            return (worker, addr, listener);
        }
    }
}

/// The threads of this process that belong to workers, by their numbers.
fn worker_threads() -> Vec<u64> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has /proc");
    let is_worker = |task: &std::path::Path| {
        // A thread may end between being listed and being looked at.
        std::fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("ringline-"))
    };
    let tasks = tasks.filter_map(Result::ok).filter(|task| is_worker(&task.path()));
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < until, "this never happens: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

fn stop(running: Running) {
    running.shutdown(SOON).expect("every worker ends well");
    wait_until("the workers' threads end", || worker_threads().is_empty());
}

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
    let v6 = |port| SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port));
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

/// A port that nobody listens on.
fn free_port() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound")
}

fn assert_free(addr: SocketAddr) {
    let (factory, _told) = Echo::factory();
    let running = server(1).listen(addr).expect("the port is free").launch(factory).expect("it starts");
    assert_echoes(&mut connect(addr), b"hello");
    stop(running);
}

#[test]
fn a_panic_in_the_factory_leaves_nothing_behind() {
    let _alone = alone();
    let addr = free_port();
    let (factory, _told) = Echo::factory();
    let launched = server(3).listen(addr).unwrap().launch(move |seat| {
        if seat.worker == 1 {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        factory(seat)
    });
    assert!(matches!(launched, Err(LaunchError::Panicked { worker: Some(1) })), "{launched:?}");
    wait_until("every thread ends", || worker_threads().is_empty());
    assert_free(addr);
}

/// A handler whose callbacks misbehave.
struct Rogue {
    fails_to_start: bool,
    entered: Arc<AtomicBool>,
    release: Arc<AtomicBool>,
}

impl EventHandler for Rogue {
    type Conn = ();

    fn on_start(&mut self, _: &mut Ctx<'_, Self>) {
        if self.fails_to_start {
            std::panic::resume_unwind(Box::new("on purpose"));
        }
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        match data[0] {
            b'p' => std::panic::resume_unwind(Box::new("on purpose")),
            _ => {
                self.entered.store(true, Ordering::SeqCst);
                wait_until("the release", || self.release.load(Ordering::SeqCst));
            }
        }
        Consumed::all(data)
    }
}

#[test]
fn a_panic_in_on_start_leaves_nothing_behind() {
    let _alone = alone();
    let addr = free_port();
    let launched = server(2).listen(addr).unwrap().launch(|seat| Rogue {
        fails_to_start: seat.worker == 1,
        entered: Arc::default(),
        release: Arc::default(),
    });
    assert!(matches!(launched, Err(LaunchError::Panicked { worker: Some(1) })), "{launched:?}");
    wait_until("every thread ends", || worker_threads().is_empty());
    assert_free(addr);
}

#[test]
fn a_panic_stops_the_worker_if_the_configuration_says_so() {
    let _alone = alone();
    let config = config(1).panic_policy(PanicPolicy::StopWorker).build().unwrap();
    let running = Server::new(config).listen("127.0.0.1:0").unwrap().launch(|_| Rogue {
        fails_to_start: false,
        entered: Arc::default(),
        release: Arc::default(),
    });
    let running = running.unwrap();
    let metrics = running.metrics().clone();
    let mut other = connect(running.local_addrs()[0]);
    let mut client = connect(running.local_addrs()[0]);
    client.write_all(b"panic").unwrap();
    let (tell, told) = mpsc::channel();
    let joiner = thread::spawn(move || tell.send(running.join()));
    let end = told.recv_timeout(SOON).expect("the worker stops");
    assert!(matches!(end, Err(RunError::Panicked { worker: 0 })), "{end:?}");
    joiner.join().unwrap().unwrap();
    assert!(matches!(other.read(&mut [0]), Ok(0) | Err(_)));
    assert_eq!(metrics.snapshot().connections_active, 0);
}

#[test]
fn one_port_serves_twenty_servers_in_a_row() {
    let _alone = alone();
    let addr = free_port();
    for round in 0..20_u8 {
        let (factory, told) = Echo::factory();
        let running = server(2).listen(addr).expect("the port is free again").launch(factory).unwrap();
        let mut client = connect(addr);
        assert_echoes(&mut client, &[round; 100]);
        running.shutdown(SOON).expect("every worker ends well");
        assert_eq!(client.read(&mut [0]).expect("an end, no reset"), 0);
        next_accepted(&told);
    }
}

#[test]
fn an_address_that_cannot_be_had_is_refused_with_the_reason() {
    let _alone = alone();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let error = server(1).listen(addr).expect_err("it is taken");
    assert!(matches!(error, ListenError::AddressInUse { addr: said } if said == addr), "{error}");
    let running = {
        let (factory, _told) = Echo::factory();
        server(1).listen("127.0.0.1:0").unwrap().launch(factory).unwrap()
    };
    let error = server(1).listen(running.local_addrs()[0]).expect_err("a running server has it");
    assert!(matches!(error, ListenError::AddressInUse { .. }), "{error}");
    stop(running);
    for nonsense in ["no address", "127.0.0.1", "127.0.0.1:99999", ""] {
        let error = server(1).listen(nonsense).expect_err("it is no address");
        assert!(matches!(error, ListenError::BadAddress { .. }), "{nonsense}: {error}");
    }
    let error = server(1).listen("192.0.2.1:0").expect_err("it is an address for examples");
    assert!(matches!(error, ListenError::AddressNotAvailable { .. }), "{error}");
}

#[test]
fn dropping_the_handle_stops_the_workers() {
    let _alone = alone();
    let (factory, _told) = Echo::factory();
    let running = server(3).listen("127.0.0.1:0").unwrap().launch(factory).unwrap();
    let addr = running.local_addrs()[0];
    let mut client = connect(addr);
    assert_echoes(&mut client, b"hello");
    assert_eq!(worker_threads().len(), 3);
    let started = Instant::now();
    drop(running);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    wait_until("the threads end", || worker_threads().is_empty());
    assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)), "the connection is over");
    assert!(TcpStream::connect_timeout(&addr, SOON).is_err(), "nobody listens");
}

/// Sends a lot to everybody who says something.
struct Generous {
    size: usize,
    queued: Arc<AtomicUsize>,
}

impl EventHandler for Generous {
    type Conn = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        let bytes = pattern(self.size);
        cx.send(id, &bytes).expect("there is room for it");
        self.queued.fetch_add(1, Ordering::SeqCst);
        Consumed::all(data)
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect()
}

/// Reads to the end at about 20 MB/s.
fn read_slowly(mut stream: TcpStream) -> std::io::Result<Vec<u8>> {
    let mut received = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        match stream.read(&mut chunk)? {
            0 => return Ok(received),
            count => received.extend_from_slice(&chunk[..count]),
        }
        thread::sleep(Duration::from_millis(3));
    }
}

#[test]
fn a_shutdown_loses_no_byte_to_readers_that_keep_reading() {
    const PEERS: usize = 16;
    const SIZE: usize = 4 << 20;
    let _alone = alone();
    let queued = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&queued);
    let running = server(2)
        .listen("127.0.0.1:0")
        .unwrap()
        .launch(move |_| Generous { size: SIZE, queued: Arc::clone(&counter) })
        .unwrap();
    let mut readers = Vec::new();
    for _ in 0..PEERS {
        let mut client = connect(running.local_addrs()[0]);
        client.write_all(b"!").unwrap();
        readers.push(thread::spawn(move || read_slowly(client)));
    }
    wait_until("all is queued", || queued.load(Ordering::SeqCst) == PEERS);
    let metrics = running.metrics().clone();
    assert!(metrics.snapshot().bytes_sent < (PEERS * SIZE) as u64, "much is still to go");
    running.shutdown(Duration::from_secs(60)).expect("every worker ends well");
    let expected = pattern(SIZE);
    for reader in readers {
        let received = reader.join().unwrap().expect("an end, no reset");
        assert_eq!(received.len(), SIZE);
        assert!(received == expected, "every byte is the right one");
    }
    let last = metrics.snapshot();
    assert_eq!(last.closed_shutdown, PEERS as u64);
    assert_eq!(last.bytes_sent, (PEERS * SIZE) as u64);
}

#[test]
fn clients_that_connect_during_a_shutdown_do_not_hang() {
    let _alone = alone();
    for _ in 0..5 {
        let (factory, _told) = Echo::factory();
        let running = server(2).listen("127.0.0.1:0").unwrap().launch(factory).unwrap();
        let addr = running.local_addrs()[0];
        let stopped = Arc::new(AtomicBool::new(false));
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let stopped = Arc::clone(&stopped);
                thread::spawn(move || {
                    while !stopped.load(Ordering::SeqCst) {
                        assert_no_hang(addr);
                    }
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(50));
        running.shutdown(SOON).expect("every worker ends well");
        thread::sleep(Duration::from_millis(20));
        stopped.store(true, Ordering::SeqCst);
        for client in clients {
            client.join().expect("no client hangs");
        }
    }
}

/// A client gets its answer, an end or an error, but is not left waiting.
fn assert_no_hang(addr: SocketAddr) {
    let Ok(mut stream) = TcpStream::connect_timeout(&addr, SOON) else { return };
    stream.set_read_timeout(Some(SOON)).expect("a socket option");
    if stream.write_all(b"hello").is_ok() {
        let answer = stream.read(&mut [0; 5]);
        let waited = matches!(&answer, Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
        assert!(!waited, "a client was left waiting");
    }
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

#[test]
fn a_callback_that_blocks_makes_its_worker_count_as_stuck() {
    let _alone = alone();
    let (entered, release) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (inner_entered, inner_release) = (Arc::clone(&entered), Arc::clone(&release));
    let running = server(2)
        .listen("127.0.0.1:0")
        .unwrap()
        .launch(move |_| Rogue {
            fails_to_start: false,
            entered: Arc::clone(&inner_entered),
            release: Arc::clone(&inner_release),
        })
        .unwrap();
    let mut client = connect(running.local_addrs()[0]);
    client.write_all(b"block").unwrap();
    wait_until("the callback", || entered.load(Ordering::SeqCst));
    let started = Instant::now();
    let end = running.shutdown(Duration::from_millis(100));
    let took = started.elapsed();
    assert!(matches!(end, Err(RunError::Stuck { .. })), "{end:?}");
    assert!(took < Duration::from_secs(8), "it took {took:?}");
    wait_until("only the stuck one is left", || worker_threads().len() == 1);
    release.store(true, Ordering::SeqCst);
    wait_until("it ends after all", || worker_threads().is_empty());
}

/// How often a thread has gone to sleep of its own accord.
fn sleeps(thread: u64) -> u64 {
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
        writing.shutdown(std::net::Shutdown::Write).expect("it is connected");
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
