//! All shards of the process, and the way they show in metriken.
//!
//! Invariant: a total counts every shard once. A shard is in the list of live ones from `register`
//! until its handle is dropped, and the drop takes it out and adds its counts to the retired shard
//! in one critical section. So a counter never goes backwards, and a gauge leaves with its shard.
//! The lock is taken to start and stop a worker and to read totals, never to count.

use super::shard::{BUCKETS, Cell, Counter, Gauge, Histogram, Shard};
use super::{Distribution, Snapshot};
use metriken::histogram::Config;
use metriken::{HistogramMetric, Metric, Value};
use std::any::Any;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Adds a shard to the totals of the process, for the worker that will own the handle.
pub(crate) fn register() -> ShardHandle {
    PROCESS.register()
}

/// The right to write to one shard. There is one for each shard.
///
/// It can move to the thread of its worker, but it can be neither copied nor lent to other threads,
/// and no reference to the shard is handed to them either.
#[derive(Debug)]
pub(crate) struct ShardHandle {
    shard: Arc<Shard>,
    registry: &'static Registry,
    /// Makes the handle not `Sync`: a shared handle would be a second writer.
    _one_thread: PhantomData<std::cell::Cell<()>>,
}

impl ShardHandle {
    /// A view of the shard that stays valid, with the last values, after the handle is gone.
    pub(crate) fn reader(&self) -> ShardReader {
        ShardReader(Arc::clone(&self.shard))
    }
}

impl Deref for ShardHandle {
    type Target = Shard;

    #[inline]
    fn deref(&self) -> &Shard {
        &self.shard
    }
}

impl Drop for ShardHandle {
    fn drop(&mut self) {
        self.registry.retire(&self.shard);
    }
}

/// The right to read one shard.
#[derive(Clone, Debug)]
pub(crate) struct ShardReader(Arc<Shard>);

impl ShardReader {
    /// Adds the values of the shard to `total`.
    pub(super) fn add_to(&self, total: &mut Snapshot) {
        total.add(&self.0);
    }
}

/// A set of shards with common totals.
#[derive(Debug)]
struct Registry {
    shards: Mutex<Shards>,
}

#[derive(Debug)]
struct Shards {
    live: Vec<Arc<Shard>>,
    /// The counts of the shards that are gone. Whoever holds the lock is its only writer.
    retired: Shard,
}

impl Registry {
    const fn new() -> Self {
        Self { shards: Mutex::new(Shards { live: Vec::new(), retired: Shard::new() }) }
    }

    fn register(&'static self) -> ShardHandle {
        let shard = Arc::new(Shard::new());
        self.lock().live.push(Arc::clone(&shard));
        ShardHandle { shard, registry: self, _one_thread: PhantomData }
    }

    fn retire(&self, shard: &Arc<Shard>) {
        let mut shards = self.lock();
        shards.live.retain(|other| !Arc::ptr_eq(other, shard));
        shard.retire_into(&shards.retired);
    }

    /// The sum of one cell over all shards, live and retired.
    fn total<C: Cell>(&self, select: fn(&Shard) -> &C) -> C::Total {
        let shards = self.lock();
        let mut total = C::Total::default();
        select(&shards.retired).add_to(&mut total);
        for shard in &shards.live {
            select(shard).add_to(&mut total);
        }
        total
    }

    /// A panic cannot leave the shards half changed, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, Shards> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One metric as metriken sees it: its total over the process.
#[derive(Debug)]
struct Exposed<C: 'static> {
    select: fn(&Shard) -> &C,
}

impl<C: Cell> Exposed<C> {
    fn total(&self) -> C::Total {
        PROCESS.total(self.select)
    }
}

impl Metric for Exposed<Counter> {
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn value(&self) -> Option<Value<'_>> {
        Some(Value::Counter(self.total()))
    }
}

impl Metric for Exposed<Gauge> {
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn value(&self) -> Option<Value<'_>> {
        Some(Value::Gauge(self.total()))
    }
}

