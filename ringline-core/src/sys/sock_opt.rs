//! Options of sockets, by their numbers.
//!
//! What an option means is for the caller to know; here a value is so many bytes, and the kernel copies them
//! before a call returns.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets an option to the bytes of `value`.
pub(crate) fn set(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the call only reads the bytes of a
    // live slice, as many as it has, and keeps no pointer to them.
    let status = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The process, user and group that have connected to a Unix socket, or made it.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> io::Result<(u32, u32, u32)> {
    let mut raw = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of_val(&raw) as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed; the call writes at most `len` bytes to
    // `raw`, a live local of integers, of which any bits are valid, and keeps no pointer to either.
    let status = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut raw).cast(),
            &raw mut len,
        )
    };
    if status == 0 { Ok((raw.pid as u32, raw.uid, raw.gid)) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::net::TcpListener;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    #[test]
    fn an_option_has_the_value_that_was_set() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        for on in [true, false] {
            let value = i32::from(on).to_ne_bytes();
            set(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, &value).unwrap();
            assert_eq!(SockRef::from(&socket).tcp_nodelay().unwrap(), on);
        }
        let error = set(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_NODELAY, &[]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn the_peer_of_a_pair_is_this_process() {
        let (one, _other) = UnixStream::pair().unwrap();
        let (pid, uid, gid) = peer_credentials(one.as_fd()).unwrap();
        let own = std::fs::metadata("/proc/self").unwrap();
        assert_eq!((pid, uid, gid), (std::process::id(), own.uid(), own.gid()));
    }
}
