//! Datagram sockets of whole servers on real sockets: what comes with a datagram, runs of datagrams,
//! groups, overload, and loss that is counted to the last datagram.
//!
//! The tests run one at a time, because some of them look at the threads of the process.

mod facts;
mod flood;
mod runs;
mod stamps;

use ringline_core::{
    Admit, Config, ConfigBuilder, ConnId, Consumed, Ctx, Datagram, EventHandler, Peer, Running, Seat, Server,
    TimerKey, UdpClosed, UdpError, UdpId, UdpOptions,
};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(20);
/// How long a worker that is told to pause does so.
const PAUSE: Duration = Duration::from_secs(3);

fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a handler tells its test.
#[derive(Debug)]
enum Told {
    Arrived(Arrived),
    Error(UdpError),
    Closed(UdpClosed),
    Bound(SocketAddr),
}

#[derive(Debug)]
struct Arrived {
    worker: usize,
    data: Vec<u8>,
    from: SocketAddr,
    local: Option<IpAddr>,
    tos: Option<u8>,
    ecn: Option<u8>,
    at: Option<SystemTime>,
    full_len: usize,
    is_truncated: bool,
    segment_bytes: Option<u16>,
    segments: Vec<usize>,
}

/// Tells what arrives and sends it back. Some datagrams are orders.
struct Desk {
    seat: Seat,
    tell: Option<Sender<Told>>,
    on_start: fn(&mut Ctx<'_, Self>, &Sender<Told>),
    /// Whether it sends back what arrives.
    echoes: bool,
    paused: Option<UdpId>,
}

impl Desk {
    fn tell(&self, told: Told) {
        if let Some(tell) = &self.tell {
            // A test that does not listen has gone away on purpose.
            let _ = tell.send(told);
        }
    }

    fn obey(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, datagram: &Datagram<'_>) {
        match datagram.data() {
            b"pause" => {
                cx.pause_udp(socket);
                self.paused = Some(socket);
                cx.set_timer(PAUSE, TimerKey(0));
            }
            b"bind" => {
                let any = (Ipv4Addr::LOCALHOST, 0).into();
                let late = cx.bind_udp(any, &UdpOptions::default()).expect("a socket");
                self.tell(Told::Bound(cx.udp_local_addr(late).expect("it has just been bound")));
            }
            b"close" => cx.close_udp(socket),
            _ if !self.echoes => {}
            data => {
                let sent = match datagram.segment_bytes() {
                    Some(size) => cx.reply_segments(socket, datagram, size, data),
                    None => cx.reply(socket, datagram, data),
                };
                sent.expect("the queue has room");
            }
        }
    }
}

impl EventHandler for Desk {
    type Conn = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        if let Some(tell) = &self.tell {
            (self.on_start)(cx, tell);
        }
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Refuse
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_datagram(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, datagram: Datagram<'_>) {
        if self.tell.is_some() {
            self.tell(Told::Arrived(Arrived {
                worker: self.seat.worker,
                data: datagram.data().to_vec(),
                from: datagram.from(),
                local: datagram.local_addr(),
                tos: datagram.tos(),
                ecn: datagram.ecn(),
                at: datagram.received_at(),
                full_len: datagram.full_len(),
                is_truncated: datagram.is_truncated(),
                segment_bytes: datagram.segment_bytes(),
                segments: datagram.segments().map(<[u8]>::len).collect(),
            }));
        }
        self.obey(cx, socket, &datagram);
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, _: TimerKey) {
        if let Some(socket) = self.paused.take() {
            cx.resume_udp(socket);
        }
    }

    fn on_udp_error(&mut self, _: &mut Ctx<'_, Self>, _: UdpId, error: UdpError) {
        self.tell(Told::Error(error));
    }

    fn on_udp_close(&mut self, _: &mut Ctx<'_, Self>, _: UdpId, reason: UdpClosed) {
        self.tell(Told::Closed(reason));
    }
}

fn config(workers: usize) -> ConfigBuilder {
    Config::builder().workers(workers).pin(false)
}

fn server(config: ConfigBuilder) -> Server {
    Server::new(config.build().expect("the configuration is valid"))
}

fn launch(server: Server) -> (Running, Receiver<Told>) {
    launch_with(server, |_, _| {})
}

fn launch_with(server: Server, on_start: fn(&mut Ctx<'_, Desk>, &Sender<Told>)) -> (Running, Receiver<Told>) {
    launch_as(server, on_start, true)
}

/// A server that does what it is told when it starts, and answers nobody.
fn launch_sender(
    server: Server,
    on_start: fn(&mut Ctx<'_, Desk>, &Sender<Told>),
) -> (Running, Receiver<Told>) {
    launch_as(server, on_start, false)
}

fn launch_as(
    server: Server,
    on_start: fn(&mut Ctx<'_, Desk>, &Sender<Told>),
    echoes: bool,
) -> (Running, Receiver<Told>) {
    let (tell, told) = mpsc::channel();
    let make = move |seat| Desk { seat, tell: Some(tell.clone()), on_start, echoes, paused: None };
    (server.launch(make).expect("the server starts"), told)
}

/// A server that tells nobody, so that nothing grows.
fn launch_silent(server: Server) -> Running {
    let running =
        server.launch(|seat| Desk { seat, tell: None, on_start: |_, _| {}, echoes: true, paused: None });
    running.expect("the server starts")
}

fn client() -> UdpSocket {
    client_at((Ipv4Addr::LOCALHOST, 0).into())
}

fn client_at(addr: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(addr).expect("a socket");
    socket.set_read_timeout(Some(SOON)).expect("a socket option");
    socket
}

/// Sends one datagram and returns the answer and where it came from.
fn ask(client: &UdpSocket, to: SocketAddr, bytes: &[u8]) -> (Vec<u8>, SocketAddr) {
    client.send_to(bytes, to).expect("the datagram leaves");
    let mut answer = vec![0; 1 << 16];
    let (len, from) = client.recv_from(&mut answer).expect("an answer");
    answer.truncate(len);
    (answer, from)
}

/// The next datagram that the server has told of.
fn arrived(told: &Receiver<Told>) -> Arrived {
    loop {
        match told.recv_timeout(SOON).expect("a datagram") {
            Told::Arrived(arrived) => return arrived,
            other => drop(other),
        }
    }
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8).collect()
}

fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < until, "this never happens: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
