//! Options of open connections, and of connections that are yet to be made.

use super::probe::{Event, Hooks, Probe};
use super::{
    assert_serves, base, connect, events_of, exchange, leave, ms, on_every_kernel, on_every_kernel_with,
    wait, wait_closed,
};
use ringline_core::net::SocketOption;
use ringline_core::testing::{Fault, Faults, World};
use ringline_core::{
    CloseReason, ConnId, ConnectError, ConnectOptions, Limit, OptionError, OptionRefused, SocketOptions,
};
use std::time::{Duration, Instant};

/// Some that every kind of socket takes.
fn some() -> SocketOptions {
    SocketOptions::new().send_buffer_bytes(100_000).raw(
        libc::SOL_SOCKET,
        libc::SO_RCVLOWAT,
        &1_i32.to_ne_bytes(),
    )
}

/// One that no kernel knows, and one behind it.
fn unknown() -> SocketOptions {
    SocketOptions::new().raw(libc::SOL_SOCKET, 9999, &[0; 4]).send_buffer_bytes(1000)
}

fn set(world: &mut World<Probe>, id: ConnId, options: &SocketOptions) -> Result<(), OptionError> {
    world.act(|_, cx| cx.set_socket_options(id, options))
}

fn answers(world: &World<Probe>, id: ConnId) -> Vec<Result<(), OptionRefused>> {
    let answer = |event| if let Event::Options(_, result) = event { Some(result) } else { None };
    events_of(world, id).into_iter().filter_map(answer).collect()
}

#[test]
fn each_call_is_answered_once_and_in_order() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            // Refusals are a matter of their own.
            let faults = world.handler().kernel.faults().with(Fault::OptionRefused, 0);
            world.set_faults(faults);
            let (peer, id) = connect(world);
            for options in [some(), SocketOptions::new(), some()] {
                assert_eq!(set(world, id, &options), Ok(()));
            }
            wait(world, "all answers", |world| answers(world, id).len() == 3);
            assert_eq!(answers(world, id), [Ok(()); 3]);
            assert_eq!(exchange(world, peer, b"hello", 5), b"hello");
            leave(world, peer, id);
            assert_eq!(answers(world, id).len(), 3);
            assert_eq!(world.metrics().options_refused, 0);
        },
    );
}

#[test]
fn what_the_kernel_refuses_is_told_and_counted_and_the_connection_goes_on() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let is_simulated = world.handler().kernel.is_simulated();
            let (peer, id) = connect(world);
            if is_simulated {
                world.set_faults(Faults::none().with(Fault::OptionRefused, 1000));
            }
            assert_eq!(set(world, id, &unknown()), Ok(()));
            wait(world, "the answer", |world| answers(world, id).len() == 1);
            let refused = answers(world, id)[0].unwrap_err();
            assert_eq!(refused.option, SocketOption::Raw { level: libc::SOL_SOCKET, name: 9999 });
            if !is_simulated {
                assert_eq!(refused.errno, libc::ENOPROTOOPT);
            }
            assert_eq!(world.metrics().options_refused, 1, "those behind it are not tried");
            world.set_faults(Faults::none());
            assert_eq!(set(world, id, &some()), Ok(()));
            wait(world, "another answer", |world| answers(world, id).len() == 2);
            assert_eq!(answers(world, id)[1], Ok(()));
            assert_eq!(exchange(world, peer, b"hello", 5), b"hello");
            leave(world, peer, id);
        },
    );
}

