//! Timers, ticks and the clock of a turn.

use super::probe::{Event, Hooks, Probe, Take};
use super::{
    Cx, assert_serves, base, connect, exchange, leave, ms, on_every_kernel, on_every_kernel_with, wait,
    wait_closed,
};
use ringline_core::testing::World;
use ringline_core::{CloseReason, TimerKey};

/// The keys of the timers that have fired, in order.
fn fired(world: &World<Probe>) -> Vec<u64> {
    let key = |event: &Event| match event {
        Event::Timer(key) | Event::ConnTimer(_, key) => Some(*key),
        _ => None,
    };
    world.handler().log.iter().filter_map(key).collect()
}

#[test]
fn timers_fire_once_in_the_order_of_their_deadlines() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            world.act(|probe, cx| {
                for after in [50, 10, 1000, 30, 0, 30, 65, 64, 63] {
                    probe.set_timer(cx, ms(after), after);
                }
            });
            wait(world, "all fire", |world| fired(world).len() == 9);
            assert_eq!(fired(world), [0, 10, 30, 30, 50, 63, 64, 65, 1000]);
            world.sleep(ms(100));
            assert_eq!(fired(world).len(), 9, "each fires once");
        },
    );
}

#[test]
fn a_cancelled_timer_does_not_fire_and_cancelling_says_whether_it_did() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            let (first, second, third) = world.act(|probe, cx| {
                let first = probe.set_timer(cx, ms(5), 1);
                let second = probe.set_timer(cx, ms(10), 2);
                let third = probe.set_timer(cx, ms(10), 3);
                (first, second, third)
            });
            assert!(world.act(|_, cx| cx.cancel_timer(second)));
            assert!(!world.act(|_, cx| cx.cancel_timer(second)), "only once");
            wait(world, "the others fire", |world| fired(world).len() == 2);
            world.sleep(ms(30));
            assert_eq!(fired(world), [1, 3]);
            world.act(|probe, cx| {
                assert!(!cx.cancel_timer(first) && !cx.cancel_timer(third), "they have fired");
                let next = probe.set_timer(cx, ms(5), 4);
                assert_ne!(next, first, "an id is not used again");
                assert!(!cx.cancel_timer(first) && !cx.cancel_timer(second));
            });
            wait(world, "the new one fires", |world| fired(world).len() == 3);
        },
    );
}

#[test]
fn a_timer_cancelled_by_another_of_the_same_moment_does_not_fire() {
    const RIVALS: Hooks = Hooks {
        on_timer: |probe, cx, _| {
            let rivals = std::mem::take(&mut probe.timers);
            probe.count += rivals.into_iter().filter(|timer| cx.cancel_timer(*timer)).count();
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(RIVALS),
        |world| {
            world.act(|probe, cx| {
                for key in 0..3 {
                    let timer = probe.set_timer(cx, ms(10), key);
                    probe.timers.push(timer);
                }
            });
            world.sleep(ms(40));
            assert_eq!(fired(world), [0]);
            assert_eq!(world.handler().count, 2, "the first cancels the other two");
        },
    );
}

#[test]
fn a_timer_of_no_time_fires_in_the_next_turn_and_not_in_this_one() {
    const AGAIN: Hooks = Hooks {
        on_data: |probe, cx, _, data| {
            probe.set_timer(cx, ms(0), probe.ticks);
            Take::all(data)
        },
        on_timer: |probe, cx, key| {
            // The key is the number of turns that had ended when the timer was set.
            probe.is_armed |= probe.ticks == key;
            probe.count += 1;
            if probe.count < 300 {
                probe.set_timer(cx, ms(0), probe.ticks);
            }
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(AGAIN),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            wait(world, "it has fired 300 times", |world| world.handler().count == 300);
            assert!(!world.handler().is_armed, "a timer fired in the turn in which it was set");
            assert!(world.handler().ticks >= 300);
            leave(world, peer, id);
        },
    );
}

#[test]
fn timers_that_renew_themselves_at_once_keep_nobody_from_being_served() {
    const BUSY: Hooks = Hooks {
        on_timer: |probe, cx, key| {
            if !probe.is_armed {
                probe.set_timer(cx, ms(0), key);
            }
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(BUSY),
        |world| {
            let (peer, id) = connect(world);
            world.act(|probe, cx| {
                for key in 0..5 {
                    probe.set_timer(cx, ms(0), key);
                }
            });
            assert_eq!(exchange(world, peer, b"still served", 12), b"still served");
            world.act(|probe, _| probe.is_armed = true);
            leave(world, peer, id);
        },
    );
}

#[test]
fn timers_of_a_connection_die_with_it() {
    const REMINDED: Hooks = Hooks {
        on_open: |probe, cx, id| {
            for after in [1, 40, 60, 90] {
                probe.set_conn_timer(cx, id, ms(after), after);
            }
            let doomed = probe.set_conn_timer(cx, id, ms(30), 30);
            probe.timers.extend(doomed);
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(REMINDED),
        |world| {
            let (peer, id) = connect(world);
            wait(world, "the first fires", |world| fired(world) == [1]);
            world.act(|probe, cx| {
                let doomed = probe.timers.pop().expect("the connection took it");
                assert!(cx.cancel_timer(doomed));
            });
            leave(world, peer, id);
            let so_far = fired(world);
            world.sleep(ms(150));
            assert_eq!(fired(world), so_far, "nothing fires for a connection that is over");
            world.act(|_, cx| assert_eq!(cx.set_conn_timer(id, ms(1), TimerKey(9)), None));
        },
    );
}

#[test]
fn a_closing_connection_takes_no_timers_and_its_old_ones_stay_silent() {
    const CLOSING: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            probe.set_conn_timer(cx, id, ms(1), 1);
            probe.close(cx, id);
            probe.count = usize::from(cx.set_conn_timer(id, ms(1), TimerKey(2)).is_none());
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(CLOSING),
        |world| {
            let (peer, id) = connect(world);
            world.write_all(peer, b"!");
            assert_eq!(wait_closed(world, id), CloseReason::Closed);
            assert_eq!(world.handler().count, 1);
            assert!(fired(world).is_empty());
            world.end(peer);
        },
    );
}

#[test]
fn ten_thousand_timers_fire_in_order_and_never_early() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            world.act(|probe, cx| {
                for number in 0..10_000_u64 {
                    let after = number.wrapping_mul(7919) % 300;
                    let timer = probe.set_timer(cx, ms(after), after);
                    probe.timers.push(timer);
                    let doomed = cx.set_timer(ms(after), TimerKey(1_000_000));
                    assert!(cx.cancel_timer(doomed));
                }
            });
            wait(world, "all fire", |world| fired(world).len() == 10_000);
            assert!(fired(world).is_sorted());
            assert_eq!(world.metrics().timers_fired, 10_000);
            world.act(|probe, cx| {
                assert!(probe.timers.iter().all(|timer| !cx.cancel_timer(*timer)), "all have fired");
            });
        },
    );
}

