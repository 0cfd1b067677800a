//! Datagram sockets of the simulated kernel, and the peers they talk to.
//!
//! Sockets are made without the kernel's other parts, as on a real one, so what they share with it is
//! behind a shared pointer. A socket may be closed only when nothing is under way on it, and what the
//! kernel was given to send must not change until it has said that it is done.

use super::buffers::Buffers;
use super::faults::Fault;
use super::{Sim, ledger::Breach};
use crate::buf::{Lease, Outgoing};
use crate::net::arrival::{self, Facts};
use crate::net::{BindError, BindUdp, BoundUdp, UdpOptions};
use crate::op::{Fd, Op, Outcome, UserData};
use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

/// The numbers of datagram sockets begin here, far from those of connections.
const FIRST_NUMBER: u32 = 1 << 24;
/// The ports that a socket gets if it does not choose.
const FIRST_PORT: u16 = 20_000;
/// What the socket buffer takes.
const QUEUE_MAX: usize = 64;
/// How many completions of one receive a turn makes at most.
const RECEIVES_PER_TURN: usize = 32;
/// What a send fails with when it is to fail.
const ERRNOS: [i32; 5] = [libc::EPERM, libc::ENETUNREACH, libc::EMSGSIZE, libc::ENOBUFS, libc::ENOMEM];

#[derive(Debug)]
struct Arrived {
    from: SocketAddr,
    bytes: Vec<u8>,
    segment_bytes: u16,
    at_us: u64,
    /// How many were dropped before it.
    drops: u32,
}

#[derive(Debug)]
struct Port {
    local: SocketAddr,
    options: UdpOptions,
    queue: VecDeque<Arrived>,
    drops: u32,
    errno: i32,
    receive: Option<UserData>,
    /// Operations of which the core does not know that they are over.
    under_way: u32,
}

/// A peer: somebody else's socket.
#[derive(Debug)]
struct Far {
    address: SocketAddr,
    inbox: VecDeque<(SocketAddr, Vec<u8>)>,
}

/// Everything that has a port.
#[derive(Debug, Default)]
pub(super) struct Ports {
    open: BTreeMap<u32, Port>,
    made: u32,
    far: Vec<Far>,
    /// A rule that was broken where nobody could say so.
    breach: Option<String>,
}

/// A datagram that the kernel has been given to send.
#[derive(Debug)]
struct Departure {
    user_data: UserData,
    number: u32,
    turn: u64,
    datagram: Box<Outgoing>,
    /// Its bytes as they were.
    bytes: Vec<u8>,
    errno: i32,
}

/// The kernel's side of it.
#[derive(Debug)]
pub(super) struct Datagrams {
    ports: Rc<RefCell<Ports>>,
    departures: Vec<Departure>,
    pub(super) buffers: Option<Buffers>,
    /// The sockets of operations that the core has not seen the end of.
    flights: BTreeMap<u64, u32>,
}

impl Datagrams {
    pub(super) fn new() -> Self {
        let ports = Rc::new(RefCell::new(Ports::default()));
        Self { ports, departures: Vec::new(), buffers: None, flights: BTreeMap::new() }
    }

    /// The core has pushed an operation.
    pub(super) fn pushed(&mut self, user_data: UserData, op: &Op) {
        let (Op::RecvDatagrams { fd } | Op::SendDatagram { fd, .. }) = op else { return };
        if let Some(port) = self.ports.borrow_mut().open.get_mut(&fd.0) {
            port.under_way += 1;
            self.flights.insert(user_data.bits(), fd.0);
        }
    }

    /// The core was told that an operation is over.
    pub(super) fn settled(&mut self, user_data: UserData) {
        if let Some(number) = self.flights.remove(&user_data.bits())
            && let Some(port) = self.ports.borrow_mut().open.get_mut(&number)
        {
            port.under_way -= 1;
        }
    }

    pub(super) fn maker(&self) -> Box<dyn BindUdp> {
        Box::new(SimSockets(Rc::clone(&self.ports)))
    }

    pub(super) fn buffers_lent(&self) -> usize {
        self.buffers.as_ref().map_or(0, Buffers::lent)
    }

