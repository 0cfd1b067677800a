//! Listening Unix sockets.
//!
//! What stands in the way of a socket file is removed only if it is a socket that nobody listens on. All of
//! it happens under a lock on the directory, so that of several servers that start at once none takes the
//! file of another for one that was left behind, and the file is never more accessible than was asked for.

use super::listener::{BACKLOG, set_all};
use super::socket_file::{self, MODE_MAX, SocketFile};
use super::socket_options::{Moment, Setting};
use super::{Addr, ListenError, Listener, SocketOptions, UnixAddr};
use crate::sys::dir_lock::DirLock;
use socket2::{Domain, Socket, Type};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long to wait for another server that is just starting in the same directory.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_STEP: Duration = Duration::from_millis(5);

/// How a listening Unix socket is set up.
///
/// # Examples
///
/// ```
/// use ringline_core::net::UnixListenOptions;
///
/// let options = UnixListenOptions::default().mode(0o660).backlog(128);
/// assert_ne!(options, UnixListenOptions::default());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixListenOptions {
    backlog: u32,
    mode: Option<u32>,
    removes_stale: bool,
    socket: SocketOptions,
}

impl Default for UnixListenOptions {
    /// A backlog of 4096, a mode that the process's mask decides, and a stale socket file is removed.
    fn default() -> Self {
        Self { backlog: BACKLOG, mode: None, removes_stale: true, socket: SocketOptions::new() }
    }
}

impl UnixListenOptions {
    /// Sets how many connections may wait to be accepted; 4096 unless set. The kernel silently lowers it to
    /// `net.core.somaxconn`. A client that finds the queue full waits.
    #[must_use]
    pub const fn backlog(mut self, connections: u32) -> Self {
        self.backlog = connections;
        self
    }

    /// Sets the permissions of the socket file, 0 to 0o777; clients need to write to it. The process's mask
    /// does not matter, and at no time has the file more permissions than these. Unless set, it is 0o777
    /// without the bits of the mask. An abstract name has no permissions.
    #[must_use]
    pub const fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// Sets whether a socket file that a server has left behind is removed; it is unless switched off. Only
    /// a socket on which nobody listens counts as such.
    #[must_use]
    pub const fn remove_stale(mut self, on: bool) -> Self {
        self.removes_stale = on;
        self
    }

    /// Sets options of accepted sockets.
    #[must_use]
    pub fn socket(mut self, options: SocketOptions) -> Self {
        self.socket = options;
        self
    }
}

/// Why listening on a Unix socket failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnixListenError {
    /// Another socket listens there.
    #[error(
        "cannot listen on {addr}: the address is in use; stop the process that listens there (`ss -lxp` \
         names it) or choose another one"
    )]
    InUse {
        /// The address that was tried.
        addr: UnixAddr,
    },
    /// There is a file that is no socket, or a symbolic link. It is left alone.
    #[error("cannot listen on {addr}: there is a file that is no socket; remove it or choose another path")]
    NotASocket {
        /// The address that was tried.
        addr: UnixAddr,
    },
    /// There is a socket file on which nobody listens, and it is not to be removed.
    #[error(
        "cannot listen on {addr}: a server has left its socket file behind; remove it, or let remove_stale"
    )]
    Stale {
        /// The address that was tried.
        addr: UnixAddr,
    },
    /// The directory of the socket file does not exist.
    #[error("cannot listen on {addr}: there is no such directory; make it first")]
    NoDirectory {
        /// The address that was tried.
        addr: UnixAddr,
    },
    /// The process may not make the file, or not look at its directory.
    #[error(
        "cannot listen on {addr}: permission denied; give the process the right to read and to write its \
         directory, or look for a security policy that forbids it"
    )]
    PermissionDenied {
        /// The address that was tried.
        addr: UnixAddr,
    },
    /// The directory stays locked: other programs that start there do not get on.
    #[error("cannot listen on {addr}: its directory stays locked (flock); find out who holds it (`lslocks`)")]
    Locked {
        /// The address that was tried.
        addr: UnixAddr,
    },
    /// These are no permissions of a socket file.
    #[error("the mode of {addr} is {mode:#o}: choose one from 0 to {max:#o}")]
    BadMode {
        /// The address that was to be tried.
        addr: UnixAddr,
        /// What was asked for.
        mode: u32,
        /// The highest value allowed.
        max: u32,
    },
    /// Only a file has permissions.
    #[error("{addr} is no path and has no mode: check the credentials of peers, or listen on a path")]
    NoFile {
        /// The address that was to be tried.
        addr: UnixAddr,
    },
    /// The kernel refused for another reason.
    #[error("cannot listen on {addr}: {source}")]
    Other {
        /// The address that was tried.
        addr: UnixAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Listens on a Unix socket; an unnamed address lets the kernel choose an abstract name.
pub(crate) fn bind_unix(addr: UnixAddr, options: &UnixListenOptions) -> Result<Listener, ListenError> {
    let settings = options.socket.settings(Addr::from(addr.clone()).family(), Moment::Fresh);
    let settings = settings.map_err(|source| ListenError::Option { addr: addr.clone().into(), source })?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None);
    let socket = socket.map_err(|error| UnixListenError::from_kernel(&addr, error))?;
    set_all(&socket, &settings)
        .map_err(|source| ListenError::OptionRefused { addr: addr.clone().into(), source })?;
    let bound = match addr.as_path() {
        Some(path) => bind_file(&addr, path, socket, options, &settings)?,
        None => bind_name(&addr, socket, options, &settings)?,
    };
    Ok(bound)
}

