//! A client that sends numbered datagrams, and a server that sends back what it gets, both on ringline.
//!
//! What a datagram holds follows from its number, so that a changed one, or half of one, is seen.

use crate::dice::{self, Dice};
use crate::namespace::Namespace;
use crate::{SOON, config};
use ringline_core::{
    Admit, ConnId, Consumed, Ctx, Datagram, EventHandler, Peer, Running, Server, TimerKey, UdpClosed,
    UdpError, UdpId, UdpOptions, UdpSendError,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const HEAD_BYTES: usize = 8;
/// Datagrams of a run, which have the same length.
const RUN: u64 = 8;
/// One of so many times eight datagrams leaves as a run.
const RUN_EVERY: u64 = 4;
const RUN_BYTES: usize = 300;
/// How often a client sends, and how much each time.
const PACE: Duration = Duration::from_millis(1);
const RUNS_AT_ONCE: u64 = 2;
const LOOK: Duration = Duration::from_millis(5);

/// The bytes of a datagram, of `longest` at most.
pub(crate) fn message(number: u64, longest: usize) -> Vec<u8> {
    let len = if is_in_run(number) { RUN_BYTES } else { Dice::new(number).below(longest - HEAD_BYTES) };
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend(dice::bytes(number, 0, len));
    bytes
}

fn is_in_run(number: u64) -> bool {
    (number / RUN).is_multiple_of(RUN_EVERY)
}

/// What both sides tell their test.
#[derive(Debug, Default)]
pub(crate) struct Log {
    page: Mutex<Page>,
    /// Up to which number the client is to send; multiples of eight.
    pub(crate) quota: AtomicU64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    /// How many datagrams were accepted for sending, and how many were refused.
    pub(crate) sent: u64,
    pub(crate) full: u64,
    /// How often each number has arrived.
    pub(crate) arrived: BTreeMap<u64, u64>,
    pub(crate) errors: Vec<UdpError>,
    pub(crate) closed: Vec<UdpClosed>,
    broken: Vec<String>,
}

impl Page {
    /// How many datagrams have arrived, doubled ones twice.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrived.values().sum()
    }

    /// How many datagrams were reported not to have left.
    pub(crate) fn unsent(&self) -> u64 {
        let datagrams = |error: &UdpError| match error {
            UdpError::Send { datagrams, .. } => *datagrams as u64,
            _ => 0,
        };
        self.errors.iter().map(datagrams).sum()
    }
}

impl Log {
    pub(crate) fn page(&self) -> MutexGuard<'_, Page> {
        self.page.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait(&self, what: &str, condition: impl Fn(&Page) -> bool) {
        let until = Instant::now() + SOON;
        while !condition(&self.page()) {
            assert!(Instant::now() < until, "this never happens: {what}: {:?}", self.page().errors);
            thread::sleep(LOOK);
        }
    }
}

/// Either at work.
pub(crate) struct Office {
    running: Running,
    pub(crate) log: Arc<Log>,
}

impl Office {
    /// A server that sends back.
    pub(crate) fn serve(side: &Namespace, longest: usize) -> Self {
        let address = SocketAddr::from((side.address(), 0));
        let bind = |server: Server| server.bind_udp(address, &UdpOptions::default()).expect("a free port");
        Self::launch(side, bind, None, longest)
    }

    /// A client of a server, which waits for a quota.
    pub(crate) fn send(side: &Namespace, target: SocketAddr, longest: usize) -> Self {
        Self::launch(side, |server| server, Some(target), longest)
    }

    fn launch(
        side: &Namespace,
        bind: impl FnOnce(Server) -> Server + Send,
        target: Option<SocketAddr>,
        longest: usize,
    ) -> Self {
        let log = Arc::new(Log::default());
        let shared = Arc::clone(&log);
        let config = config().workers(1).pin(false).build().expect("the configuration is valid");
        let running = side.enter(|| {
            bind(Server::new(config)).launch(move |_| Post {
                log: Arc::clone(&shared),
                target,
                longest,
                open: BTreeSet::new(),
                next: 0,
            })
        });
        Self { running: running.expect("a worker starts"), log }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.running.udp_addrs()[0]
    }

