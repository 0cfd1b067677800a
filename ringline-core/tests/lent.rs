//! Memory that the real kernel has: guards overwrite their bytes when they are dropped, so that one
//! dropped too early shows at the peer.

use ringline_core::testing::{PeerId, World};
use ringline_core::{
    Admit, Chain, CloseReason, Config, ConnId, Consumed, Ctx, Eof, EventHandler, Parts, Peer, SendGuard,
};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// What the bytes of a dropped guard become.
const DROPPED: u8 = 0xEE;
const MIB: usize = 1 << 20;

/// Bytes that are overwritten when the guard is dropped.
struct Scribbled {
    bytes: Vec<u8>,
    drops: Rc<Cell<u32>>,
}

// SAFETY: the bytes are on the heap, belong to the guard, and are written by its drop only.
#[allow(unsafe_code)]
unsafe impl SendGuard for Scribbled {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Scribbled {
    fn drop(&mut self) {
        self.bytes.fill(DROPPED);
        self.drops.set(self.drops.get() + 1);
    }
}

/// How many of `bytes` are this one.
fn count(bytes: &[u8], wanted: u8) -> usize {
    bytes.iter().map(|&byte| usize::from(byte == wanted)).sum()
}

/// What a new connection is sent.
#[derive(Clone, Copy, Debug)]
enum Gift {
    /// A chain whose first link is long and whose others are guards.
    LongChain,
    TwoLinks,
    Copy,
    Guard,
}

/// Sends a gift to whoever connects.
struct Giver {
    gift: Gift,
    drops: Rc<Cell<u32>>,
    guards: u32,
    open: Option<ConnId>,
    closed: Option<CloseReason>,
}

impl Giver {
    fn guard(&mut self, fill: u8, bytes: usize) -> Scribbled {
        self.guards += 1;
        Scribbled { bytes: vec![fill; bytes], drops: Rc::clone(&self.drops) }
    }
}

impl EventHandler for Giver {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut ()) {
        self.open = Some(id);
        let mut chain = Chain::new();
        match self.gift {
            Gift::LongChain => {
                let mut parts = Parts::new();
                for _ in 0..28 {
                    parts.guard(self.guard(1, MIB / 8)).expect("a part");
                }
                parts.guard(self.guard(2, 8 * MIB)).expect("a part");
                chain.parts(parts).expect("a link");
                for _ in 0..3 {
                    chain.guard(self.guard(3, MIB)).expect("a link");
                }
            }
            Gift::TwoLinks => {
                chain.guard(self.guard(1, 8 * MIB)).expect("a link");
                chain.guard(self.guard(2, 8 * MIB)).expect("a link");
            }
            Gift::Copy => {
                cx.send(id, &vec![4; 16 * MIB]).expect("a send");
                return;
            }
            Gift::Guard => {
                cx.send_guard(id, self.guard(5, 16 * MIB)).expect("a send");
                return;
            }
        }
        cx.send_chain(id, chain).expect("a chain");
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_eof(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), _: &[u8]) -> Eof {
        Eof::KeepWriting
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): (), reason: CloseReason) {
        self.closed = Some(reason);
    }
}

fn world(gift: Gift) -> World<Giver> {
    let config = Config::builder().outbox_bytes(64 * MIB).outbox_high_bytes(60 * MIB);
    let giver = Giver { gift, drops: Rc::default(), guards: 0, open: None, closed: None };
    World::loopback(&config.build().expect("a valid configuration"), giver).expect("a ring and a listener")
}

/// Connects a peer that does not read and waits until its socket is full.
fn connect(world: &mut World<Giver>) -> (PeerId, ConnId) {
    let peer = world.connect();
    assert!(world.run_until(|world| world.handler().open.is_some()));
    world.sleep(Duration::from_millis(40));
    (peer, world.handler().open.expect("it has opened"))
}

fn assert_guards_are_home(world: &World<Giver>) {
    assert_eq!(world.handler().drops.get(), world.handler().guards, "every guard is dropped once");
}

#[test]
fn guards_of_an_aborted_chain_are_not_dropped_under_the_kernels_eyes() {
    let mut world = world(Gift::LongChain);
    let (peer, id) = connect(&mut world);
    world.act(|_, cx| cx.abort(id));
    let mut received = Vec::new();
    assert!(world.run_until(|world| {
        received.extend(world.read(peer, MIB));
        world.handler().closed.is_some()
    }));
    for _ in 0..50 {
        received.extend(world.read(peer, MIB));
    }
    assert_eq!(world.handler().closed, Some(CloseReason::Aborted));
    let wrong = count(&received, DROPPED);
    assert_eq!(wrong, 0, "of {} bytes these come from guards that were dropped", received.len());
    assert_guards_are_home(&world);
    let _ = world.finish();
}

#[test]
fn a_chain_to_a_peer_that_has_ended_goes_on_and_stays_right() {
    let mut world = world(Gift::LongChain);
    let (peer, id) = connect(&mut world);
    world.end(peer);
    world.sleep(Duration::from_millis(40));
    let expected: usize = 28 * MIB / 8 + 8 * MIB + 3 * MIB;
    let mut received = Vec::new();
    assert!(world.run_until(|world| {
        received.extend(world.read(peer, MIB));
        received.len() == expected
    }));
    let counts = [1, 2, 3].map(|fill| count(&received, fill));
    assert_eq!(counts, [28 * MIB / 8, 8 * MIB, 3 * MIB]);
    assert!(received.is_sorted(), "in the order in which they were sent");
    world.act(|_, cx| cx.close(id));
    assert!(world.run_until(|world| world.handler().closed.is_some()));
    assert_guards_are_home(&world);
    let _ = world.finish();
}

#[test]
fn aborts_of_chains_leave_the_worker_as_it_was() {
    let mut world = world(Gift::LongChain);
    let peers: Vec<_> = (0..6)
        .map(|_| {
            let (peer, id) = connect(&mut world);
            world.act(|_, cx| cx.abort(id));
            assert!(world.run_until(|world| world.handler().closed.is_some()));
            world.act(|giver, _| {
                giver.open = None;
                giver.closed = None;
            });
            peer
        })
        .collect();
    assert_eq!(peers.len(), 6);
    assert_guards_are_home(&world);
    let _ = world.finish();
}

#[test]
fn a_send_that_a_cancel_does_not_find_is_called_back_all_the_same() {
    for gift in [Gift::TwoLinks, Gift::Copy, Gift::Guard] {
        let mut world = world(gift);
        let (peer, id) = connect(&mut world);
        world.end(peer);
        world.sleep(Duration::from_millis(40));
        world.act(|_, cx| cx.abort(id));
        let closed = world.run_until(|world| world.handler().closed.is_some());
        assert!(closed, "an aborted connection closes although its peer does not read: {gift:?}");
        assert_guards_are_home(&world);
        let _ = world.finish();
    }
}

#[test]
fn a_ring_that_goes_while_a_peer_keeps_memory_does_not_free_it() {
    let mut world = world(Gift::Guard);
    connect(&mut world);
    let drops = Rc::clone(&world.handler().drops);
    assert_eq!(drops.get(), 0, "the peer has not read everything");
    let begin = std::time::Instant::now();
    drop(world);
    assert!(begin.elapsed() < Duration::from_secs(10), "the teardown is bounded");
    assert_eq!(drops.get(), 0, "what the peer has not acknowledged is leaked, not freed");
}
