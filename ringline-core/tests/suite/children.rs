//! Children: a real `cat` on the real kernel, and one that the test plays on the simulated one.

use super::probe::{Event, Hooks, Probe, Take};
use super::{assert_same, ms, on_every_kernel, on_every_kernel_with, pattern, wait, wait_closed};
use ringline_core::signal::Signal;
use ringline_core::testing::{PeerId, SimulatedChild, World};
use ringline_core::{
    AtShutdown, ChildCommand, ChildExit, ChildId, ChildKey, CloseReason, ConnId, KillError, SpawnError,
};

const SIGTERM: ChildExit = ChildExit::Signal { signal: 15, core_dumped: false };
const SIGKILL: ChildExit = ChildExit::Signal { signal: 9, core_dumped: false };

/// A `cat` with a connection.
fn spawn_cat(world: &mut World<Probe>) -> (ChildId, ConnId) {
    world.act(|probe, cx| {
        let state = probe.new_state();
        let spawned = cx.spawn(ChildCommand::new("cat").connection(state.clone()), ChildKey(5));
        let spawned = spawned.expect("there is room");
        let id = spawned.conn.expect("it has a connection");
        probe.own(id, &state);
        (spawned.child, id)
    })
}

/// One without connections that runs until it gets a signal.
fn spawn_sleep(world: &mut World<Probe>, rule: AtShutdown, key: u64) -> ChildId {
    world.act(|_, cx| {
        let command = ChildCommand::new("sleep").arg("60").at_shutdown(rule);
        cx.spawn(command, ChildKey(key)).expect("there is room").child
    })
}

/// A simulated `cat`: what it reads it writes, and it ends when its input does.
#[derive(Default)]
struct Cat {
    child: Option<SimulatedChild>,
    peer: Option<PeerId>,
    held: Vec<u8>,
}

impl Cat {
    fn play(&mut self, world: &mut World<Probe>) {
        if !world.handler().kernel.is_simulated() {
            return;
        }
        self.child = self.child.take().or_else(|| world.spawned());
        self.peer = self.peer.or_else(|| world.dialed());
        let (Some(child), Some(peer)) = (&self.child, self.peer) else { return };
        self.held.extend(world.read(peer, 4096));
        let written = world.write(peer, &self.held);
        self.held.drain(..written);
        if self.held.is_empty() && world.saw_eof(peer) {
            world.close(peer);
            world.end_child(child, ChildExit::Code(0));
        }
    }
}

fn ends(world: &World<Probe>) -> Vec<(ChildId, u64, ChildExit)> {
    world.handler().ends.clone()
}

/// Sends what there is room for, and then ends our direction.
fn feed(probe: &mut Probe, cx: &mut super::Cx<'_>, id: ConnId) {
    while probe.count < probe.output.len() {
        let end = probe.output.len().min(probe.count + 1000);
        let piece = probe.output[probe.count..end].to_vec();
        if probe.send(cx, id, &piece).is_none() {
            return;
        }
        probe.count = end;
    }
    cx.shutdown_write(id);
}

