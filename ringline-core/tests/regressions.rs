//! Faults that a deliberate breakage of the core could bring back without any other test noticing.

#[path = "regressions/scarce.rs"]
mod scarce;
#[path = "regressions/sending.rs"]
mod sending;
#[path = "common/tracked.rs"]
mod tracked;
#[path = "regressions/unheard.rs"]
mod unheard;

use ringline_core::testing::{Fault, Faults, PeerId, World};
use ringline_core::{
    Admit, Config, ConfigBuilder, ConnId, Consumed, Ctx, EventHandler, Peer, Server, TimerKey,
};
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Admits everybody, consumes everything and says nothing.
#[derive(Debug, Default)]
struct Quiet {
    opened: Vec<ConnId>,
    writable: usize,
    closed: usize,
}

impl EventHandler for Quiet {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_open(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, (): &mut ()) {
        self.opened.push(id);
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_writable(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut ()) {
        self.writable += 1;
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): (), _: ringline_core::CloseReason) {
        self.closed += 1;
    }
}

fn config() -> ConfigBuilder {
    Config::builder().workers(1)
}

fn simulated(config: ConfigBuilder, faults: Faults) -> World<Quiet> {
    let config = config.build().expect("the configuration is valid");
    World::simulated(&config, 1, faults, Quiet::default())
}

fn connect(world: &mut World<Quiet>) -> (PeerId, ConnId) {
    let peer = world.connect();
    let opened = world.handler().opened.len();
    assert!(world.run_until(|world| world.handler().opened.len() > opened), "the connection opens");
    // By then, everything that the start of a connection takes is with the kernel.
    world.sleep(Duration::from_millis(1));
    (peer, world.handler().opened[opened])
}

/// The queue is full when the stage is, and the next bytes are staged while the first still wait.
#[test]
fn a_send_that_waits_for_the_queue_with_a_full_stage_leaves_the_stage_usable() {
    const STAGE: usize = 4096;
    let mut world = simulated(config().stage_bytes(STAGE as u32), Faults::none());
    let (peer, id) = connect(&mut world);
    let send = |world: &mut World<Quiet>, len: usize| {
        let bytes = vec![7; len];
        world.act(|_, cx| cx.send(id, &bytes)).expect("an outbox has room for that");
    };
    send(&mut world, STAGE);
    world.set_faults(Faults::none().with(Fault::QueueFull, 1000));
    world.turn();
    send(&mut world, STAGE);
    world.set_faults(Faults::none());
    assert_eq!(world.read_exactly(peer, 2 * STAGE), vec![7; 2 * STAGE]);
    let before = world.metrics();
    for _ in 0..3 {
        send(&mut world, 100);
        assert_eq!(world.read_exactly(peer, 100), [7; 100]);
    }
    let after = world.metrics();
    assert_eq!(after.sends - before.sends, 3);
    assert_eq!(after.pool_waits, before.pool_waits, "bytes that fit the stage need no block");
    world.finish();
}

