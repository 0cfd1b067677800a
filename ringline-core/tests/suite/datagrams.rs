//! Datagrams: what arrives is presented once, what is accepted is accounted for once, and a socket ends
//! once.
//!
//! A network loses, doubles and reorders datagrams, so these scenarios send again until an answer is
//! there, and count instead of expecting an order.

use super::tracked::Owners;
use super::{Kernel, ms, pattern};
use ringline_core::testing::{Fault, Faults, World};
use ringline_core::{
    Admit, BindError, Config, ConnId, Consumed, Ctx, Datagram, EventHandler, Peer, TimerKey, UdpClosed,
    UdpError, UdpId, UdpOptions, UdpSendError,
};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

type Cx<'a> = Ctx<'a, Desk>;
type OnDatagram = fn(&mut Desk, &mut Cx<'_>, UdpId, Datagram<'_>);

/// The handler under test: does what a scenario says, and watches over the promises.
struct Desk {
    kernel: Kernel,
    on_datagram: OnDatagram,
    on_timer: fn(&mut Desk, &mut Cx<'_>),
    /// What is bound in `on_start`.
    options: Option<UdpOptions>,
    sockets: Vec<UdpId>,
    /// How many datagrams each socket was shown.
    shown: BTreeMap<UdpId, usize>,
    seen: Vec<Vec<u8>>,
    errors: Vec<UdpError>,
    closed: BTreeMap<UdpId, UdpClosed>,
    accepted: u64,
    rejected: u64,
    panics: u64,
    owners: Owners,
    complaints: Vec<String>,
}

impl Desk {
    fn new(on_datagram: OnDatagram) -> Self {
        Self {
            kernel: Kernel::Simulated,
            on_datagram,
            on_timer: |_, _| {},
            options: Some(UdpOptions::default()),
            sockets: Vec::new(),
            shown: BTreeMap::new(),
            seen: Vec::new(),
            errors: Vec::new(),
            closed: BTreeMap::new(),
            accepted: 0,
            rejected: 0,
            panics: 0,
            owners: Owners::default(),
            complaints: Vec::new(),
        }
    }

    fn with(mut self, options: UdpOptions) -> Self {
        self.options = Some(options);
        self
    }

    fn bind(&mut self, cx: &mut Cx<'_>, options: &UdpOptions) -> Result<UdpId, BindError> {
        let socket = cx.bind_udp((Ipv4Addr::LOCALHOST, 0).into(), options)?;
        self.sockets.push(socket);
        Ok(socket)
    }

    fn count(&mut self, datagrams: u64, sent: Result<(), UdpSendError>) -> Result<(), UdpSendError> {
        match sent {
            Ok(()) => self.accepted += datagrams,
            Err(UdpSendError::Full { .. }) => self.rejected += datagrams,
            Err(_) => {}
        }
        sent
    }

    fn watch(&mut self, socket: UdpId, what: &str) {
        if self.closed.contains_key(&socket) {
            self.complaints.push(format!("{what} after on_udp_close of {socket}"));
        }
    }
}

const ECHO: OnDatagram = |desk, cx, socket, datagram| {
    let sent = cx.reply(socket, &datagram, datagram.data());
    let _ = desk.count(1, sent);
};

const KEEP: OnDatagram = |desk, _, _, datagram| desk.seen.push(datagram.data().to_vec());

impl EventHandler for Desk {
    type Conn = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Cx<'_>) {
        if let Some(options) = self.options.clone() {
            self.bind(cx, &options).expect("a socket");
        }
    }

    fn on_accept(&mut self, _: &mut Cx<'_>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Refuse
    }

    fn on_data(&mut self, _: &mut Cx<'_>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_datagram(&mut self, cx: &mut Cx<'_>, socket: UdpId, datagram: Datagram<'_>) {
        self.watch(socket, "on_datagram");
        *self.shown.entry(socket).or_default() += 1;
        (self.on_datagram)(self, cx, socket, datagram);
    }

    fn on_udp_error(&mut self, _: &mut Cx<'_>, socket: UdpId, error: UdpError) {
        self.watch(socket, "on_udp_error");
        self.errors.push(error);
    }

