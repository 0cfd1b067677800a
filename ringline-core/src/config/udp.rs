//! The knobs of datagram sockets.

use super::builder::{Number, RECEIVE_MEMORY_MAX};
use super::{Config, ConfigBuilder, ConfigError};

impl ConfigBuilder {
    /// How many buffers the datagram sockets of a worker receive into: 8 to 32,768, a power of two; 256
    /// unless set. They exist from the first datagram socket of the worker on.
    ///
    /// A buffer is with the handler from the moment in which the kernel fills it until
    /// [`on_datagram`](crate::EventHandler::on_datagram) returns. More datagrams than that in one turn
    /// wait in the kernel for the next.
    pub fn datagram_buffers(mut self, buffers: u16) -> Self {
        self.draft.datagram_buffers = buffers;
        self
    }

    /// The longest datagram that is received whole: 64 to 65,535 bytes, and all buffers together at
    /// most 1 GiB; 65,535 unless set. What is longer is cut, and counted.
    ///
    /// A buffer costs only as much memory as datagrams have ever filled of it.
    pub fn datagram_bytes(mut self, bytes: u32) -> Self {
        self.draft.datagram_bytes = bytes;
        self
    }
}

impl Config {
    pub(crate) fn datagram_buffers(&self) -> u16 {
        self.datagram_buffers
    }

    pub(crate) fn datagram_bytes(&self) -> u32 {
        self.datagram_bytes
    }
}

pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    let buffers = Number { knob: "datagram_buffers", value: config.datagram_buffers.into() };
    let bytes = Number { knob: "datagram_bytes", value: config.datagram_bytes.into() };
    buffers.within(8, 32_768)?;
    buffers.power_of_two()?;
    bytes.within(64, 65_535)?;
    buffers.pieces_of(&bytes, RECEIVE_MEMORY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_knobs_have_limits_and_a_relation() {
        let config =
            |buffers, bytes| Config::builder().datagram_buffers(buffers).datagram_bytes(bytes).build();
        assert!(config(8, 64).is_ok() && config(16_384, 65_535).is_ok() && config(32_768, 1500).is_ok());
        for (buffers, bytes) in [(4, 1500), (100, 1500), (8, 63), (8, 65_536), (32_768, 65_535)] {
            let error = config(buffers, bytes).unwrap_err().to_string();
            assert!(error.contains("datagram_b"), "{error}");
        }
        let config = config(64, 1500).unwrap();
        assert_eq!((config.datagram_buffers(), config.datagram_bytes()), (64, 1500));
    }
}
