//! Bad company: peers that do what peers should not, for as long as the test lasts.
//!
//! Each kind counts what it did, so that a test in which it did nothing does not pass.

use crate::drain;
use crate::message::{Pattern, unblocked};
use socket2::SockRef;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Peers that never read.
const DEAF: u64 = 8;
/// More than the buffers of both sockets in both directions and an outbox hold, with the largest
/// buffers that a kernel gives by default.
const DEAF_BYTES_MAX: usize = 64 << 20;
/// How long a deaf peer's socket must be full before it counts as held up.
const DEAF_WAIT: Duration = Duration::from_millis(300);
/// Between two connections of peers that come and go.
const PAUSE: Duration = Duration::from_millis(5);

/// What the bad company did, in connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) deaf: u64,
    pub(crate) dripped: u64,
    pub(crate) half_closed: u64,
    pub(crate) resets: u64,
}

impl Done {
    /// Whether there was something of everything.
    pub(crate) fn is_busy(&self) -> bool {
        self.deaf == DEAF && self.dripped > 0 && self.half_closed > 0 && self.resets > 0
    }
}

/// What all of them know.
#[derive(Clone)]
struct Briefing {
    streams: SocketAddr,
    messages: SocketAddr,
    pattern: Arc<Pattern>,
    is_over: Arc<AtomicBool>,
    deadline: Instant,
}

/// The threads of the bad company.
pub(crate) struct Company {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Done>>,
}

impl Company {
    /// Starts them all.
    pub(crate) fn assemble(
        streams: SocketAddr,
        messages: SocketAddr,
        pattern: &Arc<Pattern>,
        deadline: Instant,
    ) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let briefing = Briefing {
            streams,
            messages,
            pattern: Arc::clone(pattern),
            is_over: Arc::clone(&is_over),
            deadline,
        };
        let threads = [Briefing::never_read, Briefing::drip, Briefing::half_close, Briefing::reset]
            .map(|act| (act, briefing.clone()))
            .map(|(act, briefing)| thread::spawn(move || act(&briefing)));
        Self { is_over, threads: threads.into() }
    }

    /// Stops them all and tells what they did.
    pub(crate) fn dismiss(self) -> Done {
        self.is_over.store(true, Ordering::Release);
        self.threads.into_iter().fold(Done::default(), |sum, thread| {
            let done = thread.join().expect("nothing unexpected happened to a peer");
            Done {
                deaf: sum.deaf + done.deaf,
                dripped: sum.dripped + done.dripped,
                half_closed: sum.half_closed + done.half_closed,
                resets: sum.resets + done.resets,
            }
        })
    }
}

impl Briefing {
    /// Write as much as the server takes, and never read an answer.
    fn never_read(&self) -> Done {
        let peers: Vec<_> = (0..DEAF).map(|_| self.connect(self.streams)).collect();
        for peer in &peers {
            peer.set_nonblocking(true).expect("a socket option");
        }
        let bytes = self.pattern.message(0, 0, 64 << 10).to_vec();
        let mut written = vec![0; peers.len()];
        let mut full_since = Instant::now();
        while !self.is_over() || full_since.elapsed() < DEAF_WAIT {
            for (mut peer, written) in peers.iter().zip(&mut written) {
                while let Some(taken) = unblocked(peer.write(&bytes)).expect("it is not punished") {
                    *written += taken;
                    full_since = Instant::now();
                    assert!(*written < DEAF_BYTES_MAX, "the server takes {written} bytes without end");
                }
            }
            thread::sleep(PAUSE);
        }
        Done { deaf: DEAF, ..Done::default() }
    }

    /// Write one byte after the other.
    fn drip(&self) -> Done {
        let mut peer = self.connect(self.messages);
        let mut done = Done::default();
        for round in (0..32).cycle() {
            let message = self.pattern.message(1, round, 60).to_vec();
            for byte in &message {
                peer.write_all(std::slice::from_ref(byte)).expect("the server reads");
                thread::sleep(Duration::from_millis(1));
            }
            let mut echo = vec![0; message.len()];
            peer.read_exact(&mut echo).expect("the server answers");
            assert_eq!(echo, message, "message {round} of the dripping peer");
            done.dripped = 1;
            if self.is_over() {
                break;
            }
        }
        peer.shutdown(Shutdown::Write).expect("it is connected");
        assert_eq!(drain(&mut peer).expect("an end in order"), 0);
        done
    }

    /// End one direction before the answer is there, which must come all the same.
    fn half_close(&self) -> Done {
        let mut done = Done::default();
        for round in (0..32).cycle() {
            let addr = if round % 2 == 0 { self.streams } else { self.messages };
            let mut peer = self.connect(addr);
            let message = self.pattern.message(2, round, 10_000).to_vec();
            peer.write_all(&message).expect("the server reads");
            peer.shutdown(Shutdown::Write).expect("it is connected");
            let mut echo = Vec::new();
            peer.read_to_end(&mut echo).expect("the server answers, then ends its direction");
            assert!(echo == message, "round {round}: {} of {} bytes are right", echo.len(), message.len());
            done.half_closed += 1;
            if self.is_over() {
                break;
            }
            thread::sleep(PAUSE);
        }
        done
    }

    /// Reset connections in the middle of a message.
    fn reset(&self) -> Done {
        let mut done = Done::default();
        for round in (0..32).cycle() {
            let addr = if round % 2 == 0 { self.streams } else { self.messages };
            let mut peer = self.connect(addr);
            let message = self.pattern.message(3, round, 10_000).to_vec();
            peer.write_all(&message[..5_000]).expect("the socket has room");
            if round % 4 < 2 {
                // With and without time for the server to look.
                thread::sleep(PAUSE);
            }
            SockRef::from(&peer).set_linger(Some(Duration::ZERO)).expect("a socket option");
            drop(peer);
            done.resets += 1;
            if self.is_over() {
                break;
            }
            thread::sleep(PAUSE);
        }
        done
    }

    fn connect(&self, addr: SocketAddr) -> TcpStream {
        let patience = self.deadline.saturating_duration_since(Instant::now());
        let stream = TcpStream::connect_timeout(&addr, patience).expect("the server takes connections");
        stream.set_read_timeout(Some(patience)).expect("a socket option");
        stream.set_write_timeout(Some(patience)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        stream
    }

    fn is_over(&self) -> bool {
        assert!(Instant::now() < self.deadline, "the test takes too long");
        self.is_over.load(Ordering::Acquire)
    }
}
