//! Who may come in: caps on the connections that all workers of a server have together.
//!
//! Invariant: what is counted is the tickets that exist, no more and no fewer. A ticket is made by
//! [`Admission::admit`] alone, which never goes beyond a cap, and gives its count back when it is
//! dropped. So a count comes back once, however a connection ends, and with a worker that is dropped
//! the counts of all its connections.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The counts of one server, which its workers share.
#[derive(Debug)]
pub(crate) struct Admission {
    connections_max: usize,
    per_address: Option<u32>,
    connections: AtomicUsize,
    /// How many connections each origin has; one that has none is not in it. The hasher is keyed at
    /// random, so a peer cannot choose addresses that collide.
    origins: Mutex<HashMap<Origin, u32>>,
}

/// The cap that is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The server has as many connections as it may.
    Server,
    /// The peer's address has as many as it may.
    Address,
}

/// Whose connections are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    V4(Ipv4Addr),
    /// The upper half of an IPv6 address. The lower half is for hosts to choose, so that one host can
    /// have as many addresses as it likes.
    V6Network(u64),
}

impl Admission {
    /// `None` if nothing is capped: then nothing is counted either.
    pub(crate) fn new(connections_max: Option<usize>, per_address: Option<u32>) -> Option<Arc<Self>> {
        let is_capped = connections_max.is_some() || per_address.is_some();
        is_capped.then(|| {
            Arc::new(Self {
                connections_max: connections_max.unwrap_or(usize::MAX),
                per_address,
                connections: AtomicUsize::new(0),
                origins: Mutex::new(HashMap::new()),
            })
        })
    }

    /// Counts one more connection, if no cap is in the way.
    fn admit(self: &Arc<Self>, address: Option<IpAddr>) -> Result<Ticket, Refusal> {
        let mut counted = None;
        if let (Some(per_address), Some(address)) = (self.per_address, address) {
            let origin = Origin::of(address);
            match self.lock().entry(origin) {
                Entry::Occupied(entry) if *entry.get() >= per_address => return Err(Refusal::Address),
                entry => {
                    self.add_one()?;
                    *entry.or_insert(0) += 1;
                }
            }
            counted = Some(origin);
        } else {
            self.add_one()?;
        }
        Ok(Ticket { admission: Arc::clone(self), origin: counted })
    }

    /// One more of the whole server.
    fn add_one(&self) -> Result<(), Refusal> {
        // The count guards no other memory, so that its own order is enough.
        let below = |count| (count < self.connections_max).then_some(count + 1);
        let added = self.connections.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below);
        added.map_or(Err(Refusal::Server), |_| Ok(()))
    }

    fn remove_one(&self, origin: Option<Origin>) {
        if let Some(origin) = origin
            && let Entry::Occupied(mut entry) = self.lock().entry(origin)
        {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether nobody is counted.
    fn is_empty(&self) -> bool {
        self.connections.load(Ordering::Relaxed) == 0 && self.lock().is_empty()
    }

    /// No panic can leave the map half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, HashMap<Origin, u32>> {
        self.origins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Origin {
    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6Network((address.to_bits() >> 64) as u64),
        }
    }
}

/// The right of one connection to be there.
#[derive(Debug)]
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    /// Only if addresses are counted.
    origin: Option<Origin>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.admission.remove_one(self.origin);
    }
}

/// The tickets of one worker's connections, by their rows. Without caps there are none, and no memory
/// for any.
#[derive(Debug, Default)]
pub(crate) struct Tickets {
    admission: Option<Arc<Admission>>,
    held: Vec<Option<Ticket>>,
}

impl Tickets {
    pub(crate) fn new(admission: Option<Arc<Admission>>) -> Self {
        Self { admission, held: Vec::new() }
    }

    /// A ticket for a peer at `address`, which one of a Unix socket has not; `None` if none is needed.
    pub(crate) fn ask(&self, address: Option<IpAddr>) -> Result<Option<Ticket>, Refusal> {
        self.admission.as_ref().map(|admission| admission.admit(address)).transpose()
    }

    /// Keeps a ticket for as long as the connection has its row.
    pub(crate) fn keep(&mut self, row: usize, ticket: Option<Ticket>) {
        let Some(ticket) = ticket else { return };
        if row >= self.held.len() {
            self.held.resize_with(row + 1, || None);
        }
        self.held[row] = Some(ticket);
    }

    /// The row is free.
    #[inline]
    pub(crate) fn give_back(&mut self, row: usize) {
        if let Some(held) = self.held.get_mut(row) {
            *held = None;
        }
    }

