//! Layers that are put on connections which were open before.

use super::far::Far;
use super::probe::{Event, Hooks, Probe, Take};
use super::{Kernel, base, ms, pace, wait, wait_closed};
use ringline_core::layer::{Layer, LayerError};
use ringline_core::testing::{PeerId, Veil, World};
use ringline_core::{CloseReason, ConfigBuilder, Limit, NotSecured, SecureError};

/// Upgrades at the word `GO\n`, of which it consumes no more, and echoes otherwise.
const UPGRADES: Hooks = Hooks {
    on_data: |probe, cx, id, data| {
        if data.len() < 3 && b"GO\n".starts_with(data) {
            return Take::none();
        }
        if !data.starts_with(b"GO\n") {
            probe.send(cx, id, data);
            return Take::all(data);
        }
        probe.send(cx, id, b"OK\n");
        cx.secure(id, Box::new(Veil::server())).expect("it is open and plain");
        let again = cx.secure(id, Box::new(Veil::server()));
        assert!(matches!(again, Err(NotSecured { error: SecureError::Layered, .. })));
        assert!(probe.send(cx, id, b"too early").is_none(), "nothing goes out before the layer is ready");
        Take::bytes(3)
    },
    ..Hooks::SINK
};

/// Plays a scenario with plain listeners.
fn on_plain_kernels(scenario: impl Fn(&mut World<Probe>)) {
    on_plain_kernels_with(base(), UPGRADES, scenario);
}

fn on_plain_kernels_with(config: ConfigBuilder, hooks: Hooks, scenario: impl Fn(&mut World<Probe>)) {
    let config = config.build().expect("the configuration is valid");
    for kernel in Kernel::all() {
        let mut probe = Probe::new(hooks).on(kernel);
        probe.audit.is_layered = true;
        let mut world = kernel.world(&config, probe);
        scenario(&mut world);
        assert_eq!(world.metrics().handler_panics, 0);
        world.finish().check_finished();
    }
}

/// What a plain peer reads, while no deadline comes before its turn.
fn read(world: &mut World<Probe>, peer: PeerId, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    pace(world, "the bytes arrive", |world| {
        bytes.extend(world.read(peer, count - bytes.len()));
        bytes.len() == count
    });
    bytes
}

#[test]
fn a_plain_connection_can_be_secured_and_goes_on() {
    on_plain_kernels(|world| {
        let peer = world.connect();
        world.write_all(peer, b"plain");
        assert_eq!(world.read_exactly(peer, 5), b"plain");
        let id = world.handler().opened[0];
        // The layer's first words come along with the request, and some of them later.
        let mut far = Far::on(peer, Veil::client());
        let hello = std::mem::take(&mut far.out);
        world.write_all(peer, &[b"GO\n", &hello[..3]].concat());
        assert_eq!(read(world, peer, 3), b"OK\n");
        far.out = hello[3..].to_vec();
        far.until(world, "on_secured", |_, world| world.handler().secured == [id]);
        far.send(b"protected");
        assert_eq!(far.receive(world, 9), b"protected");
        far.leave(world, id);
        assert_eq!(world.metrics().handshakes, 1);
    });
}

#[test]
fn what_is_injected_before_the_layer_is_never_taken_for_protected() {
    on_plain_kernels(|world| {
        let peer = world.connect();
        world.write_all(peer, b"GO\nDELETE everything\n");
        wait(world, "on_close", |world| matches!(world.handler().log.last(), Some(Event::Close(..))));
        let id = world.handler().opened[0];
        assert_eq!(world.handler().reason(id), Some(CloseReason::LayerFailed(Veil::BROKEN)));
        assert_eq!(world.handler().secured, []);
    });
}

#[test]
fn who_asks_to_be_secured_and_falls_silent_or_leaves_is_closed() {
    let config = base().handshake_timeout(ms(30)).build().expect("the configuration is valid");
    for (kernel, leaves) in Kernel::all().into_iter().flat_map(|kernel| [(kernel, true), (kernel, false)]) {
        let mut probe = Probe::new(UPGRADES).on(kernel);
        probe.audit.is_layered = true;
        let mut world = kernel.world(&config, probe);
        let peer = world.connect();
        world.write_all(peer, b"GO\n");
        assert_eq!(read(&mut world, peer, 3), b"OK\n");
        if leaves {
            world.end(peer);
        }
        let id = world.handler().opened[0];
        let reason = wait_closed(&mut world, id);
        let expected = if leaves {
            CloseReason::LayerFailed(LayerError::ENDED)
        } else {
            CloseReason::LimitExceeded(Limit::Handshake)
        };
        assert_eq!(reason, expected, "{kernel:?}");
        world.finish().check_finished();
    }
}

