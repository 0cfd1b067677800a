//! Faults that other programs of this kind had, where no other test would notice them here. The whole list is
//! `docs/faults.md`.
//!
//! The tests run one at a time, because some of them count the threads and the descriptors of the process.

use ringline_core::metrics::Snapshot;
use ringline_core::testing::{Faults, PeerId, World};
use ringline_core::{
    Admit, Config, ConfigBuilder, ConnId, Consumed, Ctx, Eof, EventHandler, Peer, Running, Server,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(20);
/// More than sockets of the loopback network take without a reader.
const MUCH: usize = 16 << 20;

fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does what the first byte of a message says.
struct Obedient;

impl EventHandler for Obedient {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        match data[0] {
            b'p' => cx.pause_reads(id),
            b'm' => {
                cx.send(id, &vec![b'x'; MUCH]).expect("there is room for it");
            }
            b'n' => return Consumed::none().need(1 << 20),
            _ => {
                cx.send(id, data).expect("there is room for it");
            }
        }
        Consumed::all(data)
    }

    fn on_eof(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), _: &[u8]) -> Eof {
        Eof::KeepWriting
    }
}

fn config() -> ConfigBuilder {
    let roomy = Config::builder().outbox_bytes(MUCH).worker_outbox_bytes(32 * MUCH);
    roomy.workers(1).pin(false).linger(Duration::from_millis(100))
}

fn launch(config: ConfigBuilder) -> Running {
    let server = Server::new(config.build().expect("the configuration is valid"));
    let server = server.listen("127.0.0.1:0").expect("a port of the loopback network");
    server.launch(|_| Obedient).expect("the server starts")
}

fn connect(running: &Running) -> TcpStream {
    let stream = TcpStream::connect(running.local_addrs()[0]).expect("the server takes connections");
    stream.set_read_timeout(Some(SOON)).expect("a socket option");
    stream.set_write_timeout(Some(SOON)).expect("a socket option");
    stream
}

fn assert_serves(running: &Running) {
    let mut client = connect(running);
    client.write_all(b"echo").expect("the server reads");
    let mut echoed = [0; 4];
    client.read_exact(&mut echoed).expect("the server answers");
    assert_eq!(&echoed, b"echo");
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < until, "this never happens: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The threads of this process whose names begin like this, by their numbers.
fn threads(prefix: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has /proc").filter_map(Result::ok);
    // A thread may end between being listed and being looked at.
    let name =
        |task: &std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    let found = tasks.filter(|task| name(task).starts_with(prefix));
    found.map(|task| task.file_name().to_string_lossy().into_owned()).collect()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux has /proc").count()
}

/// Writes a command and waits until it shows in a count of the worker's.
fn tell(running: &Running, peer: &mut TcpStream, command: &[u8], count: fn(&Snapshot) -> u64) {
    let count = || count(&running.metrics().snapshot());
    let before = count();
    peer.write_all(command).expect("the server reads");
    wait_until("the worker has done as told", || count() > before);
}

/// Panics unless the only worker comes to rest and stays asleep.
fn assert_sleeps(running: &Running, while_what: &str) {
    let turns = || running.metrics().snapshot().turns;
    let (mut last, mut rested) = (turns(), 0);
    wait_until("the worker comes to rest", || {
        thread::sleep(Duration::from_millis(50));
        let now = turns();
        rested = if std::mem::replace(&mut last, now) == now { rested + 1 } else { 0 };
        rested == 8
    });
    thread::sleep(Duration::from_millis(400));
    assert_eq!(turns(), last, "{while_what}");
}

/// Panics unless the only worker soon does no more than to look at a full socket now and then. Whether it
/// has seen the end of the peer, so that the kernel cannot wait for it, depends on who was faster.
fn assert_dozes(running: &Running, while_what: &str) {
    let turns = || running.metrics().snapshot().turns;
    thread::sleep(Duration::from_millis(1500));
    let before = turns();
    thread::sleep(Duration::from_millis(1500));
    let taken = turns() - before;
    assert!(taken <= 8, "{while_what}: {taken} turns");
}

#[test]
fn a_signal_ends_a_wait_and_not_the_worker() {
    let _alone = alone();
    // Without a handler of its own the signal would end this process.
    let caught = std::sync::Arc::default();
    let id = signal_hook::flag::register(signal_hook::consts::SIGUSR1, std::sync::Arc::clone(&caught));
    let id = id.expect("the signal can be caught");
    let running = launch(config());
    assert_serves(&running);
    assert_sleeps(&running, "before the signal");
    let [worker] = &threads("ringline-")[..] else { panic!("there is one worker") };
    for _ in 0..5 {
        let turns = running.metrics().snapshot().turns;
        let sent = Command::new("kill").args(["-USR1", worker]).status().expect("there is `kill`");
        assert!(sent.success());
        wait_until("the signal ends the wait", || running.metrics().snapshot().turns > turns);
    }
    assert!(caught.load(std::sync::atomic::Ordering::SeqCst));
    assert_serves(&running);
    running.shutdown(SOON).expect("the worker ends well");
    signal_hook::low_level::unregister(id);
}

#[test]
fn servers_that_have_ended_leave_no_descriptor_behind() {
    let _alone = alone();
    let mut counts = Vec::new();
    for round in 0..6 {
        let running = launch(config().workers(2));
        let clients: Vec<_> = (0..20).map(|_| connect(&running)).collect();
        assert_serves(&running);
        if round % 2 == 0 {
            running.shutdown(SOON).expect("every worker ends well");
        } else {
            drop(running);
        }
        drop(clients);
        counts.push(descriptors());
    }
    assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?}");
}

