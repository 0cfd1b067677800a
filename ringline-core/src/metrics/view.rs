//! The metrics of one server, and the values they had at one time.
//!
//! Invariant: reading never disturbs a worker. A view holds the shards of a server's workers for
//! reading only, and the shards stay readable after the workers are gone.

use super::registry::ShardReader;
use super::shard::{BUCKETS, Cell, Shard};
use std::fmt;
use std::ops::RangeInclusive;

/// The metrics of the workers of one server.
///
/// This is a view, cheap to clone and to keep: every call reads the values of that moment. It also
/// works after the server has stopped, when it shows the last values.
#[derive(Clone, Debug)]
pub struct Metrics {
    workers: Vec<ShardReader>,
}

impl Metrics {
    /// The view of these shards, the one of worker 0 first.
    pub(crate) fn new(workers: Vec<ShardReader>) -> Self {
        Self { workers }
    }

    /// The number of workers.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The values of the worker with this index.
    ///
    /// # Panics
    ///
    /// If `index` is not below [`Self::workers`].
    pub fn worker(&self, index: usize) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.workers[index].add_to(&mut snapshot);
        snapshot
    }

    /// The totals over all workers.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for worker in &self.workers {
            worker.add_to(&mut snapshot);
        }
        snapshot
    }
}

/// The type of a total, by the kind of its cell.
macro_rules! total {
    (Counter) => {
        u64
    };
    (Gauge) => {
        i64
    };
    (Histogram) => {
        Distribution
    };
}

macro_rules! define_snapshot {
    ($($field:ident: $cell:ident = $name:literal, $meaning:literal;)+) => {
        /// The values of all metrics at one time, of one worker or of several together.
        ///
        /// The fields are read one after the other while the workers run, so each is right, but
        /// two of them may be a few events apart.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Snapshot {
            $(
                #[doc = $meaning]
                #[doc = concat!("\n\nIts name is `", $name, "`.")]
                pub $field: total!($cell),
            )+
        }

        impl Snapshot {
            /// Adds the values of `shard`.
            pub(super) fn add(&mut self, shard: &Shard) {
                $(shard.$field.add_to(&mut self.$field);)+
            }

            /// Every metric with its full name, as it is in the metriken registry.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, MetricValue<'_>)> {
                [$(($name, MetricValue::from(&self.$field))),+].into_iter()
            }
        }
    };
}
metric_table!(define_snapshot);

/// One line for each metric: its name, a space, its value.
impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|(name, value)| writeln!(f, "{name} {value}"))
    }
}

/// The value of one metric, by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricValue<'a> {
    /// A number of events since the start.
    Counter(u64),
    /// A level that rises and falls.
    Gauge(i64),
    /// How often values of each size occurred since the start.
    Histogram(&'a Distribution),
}

impl From<&u64> for MetricValue<'_> {
    fn from(count: &u64) -> Self {
        Self::Counter(*count)
    }
}

impl From<&i64> for MetricValue<'_> {
    fn from(level: &i64) -> Self {
        Self::Gauge(*level)
    }
}

impl<'a> From<&'a Distribution> for MetricValue<'a> {
    fn from(distribution: &'a Distribution) -> Self {
        Self::Histogram(distribution)
    }
}

impl fmt::Display for MetricValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter(count) => count.fmt(f),
            Self::Gauge(level) => level.fmt(f),
            Self::Histogram(distribution) => distribution.fmt(f),
        }
    }
}

/// How often values of each size occurred.
///
/// There are sixteen buckets that double in width: 0, 1, 2 to 3, 4 to 7, and so on. The last one
/// has no upper end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    pub(super) counts: [u64; BUCKETS],
}

impl Distribution {
    /// The buckets from small values to large: which values each one covers, and how many of them
    /// occurred.
    pub fn buckets(&self) -> impl Iterator<Item = (RangeInclusive<u64>, u64)> {
        self.counts.iter().enumerate().map(|(index, count)| {
            let start = (1 << index) >> 1;
            let end = if index == BUCKETS - 1 { u64::MAX } else { (1 << index) - 1 };
            (start..=end, *count)
        })
    }

    /// The number of values in all buckets.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
    }
}

/// The buckets that are not empty, as `smallest+:count`.
impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        f.write_str("[")?;
        for (range, count) in self.buckets().filter(|(_, count)| *count > 0) {
            write!(f, "{separator}{}+:{count}", range.start())?;
            separator = " ";
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::{MetricValue, Metrics, Snapshot};
    use crate::metrics::register;

    #[test]
    fn a_view_shows_its_own_workers_one_by_one_and_together() {
        let (first, second, stranger) = (register(), register(), register());
        let metrics = Metrics::new(vec![first.reader(), second.reader()]);
        first.bytes_received.add(2);
        second.bytes_received.add(3);
        stranger.bytes_received.add(100);
        first.connections_active.add(1);
        second.connections_active.add(-4);
        second.turn_completions.record(6);
        assert_eq!(metrics.workers(), 2);
        assert_eq!(metrics.worker(0).bytes_received, 2);
        assert_eq!(metrics.worker(1).bytes_received, 3);
        let both = metrics.snapshot();
        assert_eq!((both.bytes_received, both.connections_active), (5, -3));
        assert_eq!(both.turn_completions.count(), 1);
        drop(first);
        drop(second);
        assert_eq!(metrics.snapshot(), both, "the last values stay when the workers are gone");
    }

    #[test]
    #[should_panic(expected = "index out of bounds")]
    fn a_worker_that_does_not_exist_has_no_values() {
        let _ = Metrics::new(vec![register().reader()]).worker(1);
    }

    #[test]
    fn a_snapshot_is_a_list_of_names_and_values() {
        let shard = register();
        let metrics = Metrics::new(vec![shard.reader()]);
        shard.sends.add(12);
        shard.connections_active.add(-1);
        shard.turn_completions.record(0);
        shard.turn_completions.record(5);
        shard.turn_completions.record(6);
        shard.turn_completions.record(u64::MAX);
        let snapshot = metrics.snapshot();
        let find = |wanted| snapshot.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value);
        let is_zero =
            |value: &MetricValue<'_>| [MetricValue::Counter(0), MetricValue::Gauge(0)].contains(value);
        assert_eq!(find("ringline/sends"), Some(MetricValue::Counter(12)));
        assert_eq!(find("ringline/connections/active"), Some(MetricValue::Gauge(-1)));
        assert_eq!(
            find("ringline/turn/completions"),
            Some(MetricValue::Histogram(&snapshot.turn_completions))
        );
        assert_eq!(snapshot.iter().filter(|(_, value)| is_zero(value)).count(), snapshot.iter().count() - 3);
        let text = snapshot.to_string();
        assert_eq!(text.lines().count(), snapshot.iter().count());
        for line in [
            "ringline/sends 12",
            "ringline/connections/active -1",
            "ringline/turn/completions [0+:1 4+:2 16384+:1]",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
        }
        assert_eq!(Snapshot::default().turn_completions.to_string(), "[]");
    }
}
