//! The many: connections that stay from the beginning to the end and behave well.

use crate::drain;
use crate::message::{Exchange, Pattern};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// Threads that move the clients' bytes.
const THREADS: usize = 2;
/// How long to leave the CPUs to the server when no socket could be moved on.
const PAUSE: Duration = Duration::from_micros(200);

struct Member {
    number: usize,
    stream: TcpStream,
}

/// All well-behaved clients, shared out to threads.
pub(crate) struct Crowd {
    shares: Vec<Vec<Member>>,
    deadline: Instant,
}

impl Crowd {
    /// Connects `count` clients, to each of the addresses in turn.
    pub(crate) fn connect(count: usize, addrs: [SocketAddr; 2], deadline: Instant) -> Self {
        let connect = |number: usize| {
            let patience = deadline.saturating_duration_since(Instant::now());
            // Neighbours differ in the listener, and so do the shares of one thread.
            let addr = addrs[number / THREADS % addrs.len()];
            let stream = TcpStream::connect_timeout(&addr, patience)
                .unwrap_or_else(|error| panic!("client {number} does not connect: {error}"));
            stream.set_nodelay(true).expect("a socket option");
            stream.set_nonblocking(true).expect("a socket option");
            Member { number, stream }
        };
        let share = |thread: usize| (thread..count).step_by(THREADS).map(connect).collect();
        let shares = thread::scope(|scope| {
            let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || share(thread))).collect();
            threads.into_iter().map(|thread| thread.join().expect("all connect")).collect()
        });
        Self { shares, deadline }
    }

    pub(crate) fn len(&self) -> usize {
        self.shares.iter().map(Vec::len).sum()
    }

    /// Exchanges one message of `bytes` on each of the first `members` connections, `at_once` of
    /// them at a time.
    pub(crate) fn exchange(
        &self,
        pattern: &Pattern,
        round: u32,
        bytes: usize,
        members: usize,
        at_once: usize,
    ) {
        thread::scope(|scope| {
            for share in &self.shares {
                scope.spawn(move || {
                    let share = &share[..members.div_ceil(THREADS).min(share.len())];
                    for batch in share.chunks((at_once / THREADS).max(1)) {
                        self.exchange_batch(batch, pattern, round, bytes);
                    }
                });
            }
        });
    }

    fn exchange_batch(&self, batch: &[Member], pattern: &Pattern, round: u32, bytes: usize) {
        let mut scratch = vec![0; 256 << 10];
        let mut open: Vec<_> = batch
            .iter()
            .map(|Member { number, stream }| (number, pattern.message(*number, round, bytes), stream))
            .map(|(number, message, stream)| (number, Exchange::new(stream, message)))
            .collect();
        while !open.is_empty() {
            let mut has_moved = false;
            open.retain_mut(|(number, exchange)| {
                match exchange.step(&mut scratch) {
                    Ok(moved) => has_moved |= moved,
                    Err(error) => panic!("client {number}: {error}; {}", exchange.progress()),
                }
                !exchange.is_done()
            });
            if let Some((number, exchange)) = open.first()
                && !has_moved
            {
                assert!(Instant::now() < self.deadline, "client {number} waits: {}", exchange.progress());
                thread::sleep(PAUSE);
            }
        }
    }

    /// Ends every connection in order and returns how many of them the server ended in order, too.
    pub(crate) fn leave(self) -> u64 {
        let mut ended = 0;
        for member in self.shares.iter().flatten() {
            member.stream.shutdown(Shutdown::Write).expect("it is connected");
        }
        for mut member in self.shares.into_iter().flatten() {
            member.stream.set_nonblocking(false).expect("a socket option");
            let patience = self.deadline.saturating_duration_since(Instant::now());
            member.stream.set_read_timeout(Some(patience.max(PAUSE))).expect("a socket option");
            let rest = drain(&mut member.stream);
            assert!(matches!(rest, Ok(0)), "client {}: {rest:?} after everything", member.number);
            ended += 1;
        }
        ended
    }
}
