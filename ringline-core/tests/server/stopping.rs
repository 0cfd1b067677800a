//! Stopping: in order, at once, after a panic, or not at all.

use super::rogue::Rogue;
use super::{Echo, SOON, alone, assert_echoes, config, connect, pattern, server, wait_until, worker_threads};
use ringline_core::signal::ShutdownSignal;
use ringline_core::{Admit, ConnId, Consumed, Ctx, EventHandler, PanicPolicy, Peer, RunError, Server};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Sends a lot to everybody who says something.
struct Generous {
    size: usize,
    queued: Arc<AtomicUsize>,
}

impl EventHandler for Generous {
    type Conn = ();
    type Message = ();

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
fn a_server_that_waits_for_a_signal_notices_that_a_worker_has_ended() {
    let _alone = alone();
    let config = config(2).panic_policy(PanicPolicy::StopWorker).build().unwrap();
    let rogue = |_| Rogue { fails_to_start: false, entered: Arc::default(), release: Arc::default() };
    let running = Server::new(config).listen("127.0.0.1:0").unwrap().launch(rogue).unwrap();
    let addr = running.local_addrs()[0];
    let signal = ShutdownSignal::install().unwrap();
    let (tell, told) = mpsc::channel();
    let runner = thread::spawn(move || tell.send(running.run_until(signal, Duration::from_secs(1))));
    connect(addr).write_all(b"panic").unwrap();
    let end = told.recv_timeout(SOON).expect("the server stops");
    assert!(matches!(end, Err(RunError::Panicked { .. })), "{end:?}");
    runner.join().unwrap().unwrap();
    assert!(TcpStream::connect(addr).is_err(), "nobody is left who would listen");
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