impl Metric for Exposed<Histogram> {
    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn value(&self) -> Option<Value<'_>> {
        Some(Value::Histogram(self))
    }
}

impl HistogramMetric for Exposed<Histogram> {
    fn config(&self) -> Config {
        HISTOGRAM
    }

    fn load(&self) -> Option<metriken::histogram::Histogram> {
        translate(&self.total())
    }
}

/// The same counts in metriken's type. By its rule, a histogram without any values is not there.
fn translate(total: &Distribution) -> Option<metriken::histogram::Histogram> {
    if total.count() == 0 {
        return None;
    }
    let (grouping, max) = (HISTOGRAM.grouping_power(), HISTOGRAM.max_value_power());
    metriken::histogram::Histogram::from_buckets(grouping, max, total.counts.to_vec()).ok()
}

macro_rules! expose {
    ($($field:ident: $cell:ident = $name:literal, $meaning:literal;)+) => {$(
        const _: () = {
            #[metriken::metric(name = $name, description = $meaning)]
            static EXPOSED: Exposed<$cell> = Exposed { select: |shard| &shard.$field };
        };
    )+};
}
metric_table!(expose);

/// The shards of every server in the process.
static PROCESS: Registry = Registry::new();

/// Our buckets in metriken's terms: one for each power of two, sixteen together.
const HISTOGRAM: Config = match Config::new(0, BUCKETS as u8 - 1) {
    Ok(config) => config,
    Err(_) => panic!("the number of buckets is within metriken's limits"),
};

#[cfg(test)]
mod tests {
    use super::{Exposed, HISTOGRAM, Histogram, PROCESS, Registry, ShardHandle, register, translate};
    use crate::metrics::Snapshot;
    use crate::metrics::shard::BUCKETS;
    use metriken::{HistogramMetric, Value};

    /// More than all other tests of the process count, so that its totals can be compared.
    const MANY: u64 = 1 << 40;

    fn counter(name: &str) -> u64 {
        let registry = metriken::metrics();
        match registry.iter().find(|entry| entry.name() == name).and_then(|entry| entry.value()) {
            Some(Value::Counter(value)) => value,
            _ => panic!("no counter {name}"),
        }
    }

    fn gauge(name: &str) -> i64 {
        let registry = metriken::metrics();
        match registry.iter().find(|entry| entry.name() == name).and_then(|entry| entry.value()) {
            Some(Value::Gauge(value)) => value,
            _ => panic!("no gauge {name}"),
        }
    }

    #[test]
    fn totals_are_sums_over_live_and_retired_shards() {
        static REGISTRY: Registry = Registry::new();
        let (first, second) = (REGISTRY.register(), REGISTRY.register());
        first.sends.add(1);
        second.sends.add(10);
        first.connections_active.add(3);
        second.connections_active.add(-1);
        first.turn_completions.record(0);
        second.turn_completions.record(0);
        assert_eq!(REGISTRY.total(|shard| &shard.sends), 11);
        assert_eq!(REGISTRY.total(|shard| &shard.connections_active), 2);
        drop(first);
        assert_eq!(REGISTRY.total(|shard| &shard.sends), 11, "a counter stays when its shard goes");
        assert_eq!(REGISTRY.total(|shard| &shard.connections_active), -1, "a gauge goes with its shard");
        second.sends.add(100);
        drop(second);
        let third = REGISTRY.register();
        third.sends.add(1000);
        assert_eq!(REGISTRY.total(|shard| &shard.sends), 1111);
        assert_eq!(REGISTRY.total(|shard| &shard.connections_active), 0);
        assert_eq!(REGISTRY.total(|shard| &shard.turn_completions).counts[0], 2);
    }