    /// Stops, and returns what there was. Every socket closes, once.
    pub(crate) fn stop(self) -> Page {
        self.running.shutdown(SOON).expect("the worker ends well");
        let page = self.log.page().clone();
        assert!(page.broken.is_empty(), "broken promises:\n{}", page.broken.join("\n"));
        assert_eq!(page.closed, [UdpClosed::Shutdown]);
        page
    }
}

/// The handler of both.
struct Post {
    log: Arc<Log>,
    /// The client's server.
    target: Option<SocketAddr>,
    longest: usize,
    open: BTreeSet<UdpId>,
    next: u64,
}

impl Post {
    /// Sends what the quota allows, a little at a time.
    fn post(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId) {
        for _ in 0..RUNS_AT_ONCE {
            if self.next >= self.log.quota.load(Ordering::Relaxed) {
                return;
            }
            let numbers = self.next..self.next + RUN;
            self.next = numbers.end;
            let messages: Vec<_> = numbers.clone().map(|number| message(number, self.longest)).collect();
            if is_in_run(numbers.start) {
                let run = messages.concat();
                let answer = cx.send_segments(socket, None, (HEAD_BYTES + RUN_BYTES) as u16, &run);
                self.sent(RUN, answer);
            } else {
                for message in messages {
                    let answer = cx.send_datagram(socket, &message);
                    self.sent(1, answer);
                }
            }
        }
    }

    fn sent(&self, count: u64, answer: Result<(), UdpSendError>) {
        let mut page = self.log.page();
        match answer {
            Ok(()) => page.sent += count,
            Err(UdpSendError::Full { .. }) => page.full += count,
            Err(error) => page.broken.push(format!("a datagram was not accepted: {error}")),
        }
    }

    /// Whether a datagram is one that was sent; notes it.
    fn note(&self, socket: UdpId, data: &[u8], is_truncated: bool) -> bool {
        let mut page = self.log.page();
        let number = data.first_chunk().map(|head| u64::from_be_bytes(*head));
        let is_right = number.is_some_and(|number| data == message(number, self.longest)) && !is_truncated;
        if !self.open.contains(&socket) {
            page.broken.push(format!("{socket}: a datagram for a socket that is not open"));
        }
        match number {
            Some(number) if is_right => *page.arrived.entry(number).or_insert(0) += 1,
            _ => page.broken.push(format!("{socket}: {} bytes that nobody sent", data.len())),
        }
        is_right
    }
}

impl EventHandler for Post {
    type Conn = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        match self.target {
            Some(target) => {
                let socket = cx.connect_udp(target, &UdpOptions::default()).expect("a socket");
                self.open.insert(socket);
                cx.set_timer(PACE, TimerKey(0));
            }
            None => self.open.extend(cx.udp_sockets()),
        }
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Refuse
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, _: TimerKey) {
        if let Some(socket) = self.open.first().copied() {
            self.post(cx, socket);
        }
        cx.set_timer(PACE, TimerKey(0));
    }

    fn on_datagram(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, datagram: Datagram<'_>) {
        let is_right = self.note(socket, datagram.data(), datagram.is_truncated());
        if is_right && self.target.is_none() {
            let answer = cx.reply(socket, &datagram, datagram.data());
            self.sent(1, answer);
        }
    }

    fn on_udp_error(&mut self, _: &mut Ctx<'_, Self>, _: UdpId, error: UdpError) {
        self.log.page().errors.push(error);
    }

    fn on_udp_close(&mut self, _: &mut Ctx<'_, Self>, socket: UdpId, reason: UdpClosed) {
        let mut page = self.log.page();
        page.closed.push(reason);
        if !self.open.remove(&socket) {
            page.broken.push(format!("{socket}: on_udp_close for a socket that is not open"));
        }
    }
}
