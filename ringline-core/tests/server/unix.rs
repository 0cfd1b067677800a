//! Servers on Unix sockets, and what connections can be told before they are made.

use super::{Echo, SOON, Told, alone, assert_echoes, config, next_accepted, pattern, server, stop};
use ringline_core::net::{Addr, Credentials, UnixAddr, UnixListenError, UnixListenOptions};
use ringline_core::{
    Admit, CloseReason, ConnId, ConnectOptions, Consumed, Ctx, EventHandler, ListenError, ListenOptions,
    OptionRefused, Peer, Running, Server, SocketOptions, TimerKey,
};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

/// A directory of its own for one test, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringline-server-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn path(&self) -> PathBuf {
        self.0.join("s")
    }

    fn addr(&self) -> UnixAddr {
        UnixAddr::path(self.path()).expect("a short path")
    }

    fn connect(&self) -> UnixStream {
        patient(UnixStream::connect(self.path()).expect("the server listens"))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn patient(stream: UnixStream) -> UnixStream {
    stream.set_read_timeout(Some(SOON)).expect("a socket option");
    stream.set_write_timeout(Some(SOON)).expect("a socket option");
    stream
}

fn listen(server: Server, addr: UnixAddr) -> Server {
    server.listen_unix(addr, &UnixListenOptions::default()).expect("nothing is in the way")
}

/// Writes everything while it reads everything back, then ends its direction and reads to the end.
fn exchange(mut stream: UnixStream, bytes: &[u8]) {
    let (mut writer, sent) = (stream.try_clone().expect("a descriptor"), bytes.to_vec());
    let writing = thread::spawn(move || {
        writer.write_all(&sent).expect("the server reads");
        writer.shutdown(Shutdown::Write).expect("it is connected");
    });
    let mut echoed = Vec::new();
    stream.read_to_end(&mut echoed).expect("everything and the end");
    writing.join().expect("the writer ends");
    assert!(echoed == bytes, "{} of {} bytes came back", echoed.len(), bytes.len());
}

#[test]
fn a_server_on_a_path_and_a_port_serves_both_and_removes_its_file() {
    let _alone = alone();
    let folder = Folder::new("both");
    let (factory, told) = Echo::factory();
    let server = listen(server(2).listen("127.0.0.1:0").unwrap(), folder.addr());
    let running = listen(server, UnixAddr::unnamed()).launch(factory).unwrap();
    assert_eq!(running.local_addrs().len(), 1, "IP addresses alone");
    let addrs = running.listen_addrs().to_vec();
    assert_eq!(addrs[0], running.local_addrs()[0]);
    assert_eq!(addrs[1], Addr::from(folder.addr()));
    let name = addrs[2].unix().and_then(UnixAddr::as_abstract_name).expect("a name").to_vec();
    let abstract_addr = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();

    exchange(folder.connect(), &pattern(3 << 20));
    let (_, seen, listener) = next_accepted(&told);
    assert_eq!((seen, listener), (UnixAddr::unnamed().into(), 1));
    exchange(patient(UnixStream::connect_addr(&abstract_addr).unwrap()), b"hello");
    assert_eq!(next_accepted(&told).2, 2);
    assert_echoes(&mut super::connect(running.local_addrs()[0]), b"hello");
    assert_eq!(next_accepted(&told).2, 0);
    stop(running);
    assert!(!folder.path().exists(), "the file goes with the server");
}

/// Tells who its peers are.
struct Doorman(Sender<(Addr, Option<Credentials>, usize)>);

impl EventHandler for Doorman {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, peer: &Peer) -> Admit<()> {
        self.0.send((peer.addr().clone(), peer.credentials(), peer.listener().index())).expect("a test");
        Admit::Refuse
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }
}

