//! Datagrams: what arrives is presented once, what is accepted is accounted for once, and a socket ends
//! once.
//!
//! A network loses, doubles and reorders datagrams, so these scenarios send again until an answer is
//! there, and count instead of expecting an order.

use super::desk::{Desk, ECHO, KEEP, OnDatagram, TWICE, address, ask, finish, on_every_kernel, wait};
use super::{ms, pattern};
use ringline_core::testing::{Fault, Faults, World};
use ringline_core::{BindError, Config, TimerKey, UdpClosed, UdpOptions, UdpSendError};
use std::net::{Ipv4Addr, SocketAddr};

#[test]
fn datagrams_of_all_sizes_come_back_from_where_they_went() {
    on_every_kernel(
        || Desk::new(ECHO),
        |world| {
            let to = address(world);
            for (salt, len) in [0, 1, 2, 100, 1400, 2000].into_iter().enumerate() {
                assert_eq!(ask(world, to, &pattern(salt as u64, len)), to);
            }
            if !world.handler().kernel.is_faulty() {
                assert_eq!(ask(world, to, &pattern(9, 65_507)), to);
            }
        },
    );
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    for answer in [ECHO, TWICE] {
        assert_answers_come_from_where_was_asked(answer);
    }
}

fn assert_answers_come_from_where_was_asked(answer: OnDatagram) {
    on_every_kernel(
        || {
            let mut desk = Desk::new(answer);
            desk.options = None;
            desk
        },
        |world| {
            let any = (Ipv4Addr::UNSPECIFIED, 0).into();
            let port = world.act(|desk, cx| {
                let socket = cx.bind_udp(any, &UdpOptions::default()).expect("a socket");
                desk.sockets.push(socket);
                cx.udp_local_addr(socket).expect("it has just been bound").port()
            });
            // The simulated host has one address, the real one a network of them.
            let is_simulated = world.handler().kernel.is_simulated();
            let ip = if is_simulated { Ipv4Addr::new(10, 0, 0, 1) } else { Ipv4Addr::new(127, 0, 0, 9) };
            let to = SocketAddr::from((ip, port));
            assert_eq!(ask(world, to, b"who are you?"), to);
        },
    );
}

#[test]
fn many_peers_get_their_own() {
    on_every_kernel(
        || Desk::new(ECHO),
        |world| {
            let to = address(world);
            let peers: Vec<_> = (0..20).map(|_| world.udp_peer()).collect();
            let messages: Vec<_> = (0..20).map(|salt| pattern(salt, 50 + salt as usize)).collect();
            let mut answered = vec![false; peers.len()];
            let mut step = 0;
            wait(world, "all are answered", |world| {
                for (at, peer) in peers.iter().enumerate() {
                    if step % 8 == 0 && !answered[at] {
                        world.udp_send(*peer, to, &messages[at]);
                    }
                    while let Some((_, answer)) = world.udp_receive(*peer) {
                        assert_eq!(answer, messages[at]);
                        answered[at] = true;
                    }
                }
                step += 1;
                answered.iter().all(|answered| *answered)
            });
        },
    );
}

#[test]
fn a_socket_can_be_bound_and_closed_in_any_callback() {
    on_every_kernel(
        || {
            let mut desk = Desk::new(|desk, cx, socket, datagram| {
                let _ = desk.count(1, cx.reply(socket, &datagram, datagram.data()));
                cx.close_udp(socket);
                cx.close_udp(socket);
                assert_eq!(cx.reply(socket, &datagram, b"late"), Err(UdpSendError::Closing));
            });
            desk.options = None;
            desk.on_timer = |desk, cx| {
                desk.bind(cx, &UdpOptions::default()).expect("a socket");
            };
            desk
        },
        |world| {
            for round in 0..3 {
                world.act(|_, cx| cx.set_timer(ms(1), TimerKey(0)));
                wait(world, "it is bound", |world| world.handler().sockets.len() > round);
                let to = world
                    .act(|desk, cx| cx.udp_local_addr(desk.sockets[round]))
                    .expect("the socket is there");
                let peer = world.udp_peer();
                wait(world, "it has closed", |world| {
                    world.udp_send(peer, to, b"one");
                    world.handler().closed.len() > round
                });
                let socket = world.handler().sockets[round];
                assert_eq!(world.handler().closed[&socket], UdpClosed::Closed);
                assert_eq!(world.handler().shown[&socket], 1, "nothing is shown behind the close");
                assert_eq!(world.act(|_, cx| cx.udp_local_addr(socket)), None);
            }
        },
    );
}