#[test]
fn a_connection_that_is_secured_and_closed_at_once_says_nothing_more() {
    let hooks = Hooks {
        on_data: |probe, cx, id, data| {
            if data.len() < 10 {
                return Take::none();
            }
            probe.send(cx, id, b"OK\n");
            cx.secure(id, Box::new(Veil::server())).expect("it is open and plain");
            probe.close(cx, id);
            Take::bytes(3)
        },
        ..Hooks::SINK
    };
    on_plain_kernels_with(base(), hooks, |world| {
        let peer = world.connect();
        let far = Far::on(peer, Veil::client());
        world.write_all(peer, &[b"GO\n", &far.out[..]].concat());
        let mut got = Vec::new();
        pace(world, "the end", |world| {
            got.extend(world.read(peer, usize::MAX));
            world.saw_eof(peer)
        });
        assert_eq!(got, b"OK\n", "not a word of the layer");
        world.close(peer);
        let id = world.handler().opened[0];
        assert_eq!(wait_closed(world, id), CloseReason::Closed);
        assert_eq!(world.metrics().handshakes_active, 0);
    });
}

#[test]
fn a_pause_holds_back_what_comes_through_the_layer_and_not_the_layer() {
    let hooks = Hooks {
        on_data: |probe, cx, id, data| {
            if probe.secured.is_empty() {
                if data.len() < 3 {
                    return Take::none();
                }
                probe.send(cx, id, b"OK\n");
                probe.pause(cx, id);
                cx.secure(id, Box::new(Veil::server())).expect("it is open and plain");
                return Take::bytes(3);
            }
            probe.send(cx, id, data);
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_plain_kernels_with(base(), hooks, |world| {
        let peer = world.connect();
        world.write_all(peer, b"GO\n");
        assert_eq!(read(world, peer, 3), b"OK\n");
        let id = world.handler().opened[0];
        let mut far = Far::on(peer, Veil::client());
        far.until(world, "on_secured", |_, world| world.handler().secured == [id]);
        far.send(b"for later");
        for _ in 0..20 {
            far.pump(world);
            world.sleep(ms(1));
        }
        assert!(far.plain.is_empty());
        world.act(|probe, cx| probe.resume(cx, id));
        assert_eq!(far.receive(world, 9), b"for later");
        far.leave(world, id);
    });
}

#[test]
fn what_is_the_layers_does_not_count_as_unread() {
    // The inbox holds less than the layer's first words, and those come while reading is paused.
    let hooks = Hooks {
        on_open: |probe, cx, id| probe.pause(cx, id),
        on_data: |probe, cx, id, data| {
            if data.len() < 3 {
                return Take::none();
            }
            if probe.secured.is_empty() {
                if data.len() < 3 {
                    return Take::none();
                }
                cx.secure(id, Box::new(Veil::server())).expect("it is open and plain");
                return Take::bytes(3);
            }
            probe.send(cx, id, data);
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_plain_kernels_with(base().inbox_bytes(8), hooks, |world| {
        let peer = world.connect();
        wait(world, "on_open", |world| !world.handler().opened.is_empty());
        let id = world.handler().opened[0];
        let mut far = Far::on(peer, Veil::client());
        far.out.splice(0..0, *b"GO\n");
        far.flush(world);
        world.sleep(ms(5));
        world.act(|probe, cx| probe.resume(cx, id));
        far.until(world, "on_secured", |_, world| world.handler().secured == [id]);
        far.send(b"goes on");
        assert_eq!(far.receive(world, 7), b"goes on");
        far.leave(world, id);
    });
}

/// Many connections, each of which was just put a layer on.
fn crowd(world: &mut World<Probe>) -> Vec<Far> {
    let peers: Vec<_> = (0..12).map(|_| world.connect()).collect();
    pace(world, "all are open", |world| world.handler().opened.len() == peers.len());
    for peer in &peers {
        world.write_all(*peer, b"GO\n");
        assert_eq!(read(world, *peer, 3), b"OK\n");
    }
    peers.into_iter().map(|peer| Far::on(peer, Veil::client())).collect()
}

#[test]
fn many_that_leave_in_their_handshakes_have_failed_all_alike() {
    on_plain_kernels(|world| {
        let fars = crowd(world);
        for far in &fars {
            world.write_all(far.peer, &far.out);
        }
        for far in &fars {
            world.end(far.peer);
        }
        for id in world.handler().opened.clone() {
            assert_eq!(wait_closed(world, id), CloseReason::LayerFailed(LayerError::ENDED));
        }
        assert_eq!(world.handler().secured, []);
    });
}

#[test]
fn many_that_say_all_they_have_to_say_at_once_are_heard() {
    on_plain_kernels(|world| {
        let mut fars = crowd(world);
        for far in &mut fars {
            world.write_all(far.peer, &std::mem::take(&mut far.out));
        }
        for far in &mut fars {
            pace(world, "the answer", |world| {
                far.tail.extend(world.read(far.peer, usize::MAX));
                let through = far.veil.read(&mut far.tail, &mut far.plain, &mut far.out).expect("a veil");
                far.tail.drain(..through);
                !far.veil.is_handshaking()
            });
            far.send(b"everything");
            far.veil.close(&mut far.out);
        }
        for far in &fars {
            let written = world.write(far.peer, &far.out);
            world.write_all(far.peer, &far.out[written..]);
        }
        for far in &fars {
            world.end(far.peer);
        }
        for id in world.handler().opened.clone() {
            assert_eq!(wait_closed(world, id), CloseReason::PeerClosed { unread: 0 });
        }
        for far in &mut fars {
            assert_eq!(far.receive(world, 10), b"everything");
        }
    });
}
