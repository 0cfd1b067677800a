//! Listening sockets, and how those of TCP are made.
//!
//! A `Listener` is listening from the moment it exists, its address is the one the kernel chose,
//! and every option that accepted sockets inherit has been set before the first of them could
//! arrive.

use std::fmt::Debug;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::socket_file::SocketFile;
use super::socket_options::{Moment, Setting};
use super::{Addr, ListenError, OptionRefused, SocketOptions};
use crate::sys::sock_opt;

/// A listening socket that all workers accept from.
#[derive(Debug)]
pub(crate) struct Listener {
    fd: OwnedFd,
    local_addr: Addr,
    /// What accepted sockets do not inherit.
    accepted: Vec<Setting>,
    file: Option<SocketFile>,
    is_stamped: bool,
}

impl Listener {
    /// Has the socket listen, which has its address.
    pub(super) fn new(
        socket: Socket,
        backlog: u32,
        settings: &[Setting],
        file: Option<SocketFile>,
    ) -> io::Result<Self> {
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        let local_addr = Addr::from_sock_addr(&socket.local_addr()?);
        let local_addr = local_addr.expect("a socket has an address of its own family");
        let family = local_addr.family();
        let accepted = settings.iter().filter(|setting| !setting.is_inherited(family)).cloned().collect();
        Ok(Self { fd: socket.into(), local_addr, accepted, file, is_stamped: false })
    }

    /// Whether its connections tell when their bytes were received.
    pub(crate) fn is_stamped(&self) -> bool {
        self.is_stamped
    }

    /// Has the kernel note when bytes of connections arrive that are made from now on.
    pub(crate) fn enable_timestamps(&self) -> io::Result<()> {
        note_times(self.as_fd())
    }

    /// The listening descriptor; it closes on exec.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The address it is bound to; a port that was given as 0 is the one the kernel chose.
    pub(crate) fn local_addr(&self) -> &Addr {
        &self.local_addr
    }

    /// What to set on each accepted socket, because it does not inherit it.
    pub(crate) fn accepted(&self) -> &[Setting] {
        &self.accepted
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // While the socket listens, nobody takes its file for one that was left behind.
        drop(self.file.take());
    }
}

/// Sets options on a socket that has no address yet.
pub(crate) fn set_all(socket: &Socket, settings: &[Setting]) -> Result<(), OptionRefused> {
    for Setting { option, level, name, value } in settings {
        let refused = |error: io::Error| OptionRefused {
            option: *option,
            errno: error.raw_os_error().unwrap_or(libc::EINVAL),
        };
        sock_opt::set(socket.as_fd(), *level, *name, value).map_err(refused)?;
    }
    Ok(())
}

/// How a listening socket is set up.
///
/// # Examples
///
/// ```
/// use ringline_core::net::ListenOptions;
///
/// let options = ListenOptions::default().backlog(1024).v6_only(true);
/// assert_ne!(options, ListenOptions::default());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenOptions {
    backlog: u32,
    nodelay: bool,
    v6_only: bool,
    socket: SocketOptions,
    timestamps: bool,
}

impl Default for ListenOptions {
    /// A backlog of 4096, no delay of small segments, and IPv4 clients welcome on an IPv6 wildcard
    /// address.
    fn default() -> Self {
        Self {
            backlog: BACKLOG,
            nodelay: true,
            v6_only: false,
            socket: SocketOptions::new(),
            timestamps: false,
        }
    }
}

/// How many connections may wait unless told otherwise.
pub(super) const BACKLOG: u32 = 4096;

impl ListenOptions {
    /// Sets how many established connections may wait to be accepted; 4096 unless set.
    ///
    /// The kernel silently lowers it to `net.core.somaxconn`. A client that finds the queue full
    /// retries for some seconds, so a burst of new connections larger than this shows as latency
    /// first and as failed connects later.
    #[must_use]
    pub const fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Sets whether small segments leave at once (`TCP_NODELAY`) on accepted connections; they do
    /// unless switched off.
    ///
    /// All output that a handler makes in one turn leaves in one send anyway, so waiting for more
    /// rarely saves segments and often costs a delayed acknowledgement.
    #[must_use]
    pub const fn nodelay(mut self, on: bool) -> Self {
        self.nodelay = on;
        self
    }

    /// Sets whether an IPv6 address takes IPv6 clients only; unless it does, `[::]` serves IPv4
    /// clients too.
    ///
    /// Needed to give `0.0.0.0` and `[::]` listeners of their own on one port. It has no effect on
    /// an IPv4 address.
    #[must_use]
    pub const fn v6_only(mut self, on: bool) -> Self {
        self.v6_only = on;
        self
    }

    /// Sets options of the socket before it gets its address. Accepted sockets have them, too: they
    /// inherit them, or they are set when [`on_open`](crate::EventHandler::on_open) is called.
    #[must_use]
    pub fn socket(mut self, options: SocketOptions) -> Self {
        self.socket = options;
        self
    }

