//! The time before the layers of both sides agree: what it brings, how it ends, and what it is not told.

use super::far::{Far, on_every_kernel, on_every_kernel_with};
use super::probe::{Event, Hooks, Probe};
use super::{base, events_of, ms, pace, wait, wait_closed};
use ringline_core::layer::{Layer, LayerError};
use ringline_core::net::SocketOptions;
use ringline_core::testing::{Veil, World};
use ringline_core::{CloseReason, Deadlines, Limit, SendError};

#[test]
fn a_connection_opens_when_the_layers_agree_and_takes_nothing_before() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let mut far = Far::connect(world);
            world.run_until(|world| !world.handler().log.is_empty());
            let Event::Accept(id) = world.handler().log[0] else { panic!("it is accepted first") };
            world.act(|probe, cx| {
                assert!(!cx.is_open(id) && probe.send(cx, id, b"early").is_none());
                assert!(cx.layer::<Veil>(id).is_some_and(Layer::is_handshaking));
            });
            assert_eq!(world.handler().rejected, [SendError::Closing]);
            assert_eq!(world.metrics().handshakes_active, 1);
            assert_eq!(world.handler().opened, []);
            far.until(world, "on_open", |_, world| world.handler().opened == [id]);
            far.leave(world, id);
        },
    );
}

/// The end of the only connection there was, which never opened.
fn unopened(world: &mut World<Probe>) -> CloseReason {
    let mut reason = None;
    wait(world, "on_close", |world| {
        let last = world.handler().log.last().copied();
        if let Some(Event::Close(_, why)) = last {
            reason = Some(why);
        }
        reason.is_some()
    });
    assert_eq!(world.handler().opened, [], "no on_open without a handshake");
    let metrics = world.metrics();
    assert_eq!((metrics.handshakes, metrics.handshakes_failed, metrics.handshakes_active), (0, 1, 0));
    reason.expect("it was just seen")
}

#[test]
fn garbage_instead_of_a_handshake_is_answered_and_named() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let mut far = Far::connect(world);
            far.out = b"GET / HTTP/1.1\r\n\r\n".to_vec();
            far.flush(world);
            world.end(far.peer);
            assert_eq!(unopened(world), CloseReason::LayerFailed(Veil::BROKEN));
        },
    );
}

#[test]
fn an_end_in_the_handshake_is_a_failure_of_the_layer() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let mut far = Far::connect(world);
            far.out.truncate(5);
            far.flush(world);
            world.end(far.peer);
            assert_eq!(unopened(world), CloseReason::LayerFailed(LayerError::ENDED));
        },
    );
}

#[test]
fn a_handshake_has_a_deadline_that_bytes_do_not_move() {
    on_every_kernel_with(
        base().handshake_timeout(ms(60)),
        || Probe::new(Hooks::ECHO),
        |world| {
            let mut far = Far::connect(world);
            let hello = std::mem::take(&mut far.out);
            for byte in &hello[..10] {
                // It is over before the last of them is written.
                world.write(far.peer, &[*byte]);
                world.sleep(ms(10));
            }
            assert_eq!(unopened(world), CloseReason::LimitExceeded(Limit::Handshake));
            assert_eq!(world.metrics().closed_handshake, 1);
        },
    );
}

#[test]
fn no_more_handshakes_than_are_allowed_go_on_at_a_time() {
    on_every_kernel_with(
        base().handshakes_per_worker(2).handshake_timeout(ms(50)),
        || Probe::new(Hooks::ECHO),
        |world| {
            let mut fars: Vec<_> = (0..6).map(|_| Far::connect(world)).collect();
            // Those that are silent hold their places until their time is over.
            for far in &mut fars[..4] {
                far.out.clear();
            }
            let mut most = 0;
            pace(world, "all have had their turn", |world| {
                fars[4..].iter_mut().for_each(|far| far.pump(world));
                most = most.max(world.metrics().handshakes_active);
                let metrics = world.metrics();
                metrics.handshakes == 2 && metrics.closed_handshake == 4
            });
            assert!(most <= 2, "{most} at a time");
            assert!(world.metrics().handshakes_waits > 0);
            for (far, id) in fars.into_iter().skip(4).zip(world.handler().opened.clone()) {
                // Which of the two is which does not matter.
                let _ = id;
                world.reset(far.peer);
            }
            wait(world, "all are gone", |world| world.metrics().connections_active == 0);
        },
    );
}

