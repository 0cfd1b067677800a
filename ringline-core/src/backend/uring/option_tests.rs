//! Options on real sockets: what was asked for is what the kernel then says.
#![allow(unsafe_code)]

use super::*;
use crate::net::{self, Addr, ConnectOptions, ListenOptions, Moment, Setting, SocketOptions, UnixAddr};
use crate::op::Outcome;
use io_uring::opcode;
use io_uring::types::Fixed;
use socket2::{SockRef, Socket};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{UnixListener, UnixStream};

pub(super) struct Rig {
    pub(super) uring: Uring,
    stage: Stage,
}

impl Rig {
    pub(super) fn new(is_old: bool) -> Self {
        let config = Config::builder().connections_per_worker(16).build().unwrap();
        let setup = if is_old { Setup::as_on_old_kernels(&config) } else { Setup::new(&config) };
        let uring = Uring::new(&setup, Arc::new(EventFd::new().unwrap())).unwrap();
        Self { uring, stage: Stage::new(4096).unwrap() }
    }

    pub(super) fn run(&mut self, kind: Kind, op: Op) -> Outcome {
        self.uring.push(UserData::new(kind, 0, 0), op, &self.stage).unwrap();
        loop {
            self.uring.enter(&self.stage, Wait::For(Duration::from_secs(10))).unwrap();
            if let Some(completion) = self.uring.next() {
                return completion.outcome;
            }
        }
    }

    pub(super) fn accept(&mut self, listener: i32, is_unix: bool) -> (Fd, Option<Box<net::Remote>>) {
        match self.run(Kind::Accept, Op::Accept { listener, is_unix }) {
            Outcome::Accepted { fd, peer } => (fd, peer),
            outcome => panic!("{outcome:?}"),
        }
    }

    fn set(&mut self, fd: Fd, setting: Setting) -> Result<(), i32> {
        match self.run(Kind::SetOption, Op::SetOption { fd, setting: Box::new(setting) }) {
            Outcome::Done => Ok(()),
            Outcome::Failed { errno } => Err(errno),
            outcome => panic!("{outcome:?}"),
        }
    }

    /// The socket as a descriptor of the process, whatever it is to the ring.
    fn look(&mut self, fd: Fd) -> Socket {
        if !self.uring.descriptors.is_row(fd) {
            // SAFETY: the descriptor is open, because nobody has closed it, and borrowed for one call.
            let borrowed = unsafe { BorrowedFd::borrow_raw(fd.number() as i32) };
            return borrowed.try_clone_to_owned().unwrap().into();
        }
        let entry = opcode::FixedFdInstall::new(Fixed(fd.number()), 0).build().user_data(u64::MAX);
        // SAFETY: the entry names no memory.
        unsafe { self.uring.ring.push(&entry) };
        let mut installed = None;
        while installed.is_none() {
            self.uring.ring.enter(Wait::For(Duration::from_secs(10))).unwrap();
            self.uring.ring.drain(|cqe| installed = Some(cqe.result));
        }
        let number = installed.filter(|&number| number >= 0).expect("the kernel installs it");
        // SAFETY: the kernel has just made the descriptor, so nobody else owns it.
        unsafe { OwnedFd::from_raw_fd(number) }.into()
    }
}

fn all() -> SocketOptions {
    SocketOptions::new()
        .nodelay(false)
        .keep_alive(true)
        .keep_alive_idle(Duration::from_secs(61))
        .keep_alive_interval(Duration::from_secs(7))
        .keep_alive_count(3)
        .send_buffer_bytes(20_000)
        .receive_buffer_bytes(30_000)
        .reset_on_close(true)
        .user_timeout(Duration::from_millis(4321))
        .congestion("reno")
        .traffic_class(0x48)
        .priority(4)
        .raw(libc::SOL_SOCKET, libc::SO_RCVLOWAT, &2_i32.to_ne_bytes())
}

#[track_caller]
fn check(socket: &SockRef<'_>, is_v4: bool) {
    assert!(!socket.tcp_nodelay().unwrap());
    assert!(socket.keepalive().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(61));
    assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(7));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
    assert_eq!(socket.send_buffer_size().unwrap(), 40_000, "the kernel doubles it");
    assert_eq!(socket.recv_buffer_size().unwrap(), 60_000);
    assert_eq!(socket.linger().unwrap(), Some(Duration::ZERO));
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_millis(4321)));
    assert!(socket.tcp_congestion().unwrap().starts_with(b"reno"));
    assert_eq!(socket.tos_v4().unwrap(), 0x48);
    if !is_v4 {
        assert_eq!(socket.tclass_v6().unwrap(), 0x48);
    }
}