#[test]
fn a_full_queue_refuses_and_what_was_accepted_is_accounted_for() {
    on_every_kernel(
        || Desk::new(ECHO).with(UdpOptions::default().queue_datagrams(10).queue_bytes(1000)),
        |world| {
            let peer = world.udp_peer();
            let to = world.udp_peer_addr(peer);
            for (len, fits) in [(1, 10), (300, 3), (0, 10)] {
                world.act(|desk, cx| {
                    let socket = desk.sockets[0];
                    for at in 0..20 {
                        let sent = cx.send_to(socket, to, &vec![7; len]);
                        let sent = desk.count(1, sent);
                        assert_eq!(sent.is_ok(), at < fits, "{sent:?}");
                    }
                    assert_eq!(cx.udp_pending(socket), Some((fits, fits * len)));
                });
                wait(world, "all have left", |world| {
                    world.act(|desk, cx| cx.udp_pending(desk.sockets[0])) == Some((0, 0))
                });
            }
            let failed = world.metrics().udp_sends_failed;
            assert_eq!(world.handler().errors.len() as u64, failed, "each failure is reported");
        },
    );
}

#[test]
fn bad_sends_have_errors_of_their_own() {
    on_every_kernel(
        || Desk::new(ECHO),
        |world| {
            let to: SocketAddr = ([127, 0, 0, 1], 9).into();
            world.act(|desk, cx| {
                let socket = desk.sockets[0];
                let long = vec![0; 65_508];
                let too_long = Err(UdpSendError::TooLong { bytes: 65_508, limit: 65_507 });
                assert_eq!(cx.send_to(socket, to, &long), too_long);
                assert_eq!(cx.send_datagram(socket, b"x"), Err(UdpSendError::NotConnected));
                let far: SocketAddr = "[2001:db8::1]:9".parse().unwrap();
                assert_eq!(cx.send_to(socket, far, b"x"), Err(UdpSendError::WrongFamily { to: far }));
                for (size, len, segments) in [(0, 10, 0), (1, 65, 65), (10, 0, 0), (100, 6401, 65)] {
                    let bad = UdpSendError::BadSegments { bytes: len, segment_bytes: size, segments };
                    assert_eq!(cx.send_segments(socket, Some(to), size, &vec![0; len]), Err(bad));
                }
                let guard = cx.send_guard_to(socket, Some(to), long).unwrap_err();
                assert_eq!((guard.guard.len(), Err(guard.error)), (65_508, too_long));
            });
        },
    );
}

#[test]
fn a_paused_socket_shows_nothing_and_then_everything() {
    on_every_kernel(
        || {
            Desk::new(|desk, cx, socket, datagram| {
                desk.seen.push(datagram.data().to_vec());
                if datagram.data() == [0] {
                    // The rest of what has come with it is kept.
                    cx.pause_udp(socket);
                }
            })
        },
        |world| {
            let to = address(world);
            let peer = world.udp_peer();
            for at in 0..20_u8 {
                world.udp_send(peer, to, &[at]);
            }
            let lossy = [Fault::DatagramLost, Fault::DatagramDoubled, Fault::DatagramOvertakes];
            let is_whole = |world: &World<Desk>| lossy.iter().all(|&fault| world.struck(fault) == 0);
            if is_whole(world) {
                wait(world, "the first is shown", |world| !world.handler().seen.is_empty());
                assert_eq!(world.handler().seen, [[0]]);
            }
            world.act(|desk, cx| cx.pause_udp(desk.sockets[0]));
            let before = world.handler().seen.len();
            world.sleep(ms(20));
            assert_eq!(world.handler().seen.len(), before, "nothing is shown during the pause");
            for at in 20..30_u8 {
                world.udp_send(peer, to, &[at]);
            }
            world.sleep(ms(20));
            assert_eq!(world.handler().seen.len(), before);
            world.act(|desk, cx| cx.resume_udp(desk.sockets[0]));
            if is_whole(world) {
                wait(world, "everything is shown", |world| world.handler().seen.len() == 30);
                let seen = &world.handler().seen;
                assert!(seen.iter().map(|bytes| bytes[0]).eq(0..30), "in the order of arrival: {seen:?}");
            }
            world.act(|desk, _| desk.on_datagram = ECHO);
            ask(world, to, b"it goes on");
        },
    );
}

