//! Servers that connect to others, and programs that do nothing else.

use super::{SOON, alone, config, pattern, stop};
use ringline_core::{Admit, CloseReason, ConnId, Consumed, Ctx, EventHandler, Peer, Running, Server};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::thread;

/// Connects when it starts, sends, and tells what came back when the peer ends.
struct Client {
    addr: SocketAddr,
    bytes: Vec<u8>,
    tell: Sender<(Vec<u8>, CloseReason)>,
}

impl EventHandler for Client {
    type Conn = Vec<u8>;
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        cx.connect(self.addr, Vec::new()).expect("the worker has no other connection");
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<Vec<u8>> {
        Admit::Refuse
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, _: &mut Vec<u8>) {
        cx.send(id, &self.bytes).expect("a new connection has room");
        cx.shutdown_write(id);
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, seen: &mut Vec<u8>, data: &[u8]) -> Consumed {
        seen.extend_from_slice(data);
        Consumed::all(data)
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, seen: Vec<u8>, reason: CloseReason) {
        // A test that does not listen has gone away on purpose.
        let _ = self.tell.send((seen, reason));
    }
}

#[test]
fn a_program_without_listeners_connects_from_on_start() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let addr = listener.local_addr().expect("it is bound");
    let (tell, told) = mpsc::channel();
    let bytes = pattern(200_000);
    let sent = bytes.clone();
    let config = config(2).build().expect("the configuration is valid");
    let running = Server::new(config)
        .launch(move |_| Client { addr, bytes: bytes.clone(), tell: tell.clone() })
        .expect("no listener is needed");
    for _ in 0..2 {
        let (mut stream, _) = listener.accept().expect("a worker connects");
        stream.set_read_timeout(Some(SOON)).expect("a socket option");
        let mut seen = Vec::new();
        stream.read_to_end(&mut seen).expect("the worker ends its direction");
        assert_eq!(seen, sent);
        stream.write_all(b"thanks").expect("the worker reads");
        drop(stream);
        let (answer, reason) = told.recv_timeout(SOON).expect("on_close");
        assert_eq!((answer.as_slice(), reason), (&b"thanks"[..], CloseReason::PeerClosed { unread: 0 }));
    }
    stop(running);
}

/// Whose end of a pair a connection is.
#[derive(Debug)]
struct Side {
    other: Option<ConnId>,
}

/// Passes bytes on, both ways.
struct Proxy {
    upstream: SocketAddr,
}

impl EventHandler for Proxy {
    type Conn = Side;
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<Side> {
        Admit::Accept(Side { other: None })
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, side: &mut Side) {
        match side.other {
            Some(client) => cx.resume_reads(client),
            None => match cx.connect(self.upstream, Side { other: Some(id) }) {
                Ok(upstream) => {
                    side.other = Some(upstream);
                    cx.pause_reads(id);
                }
                Err(_) => cx.close(id),
            },
        }
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, side: &mut Side, data: &[u8]) -> Consumed {
        let other = side.other.expect("it is read only when there is one");
        match cx.forward(other, data) {
            Ok(_) => Consumed::all(data),
            Err(ringline_core::SendError::Full { .. } | ringline_core::SendError::WorkerFull { .. }) => {
                Consumed::none()
            }
            Err(_) => {
                cx.abort(id);
                Consumed::all(data)
            }
        }
    }

    fn on_eof(&mut self, cx: &mut Ctx<'_, Self>, _: ConnId, side: &mut Side, _: &[u8]) -> ringline_core::Eof {
        if let Some(other) = side.other {
            cx.shutdown_write(other);
        }
        ringline_core::Eof::KeepWriting
    }

    fn on_close(&mut self, cx: &mut Ctx<'_, Self>, _: ConnId, side: Side, _: CloseReason) {
        if let Some(other) = side.other {
            cx.close(other);
        }
    }
}

fn proxy(upstream: SocketAddr) -> Running {
    let config = config(1).build().expect("the configuration is valid");
    let server = Server::new(config).listen("127.0.0.1:0").expect("a listener");
    server.launch(move |_| Proxy { upstream }).expect("a server")
}

#[test]
fn a_proxy_passes_bytes_and_ends_on_both_ways() {
    let _alone = alone();
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let running = proxy(upstream.local_addr().expect("it is bound"));
    let mut client = super::connect(running.local_addrs()[0]);
    let (mut behind, _) = upstream.accept().expect("the proxy connects");
    behind.set_read_timeout(Some(SOON)).expect("a socket option");
    let bytes = pattern(1 << 20);
    let (mut writer, sent) = (client.try_clone().expect("a descriptor"), bytes.clone());
    let writing = thread::spawn(move || {
        writer.write_all(&sent).expect("the proxy reads");
        writer.shutdown(Shutdown::Write).expect("it is connected");
    });
    let mut seen = Vec::new();
    behind.read_to_end(&mut seen).expect("the end comes through");
    writing.join().expect("the writer ends");
    assert_eq!(seen.len(), bytes.len());
    assert!(seen == bytes, "the bytes come through as they were");
    // The other way still works.
    behind.write_all(b"answer").expect("the proxy reads");
    behind.shutdown(Shutdown::Write).expect("it is connected");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("the end comes back");
    assert_eq!(answer, b"answer");
    stop(running);
}

#[test]
fn either_side_of_a_proxy_may_die_and_the_other_is_told() {
    let _alone = alone();
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let running = proxy(upstream.local_addr().expect("it is bound"));
    let ends = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(SOON)).expect("a socket option");
        let mut rest = Vec::new();
        // An end or a reset; a timeout is neither.
        match stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    };
    for dies_behind in [false, true] {
        let client = super::connect(running.local_addrs()[0]);
        let (behind, _) = upstream.accept().expect("the proxy connects");
        let (dying, other) = if dies_behind { (behind, client) } else { (client, behind) };
        socket2::SockRef::from(&dying).set_linger(Some(std::time::Duration::ZERO)).expect("a socket option");
        drop(dying);
        ends(other);
    }
    // Nobody behind it any more: the client is told, too.
    drop(upstream);
    ends(super::connect(running.local_addrs()[0]));
    stop(running);
}
