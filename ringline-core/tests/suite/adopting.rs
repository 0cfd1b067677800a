//! Sockets that were made elsewhere and become connections.

use super::probe::{Event, Hooks, Probe, Take};
use super::{
    assert_same, assert_serves, base, events_of, exchange, leave, on_every_kernel, on_every_kernel_with,
    pattern, wait, wait_closed,
};
use ringline_core::testing::{PeerId, World};
use ringline_core::{AdoptError, CloseReason, ConnId, SendError, TimerKey};
use std::fs::File;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

/// Has the handler adopt a socket, between two turns.
fn adopt(world: &mut World<Probe>) -> ConnId {
    let socket = world.adoptable();
    world.act(|probe, cx| probe.adopt(cx, socket)).expect("there is room for a connection")
}

/// The far end of the socket that was adopted last.
fn answer(world: &mut World<Probe>) -> PeerId {
    let mut peer = None;
    wait(world, "the socket is connected", |world| {
        peer = peer.or_else(|| world.dialed());
        peer.is_some()
    });
    peer.expect("it has just been there")
}

#[test]
fn an_adopted_socket_is_like_any_other_once_it_is_open() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let id = adopt(world);
            world.act(|probe, cx| {
                assert!(!cx.is_open(id) && probe.opened.is_empty(), "on_open is not called inside of adopt");
                assert_eq!(cx.set_conn_timer(id, super::ms(1), TimerKey(1)), None);
                assert!(probe.send(cx, id, b"early").is_none());
            });
            assert_eq!(world.handler().rejected, [SendError::Closing]);
            wait(world, "on_open", |world| world.handler().opened.contains(&id));
            let peer = answer(world);
            assert_eq!(events_of(world, id), [Event::Open(id)]);
            let bytes = pattern(1, world.handler().kernel.size(3_000, 300_000));
            assert_same(&exchange(world, peer, &bytes, bytes.len()), &bytes);
            let metrics = world.metrics();
            assert_eq!((metrics.connections_adopted, metrics.connects), (1, 0));
            assert_eq!(metrics.connections_active, 1);
            leave(world, peer, id);
            assert_serves(world);
        },
    );
}

#[test]
fn one_that_is_given_up_before_it_is_open_ends_with_the_reason_and_nothing_before() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            for aborts in [false, true] {
                let socket = world.adoptable();
                let id = world.act(|probe, cx| {
                    let id = probe.adopt(cx, socket).expect("there is room");
                    if aborts {
                        probe.abort(cx, id);
                    } else {
                        probe.close(cx, id);
                    }
                    id
                });
                let reason = if aborts { CloseReason::Aborted } else { CloseReason::Closed };
                assert_eq!(wait_closed(world, id), reason);
                assert_eq!(events_of(world, id), [Event::Close(id, reason)]);
            }
            assert_eq!(world.metrics().connections_adopted, 0);
            // Whatever peer there was is of no interest any more.
            while world.dialed().is_some() {}
            assert_serves(world);
        },
    );
}

#[test]
fn every_callback_can_adopt_and_a_panic_does_not_lose_the_connection() {
    let hooks = Hooks {
        on_data: |probe, cx, _, data| {
            if let Some(socket) = probe.socket.take() {
                let id = probe.adopt(cx, socket).expect("there is room");
                probe.target = Some(id);
                probe.panic();
            }
            probe.input.extend_from_slice(data);
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let (peer, first) = super::connect(world);
            let socket = world.adoptable();
            world.act(|probe, _| probe.socket = Some(socket));
            world.write_all(peer, b"now");
            assert_eq!(wait_closed(world, first), CloseReason::HandlerPanicked);
            world.close(peer);
            let second = world.handler().target.expect("it was adopted");
            wait(world, "on_open", |world| world.handler().opened.contains(&second));
            let far = answer(world);
            world.write_all(far, b"hello");
            wait(world, "the bytes", |world| world.handler().input == b"hello");
            leave(world, far, second);
        },
    );
}

#[test]
fn what_cannot_be_adopted_comes_back() {
    on_every_kernel_with(
        base().connections_per_worker(1),
        || Probe::new(Hooks::ECHO),
        |world| {
            let file: OwnedFd = File::open("/dev/null").expect("a device").into();
            let datagrams: OwnedFd = UdpSocket::bind("127.0.0.1:0").expect("a socket").into();
            let listener: OwnedFd = TcpListener::bind("127.0.0.1:0").expect("a socket").into();
            let (whole, good) = (world.adoptable(), world.adoptable());
            let numbers = [&file, &datagrams, &listener, &whole].map(AsRawFd::as_raw_fd);
            world.act(|probe, cx| {
                let refused = [
                    probe.adopt(cx, file).expect_err("no socket"),
                    probe.adopt(cx, datagrams).expect_err("no stream"),
                    probe.adopt(cx, listener).expect_err("not connected"),
                ];
                assert!(matches!(refused[0].0, AdoptError::NotStream), "{:?}", refused[0]);
                assert!(matches!(refused[1].0, AdoptError::NotStream), "{:?}", refused[1]);
                assert!(matches!(refused[2].0, AdoptError::NotConnected { .. }), "{:?}", refused[2]);
                probe.adopt(cx, good).expect("there is room for one");
                let full = probe.adopt(cx, whole).expect_err("and for no more");
                assert!(matches!(full.0, AdoptError::Full { limit: 1 }));
                let back = refused.iter().chain([&full]).map(|(_, socket)| socket.as_raw_fd());
                assert!(back.eq(numbers), "each socket comes back");
            });
            world.shut_down(super::ms(10_000));
            let late = world.adoptable();
            world.act(|probe, cx| {
                let (error, _) = probe.adopt(cx, late).expect_err("the end has begun");
                assert!(matches!(error, AdoptError::ShuttingDown));
            });
        },
    );
}