#[test]
fn who_waits_for_a_peer_sleeps() {
    let _alone = alone();
    let running = launch(config());

    let mut paused = connect(&running);
    paused.set_write_timeout(Some(Duration::from_millis(300))).expect("a socket option");
    tell(&running, &mut paused, b"p", |counted| counted.reads_pauses);
    assert!(paused.write_all(&vec![b'x'; MUCH]).is_err(), "the peer is made to wait");
    assert_sleeps(&running, "a peer floods a connection that does not read");

    let mut needing = connect(&running);
    tell(&running, &mut needing, b"n", |counted| counted.receives);
    assert_sleeps(&running, "a handler needs more than there is");

    let mut deaf = connect(&running);
    tell(&running, &mut deaf, b"m", |counted| counted.sends);
    assert_sleeps(&running, "a peer does not read");

    let mut ended = connect(&running);
    tell(&running, &mut ended, b"m", |counted| counted.sends);
    ended.shutdown(Shutdown::Write).expect("it is connected");
    assert_dozes(&running, "a peer has ended its direction and does not read");

    let mut received = Vec::new();
    drop((paused, needing, deaf));
    let mut reader = ended.try_clone().expect("a descriptor");
    let reading = thread::spawn(move || {
        reader.read_to_end(&mut received).expect("an end, no reset");
        received.len()
    });
    running.shutdown(SOON).expect("every worker ends well");
    assert_eq!(reading.join().expect("no panic"), MUCH);
}

const FLOODERS: usize = 30;
const FLOOD_BYTES: usize = 20_000;

/// Many peers talk at once to a worker with next to no receive buffers. Returns how many turns it took.
fn flood(world: &mut World<Obedient>) -> u64 {
    let peers: Vec<PeerId> = (0..FLOODERS).map(|_| world.connect()).collect();
    let mut written = [0; FLOODERS];
    let mut echoed = [0; FLOODERS];
    let bytes = vec![b'x'; FLOOD_BYTES];
    let begin = world.turns();
    let done = world.run_until(|world| {
        for (at, peer) in peers.iter().enumerate() {
            written[at] += world.write(*peer, &bytes[written[at]..]);
            echoed[at] += world.read(*peer, usize::MAX).len();
        }
        echoed.iter().all(|echoed| *echoed == FLOOD_BYTES)
    });
    assert!(done, "{echoed:?}");
    for peer in peers {
        world.close(peer);
    }
    world.turns() - begin
}

#[test]
fn a_lack_of_receive_buffers_costs_turns_in_proportion_to_the_bytes() {
    let _alone = alone();
    let config = config().receive_buffers(2).receive_buffer_bytes(1024).build().expect("a valid one");

    let mut scarce = Faults::none();
    (scarce.receive_buffers, scarce.receive_buffer_bytes) = (2, 1024);
    let mut world = World::simulated(&config, 1, scarce, Obedient);
    let turns = flood(&mut world);
    let empty = world.metrics().buffers_empty;
    assert!(empty > 0, "there was a lack of buffers");
    let fewest = (FLOODERS * FLOOD_BYTES / 2048) as u64;
    assert!(turns < 4 * fewest, "{turns} turns for what {fewest} could bring");
    assert!(empty < turns * FLOODERS as u64, "an armed receive fails once a turn at most");
    world.shut_down(Duration::ZERO);
    world.finish();

    let mut world = World::loopback(&config, Obedient).expect("a ring and a listener");
    let turns = flood(&mut world);
    assert!(turns < 8 * fewest, "{turns} turns for what {fewest} could bring");
    world.shut_down(Duration::ZERO);
    world.finish();
}

#[test]
fn peers_that_have_ended_and_do_not_read_hold_no_threads_of_the_kernel() {
    const PEERS: usize = 12;
    let _alone = alone();
    let running = launch(config());
    let mut peers = Vec::new();
    for _ in 0..PEERS {
        let mut peer = connect(&running);
        peer.write_all(b"m").expect("the server reads");
        peer.shutdown(Shutdown::Write).expect("it is connected");
        peers.push(peer);
    }
    std::thread::sleep(Duration::from_millis(500));
    let held = threads("iou-wrk-").len();
    assert!(held <= PEERS / 2, "{held} threads of the kernel for {PEERS} connections");
    drop(peers);
    assert_serves(&running);
    drop(running);
}