#[test]
fn peers_come_with_their_name_and_their_credentials() {
    let _alone = alone();
    let folder = Folder::new("credentials");
    let (tell, told) = mpsc::channel();
    let server = listen(server(1).listen("127.0.0.1:0").unwrap(), folder.addr());
    let running = server.launch(move |_| Doorman(tell.clone())).unwrap();
    let own = std::fs::metadata("/proc/self").unwrap();
    let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let name = folder.0.join("client");
    client.bind(&socket2::SockAddr::unix(&name).unwrap()).unwrap();
    client.connect(&socket2::SockAddr::unix(folder.path()).unwrap()).unwrap();
    let (addr, credentials, listener) = told.recv_timeout(SOON).expect("on_accept");
    assert_eq!(addr, Addr::from(UnixAddr::path(&name).unwrap()));
    let credentials = credentials.expect("a client of a Unix socket has some");
    assert_eq!(credentials.pid, std::process::id());
    assert_eq!((credentials.uid, credentials.gid), (own.uid(), own.gid()));
    assert_eq!(running.listen_addr(listener_of(&running, listener)), Some(&folder.addr().into()));
    drop(super::connect(running.local_addrs()[0]));
    let (addr, credentials, _) = told.recv_timeout(SOON).expect("on_accept");
    assert!(addr.ip().is_some() && credentials.is_none());
    stop(running);
}

/// The id of a listener comes with a peer; here its place is enough.
fn listener_of(running: &Running, index: usize) -> ringline_core::ListenerId {
    let (tell, told) = mpsc::channel();
    let name = running.listen_addrs()[index].clone();
    assert!(name.unix().is_some());
    let probe = Server::new(config(1).build().unwrap()).listen("127.0.0.1:0").unwrap();
    let probe = listen(probe, UnixAddr::unnamed()).launch(move |_| Ids(tell.clone())).unwrap();
    let own = probe.listen_addrs()[index].unix().and_then(UnixAddr::as_abstract_name).unwrap().to_vec();
    let own = std::os::unix::net::SocketAddr::from_abstract_name(own).unwrap();
    drop(UnixStream::connect_addr(&own).unwrap());
    let id = told.recv_timeout(SOON).expect("on_accept");
    probe.shutdown(SOON).expect("every worker ends well");
    id
}

struct Ids(Sender<ringline_core::ListenerId>);

impl EventHandler for Ids {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, peer: &Peer) -> Admit<()> {
        self.0.send(peer.listener()).expect("a test");
        Admit::Refuse
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }
}

#[test]
fn twenty_servers_on_one_path_follow_each_other_and_two_at_once_do_not() {
    let _alone = alone();
    let folder = Folder::new("restarts");
    let options = UnixListenOptions::default().mode(0o600);
    for _ in 0..20 {
        let (factory, _told) = Echo::factory();
        let running = server(1).listen_unix(folder.addr(), &options).unwrap().launch(factory).unwrap();
        let mode = std::fs::metadata(folder.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let mut client = folder.connect();
        client.write_all(b"hello").unwrap();
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
        let second = server(1).listen_unix(folder.addr(), &options).unwrap_err();
        assert!(matches!(second, ListenError::Unix(UnixListenError::InUse { .. })), "{second}");
        drop(client);
        stop(running);
    }
}

#[test]
fn a_successor_can_listen_while_old_connections_drain() {
    let _alone = alone();
    let folder = Folder::new("drain");
    let (running, _told) = giver(&folder, &UnixListenOptions::default());
    let mut client = folder.connect();
    let metrics = running.metrics().clone();
    super::wait_until("it is accepted", || metrics.snapshot().connections_accepted == 1);
    let stopping = thread::spawn(move || running.shutdown(SOON));
    super::wait_until("the file goes", || !folder.path().exists());
    let (factory, _told) = Echo::factory();
    let successor = listen(server(1), folder.addr()).launch(factory).unwrap();
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).expect("everything and the end");
    assert!(seen == pattern(GIFT), "{} bytes arrived", seen.len());
    drop(client);
    stopping.join().expect("a thread").expect("every worker ends well");
    exchange(folder.connect(), b"successor");
    stop(successor);
}

