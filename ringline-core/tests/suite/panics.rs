//! A panic in a callback ends the connection it was for, if there is one, and nothing else.

use super::probe::{Event, Hooks, Probe, Take};
use super::{
    Cx, assert_serves, base, connect, events_of, exchange, leave, ms, on_every_kernel, on_every_kernel_with,
    pattern, wait, wait_closed, wait_over,
};
use ringline_core::testing::{PeerId, World};
use ringline_core::{CloseReason, ConnId};

/// Whether this connection is the one whose callbacks panic: the first.
fn is_victim(probe: &Probe, id: ConnId) -> bool {
    probe.opened[0] == id
}

/// Plays a scenario in which the first connection, once `provoke`d, ends by a panic, and checks
/// that it ends so and that others are served before and after.
fn only_the_victim_ends(hooks: Hooks, provoke: impl Fn(&mut World<Probe>, PeerId, ConnId)) {
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let (peer, id) = connect(world);
            let (other, other_id) = connect(world);
            provoke(world, peer, id);
            assert_eq!(wait_closed(world, id), CloseReason::HandlerPanicked);
            assert_eq!(world.metrics().closed_panicked, 1);
            wait_over(world, peer);
            world.close(peer);
            assert_eq!(exchange(world, other, b"still here", 10), b"still here");
            leave(world, other, other_id);
            assert_serves(world);
        },
    );
}

#[test]
fn in_on_open() {
    let hooks = Hooks {
        on_open: |probe, cx, id| {
            if is_victim(probe, id) {
                probe.send(cx, id, b"queued before the panic");
                probe.panic();
            }
        },
        ..Hooks::ECHO
    };
    only_the_victim_ends(hooks, |_, _, _| {});
}

#[test]
fn in_on_data() {
    let hooks = Hooks {
        on_data: |probe, cx, id, data| {
            probe.send(cx, id, data);
            if is_victim(probe, id) {
                probe.panic();
            }
            Take::all(data)
        },
        ..Hooks::SINK
    };
    only_the_victim_ends(hooks, |world, peer, _| world.write_all(peer, b"!"));
}

#[test]
fn in_on_data_with_unread_bytes_kept_from_before() {
    let hooks = Hooks {
        on_data: |probe, cx, id, data| {
            if !is_victim(probe, id) {
                return (Hooks::ECHO.on_data)(probe, cx, id, data);
            }
            if data.len() >= 2 {
                probe.panic();
            }
            Take::none()
        },
        ..Hooks::SINK
    };
    only_the_victim_ends(hooks, |world, peer, id| {
        world.write_all(peer, b"1");
        wait(world, "the first byte", |world| events_of(world, id).contains(&Event::Data(id, 1)));
        world.write_all(peer, b"2");
    });
}

#[test]
fn in_on_send_complete() {
    let hooks = Hooks {
        on_send_complete: |probe, _, id, _| {
            if is_victim(probe, id) {
                probe.panic();
            }
        },
        ..Hooks::ECHO
    };
    only_the_victim_ends(hooks, |world, peer, _| world.write_all(peer, b"!"));
}

#[test]
fn in_on_writable() {
    let hooks = Hooks {
        on_data: |probe, cx, id, data| {
            if !is_victim(probe, id) {
                return (Hooks::ECHO.on_data)(probe, cx, id, data);
            }
            let size = probe.kernel.size(300 << 10, 4 << 20);
            probe.send(cx, id, &pattern(1, size));
            Take::all(data)
        },
        on_writable: |probe, _, id| {
            if is_victim(probe, id) {
                probe.panic();
            }
        },
        ..Hooks::SINK
    };
    only_the_victim_ends(hooks, |world, peer, id| {
        world.write_all(peer, b"!");
        wait(world, "the outbox comes down", |world| {
            world.read(peer, 1 << 20);
            events_of(world, id).contains(&Event::Writable(id))
        });
    });
}

#[test]
fn in_on_eof() {
    let hooks = Hooks {
        on_eof: |probe, _, id, _| {
            if is_victim(probe, id) {
                probe.panic();
            }
            ringline_core::Eof::Close
        },
        ..Hooks::ECHO
    };
    only_the_victim_ends(hooks, |world, peer, _| world.end(peer));
}

#[test]
fn in_on_conn_timer() {
    let hooks = Hooks {
        on_open: |probe, cx, id| {
            probe.set_conn_timer(cx, id, ms(20), 1);
        },
        on_conn_timer: |probe, _, id, _| {
            if is_victim(probe, id) {
                probe.panic();
            }
        },
        ..Hooks::ECHO
    };
    only_the_victim_ends(hooks, |_, _, _| {});
}