    /// Has the kernel note when it received the bytes of accepted connections:
    /// [`Ctx::received_at`](crate::Ctx::received_at) tells. Off unless switched on.
    ///
    /// Such connections are received into the buffers for datagrams, and every byte is copied once more.
    #[must_use]
    pub const fn timestamps(mut self, on: bool) -> Self {
        self.timestamps = on;
        self
    }
}

/// Listens on `addr`; port 0 lets the kernel choose.
pub(crate) fn bind(addr: SocketAddr, options: &ListenOptions) -> Result<Listener, ListenError> {
    let settings = options.socket.settings(Addr::from(addr).family(), Moment::Fresh);
    let settings = settings.map_err(|source| ListenError::Option { addr: addr.into(), source })?;
    let socket = fresh(addr, options).map_err(|source| ListenError::from_kernel(addr, source))?;
    set_all(&socket, &settings).map_err(|source| ListenError::OptionRefused { addr: addr.into(), source })?;
    let listening = socket.bind(&addr.into());
    let listening = listening.and_then(|()| Listener::new(socket, options.backlog, &settings, None));
    let mut listener = listening.map_err(|source| ListenError::from_kernel(addr, source))?;
    listener.is_stamped = options.timestamps;
    Ok(listener)
}

/// Listens on the first of `addresses` that can be had.
///
/// When none can, the error is that of the last one.
///
/// # Panics
///
/// If there are no addresses; [`resolve`] returns at least one.
pub(crate) fn bind_first(addresses: &[SocketAddr], options: &ListenOptions) -> Result<Listener, ListenError> {
    let (last, others) = addresses.split_last().expect("there is an address to listen on");
    others.iter().find_map(|addr| bind(*addr, options).ok()).map_or_else(|| bind(*last, options), Ok)
}

/// The addresses that `addr` stands for, in the resolver's order of preference: at least one, each
/// once.
///
/// A host name is looked up here and blocks the thread.
pub(crate) fn resolve(addr: impl ToSocketAddrs + Debug) -> Result<Vec<SocketAddr>, ListenError> {
    let found = addr.to_socket_addrs().and_then(|candidates| {
        let mut addresses = Vec::new();
        for candidate in candidates {
            if !addresses.contains(&candidate) {
                addresses.push(candidate);
            }
        }
        if addresses.is_empty() {
            let message = "it stands for no address at all";
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        Ok(addresses)
    });
    found.map_err(|source| ListenError::BadAddress { given: format!("{addr:?}"), source })
}

/// A socket with the options that every listener has.
fn fresh(addr: SocketAddr, options: &ListenOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        // Said either way, because the default is a setting of the host (`net.ipv6.bindv6only`).
        socket.set_only_v6(options.v6_only)?;
    }
    // A restarted server must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit it, which saves a call for each of them.
    socket.set_tcp_nodelay(options.nodelay)?;
    if options.timestamps {
        note_times(socket.as_fd())?;
    }
    Ok(socket)
}

