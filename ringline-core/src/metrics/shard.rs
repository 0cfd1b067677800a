//! The memory that one worker counts in.
//!
//! Invariant: a cell has one writer. With a single writer, an addition is a relaxed load and a
//! relaxed store, which compile to plain instructions; any thread may read at the same time and
//! sees some value that the cell really had. A second writer would lose counts, so the rest of the
//! crate reaches a shard through its `ShardHandle` only, which stays with one thread.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

// The alignment is two lines of 64 bytes because processors fetch lines in pairs. `repr(C)` keeps
// the order of the table, which has the most written cells first.
macro_rules! define_shard {
    ($($field:ident: $cell:ident = $name:literal, $meaning:literal;)+) => {
        /// The cells of one worker, one for each metric, on cache lines that nothing else uses.
        #[derive(Debug)]
        #[repr(C, align(128))]
        pub(crate) struct Shard {
            $(#[doc = $meaning] pub(crate) $field: $cell,)+
        }

        impl Shard {
            pub(super) const fn new() -> Self {
                Self { $($field: $cell::new(),)+ }
            }

            /// Adds what must outlive this shard to `retired`, which only the caller writes to.
            pub(super) fn retire_into(&self, retired: &Self) {
                $(self.$field.retire_into(&retired.$field);)+
            }
        }
    };
}
metric_table!(define_shard);

/// What the cells of all kinds have in common: they can be added up, and they can retire.
pub(crate) trait Cell: Sized {
    /// The sum of such cells.
    type Total: Default;

    /// Adds the value of this cell to `total`.
    fn add_to(&self, total: &mut Self::Total);

    /// Adds what must outlive this cell to `retired`, of which the caller is the only writer.
    fn retire_into(&self, retired: &Self);
}

/// A number of events. It wraps around after 2^64 of them.
#[derive(Debug)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(super) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts `n` more events.
    #[inline]
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.get().wrapping_add(n), Ordering::Relaxed);
    }

    /// Counts one more event.
    #[inline]
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Cell for Counter {
    type Total = u64;

    fn add_to(&self, total: &mut u64) {
        *total = total.wrapping_add(self.get());
    }

    fn retire_into(&self, retired: &Self) {
        retired.add(self.get());
    }
}

/// A level that rises and falls.
#[derive(Debug)]
pub(crate) struct Gauge(AtomicI64);

impl Gauge {
    pub(super) const fn new() -> Self {
        Self(AtomicI64::new(0))
    }

    /// Raises the level by `n`.
    #[inline]
    pub(crate) fn add(&self, n: i64) {
        self.set(self.get().wrapping_add(n));
    }

    /// Lowers the level by `n`.
    #[inline]
    pub(crate) fn sub(&self, n: i64) {
        self.set(self.get().wrapping_sub(n));
    }

    /// Moves the level to `level`.
    #[inline]
    pub(crate) fn set(&self, level: i64) {
        self.0.store(level, Ordering::Relaxed);
    }

    fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Cell for Gauge {
    type Total = i64;

    fn add_to(&self, total: &mut i64) {
        *total = total.wrapping_add(self.get());
    }

    /// What the level measured went away with the worker, so nothing of it is left to add.
    fn retire_into(&self, _retired: &Self) {}
}

/// How often values of each size occurred, in buckets that double: 0, 1, 2 to 3, 4 to 7, and so
/// on.
///
/// The last bucket takes every value that is too large for the others.
#[derive(Debug)]
pub(crate) struct Histogram([Counter; BUCKETS]);

impl Histogram {
    pub(super) const fn new() -> Self {
        Self([const { Counter::new() }; BUCKETS])
    }

    /// Counts one occurrence of `value`.
    #[inline]
    pub(crate) fn record(&self, value: u64) {
        // The bit width of a value is the number of its bucket.
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.0[bucket.min(BUCKETS - 1)].increment();
    }
}

impl Cell for Histogram {
    type Total = super::Distribution;

    fn add_to(&self, total: &mut super::Distribution) {
        for (cell, count) in self.0.iter().zip(&mut total.counts) {
            cell.add_to(count);
        }
    }

    fn retire_into(&self, retired: &Self) {
        for (cell, retired) in self.0.iter().zip(&retired.0) {
            cell.retire_into(retired);
        }
    }
}

/// The number of buckets of a histogram.
pub(super) const BUCKETS: usize = 16;

#[cfg(test)]
mod tests {
    use super::{BUCKETS, Cell, Counter, Gauge, Histogram, Shard};
    use crate::metrics::Distribution;

    fn total<C: Cell>(cells: &[&C]) -> C::Total {
        let mut total = C::Total::default();
        for cell in cells {
            cell.add_to(&mut total);
        }
        total
    }

    #[test]
    fn a_shard_has_its_cache_lines_to_itself() {
        assert_eq!(align_of::<Shard>(), 128);
        assert_eq!(size_of::<Shard>() % 128, 0);
    }

    #[test]
    fn a_counter_adds_and_wraps() {
        let counter = Counter::new();
        counter.add(41);
        counter.increment();
        assert_eq!(total(&[&counter]), 42);
        counter.add(u64::MAX);
        assert_eq!(total(&[&counter]), 41);
    }

    #[test]
    fn a_gauge_rises_and_falls() {
        let gauge = Gauge::new();
        gauge.add(5);
        gauge.sub(7);
        assert_eq!(total(&[&gauge]), -2);
        gauge.set(9);
        assert_eq!(total(&[&gauge, &gauge]), 18);
    }

    #[test]
    fn every_value_falls_into_the_bucket_that_covers_it() {
        for bit in 0..u64::BITS {
            for value in [(1 << bit) - 1, 1 << bit, (1 << bit) + 1, u64::MAX] {
                let histogram = Histogram::new();
                histogram.record(value);
                let total = total(&[&histogram]);
                let hit: Vec<_> = total.buckets().filter(|(_, count)| *count > 0).collect();
                assert_eq!(hit.len(), 1, "{value}");
                assert!(hit[0].0.contains(&value), "{value} is not in {:?}", hit[0].0);
                assert_eq!(hit[0].1, 1);
            }
        }
    }

    #[test]
    fn counters_and_histograms_retire_and_gauges_do_not() {
        let (shard, retired) = (Shard::new(), Shard::new());
        shard.sends.add(3);
        shard.connections_active.add(3);
        shard.turn_completions.record(3);
        shard.retire_into(&retired);
        shard.retire_into(&retired);
        assert_eq!(total(&[&retired.sends]), 6);
        assert_eq!(total(&[&retired.connections_active]), 0);
        let mut counts = [0; BUCKETS];
        counts[2] = 2;
        assert_eq!(total(&[&retired.turn_completions]), Distribution { counts });
    }
}