    fn on_udp_close(&mut self, cx: &mut Cx<'_>, socket: UdpId, reason: UdpClosed) {
        self.watch(socket, "on_udp_close");
        self.closed.insert(socket, reason);
        if cx.send_to(socket, ([127, 0, 0, 1], 9).into(), b"x") != Err(UdpSendError::Gone) {
            self.complaints.push(format!("{socket} takes sends after its end"));
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, _: TimerKey) {
        (self.on_timer)(self, cx);
    }
}

fn world(kernel: Kernel, config: &Config, mut desk: Desk) -> World<Desk> {
    desk.kernel = kernel;
    match kernel {
        Kernel::Simulated | Kernel::SimulatedUnix => World::simulated(config, 1, Faults::none(), desk),
        Kernel::Faulty { seed } => World::simulated(config, seed, kernel.faults(), desk),
        Kernel::Real | Kernel::Unix => World::loopback(config, desk).expect("a ring"),
        Kernel::Old => World::loopback_as_on_old_kernels(config, desk).expect("a ring"),
    }
}

/// Plays a scenario on every kernel, and then checks what must always hold.
fn on_every_kernel(make: impl Fn() -> Desk, scenario: impl Fn(&mut World<Desk>)) {
    let config = Config::builder().linger(ms(40)).build().expect("the configuration is valid");
    for kernel in Kernel::all().into_iter().filter(|kernel| !kernel.is_unix()) {
        eprintln!("{kernel:?}");
        let mut world = world(kernel, &config, make());
        scenario(&mut world);
        finish(world);
    }
}

/// Every datagram is accounted for, every socket ended once, every guard was dropped.
fn finish(mut world: World<Desk>) {
    world.shut_down(ms(60_000));
    wait(&mut world, "the end", |world| world.is_done());
    let counts = world.metrics();
    let desk = world.finish();
    assert_eq!(desk.complaints, [""; 0], "broken promises");
    let settled = counts.udp_sent + counts.udp_sends_failed + counts.udp_sends_dropped;
    assert_eq!(settled, desk.accepted + desk.rejected, "every datagram is accounted for once");
    for socket in &desk.sockets {
        assert!(desk.closed.contains_key(socket), "{socket} has ended");
    }
    assert_eq!(desk.closed.len(), desk.sockets.len());
    assert_eq!(counts.handler_panics, desk.panics);
    assert!(desk.owners.alive() == 0 && desk.owners.are_untouched(), "every guard was dropped as it was");
}

fn wait(world: &mut World<Desk>, what: &str, mut condition: impl FnMut(&mut World<Desk>) -> bool) {
    for _ in 0..20_000 {
        if condition(world) {
            return;
        }
        world.sleep(ms(1));
    }
    panic!("this never happens: {what}");
}

fn address(world: &mut World<Desk>) -> SocketAddr {
    world.act(|desk, cx| cx.udp_local_addr(desk.sockets[0])).expect("the socket is there")
}

/// Sends until an answer that equals the question is there.
fn ask(world: &mut World<Desk>, to: SocketAddr, bytes: &[u8]) -> SocketAddr {
    let peer = world.udp_peer();
    let mut from = None;
    let mut step = 0;
    wait(world, "an answer", |world| {
        if step % 8 == 0 {
            world.udp_send(peer, to, bytes);
        }
        step += 1;
        while let Some((sender, answer)) = world.udp_receive(peer) {
            super::assert_same(&answer, bytes);
            from = Some(sender);
        }
        from.is_some()
    });
    from.expect("it has just been there")
}

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
        || Desk::new(KEEP),
        |world| {
            let to = address(world);
            let peer = world.udp_peer();
            // What has arrived before the pause is known to the kernel is kept.
            for at in 0..20_u8 {
                world.udp_send(peer, to, &[at]);
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
            let lossy = [Fault::DatagramLost, Fault::DatagramDoubled, Fault::DatagramOvertakes];
            if lossy.iter().all(|&fault| world.struck(fault) == 0) {
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
