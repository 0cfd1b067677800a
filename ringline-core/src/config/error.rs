//! What is wrong with a configuration.
//!
//! Every error names the knobs it is about by their setters, the values they had, the limit, and a
//! way out. At least one of those knobs was set: defaults agree with one another.

use std::time::Duration;

/// Why [`ConfigBuilder::build`](crate::ConfigBuilder::build) refused: the first fault found.
///
/// # Examples
///
/// ```
/// use ringline_core::Config;
///
/// let error = Config::builder().outbox_high_bytes(4096).build().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "outbox_low_bytes (65536) must be below outbox_high_bytes (4096): \
///      lower the first or raise the second"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A number is outside its range.
    #[error("{knob} is {value}: choose a value from {min} to {max}")]
    OutOfRange {
        /// The setter.
        knob: &'static str,
        /// What was asked for.
        value: u64,
        /// The lowest value allowed.
        min: u64,
        /// The highest value allowed.
        max: u64,
    },
    /// A number is within its range but not a power of two.
    #[error("{knob} is {value}, which is not a power of two: choose {below} or {above}")]
    NotPowerOfTwo {
        /// The setter.
        knob: &'static str,
        /// What was asked for.
        value: u64,
        /// The nearest power of two below.
        below: u64,
        /// The nearest power of two above.
        above: u64,
    },
    /// A time is too short.
    #[error("{knob} is {value:?}: choose at least {min:?}")]
    TooShort {
        /// The setter.
        knob: &'static str,
        /// What was asked for.
        value: Duration,
        /// The shortest time allowed.
        min: Duration,
    },
    /// A time is too long.
    #[error("{knob} is {value:?}: choose at most {max:?}")]
    TooLong {
        /// The setter.
        knob: &'static str,
        /// What was asked for.
        value: Duration,
        /// The longest time allowed.
        max: Duration,
    },
    /// One number has to be below another and is not.
    #[error(
        "{lower} ({lower_value}) must be below {upper} ({upper_value}): \
         lower the first or raise the second"
    )]
    NotBelow {
        /// The setter of what has to be the smaller one.
        lower: &'static str,
        /// Its value, asked for or default.
        lower_value: u64,
        /// The setter of what has to be the larger one.
        upper: &'static str,
        /// Its value, asked for or default.
        upper_value: u64,
    },
    /// One number may be as large as another at most and is larger.
    #[error(
        "{lower} ({lower_value}) must not exceed {upper} ({upper_value}): \
         lower the first or raise the second"
    )]
    Exceeds {
        /// The setter of what may not be the larger one.
        lower: &'static str,
        /// Its value, asked for or default.
        lower_value: u64,
        /// The setter of what limits it.
        upper: &'static str,
        /// Its value, asked for or default.
        upper_value: u64,
    },
    /// So many pieces of memory of this size are too much together.
    #[error(
        "{count_knob} ({count}) times {bytes_knob} ({bytes}) is more than {limit} bytes: \
         lower one of them"
    )]
    TooMuchMemory {
        /// The setter of the number of pieces.
        count_knob: &'static str,
        /// How many pieces, asked for or default.
        count: u64,
        /// The setter of the size of a piece.
        bytes_knob: &'static str,
        /// The size of a piece, asked for or default.
        bytes: u64,
        /// How many bytes they may have together.
        limit: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigBuilder};
    use crate::conn::{Deadlines, Limits};
    use proptest::prelude::*;
    use proptest::test_runner::TestRunner;
    use std::cell::Cell;

    const NS: Duration = Duration::from_nanos(1);
    const ALMOST_MS: Duration = Duration::from_nanos(999_999);
    const MS: Duration = Duration::from_millis(1);
    const DAY: Duration = Duration::from_secs(86_400);

    /// A knob of the builder by name, set from any number.
    type Setter = (&'static str, fn(ConfigBuilder, u64) -> ConfigBuilder);

    macro_rules! setter {
        ($knob:ident: $type:ty) => {
            (stringify!($knob), |builder, value| builder.$knob(value as $type))
        };
        ($knob:ident) => {
            (stringify!($knob), |builder, value| builder.$knob(time(value)))
        };
    }

    const SETTERS: [Setter; 20] = [
        setter!(workers: usize),
        setter!(connections_per_worker: u32),
        setter!(inbox_bytes: usize),
        setter!(outbox_bytes: usize),
        setter!(receive_buffers: u16),
        setter!(receive_buffer_bytes: u32),
        setter!(ring_entries: u32),
        setter!(stage_bytes: u32),
        setter!(accept_batch: u32),
        setter!(zero_copy_threshold: usize),
        setter!(forward_hold_bytes: usize),
        setter!(connections_max: usize),
        setter!(connections_per_address: u32),
        setter!(children_per_worker: u32),
        setter!(outbox_high_bytes: usize),
        setter!(outbox_low_bytes: usize),
        setter!(worker_outbox_bytes: usize),
        setter!(close_timeout),
        setter!(linger),
        setter!(tick_interval),
    ];

    /// The ranges of the first knobs in [`SETTERS`], in the same order.
    const RANGES: [(u64, u64); 14] = [
        (1, 1024),
        (1, 1_000_000),
        (1, 1_073_741_824),
        (1, 1_073_741_824),
        (2, 32_768),
        (1024, 16_777_216),
        (64, 32_768),
        (4096, 67_108_864),
        (1, 1024),
        (1, 1_073_741_824),
        (0, 1_073_741_824),
        (1, 1_024_000_000),
        (1, 1_024_000_000),
        (0, 65_536),
    ];

    /// Nanoseconds, of which the largest number stands for the longest time.
    fn time(nanos: u64) -> Duration {
        if nanos == u64::MAX { Duration::MAX } else { Duration::from_nanos(nanos) }
    }

    /// A builder whose relations leave each knob its whole range.
    fn roomy() -> ConfigBuilder {
        let outboxes = Config::builder().outbox_low_bytes(0).outbox_high_bytes(1);
        outboxes.worker_outbox_bytes(usize::MAX).receive_buffer_bytes(1024)
    }

    fn refusal(builder: ConfigBuilder) -> ConfigError {
        builder.build().unwrap_err()
    }

    /// All that `build` promises, in numbers of its own.
    fn keeps_promises(config: &Config) -> bool {
        let Limits { low, high, full } = config.outbox_limits();
        let buffers = u64::from(config.receive_buffers());
        let buffer_bytes = u64::from(config.receive_buffer_bytes());
        let entries = config.ring_entries();
        config.workers().is_none_or(|workers| (1..=1024).contains(&workers))
            && (1..=1_000_000).contains(&config.connections_per_worker())
            && (1..=1_073_741_824).contains(&config.inbox_bytes())
            && low < high
            && high <= full
            && full as u64 <= 1_073_741_824
            && full <= config.worker_outbox_bytes()
            && (2..=32_768).contains(&buffers)
            && buffers.is_power_of_two()
            && (1024..=16_777_216).contains(&buffer_bytes)
            && buffers * buffer_bytes <= 1_073_741_824
            && (64..=32_768).contains(&entries)
            && entries.is_power_of_two()
            && (4096..=67_108_864).contains(&config.stage_bytes())
            && (1..=1024).contains(&config.accept_batch())
            && (1..=1_073_741_824).contains(&config.zero_copy_threshold())
            && config.forward_hold_bytes() <= 1_073_741_824
            && (MS..=DAY).contains(&config.close_timeout())
            && config.linger() <= DAY
            && config.tick_interval().is_none_or(|interval| interval >= MS)
            && config.connections_max().is_none_or(|max| (1..=1_024_000_000).contains(&max))
            && config.children_per_worker() <= 65_536
            && config.connections_per_address().is_none_or(|per_address| {
                let max = config.connections_max().unwrap_or(1_024_000_000);
                (1..=max).contains(&(per_address as usize))
            })
    }

    #[test]
    fn errors_name_the_knob_the_value_the_limit_and_the_way_out() {
        let new = Config::builder;
        let text = |builder| refusal(builder).to_string();
        assert_eq!(text(new().workers(0)), "workers is 0: choose a value from 1 to 1024");
        assert_eq!(
            text(new().ring_entries(65)),
            "ring_entries is 65, which is not a power of two: choose 64 or 128"
        );
        assert_eq!(text(new().close_timeout(NS)), "close_timeout is 1ns: choose at least 1ms");
        assert_eq!(text(new().linger(DAY + MS)), "linger is 86400.001s: choose at most 86400s");
        assert_eq!(
            text(new().receive_buffers(32_768)),
            "receive_buffers (32768) times receive_buffer_bytes (65536) is more than 1073741824 \
             bytes: lower one of them"
        );
    }

    #[test]
    fn numbers_are_valid_up_to_their_bounds_and_not_beyond() {
        for ((knob, set), (min, max)) in SETTERS.into_iter().zip(RANGES) {
            for value in [min, max] {
                let config = set(roomy(), value).build().unwrap();
                let text = format!(" {config} ");
                assert!(text.contains(&format!(" {knob}={value} ")), "{text}");
            }
            for value in min.checked_sub(1).into_iter().chain([max + 1]) {
                let error = refusal(set(roomy(), value));
                assert_eq!(error, ConfigError::OutOfRange { knob, value, min, max });
            }
        }
    }

    #[test]
    fn times_are_valid_up_to_their_bounds_and_not_beyond() {
        let new = Config::builder;
        for valid in [
            new().close_timeout(MS),
            new().close_timeout(DAY),
            new().linger(Duration::ZERO),
            new().linger(DAY),
            new().tick_interval(MS),
            new().tick_interval(Duration::MAX),
            new().tick_interval(Duration::ZERO).tick_interval(None),
        ] {
            valid.build().unwrap();
        }
        let (knob, value) = ("close_timeout", ALMOST_MS);
        let error = refusal(new().close_timeout(value));
        assert_eq!(error, ConfigError::TooShort { knob, value, min: MS });
        for value in [DAY + NS, Duration::MAX] {
            let error = refusal(new().close_timeout(value));
            assert_eq!(error, ConfigError::TooLong { knob, value, max: DAY });
            let error = refusal(new().linger(value));
            assert_eq!(error, ConfigError::TooLong { knob: "linger", value, max: DAY });
        }
        let (knob, value) = ("tick_interval", ALMOST_MS);
        let error = refusal(new().tick_interval(value));
        assert_eq!(error, ConfigError::TooShort { knob, value, min: MS });
    }

    #[test]
    fn deadlines_are_valid_up_to_their_bounds_and_not_beyond() {
        type Set = fn(Deadlines, Duration) -> Deadlines;
        let max = 24 * DAY;
        let setters: [(&str, Set); 5] = [
            ("deadlines.first_byte", |all, after| all.first_byte(after)),
            ("deadlines.idle", |all, after| all.idle(after)),
            ("deadlines.read", |all, after| all.read(after)),
            ("deadlines.write_stall", |all, after| all.write_stall(after)),
            ("deadlines.drain", |all, after| all.drain(after)),
        ];
        for (knob, set) in setters {
            let with = |value| Config::builder().deadlines(set(Deadlines::none(), value));
            for value in [MS, max] {
                let text = with(value).build().unwrap().to_string();
                assert!(text.contains(&format!(" {knob}={value:?} ")), "{text}");
            }
            for value in [ALMOST_MS, Duration::ZERO] {
                assert_eq!(refusal(with(value)), ConfigError::TooShort { knob, value, min: MS });
            }
            for value in [max + NS, Duration::MAX] {
                assert_eq!(refusal(with(value)), ConfigError::TooLong { knob, value, max });
            }
        }
    }

    #[test]
    fn counts_that_the_kernel_wants_as_powers_of_two_are_such() {
        for value in [3, 5, 1000, 32_767] {
            let (below, above) = match value {
                3 => (2, 4),
                5 => (4, 8),
                1000 => (512, 1024),
                _ => (16_384, 32_768),
            };
            let error = refusal(roomy().receive_buffers(value));
            let value = u64::from(value);
            let knob = "receive_buffers";
            assert_eq!(error, ConfigError::NotPowerOfTwo { knob, value, below, above });
        }
        let error = refusal(roomy().ring_entries(65));
        let (knob, value, below, above) = ("ring_entries", 65, 64, 128);
        assert_eq!(error, ConfigError::NotPowerOfTwo { knob, value, below, above });
    }

    #[test]
    fn outbox_limits_are_in_order() {
        let marks = |low, high, full, all| {
            let builder = Config::builder().outbox_low_bytes(low).outbox_high_bytes(high);
            builder.outbox_bytes(full).worker_outbox_bytes(all)
        };
        marks(0, 1, 1, 1).build().unwrap();
        marks(8, 9, 9, 9).build().unwrap();
        let text = |builder| refusal(builder).to_string();
        assert_eq!(
            text(marks(9, 9, 9, 9)),
            "outbox_low_bytes (9) must be below outbox_high_bytes (9): \
             lower the first or raise the second"
        );
        assert_eq!(
            text(marks(8, 10, 9, 9)),
            "outbox_high_bytes (10) must not exceed outbox_bytes (9): \
             lower the first or raise the second"
        );
        assert_eq!(
            text(marks(8, 9, 9, 8)),
            "outbox_bytes (9) must not exceed worker_outbox_bytes (8): \
             lower the first or raise the second"
        );
        let most = usize::MAX;
        assert!(text(marks(most, most, most, most)).starts_with("outbox_bytes is "));
        assert!(text(marks(most, 1, 1, 1)).starts_with("outbox_low_bytes ("));
    }

    #[test]
    fn an_address_may_not_have_more_connections_than_the_server() {
        let caps = |all, of_one| Config::builder().connections_max(all).connections_per_address(of_one);
        caps(Some(7), Some(7)).build().unwrap();
        caps(None, Some(8)).build().unwrap();
        caps(Some(7), None).build().unwrap();
        assert_eq!(
            refusal(caps(Some(7), Some(8))).to_string(),
            "connections_per_address (8) must not exceed connections_max (7): \
             lower the first or raise the second"
        );
        assert_eq!(
            refusal(caps(Some(0), None)).to_string(),
            "connections_max is 0: choose a value from 1 to 1024000000"
        );
    }

    #[test]
    fn receive_buffers_stay_below_a_gibibyte_together() {
        let new = Config::builder;
        new().receive_buffers(64).receive_buffer_bytes(16 << 20).build().unwrap();
        new().receive_buffers(32_768).receive_buffer_bytes(32 << 10).build().unwrap();
        let bytes = (32 << 10) + 1;
        let error = refusal(new().receive_buffers(32_768).receive_buffer_bytes(bytes));
        let expected = ConfigError::TooMuchMemory {
            count_knob: "receive_buffers",
            count: 32_768,
            bytes_knob: "receive_buffer_bytes",
            bytes: bytes.into(),
            limit: 1 << 30,
        };
        assert_eq!(error, expected);
    }

    /// Numbers at and around every bound and every power of two, and anything else.
    fn numbers() -> impl Strategy<Value = u64> {
        let bounds: Vec<u64> = RANGES.into_iter().flat_map(|(min, max)| [min, max]).collect();
        let times = prop_oneof![Just(1_000_000), Just(86_400_000_000_000)];
        let edge = prop_oneof![prop::sample::select(bounds), (0..64).prop_map(|bit| 1_u64 << bit), times];
        let near = (edge, -1_i64..=1).prop_map(|(edge, off)| edge.wrapping_add_signed(off));
        prop_oneof![4 => near, 1 => any::<u64>(), 1 => Just(u64::MAX)]
    }

    #[test]
    fn what_builds_keeps_every_promise_and_what_does_not_names_a_knob_that_was_set() {
        let changes = prop::collection::vec((prop::sample::select(&SETTERS[..]), numbers()), 0..6);
        let built = Cell::new(0);
        let refused = Cell::new(0);
        let property = |changes: Vec<(Setter, u64)>| {
            let mut builder = Config::builder();
            for ((_, set), value) in &changes {
                builder = set(builder, *value);
            }
            let draft = builder.draft.clone();
            match builder.build() {
                Ok(config) => {
                    built.set(built.get() + 1);
                    prop_assert!(keeps_promises(&config));
                    prop_assert_eq!(format!("{config:?}"), format!("{draft:?}"));
                }
                Err(error) => {
                    refused.set(refused.get() + 1);
                    prop_assert!(!keeps_promises(&draft), "{}", error);
                    let text = error.to_string();
                    let mut words = text.split(|c: char| c != '_' && !c.is_ascii_lowercase());
                    let is_set = |word| changes.iter().any(|((knob, _), _)| *knob == word);
                    prop_assert!(words.any(is_set), "{}", error);
                }
            }
            Ok(())
        };
        let config = ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() };
        TestRunner::new(config).run(&changes, property).unwrap();
        assert!(built.get() > 20 && refused.get() > 20, "{built:?} built, {refused:?} refused");
    }
}
