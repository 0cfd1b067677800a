//! Large and many sends over real sockets, against readers that are slow.

use super::config;
use super::tracked::Owners;
use ringline_core::testing::{Fault, Faults, World};
use ringline_core::{
    Admit, Chain, CloseReason, ConnId, Consumed, Ctx, EventHandler, OnBreak, Peer, Running, SendFailure,
    Sent, Server, TimerKey,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::{Duration, Instant};

/// How many messages are echoed; more of them find more.
const ROUNDS_VARIABLE: &str = "RINGLINE_ECHO_ROUNDS";
const ROUNDS: u64 = 100_000;
const ECHO_TIME_MAX: Duration = Duration::from_secs(60);
const CLIENTS: u64 = 4;
const PIPELINED: u64 = 24;
const LINK: usize = 3 << 20;
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes without a period that a mistake could hide in.
static TABLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mixed = |at: u64| ((at + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8;
    (0..4 * LINK as u64).map(|at| mixed(at * at)).collect()
});

/// Sends three links of 3 MiB, or as much in pieces, to everybody, and tells what became of it.
struct Giver {
    owners: Owners,
    told: Sender<(Vec<Sent>, CloseReason, usize)>,
    is_chain: bool,
    sent: Vec<Sent>,
}

impl EventHandler for Giver {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut ()) {
        let links = TABLE[..3 * LINK].chunks(LINK).map(|link| self.owners.lend(link.to_vec()));
        if self.is_chain {
            let mut chain = Chain::new();
            links.for_each(|link| chain.guard(link).expect("there are three links"));
            cx.send_chain(id, chain.on_break(OnBreak::Report).then_close()).expect("there is room");
        } else {
            for link in links {
                let (first, second) = (link.slice(..LINK / 2), link.slice(LINK / 2..));
                cx.send_guard(id, first).expect("there is room");
                cx.send(id, &second).expect("there is room");
            }
        }
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_send_complete(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), sent: Sent) {
        self.sent.push(sent);
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): (), reason: CloseReason) {
        let _ = self.told.send((std::mem::take(&mut self.sent), reason, self.owners.alive()));
    }
}

fn serve<H: EventHandler<Message = ()> + Send + 'static>(handler: H) -> (Running, SocketAddr) {
    let config = config().pin(false).outbox_bytes(64 << 20).worker_outbox_bytes(64 << 20);
    let server = Server::new(config.build().expect("the configuration is valid"));
    let handler = std::sync::Mutex::new(Some(handler));
    let running = server
        .listen("127.0.0.1:0")
        .expect("a port")
        .launch(move |_| handler.lock().expect("nobody panicked").take().expect("there is one worker"))
        .expect("a worker");
    let addr = running.local_addrs()[0];
    (running, addr)
}

fn connect(addr: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(addr).expect("the server listens");
    client.set_read_timeout(Some(READ_TIMEOUT)).expect("a socket has timeouts");
    client.set_nodelay(true).expect("a socket can do without delay");
    client
}

