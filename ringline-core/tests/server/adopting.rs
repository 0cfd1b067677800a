//! Sockets that were made elsewhere, on real servers.

use super::{SOON, alone, pattern, server, stop};
use ringline_core::{Admit, CloseReason, ConnId, Consumed, Ctx, EventHandler, Peer, Running};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};

/// Adopts one socket at its start and echoes.
struct Host {
    socket: Arc<Mutex<Option<OwnedFd>>>,
    tell: Sender<CloseReason>,
}

impl EventHandler for Host {
    type Conn = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        let socket = self.socket.lock().expect("nobody panics").take().expect("there is one worker");
        cx.adopt(socket, ()).expect("it is a connected stream");
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Refuse
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        match cx.send(id, data) {
            Ok(_) => Consumed::all(data),
            Err(_) => Consumed::none(),
        }
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): (), reason: CloseReason) {
        let _ = self.tell.send(reason);
    }
}

fn launch(socket: OwnedFd) -> (Running, Receiver<CloseReason>) {
    let (tell, told) = mpsc::channel();
    let socket = Arc::new(Mutex::new(Some(socket)));
    let running = server(1).launch(move |_| Host { socket: Arc::clone(&socket), tell: tell.clone() });
    (running.expect("the server starts"), told)
}

/// What comes back, in order, of bytes of which the first were written before the server was there.
fn check_echo(mut stream: impl Read + Write, socket: OwnedFd, half_close: impl Fn()) {
    stream.write_all(b"early").expect("there is room");
    let (running, told) = launch(socket);
    let bytes = pattern(50_000);
    stream.write_all(&bytes).expect("it is read");
    half_close();
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed).expect("it is answered, and then there is an end");
    assert!(echoed.starts_with(b"early") && echoed[5..] == bytes, "{} bytes came back", echoed.len());
    let reason = told.recv_timeout(SOON).expect("it is over");
    assert_eq!(reason, CloseReason::PeerClosed { unread: 0 });
    assert_eq!(running.metrics().snapshot().connections_adopted, 1);
    stop(running);
}

#[test]
fn a_unix_stream_that_does_not_block_becomes_a_connection() {
    let _alone = alone();
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    ours.set_nonblocking(true).expect("a socket option");
    theirs.set_read_timeout(Some(SOON)).expect("a socket option");
    check_echo(&theirs, ours.into(), || theirs.shutdown(std::net::Shutdown::Write).expect("it is open"));
}

#[test]
fn a_tcp_stream_becomes_a_connection() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let theirs = TcpStream::connect(listener.local_addr().expect("it is bound")).expect("it listens");
    let (ours, _) = listener.accept().expect("somebody has connected");
    theirs.set_read_timeout(Some(SOON)).expect("a socket option");
    check_echo(&theirs, ours.into(), || theirs.shutdown(std::net::Shutdown::Write).expect("it is open"));
}
