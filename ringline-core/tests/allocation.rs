//! A worker in its steady state does not ask the allocator for anything.
//!
//! The allocator of this program counts what the thread of a worker asks it for. Lists inside the
//! worker may still grow while the load is new; from some point on there is nothing left to grow.
#![allow(unsafe_code)]

use ringline_core::{
    Admit, Config, ConnId, Consumed, Ctx, EventHandler, Peer, Running, Sent, Server, TimerId, TimerKey,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(30);
const SMALL_BYTES: usize = 64;
const LARGE_BYTES: usize = 100 << 10;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

/// What one thread asked the allocator for.
#[derive(Debug, Default)]
struct Tally {
    calls: AtomicU64,
    largest_bytes: AtomicUsize,
}

thread_local! {
    /// Needs neither memory nor a destructor, so that the allocator may look at it at any time.
    static TALLY: Cell<Option<&'static Tally>> = const { Cell::new(None) };
}

fn note(bytes: usize) {
    if let Some(tally) = TALLY.get() {
        tally.calls.fetch_add(1, Ordering::Relaxed);
        tally.largest_bytes.fetch_max(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract;
// counting touches only numbers that are in place already.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        note(bytes);
        // SAFETY: the caller keeps the contract of `realloc`, and the memory is the system's.
        unsafe { System.realloc(memory, layout, bytes) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and the memory is the system's.
        unsafe { System.dealloc(memory, layout) }
    }
}

/// A server with one worker whose thread is counted, and clients that take turns with it.
struct Bench {
    running: Running,
    tally: &'static Tally,
    clients: Vec<TcpStream>,
    message: Vec<u8>,
    echo: Vec<u8>,
}

impl Bench {
    fn new<H: EventHandler + 'static>(
        clients: usize,
        message_bytes: usize,
        make: impl Fn() -> H + Send + Sync + 'static,
    ) -> Self {
        let tally: &'static Tally = Box::leak(Box::default());
        let config = Config::builder().workers(1).pin(false).build().expect("the configuration is valid");
        let running = Server::new(config)
            .listen("127.0.0.1:0")
            .expect("the loopback network has a free port")
            .launch(move |_seat| {
                // The factory runs on the worker's thread.
                assert_eq!(std::thread::current().name(), Some("ringline-0"));
                TALLY.set(Some(tally));
                make()
            })
            .expect("the server starts");
        let addr = running.local_addrs()[0];
        let connect = |_| {
            let stream = TcpStream::connect_timeout(&addr, SOON).expect("the server takes connections");
            stream.set_read_timeout(Some(SOON)).expect("a socket option");
            stream.set_write_timeout(Some(SOON)).expect("a socket option");
            stream.set_nodelay(true).expect("a socket option");
            stream
        };
        let clients = (0..clients).map(connect).collect();
        let head = u32::try_from(message_bytes).expect("messages are short").to_be_bytes();
        let mut message: Vec<_> = (0..message_bytes).map(|at| (at * 31) as u8).collect();
        message[..4].copy_from_slice(&head);
        Self { running, tally, clients, echo: vec![0; message_bytes], message }
    }

    /// Exchanges messages and returns how often the worker's thread asked for memory meanwhile.
    fn exchange(&mut self, messages: usize) -> u64 {
        let before = self.tally.calls.load(Ordering::Relaxed);
        self.tally.largest_bytes.store(0, Ordering::Relaxed);
        for _ in 0..messages.div_ceil(self.clients.len()) {
            for client in &mut self.clients {
                client.write_all(&self.message).expect("the server reads");
            }
            for client in &mut self.clients {
                client.read_exact(&mut self.echo).expect("the server answers");
                assert!(self.echo == self.message, "an echo is wrong");
            }
        }
        self.tally.calls.load(Ordering::Relaxed) - before
    }

    fn largest_bytes(&self) -> usize {
        self.tally.largest_bytes.load(Ordering::Relaxed)
    }

    fn stop(self) {
        drop(self.clients);
        self.running.shutdown(SOON).expect("the worker ends well");
    }
}

fn main_experiment(bench: &mut Bench, messages: usize) {
    for i in 0..6 {
        let n = bench.exchange(messages);
        eprintln!("window {i}: {n} calls, largest {}", bench.largest_bytes());
    }
}

struct Echo;

impl EventHandler for Echo {
    type Conn = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        cx.send(id, data).expect("the outbox has room");
        Consumed::all(data)
    }
}

/// Waits for whole messages.
struct Whole;

impl EventHandler for Whole {
    type Conn = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        let Some(head) = data.first_chunk::<4>() else { return Consumed::none().need(4) };
        let len = u32::from_be_bytes(*head) as usize;
        let Some(message) = data.get(..len) else { return Consumed::none().need(len) };
        cx.send(id, message).expect("the outbox has room");
        Consumed::bytes(len).need(4)
    }
}

/// Counts completed sends.
struct Observer {
    bytes: u64,
}

impl EventHandler for Observer {
    type Conn = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        cx.send(id, data).expect("the outbox has room");
        Consumed::all(data)
    }

    fn on_send_complete(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), sent: Sent) {
        self.bytes += sent.bytes;
    }
}

/// Moves a connection's timer with every message, and has one of its own that fires all the time.
struct Timed;

const IDLE: Duration = Duration::from_secs(60);
const BEAT: Duration = Duration::from_millis(1);

impl EventHandler for Timed {
    type Conn = Option<TimerId>;

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        cx.set_timer(BEAT, TimerKey(0));
    }

    fn on_accept(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, _: &Peer) -> Admit<Option<TimerId>> {
        Admit::Accept(cx.set_conn_timer(id, IDLE, TimerKey(1)))
    }

    fn on_data(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        id: ConnId,
        timer: &mut Option<TimerId>,
        data: &[u8],
    ) -> Consumed {
        if let Some(timer) = timer.take() {
            cx.cancel_timer(timer);
        }
        *timer = cx.set_conn_timer(id, IDLE, TimerKey(1));
        cx.send(id, data).expect("the outbox has room");
        Consumed::all(data)
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, key: TimerKey) {
        cx.set_timer(BEAT, key);
    }
}

#[test]
fn echo_small() {
    let mut b = Bench::new(64, SMALL_BYTES, || Echo);
    main_experiment(&mut b, 100_000);
    b.stop();
}
#[test]
fn observe_small() {
    let mut b = Bench::new(64, SMALL_BYTES, || Observer { bytes: 0 });
    main_experiment(&mut b, 100_000);
    b.stop();
}
#[test]
fn timed_small() {
    let mut b = Bench::new(64, SMALL_BYTES, || Timed);
    main_experiment(&mut b, 100_000);
    b.stop();
}
#[test]
fn echo_large() {
    let mut b = Bench::new(8, LARGE_BYTES, || Echo);
    main_experiment(&mut b, 5000);
    b.stop();
}
#[test]
fn whole_large() {
    let mut b = Bench::new(8, LARGE_BYTES, || Whole);
    main_experiment(&mut b, 5000);
    b.stop();
}
