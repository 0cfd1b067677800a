//! A handler and peers that do everything a program may do, in random order, on a kernel that does
//! everything a kernel may do. One seed is one run; a failure names its seed.
//!
//! `RINGLINE_SEEDS` is how many seeds to run and `RINGLINE_FIRST_SEED` where to begin.

mod chaos;
mod children;
mod datagrams;
mod dice;
mod errands;
mod layers;
mod limits;
mod options;
mod run;
mod sending;
#[path = "../common/tracked.rs"]
mod tracked;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

thread_local! {
    /// A check failed on this thread, perhaps inside a callback, where the worker catches panics.
    static VIOLATED: Cell<bool> = const { Cell::new(false) };
}

/// Deliberate panics are resumed unwinding and pass by the hook.
fn watch_for_violations() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            VIOLATED.set(true);
            print(info);
        }));
    });
}

/// One run, in which no check failed anywhere.
fn checked_run(seed: u64, traced: bool, totals: &run::Totals) -> String {
    watch_for_violations();
    VIOLATED.set(false);
    let trace = run::run(seed, traced, totals);
    assert!(!VIOLATED.get(), "a check failed inside a callback");
    trace
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

#[test]
fn every_seed_keeps_every_promise() {
    let first = number("RINGLINE_FIRST_SEED", 0);
    // An emulated guest is slow, and the simulated kernel is the same there.
    let usual = if std::env::var_os("RINGLINE_GUEST").is_some() { 300 } else { 10_000 };
    let count = number("RINGLINE_SEEDS", if cfg!(debug_assertions) { usual.min(2_000) } else { usual });
    let next = AtomicU64::new(first);
    let failed = AtomicU64::new(u64::MAX);
    let totals = run::Totals::default();
    let begin = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || failed.load(Ordering::Relaxed) != u64::MAX {
                        return;
                    }
                    if catch_unwind(AssertUnwindSafe(|| checked_run(seed, false, &totals))).is_err() {
                        failed.fetch_min(seed, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let failed = failed.load(Ordering::Relaxed);
    if failed != u64::MAX {
        eprintln!("seed {failed} failed; once more, with the last events of the kernel:");
        checked_run(failed, true, &totals);
        panic!("seed {failed} failed only once");
    }
    println!("{count} seeds in {:.1?}: {totals}", begin.elapsed());
    if count >= 1_000 {
        totals.assert_thorough();
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 7, 42] {
        let runs: Vec<_> = (0..2).map(|_| checked_run(seed, true, &run::Totals::default())).collect();
        assert!(runs[0] == runs[1], "seed {seed} gave two different runs");
    }
}
