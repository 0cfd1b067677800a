//! Socket options that the libraries have no name for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The place of the count of dropped packets in what `SO_MEMINFO` gives: `SK_MEMINFO_DROPS`.
const DROPS: usize = 8;
/// How many words there are.
const MEMINFO_WORDS: usize = 9;

/// Sets an option whose value is an `int`.
pub(crate) fn set(fd: BorrowedFd<'_>, level: i32, name: i32, value: i32) -> io::Result<()> {
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: the pointer is to an `int` that outlives the call, and the length is that of an `int`.
    let status = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), len) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

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
        assert!(set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_BROADCAST, 1).is_ok());
        assert!(socket.broadcast().unwrap());
        let error = set(socket.as_fd(), libc::SOL_UDP, 9999, 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
    }
}