/// Reads to the end, with pauses.
fn read_slowly(client: &mut TcpStream) -> Vec<u8> {
    let (mut received, mut chunk) = (Vec::new(), vec![0; 48 << 10]);
    loop {
        match client.read(&mut chunk).expect("no reset, and no silence") {
            0 => return received,
            count => received.extend_from_slice(&chunk[..count]),
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_chain_to_a_slow_reader_arrives_without_a_hole() {
    let (told, tell) = mpsc::channel();
    let giver = Giver { owners: Owners::default(), told, is_chain: true, sent: Vec::new() };
    let owners = giver.owners.clone();
    let (running, addr) = serve(giver);
    let mut client = connect(addr);
    // Until the kernel's buffers are full.
    thread::sleep(Duration::from_millis(50));
    let received = read_slowly(&mut client);
    assert!(received == TABLE[..3 * LINK], "{} bytes arrived", received.len());
    drop(client);
    let (sent, reason, alive) = tell.recv_timeout(READ_TIMEOUT).expect("on_close comes");
    assert_eq!((reason, alive, owners.made()), (CloseReason::Closed, 0, 3));
    assert!(owners.are_untouched());
    let [Sent { through: 1, bytes, result: Ok(()), .. }] = sent[..] else { panic!("{sent:?}") };
    assert_eq!(bytes as usize, 3 * LINK);
    running.shutdown(Duration::from_secs(5)).expect("the server ends");
}

#[test]
fn what_is_queued_at_a_shutdown_arrives_whole() {
    let (told, tell) = mpsc::channel();
    let giver = Giver { owners: Owners::default(), told, is_chain: false, sent: Vec::new() };
    let (running, addr) = serve(giver);
    let mut client = connect(addr);
    client.read_exact(&mut [0; 1]).expect("it has begun");
    let stopping = thread::spawn(move || running.shutdown(Duration::from_secs(20)));
    thread::sleep(Duration::from_millis(20));
    let received = read_slowly(&mut client);
    assert!(received == TABLE[1..3 * LINK], "{} bytes arrived", received.len());
    drop(client);
    let begin = Instant::now();
    stopping.join().expect("no panic").expect("the server ends");
    assert!(begin.elapsed() < Duration::from_secs(3), "nobody waits for anything more");
    let (sent, reason, alive) = tell.recv_timeout(READ_TIMEOUT).expect("on_close comes");
    assert_eq!((reason, alive), (CloseReason::Shutdown, 0));
    assert!(sent.iter().all(|sent| sent.result.is_ok()));
}

/// Sends back what it has received without copying it if it can.
struct Mirror {
    held: Arc<AtomicU64>,
}

impl EventHandler for Mirror {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        match cx.forward(id, data) {
            Ok(_) => {
                self.held.fetch_add(1, Ordering::Relaxed);
                Consumed::all(data)
            }
            Err(_) => Consumed::none(),
        }
    }
}

/// The message of a round: 64 bytes to 4 KiB.
fn message(client: u64, round: u64) -> &'static [u8] {
    let mixed = (round * CLIENTS + client + 1).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 16;
    let (at, len) = (mixed as usize % LINK, 64 + (mixed >> 24) as usize % (4096 - 63));
    &TABLE[at..at + len]
}

fn converse(addr: SocketAddr, client: u64, rounds: u64) {
    let mut stream = connect(addr);
    let (mut request, mut answer) = (Vec::new(), Vec::new());
    let mut round = 0;
    while round < rounds {
        request.clear();
        let end = (round + 1 + round % PIPELINED).min(rounds);
        (round..end).for_each(|round| request.extend_from_slice(message(client, round)));
        stream.write_all(&request).expect("the server reads");
        answer.resize(request.len(), 0);
        stream.read_exact(&mut answer).expect("the server answers");
        assert!(answer == request, "client {client}, rounds {round}..{end} came back changed");
        round = end;
    }
}

#[test]
fn a_pipelined_echo_from_receive_buffers_brings_every_byte_back() {
    let rounds = std::env::var(ROUNDS_VARIABLE).map_or(ROUNDS, |text| text.parse().expect("a number"));
    let held = Arc::new(AtomicU64::new(0));
    let (running, addr) = serve(Mirror { held: Arc::clone(&held) });
    let begin = Instant::now();
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || converse(addr, client, rounds / CLIENTS));
        }
    });
    let took = begin.elapsed();
    println!("{rounds} rounds in {took:.1?}");
    assert!(took < ECHO_TIME_MAX, "{rounds} rounds took {took:?}");
    assert!(held.load(Ordering::Relaxed) > 0);
    running.shutdown(Duration::from_secs(5)).expect("the server ends");
}

/// Counts what is reported.
#[derive(Default)]
struct Listener {
    opened: Option<ConnId>,
    sent: Vec<Sent>,
    reason: Option<CloseReason>,
}

impl EventHandler for Listener {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, _: &Peer) -> Admit<()> {
        self.opened = Some(id);
        Admit::Accept(())
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_send_complete(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), sent: Sent) {
        self.sent.push(sent);
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): (), reason: CloseReason) {
        self.reason = Some(reason);
    }
}

