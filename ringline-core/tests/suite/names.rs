//! Names and their addresses.

use super::probe::{Hooks, Probe};
use super::{assert_serves, base, ms, on_every_kernel, on_every_kernel_with, wait};
use ringline_core::testing::World;
use ringline_core::{JobError, JobKey, ResolveError};
use std::net::{IpAddr, SocketAddr};

/// Has the handler resolve a name, and turns until the answer has come.
fn resolve(world: &mut World<Probe>, host: &str) -> Result<Vec<SocketAddr>, ResolveError> {
    let before = world.handler().names.len();
    world.act(|_, cx| cx.resolve(host, 80, JobKey(1))).expect("there is room");
    wait(world, "the answer comes", |world| world.handler().names.len() > before);
    world.handler().names[before].clone()
}

#[test]
fn a_name_has_all_its_addresses_in_order_and_once() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let ips: [IpAddr; 2] = ["2001:db8::1".parse().unwrap(), "192.0.2.9".parse().unwrap()];
            world.set_name("both.example", Ok(vec![ips[0], ips[1], ips[0]]));
            world.set_name("later.example", Err(ResolveError::TryAgain));
            world.set_name("broken.example", Err(ResolveError::Failed { code: -4 }));
            let expected = ips.map(|ip| SocketAddr::new(ip, 80));
            assert_eq!(resolve(world, "both.example"), Ok(expected.to_vec()));
            assert_eq!(resolve(world, "nobody.example"), Err(ResolveError::NotFound));
            assert_eq!(resolve(world, "later.example"), Err(ResolveError::TryAgain));
            assert_eq!(resolve(world, "broken.example"), Err(ResolveError::Failed { code: -4 }));
            assert_serves(world);
        },
    );
}

#[test]
fn an_address_needs_nobody_to_ask() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            world.hold_jobs();
            assert_eq!(resolve(world, "192.0.2.1"), Ok(vec!["192.0.2.1:80".parse().unwrap()]));
            assert_eq!(resolve(world, "::1"), Ok(vec!["[::1]:80".parse().unwrap()]));
            assert_eq!(resolve(world, "[::1]"), Ok(vec!["[::1]:80".parse().unwrap()]));
        },
    );
}

#[test]
fn answers_that_nobody_has_fetched_are_bounded() {
    on_every_kernel_with(
        base().resolve_threads(1).resolve_queue(1),
        || Probe::new(Hooks::ECHO),
        |world| {
            let full = Err(ResolveError::QueueFull { limit: 1024 });
            world.act(|_, cx| {
                let mut ask = || cx.resolve("192.0.2.1", 80, JobKey(1));
                assert!((0..1024).all(|_| ask().is_ok()));
                assert_eq!(ask(), full);
                let job = cx.run_blocking(JobKey(2), || 0).map_err(|rejected| rejected.error);
                assert_eq!(job, Err(JobError::QueueFull { limit: 1024 }));
            });
            wait(world, "every answer", |world| world.handler().names.len() == 1024);
            assert!(resolve(world, "192.0.2.1").is_ok(), "there is room again");
        },
    );
}

#[test]
fn what_cannot_be_asked_for_is_refused_at_once() {
    on_every_kernel_with(
        base().resolve_threads(1).resolve_queue(1).blocking_threads(1).blocking_queue(1),
        || Probe::new(Hooks::ECHO),
        |world| {
            world.set_name("a.example", Ok(vec![IpAddr::from([192, 0, 2, 1])]));
            world.hold_jobs();
            world.act(|_, cx| {
                for bad in ["", "a\0b", &"a".repeat(254)] {
                    assert_eq!(cx.resolve(bad, 80, JobKey(0)), Err(ResolveError::BadName));
                }
                // Jobs and names do not stand in each other's way.
                for _ in 0..2 {
                    cx.run_blocking(JobKey(0), || 0).expect("there is room");
                }
                for _ in 0..2 {
                    cx.resolve("a.example", 80, JobKey(0)).expect("there is room");
                }
                let full = cx.resolve("a.example", 80, JobKey(0));
                assert_eq!(full, Err(ResolveError::QueueFull { limit: 1 }));
            });
            world.release_jobs();
            wait(world, "the answers", |world| world.handler().names.len() == 2);
            world.shut_down(ms(1000));
            let late = world.act(|_, cx| cx.resolve("a.example", 80, JobKey(0)));
            assert_eq!(late, Err(ResolveError::ShuttingDown));
        },
    );
}

#[test]
fn a_resolution_that_is_cancelled_is_answered_so() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            world.hold_jobs();
            let id = world.act(|_, cx| cx.resolve("a.example", 80, JobKey(0))).expect("there is room");
            assert!(world.act(|_, cx| cx.cancel_job(id)));
            wait(world, "the answer", |world| !world.handler().names.is_empty());
            assert_eq!(world.handler().names, [Err(ResolveError::Cancelled)]);
        },
    );
}
