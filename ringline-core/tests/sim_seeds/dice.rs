//! Deterministic randomness and the streams that peers and server exchange.

/// A generator of 64-bit numbers (`SplitMix64`).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed ^ 0x5bd1_e995_9e37_79b9)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `end`, which is above zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True this many times in a thousand.
    pub(crate) fn chance(&mut self, per_mille: u64) -> bool {
        self.next() % 1000 < per_mille
    }

    /// Mostly small, now and then large.
    pub(crate) fn length(&mut self) -> usize {
        match self.below(20) {
            0 => 0,
            1 => 1,
            2 => self.below(6_000),
            3 => self.below(1_500),
            _ => 1 + self.below(120),
        }
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Byte `at` of the stream `name`.
pub(crate) fn byte(name: u64, at: usize) -> u8 {
    mix(name.wrapping_mul(0x1_0000_0001).wrapping_add((at / 8) as u64)).to_le_bytes()[at % 8]
}

/// Bytes `from..from + len` of the stream `name`.
pub(crate) fn bytes(name: u64, from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| byte(name, at)).collect()
}

/// Panics unless `data` is what the stream `name` holds from `from` on.
pub(crate) fn check(name: u64, from: usize, data: &[u8], who: &str) {
    for (at, &got) in data.iter().enumerate() {
        let want = byte(name, from + at);
        assert!(got == want, "{who}: byte {} of stream {name} is {got:#x}, not {want:#x}", from + at);
    }
}
