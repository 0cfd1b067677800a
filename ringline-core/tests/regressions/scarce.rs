//! Peers that do not read, and what they keep from others, from the bytes behind them, and for ever.

use super::tracked::Owners;
use ringline_core::testing::{Faults, PeerId, World};
use ringline_core::{Admit, Config, ConnId, Consumed, Ctx, EventHandler, Peer};
use std::time::Duration;

/// Forwards what each connection says to the one that was accepted after it; the last one's is dropped.
#[derive(Default)]
struct Relay {
    opened: Vec<ConnId>,
}

impl EventHandler for Relay {
    type Conn = usize;
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, _: &Peer) -> Admit<usize> {
        self.opened.push(id);
        Admit::Accept(self.opened.len())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, _: ConnId, next: &mut usize, data: &[u8]) -> Consumed {
        if let Some(&next) = self.opened.get(*next) {
            cx.forward(next, data).expect("there is room");
        }
        Consumed::all(data)
    }
}

fn connect(world: &mut World<Relay>) -> PeerId {
    let count = world.handler().opened.len();
    let peer = world.connect();
    assert!(world.run_until(|world| world.handler().opened.len() > count));
    peer
}

#[test]
fn peers_that_do_not_read_leave_receive_buffers_to_the_others() {
    const BYTES: usize = 3000;
    let mut faults = Faults::none();
    faults.receive_buffers = 4;
    faults.send_buffer_bytes = 1000;
    let config = Config::builder().build().expect("a valid configuration");
    let mut world = World::simulated(&config, 1, faults, Relay::default());
    let peers: Vec<_> = (0..6).map(|_| connect(&mut world)).collect();
    for pair in peers.chunks(2) {
        assert_eq!(world.write(pair[0], &[7; BYTES]), BYTES);
        world.sleep(Duration::from_millis(5));
    }
    let metrics = world.metrics();
    assert_eq!(metrics.forwards_held, 2, "as long as half of the buffers were left");
    assert_eq!(metrics.buffers_held, 2, "the third would have been one too many, and was copied");
    for pair in peers.chunks(2) {
        assert_eq!(world.read_exactly(pair[1], BYTES), [7; BYTES]);
    }
    world.sleep(Duration::from_millis(5));
    assert_eq!(world.metrics().buffers_held, 0);
    world.finish();
}

#[test]
fn what_a_full_socket_does_not_take_at_once_is_not_looked_for_in_the_stage_later() {
    const CHUNK: usize = 4096;
    const CHUNKS: usize = 4000;
    let config = Config::builder().outbox_bytes(64 << 20).build().expect("a valid configuration");
    let mut world = World::loopback(&config, Relay::default()).expect("a ring and a listener");
    let peer = connect(&mut world);
    let id = world.handler().opened[0];
    let chunk = |at: usize| [at as u8, (at >> 8) as u8].repeat(CHUNK / 2);
    // Each turn fills the stage anew, for much longer than the socket has room.
    for at in 0..CHUNKS {
        world.act(|_, cx| cx.send(id, &chunk(at))).expect("there is room");
        world.act(|_, cx| cx.set_timer(Duration::ZERO, ringline_core::TimerKey(0)));
        world.turn();
    }
    for at in 0..CHUNKS {
        assert!(world.read_exactly(peer, CHUNK) == chunk(at), "chunk {at}");
    }
    world.finish();
}

/// Sends one guard to whoever connects.
struct Lender {
    owners: Owners,
    opened: bool,
}

impl EventHandler for Lender {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut ()) {
        self.opened = true;
        cx.send_guard(id, self.owners.lend(vec![7; 900])).expect("there is room");
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }
}

#[test]
fn a_notification_that_never_comes_is_not_waited_for_when_the_ring_goes() {
    let mut faults = Faults::none();
    faults.send_buffer_bytes = 1000;
    let config = Config::builder().zero_copy_threshold(1).build().expect("a valid configuration");
    let lender = Lender { owners: Owners::default(), opened: false };
    let owners = lender.owners.clone();
    let mut world = World::simulated(&config, 1, faults, lender);
    let _deaf = world.connect();
    assert!(world.run_until(|world| world.handler().opened && world.metrics().sends == 1));
    world.sleep(Duration::from_millis(50));
    assert_eq!((owners.made(), owners.alive()), (1, 1), "the send is over, and the kernel has its memory");
    drop(world);
    assert_eq!(owners.alive(), 0, "it went with the ring, once");
    assert!(owners.are_untouched());
}

/// Counts what each connection says.
#[derive(Default)]
struct Sink {
    heard: Vec<usize>,
}

impl EventHandler for Sink {
    type Conn = usize;
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<usize> {
        self.heard.push(0);
        Admit::Accept(self.heard.len() - 1)
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, at: &mut usize, data: &[u8]) -> Consumed {
        self.heard[*at] += data.len();
        Consumed::all(data)
    }
}

#[test]
fn peers_that_never_stop_leave_receive_buffers_to_the_others() {
    const PEERS: usize = 5;
    let config = Config::builder()
        .receive_buffers(2)
        .receive_buffer_bytes(4096)
        .build()
        .expect("a valid configuration");
    // Without incremental buffers, two buffers are two receives.
    let mut world = World::loopback_as_on_old_kernels(&config, Sink::default()).expect("a ring");
    let mut peers = Vec::new();
    for count in 1..=PEERS {
        peers.push(world.connect());
        assert!(world.run_until(|world| world.handler().heard.len() == count));
    }
    for _ in 0..1000 {
        for &peer in &peers {
            world.write(peer, &[7; 1 << 14]);
        }
        world.turn();
    }
    let heard = world.handler().heard.clone();
    assert!(world.metrics().buffers_empty > 50, "buffers were short");
    let (least, most) = (heard.iter().min().copied(), heard.iter().max().copied());
    assert!(least.zip(most).is_some_and(|(least, most)| least > most / 4), "{heard:?}");
    for peer in peers {
        world.reset(peer);
    }
    world.shut_down(Duration::from_secs(5));
    assert!(world.run_until(|world| world.is_done()));
}
