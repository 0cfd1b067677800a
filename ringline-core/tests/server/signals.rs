//! Signals of the process as callbacks. Each test runs in a process of its own.

use super::{SOON, alone, config};
use ringline_core::signal::{ShutdownSignal, Signal};
use ringline_core::{Admit, ConnId, Consumed, Ctx, EventHandler, LaunchError, Peer, Running, Seat, Server};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

/// Tells of signals, and ends the server on `SIGTERM`.
struct Listener {
    seat: Seat,
    tell: Sender<(usize, Signal)>,
    /// Blocks the worker for that long with each signal.
    nap: Duration,
}

impl EventHandler for Listener {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Refuse
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_signal(&mut self, cx: &mut Ctx<'_, Self>, signal: Signal) {
        let _ = self.tell.send((self.seat.worker, signal));
        std::thread::sleep(self.nap);
        if signal == Signal::Terminate {
            cx.shut_down(SOON);
        }
    }
}

fn server(workers: usize) -> Server {
    Server::new(config(workers).build().expect("the configuration is valid"))
}

fn launch(server: Server, nap: Duration) -> (Running, Receiver<(usize, Signal)>) {
    let (tell, told) = mpsc::channel();
    let running = server.launch(move |seat| Listener { seat, tell: tell.clone(), nap });
    (running.expect("the server starts"), told)
}

fn refusal(server: Server) -> LaunchError {
    let (tell, _told) = mpsc::channel();
    let launched = server.launch(move |seat| Listener { seat, tell: tell.clone(), nap: Duration::ZERO });
    launched.expect_err("it cannot start")
}

fn raise(signal: Signal) {
    signal_hook::low_level::raise(signal.number()).expect("a signal");
}

fn next(told: &Receiver<(usize, Signal)>) -> (usize, Signal) {
    told.recv_timeout(SOON).expect("the signal comes")
}