    pub(super) fn bytes(&self, lease: &Lease) -> Result<&[u8], Breach> {
        match &self.buffers {
            Some(buffers) => buffers.bytes(lease),
            None => Err(Breach(String::from("only bytes on loan are read"))),
        }
    }

    pub(super) fn release(&mut self, lease: &Lease) -> Result<(), Breach> {
        match &mut self.buffers {
            Some(buffers) => buffers.release(lease),
            None => Err(Breach(String::from("a lease comes back exactly once, as it was lent"))),
        }
    }

    /// Whether a socket has something to receive into.
    pub(super) fn has_work(&self) -> bool {
        let ports = self.ports.borrow();
        ports.open.values().any(|port| port.receive.is_some() && (!port.queue.is_empty() || port.errno != 0))
    }

    pub(super) fn next_turn(&self) -> Option<u64> {
        self.departures.iter().map(|departure| departure.turn).min()
    }

    pub(super) fn open(&self) -> usize {
        self.ports.borrow().open.len()
    }

    /// The rule that a socket's close has broken.
    pub(super) fn breach(&self) -> Option<String> {
        self.ports.borrow_mut().breach.take()
    }
}

/// Makes sockets.
#[derive(Debug)]
struct SimSockets(Rc<RefCell<Ports>>);

#[derive(Debug)]
struct SimSocket {
    ports: Rc<RefCell<Ports>>,
    number: u32,
    local: SocketAddr,
}

impl BindUdp for SimSockets {
    fn bind(&mut self, addr: SocketAddr, options: &UdpOptions) -> Result<Box<dyn BoundUdp>, BindError> {
        let mut ports = self.0.borrow_mut();
        let number = FIRST_NUMBER + ports.made;
        let mut local = addr;
        if addr.port() == 0 {
            local.set_port(FIRST_PORT + (ports.made % 20_000) as u16);
        }
        let shares = options.reuse_port || options.reuse_address;
        if ports.open.values().any(|port| port.local == local) && !shares {
            return Err(BindError::from_kernel(addr, io::Error::from_raw_os_error(libc::EADDRINUSE)));
        }
        ports.made += 1;
        let port = Port {
            local,
            options: options.clone(),
            queue: VecDeque::new(),
            drops: 0,
            errno: 0,
            receive: None,
            under_way: 0,
        };
        ports.open.insert(number, port);
        Ok(Box::new(SimSocket { ports: Rc::clone(&self.0), number, local }))
    }
}

impl BoundUdp for SimSocket {
    fn fd(&self) -> Fd {
        Fd(self.number)
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }

    fn drops(&self) -> u32 {
        self.ports.borrow().open.get(&self.number).map_or(0, |port| port.drops)
    }

    fn set_member(&self, group: IpAddr, _: u32, _: bool) -> io::Result<()> {
        if group.is_multicast() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        let mut ports = self.ports.borrow_mut();
        let Some(port) = ports.open.remove(&self.number) else { return };
        if port.under_way > 0 {
            let rule = "no close before everything else has completed";
            ports.breach = Some(format!("{rule}: datagram socket {}", port.local));
        }
    }
}

impl Sim {
    /// A peer with an address of its own.
    pub(crate) fn udp_peer(&mut self) -> SocketAddr {
        let mut ports = self.datagrams.ports.borrow_mut();
        let port = 40_000 + ports.far.len() as u16;
        let address = SocketAddr::from((Ipv4Addr::new(10, 9, 0, 1), port));
        ports.far.push(Far { address, inbox: VecDeque::new() });
        address
    }

    /// Has a peer send a datagram to a socket of the server's; the network may do as it likes with it.
    pub(crate) fn udp_send(&mut self, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if self.dice.strikes(Fault::DatagramLost) {
            return;
        }
        let copies = if self.dice.strikes(Fault::DatagramDoubled) { 2 } else { 1 };
        for _ in 0..copies {
            let jumps = self.dice.strikes(Fault::DatagramOvertakes);
            let mut ports = self.datagrams.ports.borrow_mut();
            let reaches = |port: &Port| {
                let fits =
                    port.local == to || port.local.ip().is_unspecified() && port.local.port() == to.port();
                fits && port.options.peer.is_none_or(|peer| peer == from)
            };
            let Some(port) = ports.open.values_mut().find(|port| reaches(port)) else { return };
            if port.queue.len() >= QUEUE_MAX {
                port.drops += 1;
                continue;
            }
            let (drops, at_us) = (port.drops, self.clock_us);
            let arrived = Arrived { from, bytes: bytes.to_vec(), segment_bytes: 0, at_us, drops };
            if jumps { port.queue.push_front(arrived) } else { port.queue.push_back(arrived) }
        }
        self.trace.note(|| format!("{from} sends {} bytes to {to}", bytes.len()));
    }

