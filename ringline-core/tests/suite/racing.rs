//! Connections to one of several addresses, and to names.

use super::probe::{Event, Hooks, Probe};
use super::{assert_same, base, events_of, exchange, ms, on_every_kernel, on_every_kernel_with, pattern};
use super::{wait, wait_closed};
use ringline_core::net::{Addr, ConnectOptions, OptionError, SocketOptions};
use ringline_core::testing::{PeerId, World};
use ringline_core::{CloseReason, ConnId, ConnectError, JobKey, Limit, ResolveError};
use std::net::{IpAddr, SocketAddr};

const REFUSED: CloseReason = CloseReason::ConnectFailed { errno: libc::ECONNREFUSED };

/// Plays a scenario on the kernels that connect over IP; names belong to nothing else.
fn on_every_network(scenario: impl Fn(&mut World<Probe>)) {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            if !world.handler().kernel.is_unix() {
                scenario(world);
            }
        },
    );
}

fn ip(addr: &Addr) -> SocketAddr {
    addr.ip().expect("this kernel has IP addresses")
}

fn options() -> ConnectOptions {
    ConnectOptions::new().timeout(ms(2_000)).attempt_delay(ms(50))
}

fn race(world: &mut World<Probe>, addrs: &[SocketAddr], options: &ConnectOptions) -> ConnId {
    world.act(|probe, cx| probe.connect_any(cx, addrs, options)).expect("there is room for a connection")
}

/// The peer that the worker has connected to, which is the only one, and serves it.
fn assert_won(world: &mut World<Probe>, id: ConnId) -> PeerId {
    wait(world, "on_open", |world| world.handler().opened.contains(&id));
    let peer = world.dialed().expect("an attempt has come to somebody");
    assert_eq!(world.dialed(), None, "and to nobody else");
    assert_eq!(events_of(world, id), [Event::Open(id)]);
    let bytes = pattern(3, 2_000);
    assert_same(&exchange(world, peer, &bytes, bytes.len()), &bytes);
    assert_eq!(world.metrics().connects, 1);
    wait(world, "the others are gone", |world| world.act(|_, cx| cx.connections()) == 1);
    assert_eq!((world.metrics().connects_failed, world.metrics().connections_active), (0, 1));
    peer
}

/// Nothing is left of a connection that was not made, and the handler was told once.
fn assert_lost(world: &mut World<Probe>, id: ConnId, reason: CloseReason) {
    assert_eq!(wait_closed(world, id), reason);
    wait(world, "all attempts are gone", |world| world.act(|_, cx| cx.connections()) == 0);
    assert_eq!(events_of(world, id), [Event::Close(id, reason)]);
    assert_eq!((world.metrics().connects, world.metrics().connects_failed), (0, 1));
}

#[test]
fn the_next_address_is_tried_when_the_first_does_not_answer() {
    on_every_network(|world| {
        let (silent, alive) = (ip(&world.silent_addr()), ip(&world.dial_addr()));
        let begin = world.elapsed();
        let id = race(world, &[silent, alive], &options());
        assert_won(world, id);
        assert!(world.elapsed() - begin >= ms(50), "the first one had its time");
    });
}

#[test]
fn the_next_address_is_tried_at_once_when_the_first_fails() {
    on_every_network(|world| {
        let (refused, alive) = (ip(&world.refused_addr()), ip(&world.dial_addr()));
        let begin = world.elapsed();
        let id = race(world, &[refused, alive], &options().timeout(ms(60_000)).attempt_delay(ms(30_000)));
        assert_won(world, id);
        assert!(world.elapsed() - begin < ms(30_000), "nobody waited for the delay");
    });
}

#[test]
fn an_address_that_answers_keeps_the_others_from_being_asked() {
    on_every_network(|world| {
        let (alive, refused) = (ip(&world.dial_addr()), ip(&world.refused_addr()));
        let id = race(world, &[alive, refused, alive], &options().attempt_delay(ms(1_000)));
        assert_won(world, id);
    });
}

#[test]
fn when_all_fail_the_last_one_says_why() {
    on_every_network(|world| {
        let refused = ip(&world.refused_addr());
        let id = race(world, &[refused, refused], &options());
        assert_lost(world, id, REFUSED);
    });
}

#[test]
fn the_deadline_is_for_all_of_them_together() {
    on_every_network(|world| {
        let (silent, refused) = (ip(&world.silent_addr()), ip(&world.refused_addr()));
        let begin = world.elapsed();
        let id = race(world, &[silent, refused], &options().timeout(ms(200)));
        assert_lost(world, id, CloseReason::LimitExceeded(Limit::ConnectTimeout));
        assert!(world.elapsed() - begin >= ms(200));
    });
}

#[test]
fn what_is_given_up_leaves_no_attempt_behind() {
    on_every_network(|world| {
        let (silent, alive) = (ip(&world.silent_addr()), ip(&world.dial_addr()));
        for is_under_way in [false, true] {
            let before = world.metrics().connects_failed;
            let id = race(world, &[silent, alive], &options().attempt_delay(ms(10_000)));
            if is_under_way {
                world.sleep(ms(5));
            }
            world.act(|_, cx| cx.abort(id));
            assert_eq!(wait_closed(world, id), CloseReason::Aborted);
            wait(world, "no attempt is left", |world| world.act(|_, cx| cx.connections()) == 0);
            assert_eq!(world.metrics().connects_failed, before + 1, "told once");
        }
    });
}

