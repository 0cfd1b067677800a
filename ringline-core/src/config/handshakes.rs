//! The knobs of layers that have yet to agree with their peers'.

use super::{Config, ConfigBuilder, ConfigError};
use std::time::Duration;

const TIMEOUT_MIN: Duration = Duration::from_millis(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
const HANDSHAKES_MAX: u64 = 1_000_000;

impl ConfigBuilder {
    /// How long the handshake of a layer, such as that of TLS, may take: 1 ms to a day, by default 10 s.
    /// Then the connection ends with [`LimitExceeded`](crate::CloseReason::LimitExceeded).
    ///
    /// The time is one for the whole handshake, however busily the peer sends bytes of it.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.draft.handshake_timeout = timeout;
        self
    }

    /// How many handshakes of accepted connections a worker has going on at a time: 1 to `1_000_000`,
    /// by default 1024.
    ///
    /// At that number, the worker accepts from no listener with a layer before one of them is over; peers
    /// wait in the backlog meanwhile, and `ringline/handshakes/waits` counts. It bounds the memory that
    /// peers hold who begin and do not go on. A worker that has such a listener exceeds it by one for
    /// each further one.
    pub fn handshakes_per_worker(mut self, handshakes: u32) -> Self {
        self.draft.handshakes_per_worker = handshakes;
        self
    }
}

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let (knob, value) = ("handshake_timeout", config.handshake_timeout);
    if value < TIMEOUT_MIN {
        return Err(ConfigError::TooShort { knob, value, min: TIMEOUT_MIN });
    }
    if value > TIMEOUT_MAX {
        return Err(ConfigError::TooLong { knob, value, max: TIMEOUT_MAX });
    }
    let (knob, value) = ("handshakes_per_worker", u64::from(config.handshakes_per_worker));
    if !(1..=HANDSHAKES_MAX).contains(&value) {
        return Err(ConfigError::OutOfRange { knob, value, min: 1, max: HANDSHAKES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knobs_are_valid_up_to_their_bounds_and_not_beyond() {
        let new = Config::builder;
        for timeout in [TIMEOUT_MIN, TIMEOUT_MAX] {
            assert_eq!(new().handshake_timeout(timeout).build().unwrap().handshake_timeout(), timeout);
        }
        let nano = Duration::from_nanos(1);
        let error = new().handshake_timeout(TIMEOUT_MIN - nano).build().unwrap_err();
        assert!(error.to_string().starts_with("handshake_timeout is 999.999µs: choose at least"), "{error}");
        let error = new().handshake_timeout(TIMEOUT_MAX + nano).build().unwrap_err();
        assert!(matches!(error, ConfigError::TooLong { knob: "handshake_timeout", .. }));
        for handshakes in [1, 1_000_000] {
            let config = new().handshakes_per_worker(handshakes).build().unwrap();
            assert_eq!(config.handshakes_per_worker(), handshakes);
        }
        for handshakes in [0, 1_000_001] {
            let error = new().handshakes_per_worker(handshakes).build().unwrap_err();
            assert!(matches!(error, ConfigError::OutOfRange { knob: "handshakes_per_worker", .. }));
        }
    }
}