/// How much a giver has for everybody.
const GIFT: usize = 8 << 20;

/// Sends a large guard to whoever comes, and tells when the kernel has had the time to take some of it.
struct Giver {
    bytes: Vec<u8>,
    tell: Sender<Result<(), OptionRefused>>,
}

impl EventHandler for Giver {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut ()) {
        cx.send_guard(id, self.bytes.clone()).expect("there is room");
        cx.set_conn_timer(id, Duration::from_millis(200), TimerKey(0)).expect("it is open");
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_conn_timer(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), _: TimerKey) {
        // A test that does not listen has gone away on purpose.
        let _ = self.tell.send(Ok(()));
        cx.close(id);
    }

    fn on_socket_options(
        &mut self,
        _: &mut Ctx<'_, Self>,
        _: ConnId,
        (): &mut (),
        result: Result<(), OptionRefused>,
    ) {
        let _ = self.tell.send(result);
    }
}

fn giver(folder: &Folder, options: &UnixListenOptions) -> (Running, Receiver<Result<(), OptionRefused>>) {
    let (tell, told) = mpsc::channel();
    let bytes = pattern(GIFT);
    let config = config(1).zero_copy_threshold(4096).outbox_bytes(32 << 20).worker_outbox_bytes(64 << 20);
    let server = Server::new(config.build().unwrap()).listen_unix(folder.addr(), options).unwrap();
    let make = move |_| Giver { bytes: bytes.clone(), tell: tell.clone() };
    (server.launch(make).unwrap(), told)
}

/// How much of a gift the kernel takes while nobody reads. All of it arrives.
fn taken(options: &UnixListenOptions) -> usize {
    let folder = Folder::new("give");
    let (running, told) = giver(&folder, options);
    let mut client = folder.connect();
    assert_eq!(told.recv_timeout(SOON).expect("the timer"), Ok(()));
    let mut buffer = vec![std::mem::MaybeUninit::uninit(); GIFT];
    let taken = socket2::SockRef::from(&client).peek(&mut buffer).expect("something is there");
    let mut seen = Vec::new();
    client.read_to_end(&mut seen).expect("everything and the end");
    assert!(seen == pattern(GIFT), "{} bytes arrived", seen.len());
    assert_eq!(running.metrics().snapshot().guards, 1, "it was tried without copying");
    stop(running);
    taken
}

#[test]
fn guards_arrive_although_a_unix_socket_cannot_do_without_copying() {
    let _alone = alone();
    let (usual, small) = (UnixListenOptions::default(), SocketOptions::new().send_buffer_bytes(4096));
    assert!(taken(&usual) > 100_000);
    // Accepted sockets do not inherit it, and have it all the same.
    let taken = taken(&usual.socket(small));
    assert!(taken < 60_000, "the kernel has taken {taken} bytes");
}

#[test]
fn options_of_a_listener_that_cannot_be_set_are_named() {
    let _alone = alone();
    let long = ListenOptions::default().socket(SocketOptions::new().congestion("a-name-that-is-too-long"));
    let error = server(1).listen_with("127.0.0.1:0", &long).unwrap_err();
    assert!(matches!(&error, ListenError::Option { .. }), "{error}");
    let unknown = ListenOptions::default().socket(SocketOptions::new().congestion("no-such"));
    let error = server(1).listen_with("127.0.0.1:0", &unknown).unwrap_err();
    assert!(matches!(&error, ListenError::OptionRefused { source, .. } if source.errno == libc::ENOENT));
    assert!(error.to_string().contains("congestion"), "{error}");
}

/// Connects when it starts, and tells how that ends.
struct Caller {
    to: Addr,
    options: ConnectOptions,
    tell: Sender<Result<Vec<u8>, CloseReason>>,
}

