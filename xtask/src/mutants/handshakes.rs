//! Breakages of handshakes that take turns.

use super::Mutant;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "handshakes-all-at-once",
        breaks: "A turn takes a step of every handshake that can go on.",
        rules: "P115",
        file: "worker/handshakes.rs",
        from: "const STEPS_PER_TURN: usize = 4;",
        to: "const STEPS_PER_TURN: usize = usize::MAX;",
    },
    Mutant {
        name: "end-overtakes-handshake",
        breaks: "The end of the stream is noticed before what came before it and waits for its turn.",
        rules: "P113, P115",
        file: "worker/layered.rs",
        from: " && !is_postponed {",
        to: " && (!is_postponed || true) {",
    },
];
