//! What a link does to packets, and how often it has done so.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a link does to packets. Chances are per thousand packets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Faults {
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) damaged: u64,
    /// These take `lateness` longer at most, so that others overtake them.
    pub(crate) late: u64,
    pub(crate) lateness: Duration,
    /// What every packet takes.
    pub(crate) delay: Duration,
    /// How fast packets follow each other in one direction, and how many bytes wait for it at most.
    pub(crate) bytes_per_second: u64,
    pub(crate) queue_bytes: usize,
}

impl Faults {
    /// A good cable.
    pub(crate) const NONE: Self = Self {
        lost: 0,
        doubled: 0,
        damaged: 0,
        late: 0,
        lateness: Duration::ZERO,
        delay: Duration::ZERO,
        bytes_per_second: u64::MAX,
        queue_bytes: usize::MAX,
    };

    /// Something of everything.
    pub(crate) const ALL: Self = Self {
        lost: 15,
        doubled: 20,
        damaged: 10,
        late: 50,
        lateness: Duration::from_millis(4),
        delay: Duration::from_micros(500),
        bytes_per_second: 40_000_000,
        queue_bytes: 400_000,
    };

    /// Long and thin: what is sent takes a while.
    pub(crate) const SLOW: Self = Self {
        lost: 10,
        delay: Duration::from_millis(5),
        bytes_per_second: 8_000_000,
        queue_bytes: 200_000,
        ..Self::NONE
    };
}

/// Something that was done to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Taken to the other side, changed or not.
    Carried,
    Lost,
    Doubled,
    Damaged,
    /// A packet that was sent later had arrived already.
    Overtaken,
    /// Too many were waiting.
    Overflowed,
    /// The cable was cut.
    Cut,
    /// The interface at the other side did not take it.
    Refused,
}

impl Deed {
    const ALL: [Self; 8] = [
        Self::Carried,
        Self::Lost,
        Self::Doubled,
        Self::Damaged,
        Self::Overtaken,
        Self::Overflowed,
        Self::Cut,
        Self::Refused,
    ];
}

/// How often each was done.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: [AtomicU64; Deed::ALL.len()],
    longest: AtomicU64,
}

impl Tally {
    pub(crate) fn add(&self, deed: Deed) {
        self.counts[deed as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn saw(&self, packet_bytes: usize) {
        self.longest.fetch_max(packet_bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn count(&self, deed: Deed) -> u64 {
        self.counts[deed as usize].load(Ordering::Relaxed)
    }

    /// The length of the longest packet.
    pub(crate) fn longest_bytes(&self) -> u64 {
        self.longest.load(Ordering::Relaxed)
    }

    /// Without them, a test would have shown nothing.
    pub(crate) fn assert_done(&self, deeds: &[Deed]) {
        for deed in deeds {
            assert!(self.count(*deed) > 0, "no packet was {deed:?}: {self}");
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for deed in Deed::ALL {
            write!(f, "{} {deed:?}, ", self.count(deed))?;
        }
        write!(f, "{} bytes at most", self.longest_bytes())
    }
}