impl EventHandler for Caller {
    type Conn = Vec<u8>;
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        cx.connect_with(&self.to, &self.options, Vec::new()).expect("the worker has no other connection");
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<Vec<u8>> {
        Admit::Refuse
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, _: &mut Vec<u8>) {
        cx.send(id, b"hello").expect("a new connection has room");
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, seen: &mut Vec<u8>, data: &[u8]) -> Consumed {
        seen.extend_from_slice(data);
        if seen.len() == 5 {
            cx.close(id);
        }
        Consumed::all(data)
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, seen: Vec<u8>, reason: CloseReason) {
        let _ = self.tell.send(if seen.is_empty() { Err(reason) } else { Ok(seen) });
    }
}

fn call(to: impl Into<Addr>, options: ConnectOptions) -> (Running, Receiver<Result<Vec<u8>, CloseReason>>) {
    let (to, (tell, told)) = (to.into(), mpsc::channel());
    let make = move |_| Caller { to: to.clone(), options: options.clone(), tell: tell.clone() };
    (server(1).launch(make).expect("no listener is needed"), told)
}

/// How a call ends that nobody answers.
fn failure(to: impl Into<Addr>, options: ConnectOptions) -> CloseReason {
    let (running, told) = call(to, options);
    let reason = told.recv_timeout(SOON).expect("on_close").expect_err("nobody answers");
    stop(running);
    assert!(told.try_recv().is_err(), "on_close comes once");
    reason
}

#[test]
fn a_worker_connects_to_a_unix_socket_and_is_told_if_there_is_none() {
    let _alone = alone();
    let folder = Folder::new("call");
    let failed = |errno| CloseReason::ConnectFailed { errno };
    assert_eq!(failure(folder.addr(), ConnectOptions::new()), failed(libc::ENOENT));
    drop(std::os::unix::net::UnixListener::bind(folder.path()).unwrap());
    assert_eq!(failure(folder.addr(), ConnectOptions::new()), failed(libc::ECONNREFUSED));
    let (factory, told_server) = Echo::factory();
    let running = listen(server(1), folder.addr()).launch(factory).unwrap();
    let (caller, told) = call(folder.addr(), ConnectOptions::new());
    assert_eq!(told.recv_timeout(SOON).expect("on_close"), Ok(b"hello".to_vec()));
    assert!(next_accepted(&told_server).1.unix().is_some());
    assert!(matches!(
        told_server.recv_timeout(SOON),
        Ok(Told::Closed(CloseReason::PeerClosed { unread: 0 }))
    ));
    caller.shutdown(SOON).expect("every worker ends well");
    stop(running);
}

#[test]
fn a_connection_comes_from_the_address_that_was_asked_for() {
    let _alone = alone();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let answer = |local: SocketAddr| {
        let (caller, told) = call(to, ConnectOptions::new().bind(local));
        let (mut stream, seen) = listener.accept().unwrap();
        stream.write_all(b"hello").unwrap();
        assert_eq!(told.recv_timeout(SOON).expect("on_close"), Ok(b"hello".to_vec()));
        drop(stream);
        stop(caller);
        seen
    };
    let seen = answer(([127, 0, 0, 5], 0).into());
    assert_eq!(seen.ip(), std::net::Ipv4Addr::new(127, 0, 0, 5));
    // A port that was free a moment ago, twice in a row in spite of the connection before.
    let fixed = SocketAddr::from(([127, 0, 0, 6], seen.port()));
    assert_eq!(answer(fixed), fixed);
    let elsewhere = ConnectOptions::new().bind(([192, 0, 2, 9], 0));
    assert_eq!(failure(to, elsewhere), CloseReason::ConnectFailed { errno: libc::EADDRNOTAVAIL });
    let taken = ConnectOptions::new().bind(to);
    assert_eq!(failure(to, taken), CloseReason::ConnectFailed { errno: libc::EADDRINUSE });
}
