//! Too few open files.

use crate::confined::{Resource, alone, limit};
use crate::{Echo, assert_no_ring, assert_refused, assert_says, assert_serves, launch};
use ringline_core::{Config, LaunchError, RingError, Server};

/// Places of a worker's table beside those for connections.
const SPARE_FILES: u64 = 64;

#[test]
fn a_hard_limit_below_the_table_is_named_with_what_is_needed() {
    alone("files::a_hard_limit_below_the_table_is_named_with_what_is_needed", || {
        limit(Resource::OpenFiles, 256, 512);
        let error = assert_refused(launch(Config::builder().workers(1)));
        let expected = 16_384 + SPARE_FILES;
        assert!(
            matches!(error, LaunchError::OpenFiles { needed, limit: 512 } if needed == expected),
            "{error:?}"
        );
        assert_says(&error, &["16448 descriptors", "is 512", "ulimit -n", "connections_per_worker"]);
        // What the text advises helps, and the limit has been raised as far as it may be.
        assert_serves(Config::builder().workers(2).connections_per_worker(512 - SPARE_FILES as u32));
        let one_more = Config::builder().workers(1).connections_per_worker(513 - SPARE_FILES as u32);
        let error = assert_refused(launch(one_more));
        assert!(matches!(error, LaunchError::OpenFiles { needed: 513, limit: 512 }), "{error:?}");
    });
}

#[test]
fn a_soft_limit_is_raised_unless_that_is_forbidden() {
    alone("files::a_soft_limit_is_raised_unless_that_is_forbidden", || {
        limit(Resource::OpenFiles, 200, 1_000);
        let config = || Config::builder().workers(1).connections_per_worker(500);
        let error = assert_refused(launch(config().raise_open_files(false)));
        assert!(matches!(error, LaunchError::OpenFiles { needed: 564, limit: 200 }), "{error:?}");
        assert_serves(config());
        // Raised once, it stays so.
        assert_serves(config().raise_open_files(false));
    });
}

/// Each worker takes two descriptors of the process.
#[test]
fn more_workers_than_descriptors_leave_nothing_behind() {
    alone("files::more_workers_than_descriptors_leave_nothing_behind", || {
        limit(Resource::OpenFiles, 100, 100);
        let config = |workers| Config::builder().workers(workers).connections_per_worker(16).ring_entries(64);
        let error = assert_refused(launch(config(90)));
        assert!(
            matches!(
                error,
                LaunchError::Thread { .. }
                    | LaunchError::Ring { source: RingError::NoDescriptor { limit: Some(100) }, .. }
            ),
            "{error:?}"
        );
        assert_says(&error, &["open files"]);
        // All descriptors have come back.
        for _ in 0..20 {
            assert_serves(config(20));
        }
    });
}

/// The wake-ups fit, the rings do not.
#[test]
fn a_ring_without_a_descriptor_is_named() {
    alone("files::a_ring_without_a_descriptor_is_named", || {
        limit(Resource::OpenFiles, 100, 100);
        let held: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/proc/self/stat").ok()).collect();
        assert!(held.len() > 50, "{} files were opened", held.len());
        let mut held = held.into_iter();
        // The listener and the wake-up take these two.
        drop((held.next(), held.next()));
        let config = Config::builder().workers(1).connections_per_worker(16).ring_entries(64);
        let config = config.pin(false).build().expect("the configuration is valid");
        let server = Server::new(config).listen("127.0.0.1:0").expect("a descriptor is left");
        let launched = server.launch(|_seat| Echo);
        // Opening the list of threads takes one, too.
        drop(held);
        let error = assert_no_ring(launched);
        assert!(matches!(error, RingError::NoDescriptor { limit: Some(100) }), "{error:?}");
        assert_says(&error, &["open files", "100", "ulimit -n"]);
    });
}
