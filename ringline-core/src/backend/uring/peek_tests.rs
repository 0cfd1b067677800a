//! Looking at real sockets: nothing is taken, nothing is waited for, and what has happened is told.

use super::option_tests::Rig;
use super::*;
use crate::op::Outcome;
use socket2::SockRef;
use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// A socket of the ring, and its peer.
fn connected(rig: &mut Rig) -> (Fd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (fd, _) = rig.accept(listener.as_raw_fd(), false);
    (fd, peer)
}

fn peek(rig: &mut Rig, fd: Fd) -> Outcome {
    rig.run(Kind::Peek, Op::Peek { fd })
}

#[test]
fn a_look_tells_ends_and_errors_and_takes_nothing() {
    for is_old in [false, true] {
        let mut rig = Rig::new(is_old);
        let (fd, mut peer) = connected(&mut rig);
        let outcome = peek(&mut rig, fd);
        assert!(
            matches!(outcome, Outcome::Failed { errno: libc::EAGAIN }),
            "{outcome:?}, though nothing happened"
        );
        peer.write_all(b"x").unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        for _ in 0..2 {
            assert!(matches!(peek(&mut rig, fd), Outcome::Done), "the byte is before the end, and stays");
        }
        let (fd, peer) = connected(&mut rig);
        peer.shutdown(Shutdown::Write).unwrap();
        for _ in 0..2 {
            assert!(matches!(peek(&mut rig, fd), Outcome::EndOfStream));
        }
        let (fd, peer) = connected(&mut rig);
        SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        let outcome = peek(&mut rig, fd);
        assert!(matches!(outcome, Outcome::Failed { errno: libc::ECONNRESET }), "{outcome:?}");
    }
}
