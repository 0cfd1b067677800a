//! Which kind of descriptor a ring's sockets have.
//!
//! Direct descriptors live in a table of the ring and cost nothing to look up. Up to kernel 6.12,
//! however, a socket that was closed there goes on living until every operation that was started
//! before on the same ring has ended, such as a receive on an idle connection: its peer would not
//! see the end for hours. There a ring uses ordinary descriptors of the process. Sockets that we
//! connect and accepted Unix sockets are such on every kernel, and a bit of their `Fd` says so. This keeps track of all ordinary
//! descriptors, so that none outlives the ring.
#![allow(unsafe_code)]

use super::error::RingError;
use super::ring::Ring;
use crate::backend::Wait;
use crate::net::{Dial, Family, Setting, set_all};
use crate::op::Fd;
use crate::sys::sock_opt;
use io_uring::types::{CancelBuilder, Fixed};
use io_uring::{opcode, squeue};
use socket2::{SockRef, Socket, Type};
use std::collections::BTreeSet;
use std::io;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The sockets of a ring, by kind.
#[derive(Debug)]
pub(super) struct Descriptors {
    /// Accepted sockets are rows of the ring's own table.
    is_direct: bool,
    /// Descriptors of the process that are open and ours.
    open: BTreeSet<u32>,
}

impl Descriptors {
    /// Direct descriptors if closing one ends the socket at once.
    pub(super) fn new(ring: &mut Ring, rows: u32, allow_direct: bool) -> Result<Self, RingError> {
        if allow_direct {
            ring.register_files(rows)?;
            if closes_promptly(ring).unwrap_or(false) {
                return Ok(Self { is_direct: true, open: BTreeSet::new() });
            }
            ring.unregister_files();
        }
        Ok(Self { is_direct: false, open: BTreeSet::new() })
    }

    /// Makes a socket for a connection of ours. It is an ordinary descriptor of the process on every
    /// kernel: making a direct one is an operation of its own, whose result would have to be waited for.
    pub(super) fn dial(&mut self, dial: &Dial) -> io::Result<Fd> {
        let family = dial.addr.family();
        let socket = Socket::new(family.domain(), Type::STREAM, None)?;
        if family != Family::Unix {
            socket.set_tcp_nodelay(true)?;
        }
        set_all(&socket, &dial.settings).map_err(|refused| io::Error::from_raw_os_error(refused.errno))?;
        if let Some(local) = dial.local {
            bind(&socket, local)?;
        }
        let fd = Fd::plain(socket.into_raw_fd() as u32);
        self.open.insert(fd.number());
        Ok(fd)
    }

    /// Takes over a socket that was made elsewhere; an ordinary descriptor, too.
    pub(super) fn adopt(&mut self, socket: OwnedFd) -> Fd {
        let fd = Fd::plain(socket.into_raw_fd() as u32);
        self.open.insert(fd.number());
        fd
    }

    /// Whether accepted sockets are rows of the ring's own table.
    pub(super) fn is_direct(&self) -> bool {
        self.is_direct
    }

    /// Whether this socket is a row of the ring's own table.
    #[inline]
    pub(super) fn is_row(&self, fd: Fd) -> bool {
        self.is_direct && !fd.is_plain()
    }

    /// The flags of an entry that names this socket.
    #[inline]
    pub(super) fn flags(&self, fd: Fd) -> squeue::Flags {
        if self.is_row(fd) { squeue::Flags::FIXED_FILE } else { squeue::Flags::empty() }
    }

    /// The kernel has handed out a socket.
    pub(super) fn opened(&mut self, fd: Fd) {
        if !self.is_row(fd) {
            self.open.insert(fd.number());
        }
    }

    /// Sets an option of an ordinary descriptor, or says why not, with a positive errno.
    pub(super) fn set_option(&self, fd: Fd, setting: &Setting) -> Result<(), i32> {
        let Setting { level, name, value, .. } = setting;
        let set = self.borrow(fd).and_then(|socket| sock_opt::set(socket, *level, *name, value));
        set.map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    }

    /// The process, user and group at the other end of an ordinary descriptor of a Unix socket.
    pub(super) fn peer_credentials(&self, fd: Fd) -> io::Result<(u32, u32, u32)> {
        sock_opt::peer_credentials(self.borrow(fd)?)
    }

    /// An ordinary descriptor that is open and ours.
    fn borrow(&self, fd: Fd) -> io::Result<BorrowedFd<'_>> {
        if self.is_row(fd) || !self.open.contains(&fd.number()) {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        // SAFETY: the descriptor is open, because no close of it was submitted, and it is ours. To submit
        // one takes `self` by a mutable borrow, which this one does not outlive.
        Ok(unsafe { BorrowedFd::borrow_raw(fd.number() as i32) })
    }

    /// Has the close of an ordinary descriptor drop what the peer has not acknowledged.
    pub(super) fn reset(&self, fd: Fd) {
        if let Ok(socket) = self.borrow(fd) {
            // A socket that is no longer connected has nothing to drop.
            let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
        }
    }

    /// The kernel is being asked to close a socket.
    pub(super) fn closing(&mut self, fd: Fd) {
        if !self.is_row(fd) {
            self.open.remove(&fd.number());
        }
    }
}

impl Drop for Descriptors {
    fn drop(&mut self) {
        for &fd in &self.open {
            // SAFETY: this descriptor came from `dial`, `adopt` or an accept of ours, nobody else was told
            // of it except as a number, and no close of it was submitted.
            drop(unsafe { OwnedFd::from_raw_fd(fd as i32) });
        }
    }
}

/// Gives a socket that is to be connected a local address.
fn bind(socket: &Socket, local: SocketAddr) -> io::Result<()> {
    if local.port() == 0 {
        // The port is chosen when it is known what it is for, so that ports do not run out early.
        let on = 1_i32.to_ne_bytes();
        sock_opt::set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &on)?;
    } else {
        // Earlier connections from this port may linger in TIME_WAIT.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&local.into())
}

/// Whether the peer of a closed socket sees the end while an older operation on another socket is
/// still waiting. Uses the first two rows of the table.
fn closes_promptly(ring: &mut Ring) -> std::io::Result<bool> {
    let (busy, _busy_peer) = UnixStream::pair()?;
    let (closed, mut peer) = UnixStream::pair()?;
    peer.set_nonblocking(true)?;
    ring.submitter().register_files_update(0, &[busy.as_raw_fd(), closed.as_raw_fd()])?;
    drop((busy, closed));
    let waiting = opcode::PollAdd::new(Fixed(0), libc::POLLIN as u32).build();
    let close = opcode::Close::new(Fixed(1)).build();
    // SAFETY: neither entry names memory.
    unsafe {
        ring.push(&waiting);
        ring.push(&close);
    }
    ring.enter(Wait::No)?;
    let is_prompt = match peer.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => return Err(error),
    };
    let cancel = opcode::AsyncCancel2::new(CancelBuilder::any().all()).build();
    // SAFETY: the entry names no memory.
    unsafe { ring.push(&cancel) };
    let mut left = 3;
    while left > 0 {
        ring.drain(|_| left -= 1);
        if left > 0 {
            ring.enter(Wait::For(Duration::from_millis(10)))?;
        }
    }
    ring.submitter().register_files_update(0, &[-1])?;
    Ok(is_prompt)
}
