//! A whole run of the simulated kernel in which the input decides: the faults and their seed, and then every choice of
//! the peers and of the handler. The peers, the handler and the audit are those of `tests/sim_seeds`.
//!
//! The first four bytes are the seed, the rest is the tape from which choices are taken.

#![no_main]

#[path = "../../ringline-core/tests/sim_seeds/chaos.rs"]
mod chaos;
#[path = "../../ringline-core/tests/sim_seeds/children.rs"]
mod children;
#[path = "../../ringline-core/tests/sim_seeds/datagrams.rs"]
mod datagrams;
#[path = "../tape.rs"]
mod dice;
#[path = "../../ringline-core/tests/sim_seeds/errands.rs"]
mod errands;
#[path = "../../ringline-core/tests/sim_seeds/layers.rs"]
mod layers;
#[path = "../../ringline-core/tests/sim_seeds/limits.rs"]
mod limits;
#[path = "../../ringline-core/tests/sim_seeds/options.rs"]
mod options;
#[path = "../../ringline-core/tests/sim_seeds/run.rs"]
#[allow(dead_code)]
mod run;
#[path = "../../ringline-core/tests/sim_seeds/sending.rs"]
mod sending;
#[path = "../../ringline-core/tests/common/tracked.rs"]
mod tracked;

use libfuzzer_sys::{Corpus, fuzz_target};

/// A longer tape gives no run that a shorter one could not.
const TAPE_BYTES_MAX: usize = 4096;

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((seed, tape)) = input.split_first_chunk::<4>() else { return Corpus::Reject };
    if tape.len() > TAPE_BYTES_MAX {
        return Corpus::Reject;
    }
    dice::insert(tape);
    // Panics on purpose are resumed unwinding, which passes by the fuzzer's hook; a failed check inside of a callback
    // does not, although the worker would catch it.
    run::run(u32::from_le_bytes(*seed).into(), false, &run::Totals::default());
    Corpus::Keep
});