/// Has the kernel note when it receives the bytes of a socket, or of those that it accepts from now on.
fn note_times(socket: BorrowedFd<'_>) -> io::Result<()> {
    sock_opt::set_int(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream};
    use std::os::fd::AsRawFd;

    const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn listen(addr: SocketAddr, options: &ListenOptions) -> Listener {
        bind(addr, options).unwrap()
    }

    fn ip(listener: &Listener) -> SocketAddr {
        listener.local_addr().ip().unwrap()
    }

    /// A connection to `to`, as the client and as the listener sees it.
    fn connect(listener: &Listener, to: SocketAddr) -> (TcpStream, TcpStream) {
        let acceptor = TcpListener::from(listener.fd.try_clone().unwrap());
        let client = TcpStream::connect(to).unwrap();
        let (accepted, _) = acceptor.accept().unwrap();
        (client, accepted)
    }

    /// Some build hosts have no IPv6; what is said of it cannot be seen there.
    fn has_ipv6() -> bool {
        TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
    }

    #[test]
    fn port_zero_becomes_the_port_that_clients_reach() {
        let listener = listen(LOCAL, &ListenOptions::default());
        assert_ne!(ip(&listener).port(), 0);
        let (mut client, mut accepted) = connect(&listener, ip(&listener));
        client.write_all(b"x").unwrap();
        let mut byte = [0];
        accepted.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"x");
    }

    #[test]
    fn accepted_sockets_inherit_nodelay() {
        for on in [true, false] {
            let listener = listen(LOCAL, &ListenOptions::default().nodelay(on));
            let (_client, accepted) = connect(&listener, ip(&listener));
            assert_eq!(accepted.nodelay().unwrap(), on);
        }
    }

    #[test]
    fn the_descriptor_closes_on_exec() {
        let listener = listen(LOCAL, &ListenOptions::default());
        let path = format!("/proc/self/fdinfo/{}", listener.as_fd().as_raw_fd());
        let info = std::fs::read_to_string(path).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        assert_eq!(flags & libc::O_CLOEXEC, libc::O_CLOEXEC);
    }

    #[test]
    fn the_backlog_bounds_the_connections_that_wait() {
        let listener = listen(LOCAL, &ListenOptions::default().backlog(2));
        let addr = ip(&listener);
        let patience = std::time::Duration::from_millis(300);
        let attempts = (0..8).map(|_| TcpStream::connect_timeout(&addr, patience));
        let waiting: Vec<_> = attempts.take_while(Result::is_ok).collect();
        // Linux lets one more in than the number says.
        assert!((2..=3).contains(&waiting.len()), "{waiting:?}");
    }

    #[test]
    fn an_ipv6_wildcard_serves_both_families_unless_told_not_to() {
        if !has_ipv6() {
            return;
        }
        let wildcard = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
        let both = listen(wildcard, &ListenOptions::default());
        let port = ip(&both).port();
        let _v4 = connect(&both, (Ipv4Addr::LOCALHOST, port).into());
        let _v6 = connect(&both, (Ipv6Addr::LOCALHOST, port).into());

        let one = listen(wildcard, &ListenOptions::default().v6_only(true));
        assert!(SockRef::from(&one.as_fd()).only_v6().unwrap());
        let port = ip(&one).port();
        let _v6 = connect(&one, (Ipv6Addr::LOCALHOST, port).into());
    }

    #[test]
    fn an_address_is_free_again_while_old_connections_linger() {
        let options = ListenOptions::default();
        let first = listen(LOCAL, &options);
        let addr = ip(&first);
        let (mut client, accepted) = connect(&first, addr);
        // The side that closes first keeps the address in TIME_WAIT.
        drop(accepted);
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        drop(client);
        drop(first);
        assert_eq!(*listen(addr, &options).local_addr(), addr);
    }

    #[test]
    fn the_kernels_refusals_are_told_apart() {
        let options = ListenOptions::default();
        let taken = listen(LOCAL, &options);
        let addr = ip(&taken);
        let error = bind(addr, &options).unwrap_err();
        assert!(matches!(error, ListenError::AddressInUse { addr: tried } if tried == addr));
        assert!(error.to_string().contains(&addr.to_string()));

        // An address of a block that is reserved for documentation.
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
        let error = bind(foreign, &options).unwrap_err();
        assert!(matches!(error, ListenError::AddressNotAvailable { addr } if addr == foreign));

        let sorted = |errno| ListenError::from_kernel(LOCAL, io::Error::from_raw_os_error(errno));
        for errno in [libc::EACCES, libc::EPERM] {
            assert!(matches!(sorted(errno), ListenError::PermissionDenied { addr: LOCAL }));
        }
        let in_force = crate::sys::limits::open_files().unwrap();
        assert!(matches!(
            sorted(libc::EMFILE),
            ListenError::TooManyOpenFiles { addr: LOCAL, soft_limit }
                if soft_limit > 0 && soft_limit <= in_force.hard
        ));
        assert!(matches!(
            sorted(libc::ENFILE),
            ListenError::Other { addr: LOCAL, source }
                if source.raw_os_error() == Some(libc::ENFILE)
        ));
    }

    #[test]
    fn the_first_address_that_can_be_had_is_taken() {
        let options = ListenOptions::default();
        let foreign = SocketAddr::from(([192, 0, 2, 1], 0));
        let listener = bind_first(&[foreign, LOCAL, foreign], &options).unwrap();
        assert_eq!(ip(&listener).ip(), LOCAL.ip());

        let taken = ip(&listener);
        let error = bind_first(&[foreign, taken], &options).unwrap_err();
        assert!(matches!(error, ListenError::AddressInUse { addr } if addr == taken));
    }

    #[test]
    fn addresses_resolve_in_order_and_once() {
        let other = SocketAddr::from(([127, 0, 0, 2], 7));
        let resolved = resolve(&[other, LOCAL, other][..]).unwrap();
        assert_eq!(resolved, [other, LOCAL]);
        assert_eq!(resolve("[::1]:7000").unwrap(), [(Ipv6Addr::LOCALHOST, 7000).into()]);
    }

    #[test]
    fn what_is_no_address_is_named_in_the_error() {
        let error = resolve("7000").unwrap_err();
        assert!(matches!(&error, ListenError::BadAddress { given, .. } if given == "\"7000\""));
        assert!(error.to_string().contains("0.0.0.0:7000"));
        assert!(std::error::Error::source(&error).is_some());

        let none: &[SocketAddr] = &[];
        assert!(matches!(
            resolve(none).unwrap_err(),
            ListenError::BadAddress { source, .. } if source.kind() == io::ErrorKind::NotFound
        ));
    }
}