#[test]
fn what_can_be_known_is_refused_before_the_kernel_sees_it() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            let late = set(world, id, &SocketOptions::new().device("lo"));
            let long = set(world, id, &SocketOptions::new().keep_alive_idle(Duration::from_secs(40_000)));
            if world.handler().kernel.is_unix() {
                assert!(matches!(late, Err(OptionError::NotForUnix { .. })));
                let option = SocketOption::Nodelay;
                let nodelay = set(world, id, &SocketOptions::new().nodelay(true));
                assert_eq!(nodelay, Err(OptionError::NotForUnix { option }));
            } else {
                assert!(matches!(late, Err(OptionError::TooLate { .. })));
            }
            assert!(matches!(long, Err(OptionError::OutOfRange { value: 40_000, .. })));
            let calls =
                world.act(|_, cx| (0..70).map(|_| cx.set_socket_options(id, &some())).collect::<Vec<_>>());
            assert_eq!(calls.iter().filter(|call| call.is_ok()).count(), 32);
            assert_eq!(calls[32], Err(OptionError::Busy { max: 64 }));
            leave(world, peer, id);
            assert_eq!(set(world, id, &some()), Err(OptionError::NotOpen));
            let addr = world.silent_addr();
            let dialing = world.act(|probe, cx| probe.connect(cx, &addr)).expect("there is room");
            assert_eq!(set(world, dialing, &some()), Err(OptionError::NotOpen));
            world.act(|probe, cx| probe.abort(cx, dialing));
            wait_closed(world, dialing);
        },
    );
}

#[test]
fn a_connection_that_ends_while_options_are_set_ends_as_it_should() {
    let hooks = Hooks {
        on_open: |_, cx, id| {
            for _ in 0..3 {
                cx.set_socket_options(id, &some()).expect("it is open");
            }
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            for turns in 0..6 {
                for aborts in [false, true] {
                    let (peer, id) = connect(world);
                    for _ in 0..turns {
                        world.sleep(ms(1));
                    }
                    world.act(|probe, cx| if aborts { probe.abort(cx, id) } else { probe.close(cx, id) });
                    world.close(peer);
                    let reason = wait_closed(world, id);
                    assert!(matches!(reason, CloseReason::Aborted | CloseReason::Closed), "{reason:?}");
                    assert!(answers(world, id).len() <= 3);
                }
            }
            assert_serves(world);
        },
    );
}

#[test]
fn a_connect_has_a_deadline_of_its_own() {
    on_every_kernel_with(
        base().connect_timeout(ms(60_000)),
        || Probe::new(Hooks::ECHO),
        |world| {
            let addr = world.silent_addr();
            let (begin, real) = (world.elapsed(), Instant::now());
            let options = ConnectOptions::new().timeout(ms(150));
            let id = world.act(|probe, cx| probe.connect_with(cx, &addr, &options)).expect("there is room");
            assert_eq!(wait_closed(world, id), CloseReason::LimitExceeded(Limit::ConnectTimeout));
            assert!(world.elapsed() - begin >= ms(150), "not early");
            assert!(world.elapsed() - begin < ms(20_000) && real.elapsed() < ms(20_000));
            assert_serves(world);
        },
    );
}

#[test]
fn a_connect_that_makes_no_sense_is_not_begun() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let addr = world.dial_addr();
            let v6 = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 0));
            let options = ConnectOptions::new().bind(v6);
            let refused = world.act(|probe, cx| probe.connect_with(cx, &addr, &options));
            assert_eq!(refused, Err(ConnectError::LocalAddr { local: v6 }));
            let options = ConnectOptions::new().socket(SocketOptions::new().keep_alive_count(1000));
            let refused = world.act(|probe, cx| probe.connect_with(cx, &addr, &options));
            assert!(matches!(refused, Err(ConnectError::Option(_))), "{refused:?}");
            let nowhere = ringline_core::net::UnixAddr::unnamed().into();
            let refused = world.act(|probe, cx| probe.connect(cx, &nowhere));
            assert_eq!(refused, Err(ConnectError::Unnamed));
            assert_eq!(world.metrics().connects_failed, 0);
        },
    );
}

#[test]
fn a_connect_with_options_the_kernel_refuses_ends_once_with_the_reason() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            if world.handler().kernel.is_simulated() {
                world.set_faults(Faults::none().with(Fault::OptionRefused, 1000));
            }
            let addr = world.dial_addr();
            let options = ConnectOptions::new().socket(unknown());
            let id = world.act(|probe, cx| probe.connect_with(cx, &addr, &options)).expect("there is room");
            let reason = wait_closed(world, id);
            assert!(matches!(reason, CloseReason::ConnectFailed { .. }), "{reason:?}");
            assert_eq!(events_of(world, id), [Event::Close(id, reason)]);
            assert_serves(world);
        },
    );
}