/// A send is left in the kernel's queue while more is sent than the stage has room for.
#[test]
fn the_rest_of_a_short_send_stays_in_front_of_what_came_later() {
    let bytes: Vec<u8> = (0..11_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut faults = Faults::none();
    faults.send_buffer_bytes = 1000;
    let mut world = simulated(config().stage_bytes(4096), faults.clone());
    let (peer, id) = connect(&mut world);
    let send = |world: &mut World<Quiet>, bytes: &[u8]| {
        world.act(|_, cx| cx.send(id, bytes)).expect("an outbox has room for that");
    };
    send(&mut world, &bytes[..3000]);
    world.set_faults(faults.clone().with(Fault::LeftInQueue, 1000));
    world.turn();
    send(&mut world, &bytes[3000..7000]);
    send(&mut world, &bytes[7000..]);
    world.set_faults(faults);
    let received = world.read_exactly(peer, bytes.len());
    assert!(received == bytes, "the bytes arrive in another order");
    world.finish();
}

/// The handler is not told of such a timer, so only the count of timers shows it.
#[test]
fn no_timer_of_a_connection_is_left_when_it_is_gone() {
    const HOUR: Duration = Duration::from_secs(3600);
    for cancelled in 0..4 {
        let mut world = simulated(config(), Faults::none());
        let (peer, id) = connect(&mut world);
        world.act(|_, cx| {
            let timers: Vec<_> =
                (0..3).filter_map(|key| cx.set_conn_timer(id, HOUR, TimerKey(key))).collect();
            assert_eq!(timers.len(), 3);
            if let Some(timer) = timers.get(cancelled) {
                assert!(cx.cancel_timer(*timer));
            }
        });
        world.close(peer);
        assert!(world.run_until(|world| world.handler().closed == 1), "the connection ends");
        let before = world.metrics().timers_fired;
        world.sleep(2 * HOUR);
        assert_eq!(world.metrics().timers_fired, before, "timer {cancelled} was cancelled");
        world.finish();
    }
}

/// Who does not read on does not notice the end either, and waits for nothing.
#[test]
fn a_closed_connection_is_gone_as_soon_as_its_peer_has_ended() {
    let mut world = simulated(config().linger(Duration::from_secs(600)), Faults::none());
    let (peer, id) = connect(&mut world);
    world.act(|_, cx| cx.close(id));
    assert!(world.run_until(|world| world.saw_eof(peer)), "our direction ends");
    assert_eq!(world.write(peer, b"last words"), 10);
    world.end(peer);
    let ended = world.elapsed();
    assert!(world.run_until(|world| world.handler().closed == 1), "the connection ends");
    assert!(world.elapsed() - ended < Duration::from_secs(1), "nobody waited for `linger` to pass");
    assert!(!world.saw_reset(peer));
    world.finish();
}

/// Does something with a connection whose handler does not look at completed sends, and waits for what
/// follows from it. The only other thing that could happen is a timer far away.
fn happens_soon(
    what: &str,
    act: impl Fn(&mut Ctx<'_, Quiet>, ConnId),
    mut follows: impl FnMut(&mut World<Quiet>, PeerId) -> bool,
) {
    let mut world = simulated(config().outbox_high_bytes(1000).outbox_low_bytes(100), Faults::none());
    let (peer, id) = connect(&mut world);
    // The first completion shows that nobody looks at them.
    world.act(|_, cx| cx.send(id, b"hello")).expect("an outbox has room for that");
    assert_eq!(world.read_exactly(peer, 5), b"hello");
    world.sleep(Duration::from_millis(1));
    world.act(|_, cx| cx.set_timer(Duration::from_secs(5), TimerKey(1)));
    let begin = world.elapsed();
    world.act(|_, cx| act(cx, id));
    let follows = world.run_until(|world| {
        world.read(peer, usize::MAX);
        follows(world, peer)
    });
    assert!(follows, "{what} never comes");
    assert!(world.elapsed() - begin < Duration::from_secs(1), "{what} waits for something else to happen");
    world.finish();
}

#[test]
fn what_hangs_on_a_send_does_not_wait_for_another_event() {
    let send = |cx: &mut Ctx<'_, Quiet>, id, len| {
        cx.send(id, &vec![7; len]).expect("an outbox has room for that");
    };
    let half_close = |cx: &mut Ctx<'_, Quiet>, id| {
        send(cx, id, 10);
        cx.shutdown_write(id);
    };
    let close = |cx: &mut Ctx<'_, Quiet>, id| {
        send(cx, id, 10);
        cx.close(id);
    };
    happens_soon("the end of our direction", half_close, World::saw_eof);
    happens_soon("the end of a closed connection", close, World::saw_eof);
    happens_soon("on_writable", |cx, id| send(cx, id, 2000), |world, _| world.handler().writable == 1);
}

/// Pauses at the first sight of data, and consumes it in small portions later.
#[derive(Debug, Default)]
struct Nibbler {
    opened: Option<ConnId>,
    has_paused: bool,
    consumed: usize,
}