#[test]
fn in_on_accept_the_connection_is_refused() {
    let hooks = Hooks {
        on_accept: |probe, _, id, _| {
            probe.count += 1;
            if probe.count == 1 {
                probe.audit.refused(id);
                probe.panic();
            }
            true
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let refused = world.connect();
            wait_over(world, refused);
            assert_eq!(world.metrics().connections_refused, 1);
            assert_eq!(world.metrics().connections_accepted, 0);
            assert_serves(world);
        },
    );
}

/// Plays a scenario in which a callback for no connection, or for one that is over already, panics.
fn nothing_ends(hooks: Hooks, provoke: impl Fn(&mut World<Probe>)) {
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let (other, other_id) = connect(world);
            provoke(world);
            wait(world, "the panic", |world| world.handler().panics_meant > 0);
            assert_eq!(exchange(world, other, b"still here", 10), b"still here");
            leave(world, other, other_id);
            assert_serves(world);
            assert_eq!(world.metrics().closed_panicked, 0);
        },
    );
}

#[test]
fn in_on_timer_and_the_other_timers_fire() {
    let hooks = Hooks {
        on_timer: |probe, _, key| {
            probe.count += 1;
            if key == 1 {
                probe.panic();
            }
        },
        ..Hooks::ECHO
    };
    nothing_ends(hooks, |world| {
        world.act(|probe, cx| {
            for key in 0..3 {
                probe.set_timer(cx, ms(10), key);
            }
        });
        wait(world, "all timers fire", |world| world.handler().count == 3);
    });
}

#[test]
fn in_on_tick() {
    let hooks = Hooks {
        on_tick: |probe, _, _| {
            if std::mem::take(&mut probe.is_armed) {
                probe.panic();
            }
        },
        ..Hooks::ECHO
    };
    nothing_ends(hooks, |world| {
        world.act(|probe, cx| {
            probe.is_armed = true;
            probe.set_timer(cx, ms(1), 1);
        });
    });
}

#[test]
fn in_on_close() {
    let hooks = Hooks {
        on_close: |probe, _, _, _| {
            if std::mem::take(&mut probe.is_armed) {
                probe.panic();
            }
        },
        ..Hooks::ECHO
    };
    nothing_ends(hooks, |world| {
        let (peer, id) = connect(world);
        world.act(|probe, _| probe.is_armed = true);
        world.end(peer);
        wait_closed(world, id);
    });
}

#[test]
fn in_on_shutdown_everything_still_ends_in_order() {
    let hooks = Hooks { on_shutdown: |probe, _| probe.panic(), ..Hooks::ECHO };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let (peer, id) = connect(world);
            assert_eq!(exchange(world, peer, b"hello", 5), b"hello");
            world.shut_down(ms(5000));
            world.end(peer);
            assert_eq!(wait_closed(world, id), CloseReason::Shutdown);
        },
    );
}

#[test]
fn in_the_report_of_a_failed_send_on_close_still_comes() {
    let hooks = Hooks {
        on_data: |probe, cx, id, data| {
            probe.send(cx, id, b"dropped");
            probe.abort(cx, id);
            Take::all(data)
        },
        on_send_complete: |probe, _, _, sent| {
            if sent.result.is_err() {
                probe.panic();
            }
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            wait(world, "the panic", |world| world.handler().panics_meant > 0);
            world.sleep(ms(5));
            assert_eq!(world.handler().reason(id), Some(CloseReason::Aborted), "on_close came");
            wait_over(world, peer);
        },
    );
}

#[test]
fn of_every_connection_at_once() {
    const ALL: Hooks = Hooks {
        on_data: |probe, cx: &mut Cx<'_>, id, data| {
            if probe.opened.len() <= 20 {
                probe.send(cx, id, data);
                probe.panic();
            }
            (Hooks::ECHO.on_data)(probe, cx, id, data)
        },
        ..Hooks::SINK
    };
    on_every_kernel_with(
        base(),
        || Probe::new(ALL),
        |world| {
            let peers: Vec<_> = (0..20).map(|_| connect(world)).collect();
            for (peer, _) in &peers {
                world.write_all(*peer, b"!");
            }
            for (peer, id) in peers {
                assert_eq!(wait_closed(world, id), CloseReason::HandlerPanicked);
                wait_over(world, peer);
                world.close(peer);
            }
            assert_eq!(world.metrics().handler_panics, 20);
            assert_serves(world);
        },
    );
}
