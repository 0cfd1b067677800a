//! Whole servers on real sockets: listeners, threads, starting, stopping and what can go wrong.
//!
//! The tests run one at a time, because some of them count the threads and the metrics of the
//! process.

mod admitting;
mod adopting;
mod children;
mod clients;
mod connecting;
mod leaving;
mod mailing;
mod rogue;
mod serving;
mod signals;
mod starting;
mod stopping;
mod unix;
mod working;

use ringline_core::net::Addr;
use ringline_core::{
    Admit, CloseReason, Config, ConfigBuilder, ConnId, Consumed, Ctx, EventHandler, Peer, Running, Seat,
    SendError, Server,
};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
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
    Accepted { worker: usize, addr: Addr, listener: usize },
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
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, peer: &Peer) -> Admit<Rc<()>> {
        let (addr, listener) = (peer.addr().clone(), peer.listener().index());
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

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect()
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
fn next_accepted(told: &Receiver<Told>) -> (usize, Addr, usize) {
    loop {
        if let Told::Accepted { worker, addr, listener } = told.recv_timeout(SOON).expect("a connection") {
            return (worker, addr, listener);
        }
    }
}

/// The threads of all workers, by their numbers.
fn worker_threads() -> Vec<u64> {
    threads(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// The threads of the process whose names go on like this behind `ringline-`.
fn threads(goes_on: impl Fn(&str) -> bool) -> Vec<u64> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has /proc");
    // A thread may end between being listed and being looked at.
    let name = |task: &std::path::Path| std::fs::read_to_string(task.join("comm")).unwrap_or_default();
    let is_wanted = |task: &std::path::Path| name(task).strip_prefix("ringline-").is_some_and(&goes_on);
    let tasks = tasks.filter_map(Result::ok).filter(|task| is_wanted(&task.path()));
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