/// Runs `body` in a process of its own, because signals belong to processes, and returns how that
/// ended: this program again, told to run only the test `name`.
fn in_child(name: &str, body: fn()) -> ExitStatus {
    const MARK: &str = "RINGLINE_SERVER_SIGNAL_CHILD";
    if std::env::var_os(MARK).is_some() {
        body();
        std::process::exit(0);
    }
    let _alone = alone();
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", &format!("signals::{name}"), "--nocapture"])
        .env(MARK, "1")
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs again");
    let deadline = Instant::now() + 2 * SOON;
    loop {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().expect("it is ours");
            child.wait().expect("it is ours");
            panic!("the child did not end in time");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn signals_come_to_the_worker_that_was_chosen() {
    let status = in_child("signals_come_to_the_worker_that_was_chosen", || {
        let server = server(2).signals(1, &[Signal::Hangup, Signal::User1]).signals(0, &[Signal::User2]);
        let (running, told) = launch(server, Duration::ZERO);
        for (signal, worker) in
            [(Signal::Hangup, 1), (Signal::User2, 0), (Signal::User1, 1), (Signal::Hangup, 1)]
        {
            raise(signal);
            assert_eq!(next(&told), (worker, signal));
        }
        assert_eq!(running.metrics().worker(1).signals, 3);
        running.shutdown(SOON).expect("it ends well");
    });
    assert!(status.success(), "{status}");
}

#[test]
fn signals_merge_but_none_is_lost() {
    let status = in_child("signals_merge_but_none_is_lost", || {
        let server = server(1).signals(0, &[Signal::Hangup, Signal::User1, Signal::Terminate]);
        let (running, told) = launch(server, Duration::from_millis(5));
        for _ in 0..1000 {
            raise(Signal::Hangup);
        }
        raise(Signal::User1);
        raise(Signal::Terminate);
        running.join().expect("the handler has ended the server");
        let told: Vec<_> = told.try_iter().map(|(_, signal)| signal).collect();
        assert!(told.contains(&Signal::Hangup) && told.contains(&Signal::User1));
        let ends = told.iter().filter(|&&signal| signal == Signal::Terminate).count();
        assert_eq!(ends, 1);
        assert!(told.len() < 500, "{} calls: those of a kind merge", told.len());
    });
    assert!(status.success(), "{status}");
}

#[test]
fn a_handler_ends_the_whole_server() {
    let status = in_child("a_handler_ends_the_whole_server", || {
        let (running, told) = launch(server(3).signals(2, &[Signal::Terminate]), Duration::ZERO);
        raise(Signal::Terminate);
        running.join().expect("every worker ends well");
        assert_eq!(next(&told), (2, Signal::Terminate));
    });
    assert!(status.success(), "{status}");
}

#[test]
fn a_signal_has_its_default_action_back_when_the_server_has_ended() {
    let status = in_child("a_signal_has_its_default_action_back_when_the_server_has_ended", || {
        for _ in 0..3 {
            let (running, told) = launch(server(1).signals(0, &[Signal::Hangup]), Duration::ZERO);
            raise(Signal::Hangup);
            assert_eq!(next(&told), (0, Signal::Hangup));
            running.shutdown(SOON).expect("it ends well");
        }
        raise(Signal::Hangup);
    });
    assert_eq!(status.signal(), Some(Signal::Hangup.number()), "{status}");
}

#[test]
fn one_server_of_two_keeps_the_signal() {
    let status = in_child("one_server_of_two_keeps_the_signal", || {
        let (first, _) = launch(server(1).signals(0, &[Signal::Terminate]), Duration::ZERO);
        let (second, told) = launch(server(1).signals(0, &[Signal::Terminate]), Duration::ZERO);
        first.shutdown(SOON).expect("it ends well");
        raise(Signal::Terminate);
        assert_eq!(next(&told), (0, Signal::Terminate));
        second.join().expect("it ends well");
        raise(Signal::Terminate);
    });
    assert_eq!(status.signal(), Some(Signal::Terminate.number()), "{status}");
}

#[test]
fn what_cannot_be_had_is_said_and_leaves_nothing() {
    let status = in_child("what_cannot_be_had_is_said_and_leaves_nothing", || {
        let error = refusal(server(1).signals(0, &[Signal::Kill]));
        assert_eq!(error.to_string(), "SIGKILL cannot be caught; leave it out of Server::signals");
        let error = refusal(server(1).signals(1, &[Signal::Hangup]));
        assert!(matches!(error, LaunchError::SignalWorker { worker: 1, workers: 1 }), "{error}");
        let signal = ShutdownSignal::install().expect("nobody has it");
        let error = refusal(server(1).signals(0, &[Signal::Hangup, Signal::Terminate]));
        assert!(matches!(error, LaunchError::Signal { signal: Signal::Terminate, .. }), "{error}");
        drop(signal);
        let (running, told) = launch(server(1).signals(0, &[Signal::Terminate]), Duration::ZERO);
        let taken = ShutdownSignal::install().expect_err("a server has it");
        assert_eq!(taken.kind(), std::io::ErrorKind::AlreadyExists);
        raise(Signal::Terminate);
        running.join().expect("it ends well");
        assert_eq!(told.try_iter().count(), 1);
        let mut signal = ShutdownSignal::install().expect("nobody has it any more");
        raise(Signal::Terminate);
        assert_eq!(signal.wait(), Signal::Terminate.number());
        drop(signal);
        raise(Signal::Hangup);
    });
    assert_eq!(status.signal(), Some(Signal::Hangup.number()), "{status}");
}

#[test]
fn a_shutdown_signal_works_beside_other_signals() {
    let status = in_child("a_shutdown_signal_works_beside_other_signals", || {
        let signal = ShutdownSignal::install().expect("nobody has it");
        let (running, told) = launch(server(1).signals(0, &[Signal::Hangup]), Duration::ZERO);
        raise(Signal::Hangup);
        assert_eq!(next(&told), (0, Signal::Hangup));
        raise(Signal::Terminate);
        running.run_until(signal, SOON).expect("it ends well");
    });
    assert!(status.success(), "{status}");
}
