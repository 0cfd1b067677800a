//! Messages from outside, from the handler to itself, and in the company of everything else.

use super::probe::{Event, Hooks, Probe};
use super::{
    assert_same, assert_serves, base, connect, exchange, leave, ms, on_every_kernel, on_every_kernel_with,
    pattern, wait,
};
use ringline_core::testing::World;
use ringline_core::{PostError, TimerKey};
use std::thread;

/// The messages that were delivered, in their order.
fn messages(world: &World<Probe>) -> Vec<u64> {
    let message = |event: &Event| if let Event::Message(message) = event { Some(*message) } else { None };
    world.handler().log.iter().filter_map(message).collect()
}

fn wait_messages(world: &mut World<Probe>, count: usize) {
    wait(world, "the messages come", |world| messages(world).len() >= count);
}

#[test]
fn messages_come_in_the_order_in_which_they_were_posted() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            for message in 0..3 {
                world.post(message).expect("there is room");
            }
            wait_messages(world, 3);
            let (peer, id) = connect(world);
            let mut expected = 3;
            for round in 1..20 {
                for _ in 0..round {
                    world.post(expected).expect("there is room");
                    expected += 1;
                }
                let bytes = pattern(round, 100);
                assert_same(&exchange(world, peer, &bytes, bytes.len()), &bytes);
            }
            wait_messages(world, expected as usize);
            assert_eq!(messages(world), (0..expected).collect::<Vec<_>>());
            assert_eq!(world.metrics().mailbox_messages, expected);
            leave(world, peer, id);
        },
    );
}

#[test]
fn a_full_mailbox_gives_the_message_back_and_ends_nothing() {
    on_every_kernel_with(
        base().mailbox_messages(5),
        || Probe::new(Hooks::ECHO),
        |world| {
            for message in 0..5 {
                world.post(message).expect("there is room");
            }
            for message in 5..8 {
                assert_eq!(world.post(message), Err(PostError::Full { message, limit: 5 }));
            }
            wait_messages(world, 5);
            world.post(8).expect("there is room again");
            wait_messages(world, 6);
            assert_eq!(messages(world), [0, 1, 2, 3, 4, 8]);
            assert_eq!(world.metrics().mailbox_full, 3);
            assert_serves(world);
        },
    );
}

#[test]
fn a_flood_of_messages_leaves_every_turn_room_for_the_rest() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            world.post(0).expect("there is room");
            wait_messages(world, 1);
            for message in 1..=1000 {
                world.post(message).expect("there is room");
            }
            let before = messages(world).len();
            world.turn();
            let delivered = messages(world).len() - before;
            assert!((1..=256).contains(&delivered), "{delivered} in one turn");
            let turns = world.turns();
            wait_messages(world, 1001);
            assert!(world.turns() - turns <= 4, "the rest does not wait for anything else");
            leave(world, peer, id);
        },
    );
}

#[test]
fn a_handler_may_post_to_itself_for_ever_and_still_serves() {
    let hooks = Hooks {
        on_start: |probe, cx| {
            probe.is_armed = true;
            cx.post(0, 0).expect("there is room");
        },
        on_message: |probe, cx, message| {
            if probe.is_armed {
                cx.post(cx.seat().worker, message + 1).expect("the one before has gone");
            }
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            wait_messages(world, 10);
            assert_serves(world);
            wait_messages(world, 5000);
            world.act(|probe, _| probe.is_armed = false);
            let seen = messages(world);
            assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>());
        },
    );
}

#[test]
fn messages_come_before_the_timers_of_their_turn() {
    let hooks = Hooks {
        on_timer: |probe, cx, key| {
            if key < 3 {
                cx.post(0, key).expect("there is room");
                probe.set_timer(cx, ms(5), key + 1);
            }
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            world.act(|_, cx| cx.set_timer(ms(1), TimerKey(1)));
            world.act(|probe, cx| {
                probe.log.clear();
                cx.post(0, 0).expect("there is room");
                probe.audit.timer_set(1, cx.now());
            });
            wait(world, "the last timer", |world| world.handler().log.contains(&Event::Timer(3)));
            let expected = [
                Event::Message(0),
                Event::Timer(1),
                Event::Message(1),
                Event::Timer(2),
                Event::Message(2),
                Event::Timer(3),
            ];
            assert_eq!(world.handler().log, expected);
        },
    );
}

#[test]
fn a_panic_in_on_message_ends_nothing() {
    let hooks = Hooks {
        on_message: |probe, _, message| {
            if message % 2 == 0 {
                probe.panic();
            }
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let (peer, id) = connect(world);
            for message in 0..6 {
                world.post(message).expect("there is room");
            }
            wait_messages(world, 6);
            assert_eq!(world.metrics().handler_panics, 3);
            leave(world, peer, id);
        },
    );
}

#[test]
fn what_was_posted_before_the_shutdown_is_delivered_before_on_shutdown() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            for message in 0..600 {
                world.post(message).expect("there is room");
            }
            world.shut_down(ms(0));
            assert_eq!(messages(world), (0..600).collect::<Vec<_>>());
            assert_eq!(world.handler().log.last(), Some(&Event::Shutdown));
        },
    );
}

#[test]
fn a_worker_that_has_ended_takes_no_messages() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let mailbox = world.mailbox();
            let thread = thread::spawn(move || mailbox.post(0, 7));
            thread.join().expect("a post does not panic").expect("there is room");
            wait_messages(world, 1);
            assert_eq!(world.mailbox().workers(), 1);
            assert_eq!(world.mailbox().post(1, 8), Err(PostError::NoSuchWorker { message: 8, workers: 1 }));
        },
    );
}
