//! Too little locked memory, which rings count towards since kernel 6.14.

use crate::confined::{Resource, alone, give_up_privileges, limit};
use crate::{SOON, assert_echoes, assert_no_ring, assert_says, launch};
use ringline_core::{Config, ConfigBuilder, LaunchError, RingError, Running};
use std::time::{Duration, Instant};

/// The first kernel that charges rings to their user.
const CHARGED_SINCE: (u32, u32) = (6, 14);

/// Users who own nothing, one for each test, because the charge is for all processes of a user.
const NOBODY: u32 = 65_534;
const NOBODY_ELSE: u32 = 65_533;

/// The version of the running kernel.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux has /proc");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor),
        _ => panic!("this is no release of a kernel: {release}"),
    }
}

fn assert_locked_memory(error: &RingError, bytes: u64) {
    let RingError::LockedMemory { locked_limit, source } = error else { panic!("{error:?}") };
    assert_eq!(*locked_limit, Some(bytes));
    assert_eq!(source.raw_os_error(), Some(libc::ENOMEM));
    let bytes = bytes.to_string();
    let remedies = ["RLIMIT_MEMLOCK", &bytes, "raise it", "lower ring_entries", "use fewer workers"];
    assert_says(error, &remedies);
}

#[test]
fn a_ring_that_may_not_be_locked_is_refused_with_the_limit() {
    alone("memory::a_ring_that_may_not_be_locked_is_refused_with_the_limit", || {
        const LIMIT_BYTES: u64 = 64 << 10;
        limit(Resource::LockedMemory, LIMIT_BYTES, LIMIT_BYTES);
        give_up_privileges(NOBODY);
        let launched = launch(Config::builder().workers(1));
        if kernel() < CHARGED_SINCE {
            return assert_echoes(launched.expect("nothing is charged"));
        }
        assert_locked_memory(&assert_no_ring(launched), LIMIT_BYTES);
        // What the text advises helps.
        assert_echoes(launch_when_free(|| Config::builder().workers(1).ring_entries(64)));
    });
}

#[test]
fn too_many_workers_are_refused_and_all_of_them_end() {
    alone("memory::too_many_workers_are_refused_and_all_of_them_end", || {
        const LIMIT_BYTES: u64 = 8 << 20;
        limit(Resource::LockedMemory, LIMIT_BYTES, LIMIT_BYTES);
        give_up_privileges(NOBODY_ELSE);
        let config = |workers| Config::builder().workers(workers).connections_per_worker(64);
        let launched = launch(config(40));
        if kernel() < CHARGED_SINCE {
            return assert_echoes(launched.expect("nothing is charged"));
        }
        assert_locked_memory(&assert_no_ring(launched), LIMIT_BYTES);
        // As many as the documentation promises for this limit.
        assert_echoes(launch_when_free(|| config(31)));
    });
}

/// Launches once the kernel has taken the rings of the servers before apart, which it does later.
fn launch_when_free(config: impl Fn() -> ConfigBuilder) -> Running {
    let until = Instant::now() + SOON;
    loop {
        match launch(config()) {
            Ok(running) => return running,
            Err(LaunchError::Ring { source: RingError::LockedMemory { .. }, .. }) => {
                assert!(Instant::now() < until, "the memory of rings that are gone stays charged");
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("{error}"),
        }
    }
}
