//! Jobs and names on real threads.

use super::{SOON, alone, config, threads, wait_until, worker_threads};
use ringline_core::{
    Admit, ConfigBuilder, ConnId, Consumed, Ctx, EventHandler, JobFailed, JobKey, Peer, ResolveError,
    RunError, Running, Server,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

type Work = Box<dyn FnOnce() -> Order + Send>;

/// What a test wants done, and what a job returns.
enum Order {
    Run(Work),
    Resolve(&'static str),
    Value(u64),
}

#[derive(Debug, PartialEq)]
enum Told {
    Value(usize, u64),
    Failed(JobFailed),
    Names(Result<Vec<SocketAddr>, ResolveError>),
}

/// Gives everything it is told away.
struct Foreman(Sender<Told>);

impl EventHandler for Foreman {
    type Conn = ();
    type Message = Order;

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Refuse
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, order: Order) {
        match order {
            Order::Run(work) => drop(cx.run_blocking(JobKey(0), work).expect("there is room")),
            Order::Resolve(host) => drop(cx.resolve(host, 80, JobKey(0)).expect("there is room")),
            Order::Value(_) => {}
        }
    }

    fn on_job(&mut self, cx: &mut Ctx<'_, Self>, _: JobKey, result: Result<Order, JobFailed>) {
        let told = match result {
            Ok(Order::Value(value)) => Told::Value(cx.seat().worker, value),
            Ok(_) => return,
            Err(failed) => Told::Failed(failed),
        };
        // A test that does not listen has gone away on purpose.
        let _ = self.0.send(told);
    }

    fn on_resolved(
        &mut self,
        _: &mut Ctx<'_, Self>,
        _: JobKey,
        result: Result<Vec<SocketAddr>, ResolveError>,
    ) {
        let _ = self.0.send(Told::Names(result));
    }
}

fn launch(config: ConfigBuilder) -> (Running<Order>, Receiver<Told>) {
    let (tell, told) = mpsc::channel();
    let server = Server::new(config.build().expect("the configuration is valid"));
    (server.launch(move |_| Foreman(tell.clone())).expect("a server"), told)
}

fn run(running: &Running<Order>, worker: usize, work: impl FnOnce() -> u64 + Send + 'static) {
    let work: Work = Box::new(|| Order::Value(work()));
    assert!(running.post(worker, Order::Run(work)).is_ok(), "there is room");
}

fn resolve(running: &Running<Order>, host: &'static str) {
    assert!(running.post(0, Order::Resolve(host)).is_ok(), "there is room");
}

fn stop(running: Running<Order>) {
    running.shutdown(SOON).expect("every worker ends well");
    wait_until("the threads end", || worker_threads().is_empty() && pool_threads() == 0);
}

/// How many threads there are that are no workers.
fn pool_threads() -> usize {
    threads(|rest| rest.starts_with("job-") || rest.starts_with("dns-")).len()
}

/// A door that jobs wait at.
#[derive(Default)]
struct Door {
    is_open: Mutex<bool>,
    opened: Condvar,
    waiting: AtomicUsize,
}

impl Door {
    fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let is_open = self.is_open.lock().expect("nobody panics here");
        drop(self.opened.wait_while(is_open, |is_open| !*is_open).expect("nobody panics here"));
    }

    fn open(&self) {
        *self.is_open.lock().expect("nobody panics here") = true;
        self.opened.notify_all();
    }
}

#[test]
fn threads_come_when_they_are_needed_and_no_more_than_allowed() {
    let _alone = alone();
    let (running, told) = launch(config(2).blocking_threads(3));
    assert_eq!(pool_threads(), 0, "nobody has asked for a job");
    let door = Arc::new(Door::default());
    for value in 0..6 {
        let door = Arc::clone(&door);
        run(&running, value as usize % 2, move || {
            door.pass();
            value
        });
    }
    wait_until("three jobs run", || door.waiting.load(Ordering::SeqCst) == 3);
    thread::sleep(Duration::from_millis(20));
    assert_eq!((door.waiting.load(Ordering::SeqCst), pool_threads()), (3, 3));
    door.open();
    let mut seen = Vec::new();
    for _ in 0..6 {
        let Ok(Told::Value(worker, value)) = told.recv_timeout(SOON) else { panic!("a value") };
        assert_eq!(worker, value as usize % 2, "the answer comes to the worker that asked");
        seen.push(value);
    }
    seen.sort_unstable();
    assert_eq!(seen, [0, 1, 2, 3, 4, 5]);
    stop(running);
}