    /// Whether no connection of this worker, nor of any other, is counted.
    pub(crate) fn are_all_back(&self) -> bool {
        let is_counted = self.admission.as_ref().is_some_and(|admission| !admission.is_empty());
        !is_counted && self.held.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Barrier;

    fn origin(address: &str) -> Origin {
        Origin::of(address.parse().unwrap())
    }

    fn ip(address: &str) -> Option<IpAddr> {
        address.parse().ok()
    }

    #[test]
    fn an_ipv4_address_is_an_origin_of_its_own_whichever_way_it_came() {
        assert_eq!(origin("192.0.2.7"), Origin::V4(Ipv4Addr::new(192, 0, 2, 7)));
        assert_eq!(origin("::ffff:192.0.2.7"), origin("192.0.2.7"));
        assert_ne!(origin("192.0.2.7"), origin("192.0.2.6"));
        assert_ne!(origin("192.0.2.7"), origin("193.0.2.7"));
        assert_ne!(origin("0.0.0.0"), origin("::"));
        assert_ne!(origin("::192.0.2.7"), origin("192.0.2.7"), "such an address is not a mapped one");
    }

    #[test]
    fn ipv6_addresses_of_one_network_are_one_origin() {
        assert_eq!(origin("2001:db8:1:2::1"), origin("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_eq!(origin("2001:db8:1:2::1"), Origin::V6Network(0x2001_0db8_0001_0002));
        assert_ne!(origin("2001:db8:1:2::1"), origin("2001:db8:1:3::1"));
        assert_ne!(origin("2001:db8:1:2::1"), origin("2002:db8:1:2::1"));
        assert_eq!(origin("::1"), origin("::2"));
    }

    #[test]
    fn without_a_cap_there_is_nothing_to_count() {
        assert!(Admission::new(None, None).is_none());
        let mut tickets = Tickets::new(None);
        let ticket = tickets.ask(ip("192.0.2.7")).unwrap();
        assert!(ticket.is_none());
        tickets.keep(3, ticket);
        assert_eq!(tickets.held.capacity(), 0, "no memory is taken");
        tickets.give_back(3);
        assert!(tickets.are_all_back());
    }

    #[test]
    fn each_cap_is_reached_and_not_passed() {
        let admission = Admission::new(Some(3), Some(2)).unwrap();
        let (near, far) = (ip("192.0.2.7"), ip("2001:db8::1"));
        let first = admission.admit(near).unwrap();
        let _second = admission.admit(near).unwrap();
        assert_eq!(admission.admit(near).unwrap_err(), Refusal::Address);
        let third = admission.admit(far).unwrap();
        assert_eq!(admission.admit(far).unwrap_err(), Refusal::Server);
        drop(first);
        let _fourth = admission.admit(far).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.8")).unwrap_err(), Refusal::Server);
        drop(third);
        let _fifth = admission.admit(near).unwrap();
        assert_eq!(admission.lock().len(), 2, "who was refused has left nothing");
    }

    #[test]
    fn who_has_no_ip_address_counts_towards_the_server_alone() {
        let admission = Admission::new(Some(3), Some(1)).unwrap();
        let all: Vec<_> = (0..3).map(|_| admission.admit(None).unwrap()).collect();
        assert_eq!(admission.admit(None).unwrap_err(), Refusal::Server);
        assert!(admission.lock().is_empty());
        drop(all);
        assert!(admission.is_empty());
    }

    #[test]
    fn a_worker_that_is_dropped_gives_everything_back() {
        let admission = Admission::new(Some(10), Some(10));
        let mut tickets = Tickets::new(admission.clone());
        let other = Tickets::new(admission.clone());
        for row in [0, 5, 2] {
            let ticket = tickets.ask(ip("192.0.2.7")).unwrap();
            tickets.keep(row, ticket);
        }
        assert!(!tickets.are_all_back());
        drop(tickets);
        assert!(other.are_all_back());
        assert!(admission.unwrap().is_empty());
    }

    #[test]
    fn workers_that_race_for_the_last_places_get_as_many_as_there_are() {
        const WORKERS: usize = 4;
        const ROUNDS: usize = 200;
        let admission = Admission::new(Some(5), Some(4)).unwrap();
        let (begin, taken, looked) = (Barrier::new(WORKERS), Barrier::new(WORKERS), Barrier::new(WORKERS));
        let served = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for worker in 0..WORKERS {
                let (admission, served) = (&admission, &served);
                let (begin, taken, looked) = (&begin, &taken, &looked);
                scope.spawn(move || {
                    let addresses = [ip("192.0.2.7"), ip("192.0.2.8")];
                    for _ in 0..ROUNDS {
                        begin.wait();
                        let asked = (0..6).map(|at| admission.admit(addresses[(at + worker) % 2]));
                        let tickets: Vec<_> = asked.filter_map(Result::ok).collect();
                        served.fetch_add(tickets.len(), Ordering::SeqCst);
                        taken.wait();
                        assert_eq!(served.load(Ordering::SeqCst), 5);
                        looked.wait();
                        served.store(0, Ordering::SeqCst);
                        drop(tickets);
                    }
                });
            }
        });
        assert!(admission.is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

        /// Ten thousand times a connection comes or goes; the counts are those of a plain list.
        #[test]
        fn counts_come_back_exactly(steps in prop::collection::vec((0_usize..40, 0_u8..12), 10_000)) {
            let admission = Admission::new(Some(30), Some(4));
            let mut tickets = Tickets::new(admission.clone());
            let admission = admission.unwrap();
            let mut rows: Vec<Option<u8>> = vec![None; 40];
            for (row, host) in steps {
                if rows[row].take().is_some() {
                    tickets.give_back(row);
                    continue;
                }
                let address = Some(if host < 6 { IpAddr::from([192, 0, 2, host]) }
                    else { IpAddr::from([0x2001, 0xdb8, 0, host.into(), 0, 0, row as u16, 1]) });
                let of_host = rows.iter().filter(|other| **other == Some(host)).count();
                let all = rows.iter().flatten().count();
                let expected = if of_host == 4 { Err(Refusal::Address) }
                    else if all == 30 { Err(Refusal::Server) } else { Ok(()) };
                let answer = tickets.ask(address);
                prop_assert_eq!(answer.as_ref().map(|_| ()).map_err(|refusal| *refusal), expected);
                if let Ok(ticket) = answer {
                    tickets.keep(row, ticket);
                    rows[row] = Some(host);
                }
                prop_assert_eq!(admission.connections.load(Ordering::Relaxed), rows.iter().flatten().count());
            }
            for row in 0..40 {
                tickets.give_back(row);
                tickets.give_back(row);
            }
            prop_assert!(admission.lock().is_empty());
            prop_assert_eq!(admission.connections.load(Ordering::Relaxed), 0);
        }
    }
}