#[test]
fn a_close_during_a_handshake_and_a_shutdown_give_the_state_back() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            let peer = world.connect();
            wait(world, "on_accept", |world| !world.handler().log.is_empty());
            let Event::Accept(id) = world.handler().log[0] else { panic!("it is accepted first") };
            world.act(|probe, cx| probe.close(cx, id));
            wait(world, "the end", |world| world.saw_eof(peer) || world.saw_reset(peer));
            world.close(peer);
            assert_eq!(unopened(world), CloseReason::Closed);
            // What is left is for the end of the world.
            let _silent = world.connect();
            pace(world, "another one", |world| world.metrics().handshakes_active == 1);
        },
    );
}

#[test]
fn what_comes_along_with_the_end_of_the_handshake_counts_as_the_first_byte() {
    on_every_kernel_with(
        base().deadlines(Deadlines::none().first_byte(ms(60))),
        || Probe::new(Hooks::ECHO),
        |world| {
            let mut far = Far::connect(world);
            far.until(world, "the hello is written", |far, _| far.out.is_empty());
            // The peer's answer is read, and the last of the handshake leaves with a message behind it.
            pace(world, "the answer", |world| {
                far.tail.extend(world.read(far.peer, usize::MAX));
                let through = far.veil.read(&mut far.tail, &mut far.plain, &mut far.out).expect("a veil");
                far.tail.drain(..through);
                !far.veil.is_handshaking()
            });
            far.send(b"hello");
            assert_eq!(far.receive(world, 5), b"hello");
            let id = world.handler().opened[0];
            for _ in 0..100 {
                far.pump(world);
                world.sleep(ms(1));
            }
            assert_eq!(world.handler().reason(id), None, "it has said something");
            far.leave(world, id);
        },
    );
}

#[test]
fn connections_of_ours_do_not_keep_others_from_being_accepted() {
    on_every_kernel_with(
        base().handshakes_per_worker(1),
        || Probe::new(Hooks::ECHO),
        |world| {
            let addr = world.dial_addr();
            let id = world
                .act(|probe, cx| probe.connect_layered(cx, &addr, Box::new(Veil::client())))
                .expect("room");
            let mut silent = None;
            pace(world, "the worker connects", |world| {
                silent = silent.or_else(|| world.dialed());
                silent.is_some() && world.metrics().handshakes_active == 1
            });
            let (far, theirs) = Far::open(world);
            far.leave(world, theirs);
            world.act(|probe, cx| probe.abort(cx, id));
            assert_eq!(wait_closed(world, id), CloseReason::Aborted);
        },
    );
}

#[test]
fn what_was_asked_for_on_accept_is_told_when_the_connection_is_open() {
    let hooks = Hooks {
        on_accept: |probe, cx, id, _| {
            probe.set_conn_timer(cx, id, ms(1), 7).expect("it arrives");
            cx.set_socket_options(id, &SocketOptions::new().nodelay(true)).expect("it arrives");
            true
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let mut far = Far::connect(world);
            let hello = std::mem::take(&mut far.out);
            wait(world, "on_accept", |world| !world.handler().log.is_empty());
            world.sleep(ms(20));
            let Event::Accept(id) = world.handler().log[0] else { panic!("it is accepted first") };
            assert_eq!(events_of(world, id), [Event::Accept(id)], "and that is all");
            far.out = hello;
            far.until(world, "both are told", |_, world| events_of(world, id).len() == 4);
            let events = events_of(world, id);
            assert_eq!(events[1], Event::Open(id));
            assert!(events.contains(&Event::ConnTimer(id, 7)));
            let is_faulty = world.handler().kernel.is_faulty();
            let is_told = |event: &Event| match event {
                Event::Options(_, answer) => answer.is_ok() || is_faulty,
                _ => false,
            };
            assert!(events.iter().any(is_told), "{events:?}");
            far.leave(world, id);
        },
    );
}