#[test]
fn a_thread_of_a_job_is_not_pinned_with_the_worker_that_started_it() {
    let _alone = alone();
    let (running, told) = launch(config(1).pin(true));
    let cpus = || {
        let status = std::fs::read_to_string("/proc/thread-self/status").expect("Linux has /proc");
        let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list")).expect("it is there");
        line.to_owned()
    };
    let expected = cpus();
    run(&running, 0, move || u64::from(cpus() == expected));
    assert_eq!(told.recv_timeout(SOON), Ok(Told::Value(0, 1)));
    stop(running);
}

#[test]
fn a_shutdown_waits_for_a_job_that_runs() {
    let _alone = alone();
    let (running, told) = launch(config(1));
    let door = Arc::new(Door::default());
    let inner = Arc::clone(&door);
    run(&running, 0, move || {
        inner.pass();
        7
    });
    wait_until("the job runs", || door.waiting.load(Ordering::SeqCst) == 1);
    let opener = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        door.open();
    });
    let begin = Instant::now();
    running.shutdown(SOON).expect("the job ends in time");
    assert!(begin.elapsed() >= Duration::from_millis(90), "{:?}", begin.elapsed());
    assert_eq!(told.recv_timeout(SOON), Ok(Told::Value(0, 7)), "and its answer is delivered");
    opener.join().expect("it opens the door");
    wait_until("the threads end", || worker_threads().is_empty() && pool_threads() == 0);
}

#[test]
fn a_job_that_does_not_return_is_left_at_the_deadline() {
    let _alone = alone();
    let (running, told) = launch(config(1).blocking_threads(1));
    let door = Arc::new(Door::default());
    for value in 0..3 {
        let inner = Arc::clone(&door);
        run(&running, 0, move || {
            inner.pass();
            value
        });
    }
    wait_until("the first job runs", || door.waiting.load(Ordering::SeqCst) == 1);
    wait_until("the others wait", || running.metrics().snapshot().jobs == 3);
    let begin = Instant::now();
    let end = running.shutdown(Duration::from_millis(100));
    assert!(matches!(end, Err(RunError::JobsLeft { jobs: 1 })), "{end:?}");
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    for _ in 0..3 {
        let told = told.recv_timeout(SOON);
        assert_eq!(told, Ok(Told::Failed(JobFailed::Cancelled)), "each is answered");
    }
    door.open();
    wait_until("it ends after all", || worker_threads().is_empty() && pool_threads() == 0);
    assert_eq!(door.waiting.load(Ordering::SeqCst), 1, "what had not begun never does");
}

#[test]
fn the_system_resolves_names_while_jobs_block() {
    let _alone = alone();
    let (running, told) = launch(config(1).blocking_threads(1));
    let door = Arc::new(Door::default());
    let inner = Arc::clone(&door);
    run(&running, 0, move || {
        inner.pass();
        0
    });
    wait_until("the job runs", || door.waiting.load(Ordering::SeqCst) == 1);
    // A guest has no resolver.
    if std::env::var_os("RINGLINE_GUEST").is_none() {
        resolve(&running, "localhost");
        let Ok(Told::Names(Ok(found))) = told.recv_timeout(SOON) else { panic!("localhost has addresses") };
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 80), "{found:?}");
        let mut once = found.clone();
        once.dedup();
        assert_eq!(once, found);
        resolve(&running, "no-such-host.invalid");
        let answer = told.recv_timeout(SOON);
        let is_right = matches!(
            answer,
            Ok(Told::Names(Err(ResolveError::NotFound
                | ResolveError::TryAgain
                | ResolveError::Failed { .. })))
        );
        assert!(is_right, "{answer:?}");
    }
    resolve(&running, "127.0.0.1");
    let expected = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 80);
    assert_eq!(told.recv_timeout(SOON), Ok(Told::Names(Ok(vec![expected]))));
    door.open();
    assert_eq!(told.recv_timeout(SOON), Ok(Told::Value(0, 0)));
    stop(running);
}
