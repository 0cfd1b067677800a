//! Servers and clients that are not ringline's: plain sockets that block, and threads.

use crate::SOON;
use crate::namespace::Namespace;
use crate::order::{HEAD_BYTES, Manner, Order};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const PIECE_BYTES: usize = 16 << 10;
const PAUSE: Duration = Duration::from_millis(2);

/// Connects from a network, and waits for nothing longer than is reasonable.
pub(crate) fn connect(side: &Namespace, target: SocketAddr) -> TcpStream {
    let stream =
        side.enter(|| TcpStream::connect_timeout(&target, SOON)).expect("the server takes connections");
    set_up(&stream);
    stream
}

/// Gives an order, sends what belongs to it, and returns how many bytes came back, all of them right.
pub(crate) fn give(stream: &TcpStream, order: &Order) -> io::Result<u64> {
    thread::scope(|scope| {
        let writing = scope.spawn(|| {
            (&*stream).write_all(&order.head())?;
            write(stream, order.up_bytes, |from, len| order.up(from, len))
        });
        let read = read(stream, |from, len| order.down(from, len));
        writing.join().expect("a writer does not fail otherwise")?;
        read
    })
}

/// A server in threads.
#[derive(Debug)]
pub(crate) struct Foreign {
    addr: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<io::Result<u64>>>,
}

impl Foreign {
    pub(crate) fn serve(side: &Namespace) -> Self {
        let listener =
            side.enter(|| TcpListener::bind((side.address(), 0))).expect("the network has free ports");
        let addr = listener.local_addr().expect("it is bound");
        listener.set_nonblocking(true).expect("a socket option");
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let thread = thread::spawn(move || accept(&listener, &seen));
        Self { addr, is_over, thread }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Waits for all connections to be over, and says how many bytes came on each.
    pub(crate) fn finish(self) -> Vec<io::Result<u64>> {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the server's thread ends well")
    }
}

fn accept(listener: &TcpListener, is_over: &AtomicBool) -> Vec<io::Result<u64>> {
    let mut serving = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, _)) => serving.push(thread::spawn(move || serve(&stream))),
            Err(_) if is_over.load(Ordering::Relaxed) => break,
            Err(_) => thread::sleep(PAUSE),
        }
    }
    serving.into_iter().map(|thread| thread.join().expect("a connection's thread ends well")).collect()
}

fn serve(stream: &TcpStream) -> io::Result<u64> {
    stream.set_nonblocking(false)?;
    set_up(stream);
    let mut head = [0; HEAD_BYTES];
    (&*stream).read_exact(&mut head)?;
    let order = Order::parse(&head).ok_or(ErrorKind::InvalidData)?;
    if order.manner == Manner::Echo {
        let mut copied = 0;
        let mut buffer = vec![0; PIECE_BYTES];
        loop {
            match (&*stream).read(&mut buffer)? {
                0 => break,
                len => {
                    (&*stream).write_all(&buffer[..len])?;
                    copied += len as u64;
                }
            }
        }
        stream.shutdown(Shutdown::Write)?;
        return Ok(copied);
    }
    thread::scope(|scope| {
        let writing = scope.spawn(|| write(stream, order.down_bytes, |from, len| order.down(from, len)));
        let read = read(stream, |from, len| order.up(from, len));
        writing.join().expect("a writer does not fail otherwise")?;
        read
    })
}

/// Writes so many bytes, then ends the direction.
fn write(mut stream: &TcpStream, count: u64, bytes: impl Fn(u64, usize) -> Vec<u8>) -> io::Result<()> {
    let mut at = 0;
    while at < count {
        let len = PIECE_BYTES.min((count - at) as usize);
        stream.write_all(&bytes(at, len))?;
        at += len as u64;
    }
    stream.shutdown(Shutdown::Write)
}

/// Reads to the end and compares.
fn read(mut stream: &TcpStream, right: impl Fn(u64, usize) -> Vec<u8>) -> io::Result<u64> {
    let mut at = 0;
    let mut buffer = vec![0; PIECE_BYTES];
    loop {
        let len = match stream.read(&mut buffer)? {
            0 => return Ok(at),
            len => len,
        };
        assert!(buffer[..len] == right(at, len), "the {len} bytes from {at} on are others");
        at += len as u64;
    }
}

fn set_up(stream: &TcpStream) {
    stream.set_read_timeout(Some(SOON)).expect("a socket option");
    stream.set_write_timeout(Some(SOON)).expect("a socket option");
    stream.set_nodelay(true).expect("a socket option");
}