#[test]
fn what_is_sent_to_a_child_comes_back_and_its_end_is_told() {
    // The output is taken while the input is high: a child that is not read does not read.
    let hooks = Hooks {
        on_open: |probe, cx, id| feed(probe, cx, id),
        on_writable: |probe, cx, id| feed(probe, cx, id),
        on_data: |probe, _, _, data| {
            probe.input.extend_from_slice(data);
            Take::all(data)
        },
        ..Hooks::SINK
    };
    on_every_kernel_with(
        super::base().outbox_bytes(20_000).outbox_high_bytes(5_000).outbox_low_bytes(1_000),
        || Probe::new(hooks).without_holding(),
        |world| {
            let bytes = pattern(3, world.handler().kernel.size(5_000, 3_000_000));
            let sent = bytes.clone();
            world.act(|probe, _| probe.output = sent);
            let (child, id) = spawn_cat(world);
            assert!(world.act(|_, cx| cx.is_running(child) && cx.children() == 1));
            let mut cat = Cat::default();
            super::pace(world, "the end of the child and of its connection", |world| {
                cat.play(world);
                !ends(world).is_empty() && world.handler().reason(id).is_some()
            });
            assert_same(&world.handler().input, &bytes);
            assert_eq!(ends(world), [(child, 5, ChildExit::Code(0))]);
            assert_eq!(world.handler().reason(id), Some(CloseReason::PeerClosed { unread: 0 }));
            world.act(|_, cx| {
                assert!(!cx.is_running(child) && cx.children() == 0);
                assert_eq!(cx.kill(child, Signal::Kill), Err(KillError::Gone));
                assert!(!cx.detach(child));
            });
            let metrics = world.metrics();
            assert_eq!((metrics.children_spawned, metrics.children_active), (1, 0));
        },
    );
}

#[test]
fn a_signal_ends_a_child_whose_connection_lives_on_until_it_is_read() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            let (child, id) = spawn_cat(world);
            wait(world, "on_open", |world| world.handler().opened.contains(&id));
            world.act(|_, cx| cx.kill(child, Signal::Terminate).expect("it runs"));
            wait(world, "on_child", |world| !ends(world).is_empty());
            assert_eq!(ends(world), [(child, 5, SIGTERM)]);
            if let Some(played) = world.spawned() {
                assert_eq!(world.signals_of(&played), [15]);
                let peer = world.dialed().expect("it has a connection");
                world.close(peer);
            }
            assert_eq!(wait_closed(world, id), CloseReason::PeerClosed { unread: 0 });
            let last = world.handler().log.last().copied();
            assert_eq!(last, Some(Event::Close(id, CloseReason::PeerClosed { unread: 0 })));
        },
    );
}

#[test]
fn more_children_than_there_may_be_are_refused_until_one_has_ended() {
    on_every_kernel_with(
        super::base().children_per_worker(2),
        || Probe::new(Hooks::SINK),
        |world| {
            let first = spawn_sleep(world, AtShutdown::Kill, 1);
            spawn_sleep(world, AtShutdown::Kill, 2);
            let refused = world.act(|_, cx| cx.spawn(ChildCommand::new("sleep"), ChildKey(3)));
            let error = refused.expect_err("two are running").error;
            assert!(matches!(error, SpawnError::Full { limit: 2 }), "{error}");
            assert_eq!(world.metrics().children_refused, 1);
            world.act(|_, cx| cx.kill(first, Signal::Kill).expect("it runs"));
            wait(world, "on_child", |world| !ends(world).is_empty());
            assert_eq!(ends(world), [(first, 1, SIGKILL)]);
            let third = spawn_sleep(world, AtShutdown::Kill, 3);
            assert_ne!(third, first, "an id never means another child");
            world.act(|_, cx| assert_eq!(cx.kill(first, Signal::Kill), Err(KillError::Gone)));
        },
    );
}

#[test]
fn a_start_that_fails_gives_the_command_back_and_leaves_nothing() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            world.refuse_children(Some(libc::ENOENT));
            world.act(|probe, cx| {
                let state = probe.new_state();
                let command = ChildCommand::new("/no/such/program").connection(state);
                let refused = cx.spawn(command, ChildKey(1)).expect_err("there is no such program");
                assert!(matches!(&refused.error, SpawnError::NotFound { program } if program == "/no/such/program"));
                // And the same once more, with the command that has come back.
                let refused = cx.spawn(*refused.command, ChildKey(1)).expect_err("there still is none");
                assert!(matches!(refused.error, SpawnError::NotFound { .. }));
                assert_eq!((cx.children(), cx.connections()), (0, 0));
            });
            assert_eq!(world.metrics().children_failed, 2);
            world.refuse_children(None);
        },
    );
}