#[test]
fn attempts_need_rows_of_their_own() {
    on_every_kernel_with(
        base().connections_per_worker(2),
        || Probe::new(Hooks::ECHO),
        |world| {
            if world.handler().kernel.is_unix() {
                return;
            }
            let (silent, refused) = (ip(&world.silent_addr()), ip(&world.refused_addr()));
            // The second address waits for the row of the first, which takes until the deadline.
            let id = race(world, &[silent, refused], &options().timeout(ms(300)));
            let other = world.act(|probe, cx| probe.connect_any(cx, &[silent], &options()));
            assert_eq!(other, Err(ConnectError::Full { limit: 2 }));
            assert_lost(world, id, CloseReason::LimitExceeded(Limit::ConnectTimeout));
            let id = race(world, &[refused, refused], &options());
            assert_eq!(wait_closed(world, id), REFUSED, "a row that is free is used again");
        },
    );
}

#[test]
fn what_cannot_be_tried_is_said_at_once() {
    on_every_network(|world| {
        let alive = ip(&world.dial_addr());
        let v6: SocketAddr = ([0, 0, 0, 0, 0, 0, 0, 1], 0).into();
        let none = world.act(|probe, cx| probe.connect_any(cx, &[], &options()));
        assert_eq!(none, Err(ConnectError::NoAddress));
        let misfit = world.act(|probe, cx| probe.connect_any(cx, &[alive], &options().bind(v6)));
        assert_eq!(misfit, Err(ConnectError::LocalAddr { local: v6 }));
        let wrong = options().socket(SocketOptions::new().raw(libc::SOL_SOCKET, libc::SO_LINGER, &[0; 8]));
        let wrong = world.act(|probe, cx| probe.connect_host(cx, ("server.test", 1), &wrong));
        assert_eq!(wrong, Err(ConnectError::Option(OptionError::Blocks)));
        let name = world.act(|probe, cx| probe.connect_host(cx, ("", 1), &options()));
        assert_eq!(name, Err(ConnectError::Resolve(ResolveError::BadName)));
        assert_eq!(world.act(|_, cx| cx.connections()), 0);
    });
}

#[test]
fn a_name_is_looked_up_and_connected_to() {
    on_every_network(|world| {
        let alive = ip(&world.dial_addr());
        // On the real kernel nobody listens at the first.
        let dead = IpAddr::from([127, 0, 0, 2]);
        world.set_name("server.test", Ok(vec![dead, alive.ip()]));
        let id = world
            .act(|probe, cx| probe.connect_host(cx, ("server.test", alive.port()), &options()))
            .expect("there is room for a connection");
        assert_won(world, id);
    });
}

#[test]
fn a_name_without_addresses_ends_the_connection_with_the_reason() {
    on_every_network(|world| {
        let id = world.act(|probe, cx| probe.connect_host(cx, ("nobody.test", 1), &options())).expect("room");
        assert_lost(world, id, CloseReason::Unresolved { error: ResolveError::NotFound });
    });
}

#[test]
fn a_resolver_that_hangs_does_not_outlive_the_deadline() {
    on_every_network(|world| {
        world.set_name("slow.test", Ok(vec![IpAddr::from([192, 0, 2, 1])]));
        world.hold_jobs();
        let id = world
            .act(|probe, cx| probe.connect_host(cx, ("slow.test", 9), &options().timeout(ms(100))))
            .expect("there is room for a connection");
        assert_lost(world, id, CloseReason::LimitExceeded(Limit::ConnectTimeout));
        world.release_jobs();
        assert_eq!(world.handler().names.len(), 0, "the answer is nobody's");
        // The resolver works on.
        world.act(|_, cx| cx.resolve("slow.test", 9, JobKey(1)).map(drop)).expect("there is room for a name");
        wait(world, "on_resolved", |world| !world.handler().names.is_empty());
    });
}

#[test]
fn peers_are_accepted_while_attempts_are_under_way() {
    on_every_network(|world| {
        let silent = ip(&world.silent_addr());
        world.set_name("silent.test", Ok(vec![silent.ip()]));
        let options = options().timeout(ms(60_000));
        let id = world
            .act(|probe, cx| probe.connect_host(cx, ("silent.test", silent.port()), &options))
            .expect("there is room for a connection");
        wait(world, "the name is known", |world| world.act(|_, cx| cx.connections()) == 2);
        super::assert_serves(world);
        world.act(|_, cx| cx.abort(id));
        // Serving may have taken until the deadline.
        let timeout = CloseReason::LimitExceeded(Limit::ConnectTimeout);
        assert!([CloseReason::Aborted, timeout].contains(&wait_closed(world, id)));
    });
}

#[test]
fn an_attempt_that_succeeds_behind_the_end_is_given_up() {
    on_every_network(|world| {
        let alive = ip(&world.dial_addr());
        for turns in 0..6 {
            let id = race(world, &[alive, alive], &options());
            for _ in 0..turns {
                if world.handler().opened.contains(&id) {
                    break;
                }
                world.turn();
            }
            world.act(|_, cx| cx.abort(id));
            assert_eq!(wait_closed(world, id), CloseReason::Aborted);
        }
        wait(world, "nothing is left", |world| world.act(|_, cx| cx.connections()) == 0);
    });
}