#[test]
fn options_of_an_open_connection_are_set_on_either_kind_of_descriptor() {
    for is_old in [false, true] {
        let mut rig = Rig::new(is_old);
        for local in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(local).unwrap();
            let addr = listener.local_addr().unwrap();
            let _client = TcpStream::connect(addr).unwrap();
            let (fd, peer) = rig.accept(listener.as_raw_fd(), false);
            let family = peer.unwrap().addr.family();
            for setting in all().settings(family, Moment::Open).unwrap() {
                rig.set(fd, setting).unwrap();
            }
            let socket = rig.look(fd);
            check(&SockRef::from(&socket), addr.is_ipv4());
            assert_eq!(priority(&socket), 4);
            let unknown = SocketOptions::new().congestion("no-such-control");
            let setting = unknown.settings(family, Moment::Open).unwrap().remove(0);
            assert_eq!(rig.set(fd, setting), Err(libc::ENOENT));
            assert!(matches!(rig.run(Kind::Close, Op::Close { fd }), Outcome::Done));
        }
    }
}

#[test]
fn accepted_sockets_inherit_what_their_listener_has_but_for_what_is_kept_for_them() {
    let mut rig = Rig::new(false);
    for local in ["127.0.0.1:0", "[::1]:0"] {
        let options = ListenOptions::default().socket(all());
        let listener = net::bind_first(&[local.parse().unwrap()], &options).unwrap();
        let addr = listener.local_addr().ip().unwrap();
        let _client = TcpStream::connect(addr).unwrap();
        let (fd, _) = rig.accept(listener.as_fd().as_raw_fd(), false);
        let socket = rig.look(fd);
        check(&SockRef::from(&socket), addr.is_ipv4());
        assert_eq!(listener.accepted().len(), 1);
        rig.set(fd, listener.accepted()[0].clone()).unwrap();
        assert_eq!(priority(&socket), 4);
        assert!(matches!(rig.run(Kind::Close, Op::Close { fd }), Outcome::Done));
    }
}

#[test]
fn options_of_a_connection_to_be_made_are_set_before_it_is() {
    let mut rig = Rig::new(false);
    let to = Addr::from(SocketAddr::from(([127, 0, 0, 1], 9)));
    let options = ConnectOptions::new().socket(all().free_bind(true)).bind(([192, 0, 2, 9], 0));
    let dial = net::Dial {
        local: options.local(to.family()).unwrap(),
        settings: options.settings(to.family()).unwrap(),
        addr: to,
    };
    let fd = rig.uring.socket(&dial).unwrap();
    let socket = rig.look(fd);
    check(&SockRef::from(&socket), true);
    let local = socket.local_addr().unwrap().as_socket().unwrap();
    assert_eq!(local, SocketAddr::from(([192, 0, 2, 9], 0)), "the port is chosen when it connects");
    let refused = SocketOptions::new().congestion("no-such-control");
    let dial = net::Dial { settings: refused.settings(dial.addr.family(), Moment::Fresh).unwrap(), ..dial };
    assert_eq!(rig.uring.socket(&dial), Err(libc::ENOENT));
    assert!(matches!(rig.run(Kind::Close, Op::Close { fd }), Outcome::Done));
}

#[test]
fn peers_of_a_unix_socket_come_with_their_credentials_on_an_ordinary_descriptor() {
    for is_old in [false, true] {
        let mut rig = Rig::new(is_old);
        let name = format!("ringline-credentials-{}-{is_old}", std::process::id());
        let addr = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&addr).unwrap();
        let _client = UnixStream::connect_addr(&addr).unwrap();
        let (fd, peer) = rig.accept(listener.as_raw_fd(), true);
        assert!(!rig.uring.descriptors.is_row(fd));
        let peer = peer.unwrap();
        assert_eq!(peer.addr, Addr::from(UnixAddr::unnamed()));
        assert_eq!(peer.credentials.unwrap().pid, std::process::id());
        assert!(matches!(rig.run(Kind::Close, Op::Close { fd }), Outcome::Done));
    }
}

fn priority(socket: &Socket) -> i32 {
    let mut value = 0_i32;
    let mut len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the call writes at most `len` bytes to a live local and keeps no pointer to it.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PRIORITY,
            (&raw mut value).cast(),
            &raw mut len,
        )
    };
    assert_eq!(status, 0);
    value
}