#[test]
fn a_shutdown_gives_children_the_time_that_there_is() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            let gentle = spawn_sleep(world, AtShutdown::Terminate, 1);
            let waits = spawn_sleep(world, AtShutdown::Wait, 2);
            let killed = spawn_sleep(world, AtShutdown::Kill, 3);
            let begin = world.elapsed();
            world.shut_down(ms(300));
            let refused = world.act(|_, cx| cx.spawn(ChildCommand::new("sleep"), ChildKey(4)));
            assert!(matches!(refused.expect_err("the end has begun").error, SpawnError::ShuttingDown));
            wait(world, "the end of two of them", |world| ends(world).len() == 2);
            assert!(world.elapsed() - begin < ms(300));
            let mut early = ends(world);
            early.sort_by_key(|(_, key, _)| *key);
            assert_eq!(early, [(gentle, 1, SIGTERM), (killed, 3, SIGKILL)]);
            assert!(!world.is_done(), "the third is waited for");
            wait(world, "the deadline", |world| world.is_done());
            assert!(world.elapsed() - begin >= ms(300));
            assert_eq!(ends(world).last(), Some(&(waits, 2, SIGKILL)));
            assert_eq!(world.metrics().children_killed, 1);
        },
    );
}

#[test]
fn who_is_detached_is_not_told_of() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            let by_hand = spawn_sleep(world, AtShutdown::Kill, 1);
            let rest = spawn_sleep(world, AtShutdown::Detach, 2);
            let numbers = world.act(|_, cx| {
                let numbers = [by_hand, rest].map(|child| cx.process_number(child).expect("it runs"));
                assert!(cx.detach(by_hand) && !cx.is_running(by_hand));
                numbers
            });
            world.shut_down(ms(10_000));
            wait(world, "the end", |world| world.is_done());
            assert!(ends(world).is_empty());
            while let Some(played) = world.spawned() {
                assert!(world.signals_of(&played).is_empty(), "who is let go gets no signal");
            }
            if !world.handler().kernel.is_simulated() {
                for number in numbers {
                    let script = format!("kill -9 {number}");
                    let status = std::process::Command::new("/bin/sh").args(["-c", &script]).status();
                    assert!(status.expect("a shell").success(), "it runs on");
                }
            }
        },
    );
}

#[test]
fn who_is_let_go_while_it_ends_is_not_told_of_and_leaves_nothing() {
    let hooks = Hooks {
        on_child: |probe, cx, ended| {
            let ids = probe.children.clone();
            for other in ids.into_iter().filter(|id| *id != ended) {
                assert!(cx.detach(other) && !cx.is_running(other) && !cx.detach(other));
            }
        },
        ..Hooks::SINK
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let children = [1, 2, 3].map(|key| spawn_sleep(world, AtShutdown::Wait, key));
            world.act(|probe, _| probe.children = children.to_vec());
            wait(world, "their start", |world| world.metrics().children_spawned == 3);
            world.shut_down(ms(10_000));
            world.act(|_, cx| {
                for child in children {
                    cx.kill(child, Signal::Kill).expect("it runs");
                }
            });
            // Nothing is left with the worker, not even the wish to let somebody go.
            wait(world, "the end", |world| world.is_done());
            assert_eq!(ends(world).len(), 1, "the other two were let go by the one that was told of");
        },
    );
}

#[test]
fn a_handler_ends_its_worker() {
    let hooks = Hooks {
        on_timer: |_, cx, _| cx.shut_down(ms(5_000)),
        on_shutdown: |probe, _| probe.count += 1,
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            let (peer, id) = super::connect(world);
            world.act(|probe, cx| {
                let _ = probe.set_timer(cx, ms(5), 1);
            });
            assert_eq!(wait_closed(world, id), CloseReason::Shutdown);
            world.close(peer);
            wait(world, "the end", |world| world.is_done());
            assert_eq!(world.handler().count, 1);
        },
    );
}