    #[test]
    fn a_counter_is_found_by_name_and_outlives_its_shard() {
        let name = "ringline/accept/backoffs";
        let before = counter(name);
        let (first, second) = (register(), register());
        first.accept_backoffs.add(MANY);
        second.accept_backoffs.add(MANY);
        let both = counter(name);
        assert!((2 * MANY..3 * MANY).contains(&(both - before)), "{before} then {both}");
        drop(first);
        drop(second);
        let after = counter(name);
        assert!((both..both + MANY).contains(&after), "{both} then {after}");
    }

    #[test]
    fn a_gauge_is_found_by_name_and_leaves_with_its_shard() {
        let (name, half) = ("ringline/connections/active", MANY as i64 / 2);
        let shard = register();
        shard.connections_active.add(MANY as i64);
        assert!(gauge(name) > half);
        drop(shard);
        assert!(gauge(name) < half);
    }

    #[test]
    fn a_histogram_reaches_metriken_bucket_by_bucket() {
        static EXPOSED: Exposed<Histogram> = Exposed { select: |shard| &shard.turn_completions };
        assert_eq!(HISTOGRAM.total_buckets(), BUCKETS);
        let shard = register();
        for bucket in 0..BUCKETS {
            for _ in 0..=bucket {
                // The smallest value of a bucket is a power of two, or 0 for the first.
                shard.turn_completions.record((1 << bucket) >> 1);
            }
        }
        let loaded = EXPOSED.load().expect("values were recorded");
        let ours = PROCESS.total(|shard| &shard.turn_completions);
        for (index, (theirs, (range, _))) in loaded.iter().zip(ours.buckets()).enumerate() {
            assert!(theirs.count() > index as u64, "bucket {index}");
            assert_eq!(theirs.start(), *range.start());
            // Ours is open at the end, metriken's has a largest value.
            assert!(theirs.end() == *range.end() || index == BUCKETS - 1);
        }
    }

    #[test]
    fn only_a_histogram_with_values_is_shown() {
        static REGISTRY: Registry = Registry::new();
        let shard = REGISTRY.register();
        assert!(translate(&REGISTRY.total(|shard| &shard.turn_completions)).is_none());
        shard.turn_completions.record(2);
        assert!(translate(&REGISTRY.total(|shard| &shard.turn_completions)).is_some());
    }

    #[test]
    fn a_reader_never_sees_a_counter_go_backwards() {
        static REGISTRY: Registry = Registry::new();
        let writer = std::thread::spawn(|| {
            for _ in 0..500 {
                let shard = REGISTRY.register();
                for _ in 0..10 {
                    shard.turns.increment();
                }
            }
        });
        let mut last = 0;
        while !writer.is_finished() {
            let now = REGISTRY.total(|shard| &shard.turns);
            assert!(last <= now && now <= 5000, "{last} then {now}");
            last = now;
        }
        writer.join().expect("the writer counts to its end");
        assert_eq!(REGISTRY.total(|shard| &shard.turns), 5000);
    }

    #[test]
    fn a_handle_can_move_to_another_thread_but_not_be_shared() {
        trait Unique<Marker> {
            const HOLDS: bool = true;
        }
        struct Shared;
        impl<T> Unique<()> for T {}
        impl<T: Sync> Unique<Shared> for T {}
        // If the handle were `Sync`, both implementations would apply and this would not compile.
        const { assert!(<ShardHandle as Unique<_>>::HOLDS) };
        let shard = register();
        let moved = std::thread::spawn(move || {
            shard.sends.increment();
            shard.reader()
        });
        let mut snapshot = Snapshot::default();
        moved.join().expect("the thread counts once").add_to(&mut snapshot);
        assert_eq!(snapshot.sends, 1);
    }

    #[test]
    fn a_reader_keeps_the_last_values_of_a_shard() {
        let shard = register();
        let reader = shard.reader();
        shard.bytes_sent.add(7);
        drop(shard);
        let mut snapshot = Snapshot::default();
        reader.add_to(&mut snapshot);
        assert_eq!(snapshot.bytes_sent, 7);
    }
}