#[test]
fn a_connected_socket_hears_its_peer_alone_and_that_nobody_is_there() {
    on_every_kernel(
        || Desk::new(KEEP),
        |world| {
            let (friend, stranger) = (world.udp_peer(), world.udp_peer());
            let addr = world.udp_peer_addr(friend);
            let nobody: SocketAddr = ([127, 0, 0, 1], 1).into();
            world.act(|desk, cx| {
                let socket = cx.connect_udp(addr, &UdpOptions::default()).expect("a socket");
                desk.sockets.push(socket);
                let socket = cx.connect_udp(nobody, &UdpOptions::default()).expect("a socket");
                desk.sockets.push(socket);
            });
            let mut to = world.act(|desk, cx| cx.udp_local_addr(desk.sockets[1])).expect("it is there");
            if to.ip().is_unspecified() {
                to.set_ip(Ipv4Addr::LOCALHOST.into());
            }
            wait(world, "the friend is heard", |world| {
                world.udp_send(stranger, to, b"stranger");
                world.udp_send(friend, to, b"friend");
                !world.handler().seen.is_empty()
            });
            assert!(world.handler().seen.iter().all(|bytes| bytes == b"friend"));
            wait(world, "the friend is answered", |world| {
                world.act(|desk, cx| {
                    let sent = cx.send_datagram(desk.sockets[1], b"answer");
                    let _ = desk.count(1, sent);
                });
                world.udp_receive(friend).is_some_and(|(_, bytes)| bytes == b"answer")
            });
            wait(world, "a refusal", |world| {
                world.act(|desk, cx| {
                    let sent = cx.send_datagram(desk.sockets[2], b"anybody?");
                    let _ = desk.count(1, sent);
                });
                world.handler().errors.iter().any(|error| error.is_refused())
            });
            assert!(!world.handler().closed.contains_key(&world.handler().sockets[2]), "it goes on");
        },
    );
}

#[test]
fn a_panic_costs_a_datagram_and_no_more() {
    on_every_kernel(
        || {
            Desk::new(|desk, cx, socket, datagram| {
                if datagram.data() == b"panic" {
                    desk.panics += 1;
                    std::panic::resume_unwind(Box::new("on purpose"));
                }
                ECHO(desk, cx, socket, datagram);
            })
        },
        |world| {
            let to = address(world);
            let peer = world.udp_peer();
            wait(world, "a panic", |world| {
                world.udp_send(peer, to, b"panic");
                world.handler().panics > 0
            });
            ask(world, to, b"it goes on");
        },
    );
}

#[test]
fn guards_and_runs_of_datagrams_arrive_as_they_were() {
    on_every_kernel(
        || Desk::new(KEEP),
        |world| {
            let peer = world.udp_peer();
            let to = world.udp_peer_addr(peer);
            let (whole, run) = (pattern(1, 1000), pattern(2, 1050));
            let mut left: Vec<Vec<u8>> = run.chunks(100).map(<[u8]>::to_vec).collect();
            left.push(whole.clone());
            wait(world, "everything is there", |world| {
                world.act(|desk, cx| {
                    let socket = desk.sockets[0];
                    let sent = cx.send_segments(socket, Some(to), 100, &run);
                    let _ = desk.count(11, sent);
                    let guard = desk.owners.lend(whole.clone());
                    let sent = cx.send_guard_to(socket, Some(to), guard).map_err(|back| back.error);
                    let _ = desk.count(1, sent);
                });
                while let Some((_, bytes)) = world.udp_receive(peer) {
                    left.retain(|expected| *expected != bytes);
                }
                left.is_empty()
            });
        },
    );
}

/// More than any buffer of a socket holds.
const FLOOD: u64 = 3000;

#[test]
fn what_the_kernel_drops_behind_the_last_one_that_is_received_is_counted() {
    on_every_kernel(
        || Desk::new(KEEP).with(UdpOptions::default().receive_buffer_bytes(4096)),
        |world| {
            let to = address(world);
            let peer = world.udp_peer();
            world.act(|desk, cx| cx.pause_udp(desk.sockets[0]));
            world.sleep(ms(20));
            for _ in 0..FLOOD {
                world.udp_send(peer, to, &[7; 1000]);
            }
            world.act(|desk, cx| cx.close_udp(desk.sockets[0]));
            wait(world, "it has closed", |world| !world.handler().closed.is_empty());
            let dropped = world.metrics().udp_dropped_by_kernel;
            assert!(dropped > FLOOD / 10, "{dropped} of {FLOOD} are said to be dropped");
        },
    );
}

/// The simulated kernel stops a program that closes a socket on which something is under way.
#[test]
fn a_socket_stays_until_its_receive_has_come_home() {
    for fault in [Fault::CancelFirst, Fault::CancelMisses] {
        let faults = Faults::none().with(fault, 1000);
        let mut world = World::simulated(&Config::default(), 1, faults, Desk::new(KEEP));
        let socket = world.handler().sockets[0];
        let peer = world.udp_peer();
        let to = address(&mut world);
        world.udp_send(peer, to, b"one");
        wait(&mut world, "it receives", |world| world.handler().shown.get(&socket) == Some(&1));
        world.act(|_, cx| cx.close_udp(socket));
        wait(&mut world, "it has closed", |world| world.handler().closed.contains_key(&socket));
        assert!(world.struck(fault) > 0, "{fault:?}");
        finish(world);
    }
}

