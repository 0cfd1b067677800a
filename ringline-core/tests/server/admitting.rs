//! Who gets in when several workers share the caps, and when all of them pause.

use super::{
    Echo, SOON, alone, assert_echoes, config, connect, next_accepted, stop, wait_until, worker_threads,
};
use crate::serving::sleeps;
use ringline_core::{Admit, ConnId, Consumed, Ctx, EventHandler, Peer, Running, Server};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

/// A client that comes from an address of its own choice.
fn connect_from(from: IpAddr, addr: SocketAddr) -> TcpStream {
    let from = SocketAddr::from((from, 0));
    let socket = Socket::new(Domain::for_address(from), Type::STREAM, None).expect("a socket");
    socket.bind(&from.into()).expect("the address is one of this host");
    socket.connect_timeout(&addr.into(), SOON).expect("the server takes connections");
    socket.set_read_timeout(Some(SOON)).expect("a socket option");
    socket.into()
}

/// Whether the server answers this client, or closes the connection instead.
fn is_served(stream: &mut TcpStream) -> bool {
    if stream.write_all(b"hello").is_err() {
        return false;
    }
    let mut answer = [0; 5];
    match stream.read_exact(&mut answer) {
        Ok(()) => answer == *b"hello",
        Err(error) => {
            let is_timeout = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
            assert!(!is_timeout, "neither served nor turned away");
            false
        }
    }
}

/// Of the clients, those that are served; the others are gone.
fn served(clients: impl Iterator<Item = TcpStream>) -> Vec<TcpStream> {
    // All of them are there before the first one is asked.
    let mut clients: Vec<_> = clients.collect();
    clients.retain_mut(is_served);
    clients
}

fn wait_active(running: &Running, count: usize) {
    let metrics = running.metrics().clone();
    wait_until("the others are gone", || metrics.snapshot().connections_active == count as i64);
}

#[test]
fn all_workers_together_serve_as_many_connections_as_the_cap_says() {
    let _alone = alone();
    let (factory, _told) = Echo::factory();
    let config = config(2).connections_max(20).build().unwrap();
    let running = Server::new(config).listen("127.0.0.1:0").unwrap().launch(factory).unwrap();
    let addr = running.local_addrs()[0];
    let mut clients = served((0..60).map(|_| connect(addr)));
    assert_eq!(clients.len(), 20);
    let counted = running.metrics().snapshot();
    assert_eq!((counted.connections_accepted, counted.connections_refused), (20, 40));
    assert_eq!((counted.refused_server, counted.refused_full, counted.refused_address), (40, 0, 0));
    for round in 1..=4 {
        clients.truncate(20 - 5 * round);
        wait_active(&running, clients.len());
        let next = served((0..30).map(|_| connect(addr)));
        assert_eq!(next.len(), 5 * round, "as many as have left");
        clients.extend(next);
    }
    assert_echoes(&mut clients[0], b"still here");
    let per_worker: Vec<_> =
        (0..2).map(|worker| running.metrics().worker(worker).connections_active).collect();
    assert_eq!(per_worker.iter().sum::<i64>(), 20, "{per_worker:?}");
    stop(running);
}

#[test]
fn every_address_has_a_cap_of_its_own() {
    let _alone = alone();
    let (factory, _told) = Echo::factory();
    let config = config(2).connections_per_address(3).connections_max(100).build().unwrap();
    let server = Server::new(config).listen("[::]:0").expect("this host has IPv6");
    let running = server.listen("127.0.0.1:0").unwrap().launch(factory).unwrap();
    let port = running.local_addrs()[0].port();
    let v4 = running.local_addrs()[1];
    let mut kept = Vec::new();
    for from in [[127, 0, 0, 1], [127, 0, 0, 2]] {
        // Three of them through the listener for IPv6, and then three more through the other one.
        let both = [SocketAddr::from(([127, 0, 0, 1], port)), v4];
        let clients = (0..10).map(|at| connect_from(from.into(), both[at % 2]));
        let clients = served(clients);
        assert_eq!(clients.len(), 3, "{from:?}");
        kept.push(clients);
    }
    let local: IpAddr = "::1".parse().unwrap();
    let sixth = SocketAddr::from((local, port));
    let clients = served((0..10).map(|_| connect_from(local, sixth)));
    assert_eq!(clients.len(), 3);
    kept.push(clients);
    let counted = running.metrics().snapshot();
    assert_eq!((counted.connections_refused, counted.refused_address), (21, 21));
    kept[1].clear();
    wait_active(&running, 6);
    assert_eq!(served((0..4).map(|_| connect_from([127, 0, 0, 1].into(), v4))).len(), 0);
    assert_eq!(served((0..4).map(|_| connect_from([127, 0, 0, 2].into(), v4))).len(), 3);
    stop(running);
}

#[test]
fn a_paused_server_leaves_its_peers_in_the_backlog_and_sleeps() {
    let _alone = alone();
    let (factory, told) = Echo::factory();
    let running =
        Server::new(config(2).build().unwrap()).listen("127.0.0.1:0").unwrap().launch(factory).unwrap();
    let addr = running.local_addrs()[0];
    let metrics = running.metrics().clone();
    let mut early = connect(addr);
    assert_echoes(&mut early, b"early");
    running.pause_accepts();
    running.pause_accepts();
    wait_until("both workers pause", || metrics.snapshot().accept_pauses == 2);
    thread::sleep(Duration::from_millis(300));
    let threads = worker_threads();
    let woken = || threads.iter().map(|thread| sleeps(*thread)).sum::<u64>();
    let (before, turns) = (woken(), metrics.snapshot().turns);
    let mut clients: Vec<_> = (0..20).map(|_| connect(addr)).collect();
    for client in &mut clients {
        client.write_all(b"hello").expect("the kernel takes it");
    }
    thread::sleep(Duration::from_secs(1));
    assert_eq!((woken(), metrics.snapshot().turns), (before, turns), "nobody wakes up for them");
    assert_eq!(metrics.snapshot().connections_accepted, 1);
    assert_echoes(&mut early, b"still served");
    running.resume_accepts();
    for client in &mut clients {
        let mut answer = [0; 5];
        client.read_exact(&mut answer).expect("all of them are served");
        assert_eq!(&answer, b"hello");
    }
    assert_eq!(metrics.snapshot().accept_pauses, 2);
    for _ in 0..21 {
        next_accepted(&told);
    }
    running.pause_accepts();
    let waiting = connect(addr);
    stop(running);
    assert!(matches!((&waiting).read(&mut [0]), Ok(0) | Err(_)), "nobody is left to serve it");
}

/// Echoes, except on worker 0, which accepts nobody.
struct OneSided;

impl EventHandler for OneSided {
    type Conn = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        if cx.seat().worker == 0 {
            cx.pause_accepts();
        }
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        cx.send(id, data).expect("a short message");
        Consumed::all(data)
    }
}

#[test]
fn a_paused_worker_does_not_slow_the_others_down() {
    let _alone = alone();
    let server = Server::new(config(2).build().unwrap());
    let running = server.listen("127.0.0.1:0").unwrap().launch(|_| OneSided).unwrap();
    let addr = running.local_addrs()[0];
    let mut clients: Vec<_> = (0..200).map(|_| connect(addr)).collect();
    for client in &mut clients {
        assert_echoes(client, b"hello");
    }
    let [paused, other] = [0, 1].map(|worker| running.metrics().worker(worker));
    assert_eq!((paused.connections_accepted, other.connections_accepted), (0, 200));
    assert_eq!(other.timers_fired, 0, "it does not rest to let the other one catch up");
    stop(running);
}
