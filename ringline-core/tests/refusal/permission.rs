//! No permission for io_uring at all.

use crate::confined::{alone, forbid};
use crate::{assert_no_ring, assert_refused, assert_says, assert_serves, launch};
use ringline_core::{Config, ConfigBuilder, LaunchError, RingError, RunError};

fn config(workers: usize) -> ConfigBuilder {
    Config::builder().workers(workers).connections_per_worker(64)
}

/// Container runtimes refuse io_uring like this.
#[test]
fn a_filter_that_says_eperm_is_named() {
    alone("permission::a_filter_that_says_eperm_is_named", || {
        assert_serves(config(1));
        forbid(libc::SYS_io_uring_setup, libc::EPERM);
        let error = assert_no_ring(launch(config(3)));
        let RingError::NotPermitted { sysctl } = error else { panic!("{error:?}") };
        assert!(matches!(sysctl, None | Some(0)), "io_uring is switched on here: {sysctl:?}");
        assert_says(&error, &["not permitted", "a seccomp filter", "seccomp profile", "io_uring_disabled"]);
    });
}

/// Sandboxes that have no io_uring answer like this, and so do old kernels.
#[test]
fn a_filter_that_says_enosys_passes_for_a_kernel_without_rings() {
    alone("permission::a_filter_that_says_enosys_passes_for_a_kernel_without_rings", || {
        assert_serves(config(1));
        forbid(libc::SYS_io_uring_setup, libc::ENOSYS);
        let error = assert_no_ring(launch(config(3)));
        assert!(matches!(error, RingError::NotSupported), "{error:?}");
        assert_says(&error, &["no io_uring", "ENOSYS", "Linux 6.1 or newer"]);
    });
}

/// A profile that allows only one of the three system calls stops the server all the same.
#[test]
fn a_filter_against_registering_is_an_error_of_the_ring() {
    alone("permission::a_filter_against_registering_is_an_error_of_the_ring", || {
        forbid(libc::SYS_io_uring_register, libc::EPERM);
        let error = assert_no_ring(launch(config(3)));
        assert!(
            matches!(error, RingError::NotPermitted { .. } | RingError::Refused { errno: libc::EPERM, .. }),
            "{error:?}"
        );
        assert_says(&error, &["ermitted"]);
    });
}

/// Whether this is found out when the ring is set up or when it is first entered, a program that
/// waits for its server gets to know it.
#[test]
fn a_filter_against_entering_is_an_error_and_no_silence() {
    alone("permission::a_filter_against_entering_is_an_error_and_no_silence", || {
        forbid(libc::SYS_io_uring_enter, libc::EPERM);
        let error = match launch(config(1)) {
            Ok(running) => match running.join() {
                Err(RunError::Ring { worker: 0, source }) => source.raw_os_error(),
                joined => panic!("the server cannot have run: {joined:?}"),
            },
            Err(LaunchError::Ring { worker: 0, source: RingError::NotPermitted { .. } }) => Some(libc::EPERM),
            Err(error) => panic!("not because of a ring: {error}"),
        };
        assert_eq!(error, Some(libc::EPERM));
    });
}

#[test]
fn an_error_of_a_ring_names_the_worker() {
    alone("permission::an_error_of_a_ring_names_the_worker", || {
        forbid(libc::SYS_io_uring_setup, libc::EPERM);
        let error = assert_refused(launch(config(1)));
        assert!(matches!(error, LaunchError::Ring { worker: 0, .. }), "{error:?}");
        assert_says(&error, &["worker 0: ", "seccomp"]);
    });
}