impl EventHandler for Nibbler {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, _: &Peer) -> Admit<()> {
        self.opened = Some(id);
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        if !self.has_paused {
            self.has_paused = true;
            cx.pause_reads(id);
            return Consumed::none();
        }
        let portion = data.len().min(1000);
        self.consumed += portion;
        Consumed::bytes(portion)
    }
}

#[test]
fn a_handler_that_gets_on_with_an_overfull_inbox_is_called_until_it_is_not() {
    const LIMIT: usize = 5000;
    let sent = [7; 12_000];
    let config = config().inbox_bytes(LIMIT).build().expect("the configuration is valid");
    let mut world = World::simulated(&config, 1, Faults::none(), Nibbler::default());
    let peer = world.connect();
    assert!(world.run_until(|world| world.handler().opened.is_some()), "the connection opens");
    world.sleep(Duration::from_millis(1));
    assert_eq!(world.write(peer, &sent), sent.len());
    world.sleep(Duration::from_millis(1));
    assert!(world.handler().has_paused, "the bytes have arrived");
    world.act(|handler, cx| handler.opened.into_iter().for_each(|id| cx.resume_reads(id)));
    let gets_on = world.run_until(|world| sent.len() - world.handler().consumed <= LIMIT);
    assert!(gets_on, "only {} bytes were consumed", world.handler().consumed);
    world.finish();
}

/// Sends more than any socket takes to everybody.
#[derive(Debug)]
struct Flood;

impl EventHandler for Flood {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut ()) {
        cx.send(id, &vec![7; 32 << 20]).expect("the outbox is large enough");
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }
}

#[test]
fn a_server_that_drains_has_given_its_port_back() {
    let config = config()
        .pin(false)
        .outbox_bytes(64 << 20)
        .worker_outbox_bytes(64 << 20)
        .build()
        .expect("the configuration is valid");
    let server = Server::new(config).listen("127.0.0.1:0").expect("a port");
    let running = server.launch(|_| Flood).expect("a worker");
    let addr = running.local_addrs()[0];
    let mut client = TcpStream::connect(addr).expect("the server listens");
    client.read_exact(&mut [0]).expect("the flood has begun");
    let is_over = Arc::new(AtomicBool::new(false));
    let stopping = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            let result = running.shutdown(Duration::from_secs(20));
            is_over.store(true, Ordering::Relaxed);
            result
        }
    });
    let until = Instant::now() + Duration::from_secs(10);
    while TcpListener::bind(addr).is_err() {
        assert!(Instant::now() < until, "the port is still taken");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(!is_over.load(Ordering::Relaxed), "the client has not read, so the server still drains");
    drop(client);
    stopping.join().expect("no panic").expect("the server ends");
}

/// Stopping and continuing a process interrupts the waits of all its threads.
#[test]
fn a_worker_that_is_interrupted_while_it_waits_goes_on() {
    const MARK: &str = "RINGLINE_REGRESSION_CHILD";
    const NAME: &str = "a_worker_that_is_interrupted_while_it_waits_goes_on";
    if std::env::var_os(MARK).is_some() {
        let config = config().build().expect("the configuration is valid");
        let mut world = World::loopback(&config, Quiet::default()).expect("a ring and a listener");
        let is_over = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&is_over);
        std::thread::spawn(move || {
            // The parent has no more to say.
            let _ = std::io::stdin().read(&mut [0]);
            end.store(true, Ordering::Relaxed);
        });
        while !is_over.load(Ordering::Relaxed) {
            world.turn();
        }
        world.finish();
        return;
    }
    let mut child = Command::new(std::env::current_exe().expect("this program has a path"))
        .args(["--exact", NAME])
        .env(MARK, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the child starts");
    let interrupt = "for i in $(seq 100); do kill -STOP $0; kill -CONT $0; sleep 0.005; done";
    let interrupted = Command::new("sh").args(["-c", interrupt, &child.id().to_string()]).status();
    drop(child.stdin.take());
    let status = child.wait().expect("the child ends");
    assert!(interrupted.is_ok_and(|status| status.success()), "the child lived to the last interruption");
    assert!(status.success(), "{status}");
}