#[test]
fn runs_that_the_kernel_cannot_cut_are_sent_one_by_one() {
    let config = Config::default();
    let options = UdpOptions::default().coalesce(true);
    let faults = Faults::none().with(Fault::RunRefused, 1000);
    let mut world = World::simulated(&config, 1, faults, Desk::new(KEEP).with(options));
    let peer = world.udp_peer();
    let to = world.udp_peer_addr(peer);
    let run = pattern(2, 1050);
    for round in 0..3 {
        world.act(|desk, cx| {
            let socket = desk.sockets[0];
            let sent = cx.send_segments(socket, Some(to), 100, &run);
            let _ = desk.count(11, sent);
            for at in 0..5_u8 {
                let sent = cx.send_to(socket, to, &[at; 20]);
                let _ = desk.count(1, sent);
            }
            assert_eq!(cx.udp_pending(socket), Some((16, 1150)));
            if round == 2 {
                cx.close_udp(socket);
            }
        });
        let mut arrived = Vec::new();
        wait(&mut world, "everything is there", |world| {
            while let Some((_, bytes)) = world.udp_receive(peer) {
                arrived.push(bytes);
            }
            arrived.len() == 16
        });
        let sent = run.chunks(100).map(<[u8]>::to_vec).chain((0..5).map(|at| vec![at; 20]));
        assert_eq!(arrived.iter().filter(|one| sent.clone().any(|other| other == **one)).count(), 16);
    }
    let counts = world.metrics();
    assert_eq!((counts.udp_sent, counts.udp_sends_failed, counts.udp_bytes_sent), (48, 0, 3450));
    // Only those that were under way before the first came back were refused; later ones are cut before.
    assert_eq!((world.struck(Fault::RunRefused), counts.udp_runs_cut), (2, 4));
    assert!(world.handler().errors.is_empty(), "the handler has no part in it");
    finish(world);
}

#[test]
fn datagrams_that_are_put_together_arrive_one_by_one() {
    on_every_kernel(
        || Desk::new(KEEP).with(UdpOptions::default().coalesce(true)),
        |world| {
            let peers = [world.udp_peer(), world.udp_peer()];
            let to = peers.map(|peer| world.udp_peer_addr(peer));
            let sizes = [50, 50, 50, 20, 50, 60, 60, 0, 60, 2000, 2000];
            let messages: Vec<_> = (0..).zip(sizes).map(|(salt, len)| pattern(salt, len)).collect();
            let mut left = [messages.clone(), messages.clone()];
            wait(world, "everything is there", |world| {
                world.act(|desk, cx| {
                    for (to, message) in to.iter().flat_map(|to| messages.iter().map(move |it| (to, it))) {
                        let sent = cx.send_to(desk.sockets[0], *to, message);
                        let _ = desk.count(1, sent);
                    }
                });
                for (peer, left) in peers.iter().zip(&mut left) {
                    while let Some((_, bytes)) = world.udp_receive(*peer) {
                        assert!(messages.contains(&bytes), "{} bytes that nobody sent", bytes.len());
                        left.retain(|expected| *expected != bytes);
                    }
                }
                left.iter().all(Vec::is_empty)
            });
        },
    );
}

#[test]
fn a_shutdown_sends_what_is_queued_and_ends_every_socket() {
    on_every_kernel(
        || Desk::new(ECHO),
        |world| {
            let peer = world.udp_peer();
            let to = world.udp_peer_addr(peer);
            world.act(|desk, cx| {
                desk.bind(cx, &UdpOptions::default()).expect("a socket");
                for _ in 0..100 {
                    let sent = cx.send_to(desk.sockets[1], to, b"farewell");
                    let _ = desk.count(1, sent);
                }
                cx.pause_udp(desk.sockets[0]);
            });
            world.shut_down(ms(60_000));
            wait(world, "the end", |world| world.is_done());
            let counts = world.metrics();
            assert_eq!(counts.udp_sent + counts.udp_sends_failed, 100);
            assert!(world.handler().closed.values().all(|reason| *reason == UdpClosed::Shutdown));
            let refused = world.act(|_, cx| cx.bind_udp(to, &UdpOptions::default()));
            assert!(matches!(refused, Err(BindError::ShuttingDown { .. })));
        },
    );
}
