//! Options of sockets, by their numbers.
//!
//! What an option means is for the caller to know; here a value is so many bytes, and the kernel copies them
//! before a call returns.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The place of the count of dropped packets in what `SO_MEMINFO` gives: `SK_MEMINFO_DROPS`.
const DROPS: usize = 8;
/// How many words there are.
const MEMINFO_WORDS: usize = 9;

/// Sets an option to the bytes of `value`.
pub(crate) fn set(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: the descriptor is open for as long as it is borrowed, and the call only reads the bytes of a
    // live slice, as many as it has, and keeps no pointer to them.
    let status = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an option whose value is an `int`.
pub(crate) fn set_int(socket: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    set(socket, level, name, &value.to_ne_bytes())
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

/// How many packets the kernel has dropped on a socket instead of queueing them, modulo 2^32.
pub(crate) fn drops(fd: BorrowedFd<'_>) -> Option<u32> {
    let mut words = [0_u32; MEMINFO_WORDS];
    let mut len = size_of_val(&words) as libc::socklen_t;
    // SAFETY: both pointers are to locals that outlive the call, and the length says how much the
    // first has room for.
    let status = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    (status == 0 && len as usize == size_of_val(&words)).then_some(words[DROPS])
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::net::{TcpListener, UdpSocket};
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

    #[test]
    fn drops_are_counted_to_the_last() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&receiver).set_recv_buffer_size(4096).unwrap();
        assert_eq!(drops(receiver.as_fd()), Some(0));
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..100 {
            sender.send_to(&[7; 1000], receiver.local_addr().unwrap()).unwrap();
        }
        receiver.set_nonblocking(true).unwrap();
        let count = std::iter::from_fn(|| receiver.recv(&mut [0; 2000]).ok()).count();
        assert!(count < 100);
        assert_eq!(drops(receiver.as_fd()), Some(100 - count as u32));
    }

    #[test]
    fn an_option_that_does_not_exist_is_an_error() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(set_int(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BROADCAST, 1).is_ok());
        assert!(socket.broadcast().unwrap());
        let error = set_int(socket.as_fd(), libc::SOL_UDP, 9999, 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
    }
}
