//! Starting: either every worker serves, or nothing is left and the error says why.

use super::rogue::Rogue;
use super::{
    Echo, SOON, alone, assert_echoes, connect, next_accepted, server, stop, wait_until, worker_threads,
};
use ringline_core::{Ctx, EventHandler, LaunchError, ListenError, TimerKey};
use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

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

/// Only connects, if at all; has something against its start on one worker.
struct Reluctant {
    fails_to_start: bool,
    told: Sender<bool>,
}

impl EventHandler for Reluctant {
    type Conn = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        if self.fails_to_start {
            assert!(cx.fail_start("there is no table"));
            assert!(cx.fail_start(std::fmt::Error), "the first counts");
        }
        cx.set_timer(Duration::ZERO, TimerKey(0));
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, _: TimerKey) {
        let _ = self.told.send(cx.fail_start("too late"));
    }
}

#[test]
fn what_a_handler_has_against_its_start_is_the_error_and_leaves_nothing_behind() {
    let _alone = alone();
    let (addr, (told, tells)) = (free_port(), mpsc::channel());
    let launch = |failing: Option<usize>| {
        let told = told.clone();
        server(2).listen(addr).unwrap().launch(move |seat| Reluctant {
            fails_to_start: failing == Some(seat.worker),
            told: told.clone(),
        })
    };
    let error = launch(Some(1)).expect_err("worker 1 does not want to");
    assert!(matches!(error, LaunchError::Start { worker: 1, .. }), "{error:?}");
    assert_eq!(error.to_string(), "worker 1 does not start: there is no table");
    wait_until("every thread ends", || worker_threads().is_empty());
    let running = launch(None).expect("the port is free again");
    assert_eq!(tells.recv_timeout(SOON), Ok(false), "later it is no start any more");
    // Who has no `on_accept` takes nobody.
    let refused = connect(addr).read(&mut [0]);
    assert!(matches!(refused, Ok(0) | Err(_)), "{refused:?}");
    assert_eq!(running.metrics().snapshot().connections_refused, 1);
    stop(running);
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