    /// What has come to a peer, and from where.
    pub(crate) fn udp_receive(&mut self, at: SocketAddr) -> Option<(SocketAddr, Vec<u8>)> {
        let mut ports = self.datagrams.ports.borrow_mut();
        ports.far.iter_mut().find(|far| far.address == at)?.inbox.pop_front()
    }

    pub(super) fn begin_receive_datagrams(&mut self, user_data: UserData, fd: Fd) {
        let mut ports = self.datagrams.ports.borrow_mut();
        match ports.open.get_mut(&fd.0) {
            Some(port) => port.receive = Some(user_data),
            None => self.trace.panic("a receive of datagrams names a socket that is open"),
        }
    }

    pub(super) fn begin_send_datagram(&mut self, user_data: UserData, fd: Fd, datagram: Box<Outgoing>) {
        match self.datagrams.ports.borrow_mut().open.get_mut(&fd.0) {
            Some(_) => {}
            None => self.trace.panic("a send of a datagram names a socket that is open"),
        }
        let errno = if datagram.segment_bytes > 0 && self.dice.strikes(Fault::RunRefused) {
            libc::EIO
        } else if self.dice.strikes(Fault::DatagramFails) {
            self.dice.pick(&ERRNOS)
        } else {
            0
        };
        let turn = self.turn + self.dice.turns_late(Fault::Late);
        let bytes = datagram.bytes().to_vec();
        let departure = Departure { user_data, number: fd.0, turn, datagram, bytes, errno };
        self.datagrams.departures.push(departure);
    }

    /// Makes the buffers for datagrams.
    pub(super) fn make_datagram_buffers(&mut self) {
        let faults = &self.dice.faults;
        let (count, bytes) = (faults.receive_buffers.max(1), faults.datagram_bytes.max(1));
        let whole = arrival::OVERHEAD_BYTES as u32 + bytes;
        self.datagrams.buffers.get_or_insert_with(|| Buffers::new(count, whole));
    }

    /// Sends what is due, and receives what has arrived.
    pub(super) fn run_datagrams(&mut self) {
        let turn = self.turn;
        let due: Vec<_> = self.datagrams.departures.extract_if(.., |it| it.turn <= turn).collect();
        for departure in due {
            self.depart(departure);
        }
        let numbers: Vec<_> = self.datagrams.ports.borrow().open.keys().copied().collect();
        for number in numbers {
            for _ in 0..RECEIVES_PER_TURN {
                if !self.receive_datagram(number) {
                    break;
                }
            }
        }
        if let Some(rule) = self.datagrams.breach() {
            self.trace.panic(&rule);
        }
    }

    /// Ends a receive or a send of datagrams early; false if `target` is neither.
    pub(super) fn cancel_datagrams(&mut self, target: UserData) -> bool {
        let at = self.datagrams.departures.iter().position(|it| it.user_data == target);
        if let Some(at) = at {
            let mut departure = self.datagrams.departures.remove(at);
            departure.errno = libc::ECANCELED;
            self.depart(departure);
            return true;
        }
        let mut ports = self.datagrams.ports.borrow_mut();
        let Some(port) = ports.open.values_mut().find(|port| port.receive == Some(target)) else {
            return false;
        };
        port.receive = None;
        drop(ports);
        let more = self.dice.strikes(Fault::CancelledWithMore);
        self.post(target, Outcome::Failed { errno: libc::ECANCELED }, more);
        true
    }

