//! Two networks and what connects them.

use crate::carrier::{Carrier, Orders};
use crate::faults::{Deed, Faults, Tally};
use crate::namespace::Namespace;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::{self, JoinHandle};

const LEFT: Ipv4Addr = Ipv4Addr::new(10, 99, 7, 1);
const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 99, 7, 2);
/// An address of the same network that nobody has.
pub(crate) const NOBODY: Ipv4Addr = Ipv4Addr::new(10, 99, 7, 3);
/// An address to which there is no route.
pub(crate) const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(10, 99, 8, 1);
/// The usual size of packets.
pub(crate) const MTU_BYTES: u16 = 1500;

/// Two networks of the test's own and the cable between them. Nothing gets in or out.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) left: Namespace,
    pub(crate) right: Namespace,
    pub(crate) tally: Arc<Tally>,
    orders: Arc<Orders>,
    carrier: Option<JoinHandle<()>>,
    _presence: Presence,
}

/// Several tests at a time, or one alone.
#[derive(Debug)]
enum Presence {
    Among { _others: RwLockReadGuard<'static, ()> },
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

static PRESENCE: RwLock<()> = RwLock::new(());

impl Link {
    pub(crate) fn new(faults: Faults) -> Self {
        Self::with_mtu(faults, MTU_BYTES)
    }

    /// A link for packets of this size.
    pub(crate) fn with_mtu(faults: Faults, mtu_bytes: u16) -> Self {
        let others = PRESENCE.read().unwrap_or_else(PoisonError::into_inner);
        Self::build(faults, mtu_bytes, Presence::Among { _others: others })
    }

    /// The only link of this process for as long as it is there, for tests that count what belongs to
    /// the process.
    pub(crate) fn alone(faults: Faults) -> Self {
        let guard = PRESENCE.write().unwrap_or_else(PoisonError::into_inner);
        Self::build(faults, MTU_BYTES, Presence::Alone { _guard: guard })
    }

    fn build(faults: Faults, mtu_bytes: u16, presence: Presence) -> Self {
        // Tests that run at the same time differ.
        let name = thread::current().name().map_or(0, str::len) as u64;
        let seed = crate::seed().wrapping_mul(1000) + name;
        let (left, left_cable) = Namespace::new(LEFT, mtu_bytes);
        let (right, right_cable) = Namespace::new(RIGHT, mtu_bytes);
        let orders = Arc::new(Orders { is_cut: AtomicBool::new(false), is_over: AtomicBool::new(false) });
        let tally = Arc::new(Tally::default());
        let carrier =
            Carrier::new([left_cable, right_cable], seed, faults, Arc::clone(&orders), Arc::clone(&tally));
        let carrier = thread::Builder::new().name("carrier".to_owned()).spawn(move || carrier.run());
        Self { left, right, tally, orders, carrier: Some(carrier.expect("a thread")), _presence: presence }
    }

    /// Cuts the cable, or mends it. Neither side is told; packets that are on their way are lost.
    pub(crate) fn set_cut(&self, is_cut: bool) {
        self.orders.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// Damaged packets arrived, and the checksums kept them from everybody.
    pub(crate) fn assert_damage_noticed(&self) {
        let errors = |side: &Namespace| {
            side.counted("Tcp", "InCsumErrors")
                + side.counted("Ip", "InHdrErrors")
                + side.counted("Ip", "InAddrErrors")
        };
        let noticed = errors(&self.left) + errors(&self.right);
        let damaged = self.tally.count(Deed::Damaged);
        // A change that does not matter, of a time to live for example, is in the header's checksum, too.
        assert!(noticed > 0, "{damaged} packets were damaged and none was dropped: {}", self.tally);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.orders.is_over.store(true, Ordering::Relaxed);
        if let Some(carrier) = self.carrier.take() {
            let ended = carrier.join();
            assert!(ended.is_ok() || thread::panicking(), "the carrier does not fail");
        }
        eprintln!("{}: {}", thread::current().name().unwrap_or("a link"), self.tally);
    }
}
