//! Connections to whichever of several addresses answers first (RFC 8305).
//!
//! Invariant: each attempt is a row of the connection table without a state, known here from its
//! beginning until it is gone; the connection that it is for is a row without a socket until an attempt
//! has succeeded, and is known here until then or until its end.

use super::ConnId;
use crate::net::ConnectOptions;
use crate::timer::TimerId;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;

/// One connection to be made.
#[derive(Debug)]
pub(crate) struct Race {
    pub(crate) options: ConnectOptions,
    /// Addresses that have not been tried.
    pub(crate) waiting: VecDeque<SocketAddr>,
    /// Attempts under way.
    pub(crate) attempts: Vec<ConnId>,
    /// Why the last attempt failed.
    pub(crate) errno: i32,
    /// When the next address is tried if nobody has answered.
    pub(crate) timer: Option<TimerId>,
}

impl Race {
    pub(crate) fn new(options: &ConnectOptions) -> Self {
        let options = options.clone();
        Self { options, waiting: VecDeque::new(), attempts: Vec::new(), errno: 0, timer: None }
    }
}

/// All of a worker.
#[derive(Debug, Default)]
pub(crate) struct Races {
    races: HashMap<ConnId, Race>,
    /// For which connection each attempt is, or was.
    attempts: HashMap<ConnId, ConnId>,
}

impl Races {
    /// Whether there is anything to know at all.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.races.is_empty() && self.attempts.is_empty()
    }

    pub(crate) fn insert(&mut self, id: ConnId, race: Race) {
        self.races.insert(id, race);
    }

    pub(crate) fn get_mut(&mut self, id: ConnId) -> Option<&mut Race> {
        self.races.get_mut(&id)
    }

    pub(crate) fn remove(&mut self, id: ConnId) -> Option<Race> {
        self.races.remove(&id)
    }

    /// An attempt has begun.
    pub(crate) fn begin(&mut self, attempt: ConnId, id: ConnId) {
        self.attempts.insert(attempt, id);
        if let Some(race) = self.races.get_mut(&id) {
            race.attempts.push(attempt);
        }
    }

    /// The connection that an attempt is for, if it is an attempt.
    pub(crate) fn of(&self, attempt: ConnId) -> Option<ConnId> {
        self.attempts.get(&attempt).copied()
    }

    /// The row of an attempt is gone.
    pub(crate) fn end(&mut self, attempt: ConnId) {
        if let Some(race) = self.attempts.remove(&attempt).and_then(|id| self.races.get_mut(&id)) {
            race.attempts.retain(|other| *other != attempt);
        }
    }
}

/// Each address once, families by turns, beginning with that of the first: so a family that does not work costs
/// one delay and not many (RFC 8305, section 4).
pub(crate) fn by_turns(addresses: &[SocketAddr]) -> VecDeque<SocketAddr> {
    let mut lanes: [VecDeque<SocketAddr>; 2] = Default::default();
    let mut known = HashSet::with_capacity(addresses.len());
    let begins_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    for address in addresses {
        if known.insert(*address) {
            lanes[usize::from(address.is_ipv6() != begins_v6)].push_back(*address);
        }
    }
    let [mut first, mut second] = lanes;
    let mut order = VecDeque::with_capacity(first.len() + second.len());
    while !first.is_empty() || !second.is_empty() {
        order.extend(first.pop_front());
        order.extend(second.pop_front());
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_nobody_is_asked_twice() {
        let given = addresses(&["[::1]:1", "[::2]:1", "[::1]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let order = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(by_turns(&given), order);
        let given = addresses(&["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"]);
        assert_eq!(by_turns(&given), addresses(&["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"]));
        assert!(by_turns(&[]).is_empty());
    }

    #[test]
    fn an_attempt_is_known_until_it_is_gone() {
        let id = |row| ConnId { row, generation: 1 };
        let mut races = Races::default();
        races.insert(id(1), Race::new(&ConnectOptions::new()));
        races.begin(id(2), id(1));
        races.begin(id(3), id(1));
        assert_eq!((races.of(id(2)), races.of(id(1))), (Some(id(1)), None));
        races.end(id(2));
        assert_eq!(races.get_mut(id(1)).unwrap().attempts, [id(3)]);
        races.remove(id(1));
        assert!(!races.is_empty(), "one is under way still");
        races.end(id(3));
        assert!(races.is_empty());
    }
}