    /// A datagram leaves, or not, and its memory goes home.
    fn depart(&mut self, departure: Departure) {
        let Departure { user_data, number, datagram, bytes, errno, .. } = departure;
        if datagram.bytes() != bytes {
            self.trace.panic("bytes that the kernel may read are left alone");
        }
        let mut from = None;
        if let Some(port) = self.datagrams.ports.borrow_mut().open.get_mut(&number) {
            let to = datagram.to.or(port.options.peer).expect("the core says where to");
            from = Some((datagram.source.map_or(port.local, |ip| (ip, port.local.port()).into()), to));
        }
        if let Some((from, to)) = from.filter(|_| errno == 0) {
            let size = match usize::from(datagram.segment_bytes) {
                0 => bytes.len().max(1),
                size => size,
            };
            if bytes.is_empty() {
                self.cross(number, from, to, &[]);
            }
            for segment in bytes.chunks(size) {
                self.cross(number, from, to, segment);
            }
        }
        self.post(user_data, Outcome::DatagramSent { errno, datagram }, false);
    }

    /// A datagram crosses the network.
    fn cross(&mut self, number: u32, from: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if self.dice.strikes(Fault::DatagramLost) {
            return;
        }
        let is_doubled = self.dice.strikes(Fault::DatagramDoubled);
        let mut ports = self.datagrams.ports.borrow_mut();
        match ports.far.iter_mut().find(|far| far.address == to) {
            Some(far) => {
                for _ in 0..if is_doubled { 2 } else { 1 } {
                    far.inbox.push_back((from, bytes.to_vec()));
                }
            }
            None => {
                // Only a connected socket hears of it.
                if let Some(port) = ports.open.get_mut(&number)
                    && port.options.peer.is_some()
                {
                    port.errno = libc::ECONNREFUSED;
                }
            }
        }
    }

    /// Goes on with the receive of a socket; false if there is nothing to report.
    fn receive_datagram(&mut self, number: u32) -> bool {
        let mut ports = self.datagrams.ports.borrow_mut();
        let Some(port) = ports.open.get_mut(&number) else { return false };
        let Some(user_data) = port.receive else { return false };
        if self.dice.strikes(Fault::ReceiveCancelled) {
            port.errno = libc::ECANCELED;
        }
        if port.errno != 0 {
            let errno = std::mem::take(&mut port.errno);
            port.receive = None;
            drop(ports);
            self.post_error(user_data, errno);
            return true;
        }
        if port.queue.is_empty() {
            return false;
        }
        let Some(buffers) = &mut self.datagrams.buffers else {
            self.trace.panic("buffers for datagrams are ready before the first receive");
        };
        let has_room = buffers.room().is_some();
        if !has_room || self.dice.strikes(Fault::NoBuffers) {
            port.receive = None;
            self.starved += u64::from(!has_room);
            drop(ports);
            self.post_error(user_data, libc::ENOBUFS);
            return true;
        }
        let Some(arrived) = port.queue.pop_front() else { return false };
        let facts = facts_of(port, &arrived);
        let mut bytes =
            VecDeque::from(arrival::encode(&facts, &arrived.bytes, buffers.room().unwrap_or(0) as usize));
        let len = bytes.len() as u32;
        let lease = buffers.fill(&mut bytes, len, false);
        drop(ports);
        // The kernel ends a receive behind an empty datagram.
        let more = !arrived.bytes.is_empty() && !self.dice.strikes(Fault::ArmEnds);
        if !self.post(user_data, Outcome::Datagram(lease), more)
            && let Some(port) = self.datagrams.ports.borrow_mut().open.get_mut(&number)
        {
            port.receive = None;
        }
        true
    }
}

fn facts_of(port: &Port, arrived: &Arrived) -> Facts {
    let local = if port.local.ip().is_unspecified() { SERVER.into() } else { port.local.ip() };
    let knows = port.options.local_address.unwrap_or_else(|| port.local.ip().is_unspecified());
    Facts {
        from: arrived.from,
        full_len: arrived.bytes.len(),
        destination: knows.then_some(local),
        source: knows.then_some(local),
        interface: u32::from(knows),
        tos: port.options.tos.then_some(0),
        received: port.options.timestamps.then(|| EPOCH + Duration::from_micros(arrived.at_us)),
        segment_bytes: arrived.segment_bytes,
        drops: (arrived.drops > 0).then_some(arrived.drops),
    }
}

/// The address that a socket has which is bound to all of them.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// When the simulation begins, since the beginning of 1970.
pub(super) const EPOCH: Duration = Duration::from_secs(1_800_000_000);