/// A world whose sockets take 1,000 bytes at a time, with one connection.
fn small(faults: Faults) -> (World<Listener>, ringline_core::testing::PeerId, ConnId) {
    let config = config().zero_copy_threshold(100).build().expect("the configuration is valid");
    let mut faults = faults;
    faults.send_buffer_bytes = 1000;
    let mut world = World::simulated(&config, 1, faults, Listener::default());
    let peer = world.connect();
    assert!(world.run_until(|world| world.handler().opened.is_some()), "the connection opens");
    world.sleep(Duration::from_millis(1));
    let id = world.handler().opened.expect("it is open");
    (world, peer, id)
}

#[test]
fn a_socket_that_cannot_do_without_copying_is_sent_copies() {
    for seed in 0..10 {
        let (mut world, peer, id) = small(Faults::none().with(Fault::NoZeroCopy, 1000));
        let owners = Owners::default();
        let bytes = TABLE[seed..seed + 9000].to_vec();
        world.act(|_, cx| {
            let mut chain = Chain::new();
            chain.guard(owners.lend(bytes[..4000].to_vec())).expect("there is room");
            cx.send_chain(id, chain).expect("there is room");
            cx.send_guard(id, owners.lend(bytes[4000..].to_vec())).expect("there is room");
        });
        assert!(world.read_exactly(peer, bytes.len()) == bytes);
        assert!(world.run_until(|world| world.handler().sent.last().is_some_and(|sent| sent.through == 2)));
        assert_eq!(owners.alive(), 0);
        assert_eq!(world.struck(Fault::NoZeroCopy), 1, "it is asked once");
        world.finish();
    }
}

/// What a chain does that breaks after 1,000 bytes of two links of 2,000, with a send behind it.
fn break_one(on_break: OnBreak) -> (Vec<Sent>, Option<CloseReason>, Vec<u8>) {
    let (mut world, peer, id) = small(Faults::none());
    let owners = Owners::default();
    world.act(|_, cx| {
        let mut chain = Chain::new();
        chain.guard(owners.lend(vec![1; 2000])).expect("there is room");
        chain.guard(owners.lend(vec![2; 2000])).expect("there is room");
        cx.send_chain(id, chain.on_break(on_break)).expect("there is room");
        cx.send(id, b"behind").expect("there is room");
    });
    // The first try takes what there is room for, and what is left waits.
    world.sleep(Duration::from_millis(5));
    let mut faults = Faults::none().with(Fault::ShortWaitingSend, 1000);
    faults.send_buffer_bytes = 1000;
    world.set_faults(faults);
    let mut received = Vec::new();
    for _ in 0..100 {
        received.extend(world.read(peer, 500));
        world.sleep(Duration::from_millis(1));
    }
    received.extend(world.read(peer, usize::MAX));
    assert_eq!(owners.alive(), 0, "nothing is kept");
    let (sent, reason) = (world.handler().sent.clone(), world.handler().reason);
    world.finish();
    (sent, reason, received)
}

#[test]
fn a_chain_that_breaks_does_what_it_was_told() {
    let whole = [vec![1; 2000], vec![2; 2000], b"behind".to_vec()].concat();
    let (sent, reason, received) = break_one(OnBreak::Resume);
    assert_eq!((reason, received), (None, whole));
    assert!(sent.iter().all(|sent| sent.result.is_ok()));

    let (sent, reason, received) = break_one(OnBreak::Report);
    let Err(SendFailure::Broken { sent: out, of: 4000 }) = sent[0].result else { panic!("{sent:?}") };
    assert!((1000..4000).contains(&out) && sent[0].through == 1, "{sent:?}");
    assert!(sent[1].through == 2 && sent[1].result.is_ok() && sent.len() == 2, "{sent:?}");
    assert_eq!(reason, None, "the connection goes on");
    assert_eq!(
        received,
        [vec![1; out.min(2000) as usize], vec![2; out.saturating_sub(2000) as usize], b"behind".to_vec()]
            .concat()
    );

    let (sent, reason, _) = break_one(OnBreak::Abort);
    let Some(CloseReason::ChainBroken { sent: out, of: 4000 }) = reason else { panic!("{reason:?}") };
    assert!((1000..4000).contains(&out), "{out}");
    let last = sent.last().expect("it is reported");
    assert!(last.through == 2 && last.result.is_err(), "{sent:?}");
}