#[test]
fn far_deadlines_are_kept_and_do_not_overflow() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            let far = world.act(|probe, cx| {
                let never = cx.set_timer(std::time::Duration::MAX, TimerKey(7));
                let far = cx.set_timer(ms(365 * 86_400_000), TimerKey(8));
                probe.set_timer(cx, ms(20), 1);
                [never, far]
            });
            wait(world, "the near one fires", |world| fired(world) == [1]);
            world.act(|_, cx| assert!(far.into_iter().all(|timer| cx.cancel_timer(timer))));
        },
    );
}

#[test]
fn a_tick_interval_ticks_in_an_idle_worker() {
    on_every_kernel_with(
        base().tick_interval(ms(10)),
        || Probe::new(Hooks::SINK),
        |world| {
            world.sleep(ms(300));
            let intervals = world.handler().intervals;
            assert!((3..=31).contains(&intervals), "{intervals} intervals of 10 ms in 300 ms");
        },
    );
}

#[test]
fn without_a_tick_interval_no_tick_claims_one() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            assert_serves(world);
            world.sleep(ms(50));
            assert_eq!(world.handler().intervals, 0);
            assert!(world.handler().ticks > 0);
        },
    );
}

#[test]
fn on_tick_comes_once_in_every_turn_and_last() {
    const TIMED: Hooks = Hooks {
        on_open: |probe, cx, id| {
            probe.set_conn_timer(cx, id, ms(3), 1);
            probe.set_timer(cx, ms(2), 2);
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || {
            let mut probe = Probe::new(TIMED);
            probe.logs_ticks = true;
            probe
        },
        |world| {
            let peer = world.connect();
            world.write(peer, b"a");
            for turn in 1..=60 {
                world.turn();
                let probe = world.handler();
                assert_eq!(probe.ticks, turn);
                assert_eq!(probe.log.last(), Some(&Event::Tick));
                world.write(peer, b"b");
                if turn == 50 {
                    world.end(peer);
                }
            }
        },
    );
}

#[test]
fn a_turn_has_one_time_and_time_never_goes_back() {
    fn look(probe: &mut Probe, cx: &mut Cx<'_>) {
        let now = cx.now();
        probe.times.push(now);
        std::thread::sleep(ms(2));
        // Within a turn the clock stands still, whatever the handler does meanwhile.
        probe.is_armed |= cx.now() != now;
    }
    const LOOKING: Hooks = Hooks {
        on_data: |probe, cx, id, data| {
            look(probe, cx);
            let now = cx.now();
            probe.count += 1;
            probe.set_timer(cx, ms(1), 1);
            probe.send(cx, id, data);
            probe.times.push(now);
            Take::all(data)
        },
        on_tick: |probe, cx, _| {
            // This turn's data was looked at already.
            if std::mem::take(&mut probe.count) > 0 {
                let seen = probe.times.last().copied();
                look(probe, cx);
                probe.is_armed |= probe.times.last().copied() != seen;
            }
        },
        on_timer: |probe, cx, _| look(probe, cx),
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(LOOKING),
        |world| {
            let (peer, id) = connect(world);
            for _ in 0..5 {
                assert_eq!(exchange(world, peer, b"x", 1), b"x");
                world.sleep(ms(3));
            }
            assert!(!world.handler().is_armed, "the time changed within a turn");
            assert!(world.handler().times.is_sorted());
            leave(world, peer, id);
        },
    );
}
