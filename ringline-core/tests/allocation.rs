//! A worker in its steady state does not ask the allocator for anything.
//!
//! The allocator of this program counts what the thread of a worker asks it for. Lists inside the
//! worker may still grow while the load is new; from some point on there is nothing left to grow.
#![allow(unsafe_code)]

use ringline_core::{
    Admit, Config, ConnId, Consumed, Ctx, Datagram, EventHandler, Peer, Running, Sent, Server, TimerId,
    TimerKey, UdpId, UdpOptions,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(30);
const SMALL_BYTES: usize = 64;
const LARGE_BYTES: usize = 100 << 10;
/// Clients with small messages, and with large ones, of which each may occupy two large blocks.
const SMALL_CLIENTS: usize = 64;
const LARGE_CLIENTS: usize = 8;
/// How many lists may grow once more in a run that should find them all long enough.
const GROWTH_MAX: u64 = 8;

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

// SAFETY: the system's allocator keeps the contract, and every call is passed on to it unchanged.
// Counting touches only numbers that are in place already.
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

/// How many messages a run has; a small machine that is emulated gets fewer.
fn count(messages: usize) -> usize {
    if std::env::var_os("RINGLINE_GUEST").is_some() { messages / 20 } else { messages }
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
    fn new<H: EventHandler<Message = ()> + 'static>(
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

    /// Wants `messages` in a row for which the worker's thread asks for no memory at all, after as
    /// many to warm up. A list of the worker may still grow once it is the longest ever, which
    /// cannot go on: lists double.
    fn assert_settles(&mut self, messages: usize) {
        self.exchange(messages);
        for _ in 0..3 {
            let calls = self.exchange(messages);
            if calls == 0 {
                return;
            }
            assert!(calls <= GROWTH_MAX, "{calls} allocations in {messages} messages, {:?}", self.tally);
        }
        panic!("it never settles: {:?}", self.tally);
    }

    fn stop(self) {
        drop(self.clients);
        self.running.shutdown(SOON).expect("the worker ends well");
    }
}

struct Echo;

impl EventHandler for Echo {
    type Conn = ();
    type Message = ();

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
    type Message = ();

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
    type Message = ();

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

/// Longer than any run.
const IDLE: Duration = Duration::from_secs(3600);
const BEAT: Duration = Duration::from_millis(1);

impl EventHandler for Timed {
    type Conn = Option<TimerId>;
    type Message = ();

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
fn an_echo_of_small_messages_takes_no_memory() {
    let mut bench = Bench::new(SMALL_CLIENTS, SMALL_BYTES, || Echo);
    bench.assert_settles(count(100_000));
    bench.stop();
}

#[test]
fn watching_completed_sends_takes_no_memory() {
    let mut bench = Bench::new(SMALL_CLIENTS, SMALL_BYTES, || Observer { bytes: 0 });
    bench.assert_settles(count(100_000));
    bench.stop();
}

#[test]
fn timers_that_move_with_every_message_take_no_memory() {
    let mut bench = Bench::new(SMALL_CLIENTS, SMALL_BYTES, || Timed);
    bench.assert_settles(count(100_000));
    let fired = bench.running.metrics().snapshot().timers_fired;
    assert!(fired > 0, "the worker's own timer fired meanwhile");
    bench.stop();
}

/// More than the stage holds goes through blocks, which come back.
#[test]
fn an_echo_of_large_messages_takes_no_memory() {
    let mut bench = Bench::new(LARGE_CLIENTS, LARGE_BYTES, || Echo);
    bench.assert_settles(count(4_000));
    bench.stop();
}

/// A message that the handler wants whole is put together in memory of its own, which goes back
/// when the message is consumed: one allocation that holds all of it, and one to give it back.
#[test]
fn a_large_message_in_one_piece_takes_memory_once() {
    let mut bench = Bench::new(LARGE_CLIENTS, LARGE_BYTES, || Whole);
    let messages = count(4_000);
    bench.exchange(messages);
    let calls = bench.exchange(messages);
    let most = 2 * messages as u64 + GROWTH_MAX;
    assert!(calls <= most, "{calls} allocations in {messages} messages, {:?}", bench.tally);
    bench.stop();
}

/// Sends datagrams back: to an address, and from the one that was asked.
struct Post;

impl EventHandler for Post {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Refuse
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_datagram(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, datagram: Datagram<'_>) {
        cx.reply(socket, &datagram, datagram.data()).expect("the queue has room");
    }
}

#[test]
fn an_echo_of_datagrams_takes_no_memory() {
    for addr in ["127.0.0.1:0", "0.0.0.0:0"] {
        let tally: &'static Tally = Box::leak(Box::default());
        let config = Config::builder().workers(1).pin(false).build().expect("the configuration is valid");
        let running = Server::new(config)
            .bind_udp(addr, &UdpOptions::default())
            .expect("the loopback network has a free port")
            .launch(move |_seat| {
                TALLY.set(Some(tally));
                Post
            })
            .expect("the server starts");
        let to = (Ipv4Addr::LOCALHOST, running.udp_addrs()[0].port());
        let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        client.set_read_timeout(Some(SOON)).expect("a socket option");
        let exchange = |datagrams: usize| {
            let before = tally.calls.load(Ordering::Relaxed);
            // As many at once as the smallest socket buffer holds.
            for _ in 0..datagrams / 32 {
                for at in 0..32_usize {
                    client.send_to(&[at as u8; 1400][..40 * (at + 1)], to).expect("the datagram leaves");
                }
                for _ in 0..32 {
                    client.recv(&mut [0; 1500]).expect("an answer");
                }
            }
            tally.calls.load(Ordering::Relaxed) - before
        };
        exchange(count(100_000));
        let settles = (0..3).any(|_| {
            let calls = exchange(count(100_000));
            assert!(calls <= GROWTH_MAX, "{calls} allocations, {tally:?}");
            calls == 0
        });
        assert!(settles, "it never settles: {tally:?}");
        running.shutdown(SOON).expect("the worker ends well");
    }
}

/// Without this, a worker that is not counted would pass.
#[test]
fn an_allocation_of_the_handler_is_seen() {
    struct Wasteful;

    impl EventHandler for Wasteful {
        type Conn = ();
        type Message = ();

        fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
            Admit::Accept(())
        }

        fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
            cx.send(id, &std::hint::black_box(data.to_vec())).expect("the outbox has room");
            Consumed::all(data)
        }
    }

    let mut bench = Bench::new(1, SMALL_BYTES, || Wasteful);
    bench.exchange(100);
    let calls = bench.exchange(100);
    assert!(calls >= 100, "{calls} of 100 allocations were counted");
    bench.stop();
}