/// The first try of a chain that is copied does not wait, and falls short as any send may.
#[test]
fn a_chain_of_copies_breaks_only_when_it_waits() {
    for breaks in [false, true] {
        let (mut world, peer, id) = small(Faults::none());
        world.act(|_, cx| {
            let mut chain = Chain::new();
            chain.copy(&[1; 2000]).expect("there is room");
            chain.copy(&[2; 2000]).expect("there is room");
            cx.send_chain(id, chain.on_break(OnBreak::Report)).map(drop).expect("there is room");
        });
        world.sleep(Duration::from_millis(5));
        if breaks {
            world.set_faults(Faults::none().with(Fault::ShortWaitingSend, 1000));
        }
        let mut received = Vec::new();
        for _ in 0..50 {
            received.extend(world.read(peer, 500));
            world.sleep(Duration::from_millis(1));
        }
        let [sent] = world.handler().sent[..] else { panic!("{:?}", world.handler().sent) };
        assert_eq!(sent.through, 1);
        if breaks {
            let Err(SendFailure::Broken { sent: out, of: 4000 }) = sent.result else { panic!("{sent:?}") };
            assert_eq!(received.len() as u64, out);
        } else {
            assert_eq!((sent.result, received.len()), (Ok(()), 4000));
        }
        world.finish();
    }
}

/// Answers each message of 10 bytes with 6,000, and counts how often it is asked.
#[derive(Default)]
struct Verbose {
    opened: Vec<ConnId>,
    asked: usize,
}

impl EventHandler for Verbose {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, _: &Peer) -> Admit<()> {
        self.opened.push(id);
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        self.asked += 1;
        match cx.send(id, &data[..10].repeat(600)) {
            Ok(_) => Consumed::bytes(10),
            Err(_) => Consumed::none(),
        }
    }
}

#[test]
fn who_finds_no_room_on_the_worker_is_not_asked_over_and_over() {
    let config = config().outbox_bytes(10_000).worker_outbox_bytes(10_000);
    let config = config.outbox_high_bytes(9000).outbox_low_bytes(1000).build().expect("it is valid");
    let mut faults = Faults::none();
    faults.send_buffer_bytes = 1000;
    let mut world = World::simulated(&config, 1, faults, Verbose::default());
    let (greedy, peer) = (world.connect(), world.connect());
    assert!(world.run_until(|world| world.handler().opened.len() == 2), "both open");
    let id = world.handler().opened[0];
    // Far from the limit, but not far enough for an answer.
    world.act(|_, cx| cx.send(id, &[7; 7000]).map(drop)).expect("there is room");
    world.sleep(Duration::from_millis(5));
    world.write_all(peer, b"0123456789");
    for _ in 0..100 {
        // Otherwise the next turn would be that of the greedy peer's deadline.
        world.act(|_, cx| cx.set_timer(Duration::from_millis(1), TimerKey(0)));
        world.turn();
    }
    assert_eq!(world.handler().asked, 1, "nothing has changed");
    let (mut drained, mut answer) = (0, Vec::new());
    for _ in 0..40 {
        drained += world.read(greedy, usize::MAX).len();
        answer.extend(world.read(peer, usize::MAX));
        world.sleep(Duration::from_millis(1));
    }
    assert_eq!(drained, 7000);
    assert!(answer == b"0123456789".repeat(600), "{} bytes were answered", answer.len());
    assert_eq!(world.handler().asked, 2);
    world.finish();
}

#[test]
fn a_guard_that_is_never_acknowledged_comes_back_at_the_deadline() {
    let (mut world, peer, id) = small(Faults::none());
    let owners = Owners::default();
    // The first 1,000 bytes are copied, the rest is lent to the kernel while there is room for it.
    world.act(|_, cx| cx.send_guard(id, owners.lend(vec![7; 1800])).map(drop)).expect("there is room");
    world.sleep(Duration::from_millis(2));
    assert_eq!(world.read_exactly(peer, 900).len(), 900);
    world.sleep(Duration::from_millis(2));
    world.act(|_, cx| cx.close(id));
    assert!(world.run_until(|world| world.handler().reason.is_some()), "it ends");
    assert_eq!(owners.alive(), 0);
    let timeout = ringline_core::Limit::CloseTimeout;
    assert_eq!(world.handler().reason, Some(CloseReason::LimitExceeded(timeout)));
    assert!(world.saw_reset(peer));
    world.finish();
}
