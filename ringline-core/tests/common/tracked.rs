//! Bytes whose owner notices when it is dropped, and whether they were left alone until then.
//!
//! The memory is spoiled in the drop: whoever reads it afterwards, a kernel for example, reads
//! something else.

use bytes::Bytes;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the memory of a dropped owner holds.
const SPOILED: u8 = 0xDD;

#[derive(Debug, Default)]
struct Counts {
    made: AtomicUsize,
    dropped: AtomicUsize,
    changed: AtomicUsize,
}

/// Keeps count of owners of bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Owners(Arc<Counts>);

impl Owners {
    /// Another owner, inside a guard.
    pub(crate) fn lend(&self, bytes: Vec<u8>) -> Bytes {
        self.lend_with(bytes, false)
    }

    /// The same; its drop panics if told to.
    pub(crate) fn lend_with(&self, bytes: Vec<u8>, panics: bool) -> Bytes {
        self.0.made.fetch_add(1, Ordering::Relaxed);
        let sum = sum(&bytes);
        Bytes::from_owner(Owner { bytes, sum, counts: Arc::clone(&self.0), panics })
    }

    /// How many were made.
    pub(crate) fn made(&self) -> usize {
        self.0.made.load(Ordering::Relaxed)
    }

    /// How many were made and are not dropped.
    pub(crate) fn alive(&self) -> usize {
        let dropped = self.0.dropped.load(Ordering::Relaxed);
        self.made().checked_sub(dropped).expect("no more are dropped than were made")
    }

    /// Whether nobody has ever changed bytes before their owner was dropped.
    pub(crate) fn are_untouched(&self) -> bool {
        self.0.changed.load(Ordering::Relaxed) == 0
    }
}

struct Owner {
    bytes: Vec<u8>,
    sum: u64,
    counts: Arc<Counts>,
    panics: bool,
}

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let is_changed = sum(&self.bytes) != self.sum;
        self.counts.changed.fetch_add(usize::from(is_changed), Ordering::Relaxed);
        self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        self.bytes.fill(SPOILED);
        std::hint::black_box(&mut self.bytes);
        if self.panics {
            resume_unwind(Box::new("the drop of an owner"));
        }
    }
}

fn sum(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(bytes.len() as u64, |sum, byte| sum.rotate_left(5) ^ u64::from(*byte).wrapping_mul(0x9E37_79B9))
}
