//! What becomes of children when their server ends, or when they are let go.

use super::children::{Parent, Plan, SIGKILL, SIGTERM, Told, exists, launch, next_number, pipe, sh};
use super::{SOON, alone, config, stop, wait_until};
use ringline_core::{AtShutdown, ChildCommand, ChildExit, ChildStdio, Ctx, Server};
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};

fn wait_gone(number: u32) {
    wait_until("the process is gone and collected", || !exists(number));
}

/// Kills a process that is a child of this program.
fn kill(number: u32) {
    let killed = std::process::Command::new("/bin/sh").args(["-c", &format!("kill -9 {number}")]).status();
    assert!(killed.expect("a shell").success());
}

#[test]
fn a_shutdown_ends_children_as_their_commands_say() {
    let _alone = alone();
    let (running, told) = launch(|parent, cx| {
        parent.spawn(cx, sh("exec sleep 60"), 1);
        parent.spawn(cx, sh("exec sleep 60").at_shutdown(AtShutdown::Kill), 2);
        let cat = ChildCommand::new("cat").connection(pipe("cat", b"x"));
        parent.spawn(cx, cat.at_shutdown(AtShutdown::Wait), 3);
        let detached = sh("exec sleep 60").at_shutdown(AtShutdown::Detach);
        parent.spawn(cx, detached, 4);
    });
    let numbers: Vec<_> = (0..4).map(|_| next_number(&told)).collect();
    let begin = Instant::now();
    let metrics = running.metrics().clone();
    stop(running);
    assert!(begin.elapsed() < SOON / 2, "nobody waits for the deadline");
    let mut ends = BTreeMap::new();
    while let Ok(event) = told.recv() {
        if let Told::Ended { key, exit, .. } = event {
            assert_eq!(ends.insert(key, exit), None);
        }
    }
    assert_eq!(ends, BTreeMap::from([(1, SIGTERM), (2, SIGKILL), (3, ChildExit::Code(0))]));
    assert!(numbers[..3].iter().all(|&number| !exists(number)));
    assert_eq!(metrics.snapshot().children_active, 0);
    assert!(exists(numbers[3]), "who is let go runs on");
    kill(numbers[3]);
    wait_gone(numbers[3]);
}

#[test]
fn who_does_not_end_is_killed_at_the_deadline() {
    let _alone = alone();
    let (running, told) = launch(|parent, cx| {
        let stubborn = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
        parent.spawn(cx, sh(stubborn).stdout(ChildStdio::Null), 1);
        parent.spawn(cx, sh("exec sleep 60").at_shutdown(AtShutdown::Wait), 2);
    });
    let numbers = [next_number(&told), next_number(&told)];
    // The shell needs a moment to set its trap.
    std::thread::sleep(Duration::from_millis(300));
    let within = Duration::from_millis(400);
    let metrics = running.metrics().clone();
    let begin = Instant::now();
    running.shutdown(within).expect("it ends well");
    assert!(begin.elapsed() >= within, "they get the time that there is");
    let mut ends = BTreeMap::new();
    while let Ok(event) = told.recv() {
        if let Told::Ended { key, exit, at } = event {
            assert!(at - begin >= within);
            ends.insert(key, exit);
        }
    }
    assert_eq!(ends, BTreeMap::from([(1, SIGKILL), (2, SIGKILL)]));
    assert!(numbers.iter().all(|&number| !exists(number)));
    assert_eq!(metrics.snapshot().children_killed, 2);
}

#[test]
fn who_is_detached_runs_on_and_is_collected_without_a_word() {
    let _alone = alone();
    let (running, told) = launch(|parent, cx| {
        let child = parent.spawn(cx, sh("exec sleep 60"), 1).expect("it starts");
        assert!(cx.detach(child) && !cx.detach(child));
        assert!(!cx.is_running(child));
    });
    let number = next_number(&told);
    wait_until("it is let go", || running.metrics().snapshot().children_active == 0);
    assert!(exists(number));
    kill(number);
    wait_gone(number);
    stop(running);
    assert!(told.try_iter().all(|event| !matches!(event, Told::Ended { .. })));
}

#[test]
fn a_worker_that_never_serves_leaves_no_child_behind() {
    let _alone = alone();
    let (tell, told) = mpsc::channel();
    let plan: std::sync::Arc<Plan> =
        std::sync::Arc::new(Box::new(|parent: &mut Parent, cx: &mut Ctx<'_, Parent>| {
            parent.spawn(cx, sh("exec sleep 60"), 1);
            std::panic::resume_unwind(Box::new("on purpose"));
        }));
    let server = Server::new(config(1).build().expect("the configuration is valid"));
    let launched = server.launch(move |_| Parent {
        tell: tell.clone(),
        plan: std::sync::Arc::clone(&plan),
        on_child: |_, _, _, _| {},
        ids: Vec::new(),
    });
    assert!(launched.is_err());
    wait_gone(next_number(&told));
}

#[test]
fn a_dropped_server_leaves_no_child_behind() {
    let _alone = alone();
    let (running, told) = launch(|parent, cx| {
        parent.spawn(cx, sh("trap '' TERM; while :; do sleep 0.05; done"), 1);
    });
    let number = next_number(&told);
    drop(running);
    assert!(!exists(number));
}