impl UnixListenError {
    fn from_kernel(addr: &UnixAddr, source: io::Error) -> Self {
        let addr = addr.clone();
        match source.raw_os_error() {
            Some(libc::EADDRINUSE) => Self::InUse { addr },
            Some(libc::ENOENT | libc::ENOTDIR) => Self::NoDirectory { addr },
            Some(libc::EACCES | libc::EPERM | libc::EROFS) => Self::PermissionDenied { addr },
            _ => Self::Other { addr, source },
        }
    }
}

fn bind_name(
    addr: &UnixAddr,
    socket: Socket,
    options: &UnixListenOptions,
    settings: &[Setting],
) -> Result<Listener, UnixListenError> {
    if options.mode.is_some() {
        return Err(UnixListenError::NoFile { addr: addr.clone() });
    }
    let bound = socket.bind(&Addr::from(addr.clone()).to_sock_addr());
    let listening = bound.and_then(|()| Listener::new(socket, options.backlog, settings, None));
    listening.map_err(|error| UnixListenError::from_kernel(addr, error))
}

fn bind_file(
    addr: &UnixAddr,
    path: &Path,
    socket: Socket,
    options: &UnixListenOptions,
    settings: &[Setting],
) -> Result<Listener, UnixListenError> {
    if let Some(mode) = options.mode.filter(|&mode| mode > MODE_MAX) {
        return Err(UnixListenError::BadMode { addr: addr.clone(), mode, max: MODE_MAX });
    }
    let failed = |error| UnixListenError::from_kernel(addr, error);
    // Whoever changes the working directory later must still find the file.
    let path = std::path::absolute(path).map_err(failed)?;
    let _lock = lock(addr, &path)?;
    let socket = match options.mode {
        // The kernel makes the file with the mode of the socket, less the process's mask.
        Some(mode) => with_mode(socket, mode).map_err(failed)?,
        None => socket,
    };
    let target = Addr::from(addr.clone()).to_sock_addr();
    match socket.bind(&target) {
        Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {
            clear(addr, &path, options.removes_stale)?;
            socket.bind(&target).map_err(failed)?;
        }
        bound => bound.map_err(failed)?,
    }
    let file = SocketFile::made(path, options.mode).map_err(failed)?;
    Listener::new(socket, options.backlog, settings, Some(file)).map_err(failed)
}

/// Keeps other servers from looking at the directory until the socket listens.
fn lock(addr: &UnixAddr, path: &Path) -> Result<DirLock, UnixListenError> {
    let directory = path.parent().map_or_else(|| PathBuf::from("/"), Path::to_path_buf);
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        let locked = DirLock::try_lock(&directory);
        if let Some(lock) = locked.map_err(|error| UnixListenError::from_kernel(addr, error))? {
            return Ok(lock);
        }
        if Instant::now() >= until {
            return Err(UnixListenError::Locked { addr: addr.clone() });
        }
        thread::sleep(LOCK_STEP);
    }
}

/// Gives a socket without an address a mode.
fn with_mode(socket: Socket, mode: u32) -> io::Result<Socket> {
    let file = File::from(OwnedFd::from(socket));
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(Socket::from(OwnedFd::from(file)))
}

/// Removes what stands in the way, if it is a socket that nobody listens on.
fn clear(addr: &UnixAddr, path: &Path, removes: bool) -> Result<(), UnixListenError> {
    let (addr, own) = (addr.clone(), addr);
    let found = match socket_file::identity(path) {
        Ok(Some(found)) => found,
        Ok(None) => return Err(UnixListenError::NotASocket { addr }),
        // Gone already.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(UnixListenError::from_kernel(own, error)),
    };
    if !is_deserted(own) {
        return Err(UnixListenError::InUse { addr });
    }
    if !removes {
        return Err(UnixListenError::Stale { addr });
    }
    // Somebody who does not know of the lock may have been quicker.
    if socket_file::identity(path).ok().flatten() != Some(found) {
        return Err(UnixListenError::InUse { addr });
    }
    fs::remove_file(path).map_err(|error| UnixListenError::from_kernel(own, error))
}

/// Whether nobody listens on a socket. A queue that is full is one that somebody listens on, and so is
/// everything that cannot be told.
fn is_deserted(addr: &UnixAddr) -> bool {
    let answer = Socket::new(Domain::UNIX, Type::STREAM, None).and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.connect(&Addr::from(addr.clone()).to_sock_addr())
    });
    answer.is_err_and(|error| error.raw_os_error() == Some(libc::ECONNREFUSED))
}

#[cfg(test)]
mod tests;
