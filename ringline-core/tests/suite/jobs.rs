//! Work on other threads: its answers, and what becomes of it when nobody wants them any more.

use super::probe::{Event, Hooks, Probe};
use super::{
    assert_same, assert_serves, base, connect, events_of, exchange, leave, ms, on_every_kernel,
    on_every_kernel_with, pattern, wait, wait_closed,
};
use ringline_core::testing::World;
use ringline_core::{ConnId, JobError, JobFailed, JobId, JobKey};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The answers that were given to the handler, in their order.
fn answers(world: &World<Probe>) -> Vec<(u64, Option<u64>)> {
    let answer = |event: &Event| if let Event::Job(key, value) = event { Some((*key, *value)) } else { None };
    world.handler().log.iter().filter_map(answer).collect()
}

fn wait_answers(world: &mut World<Probe>, count: usize) {
    wait(world, "the answers come", |world| answers(world).len() >= count);
}

/// Has the handler give a job away, between two turns.
fn run(world: &mut World<Probe>, key: u64, job: impl FnOnce() -> u64 + Send + 'static) -> JobId {
    world.act(|_, cx| cx.run_blocking(JobKey(key), job)).expect("there is room")
}

fn run_for(
    world: &mut World<Probe>,
    id: ConnId,
    key: u64,
    job: impl FnOnce() -> u64 + Send + 'static,
) -> JobId {
    world.act(|_, cx| cx.run_blocking_for(id, JobKey(key), job)).expect("there is room")
}

/// Counts how many jobs were run and how many were dropped, one way or the other.
#[derive(Clone, Default)]
struct Watch {
    runs: Arc<AtomicUsize>,
    alive: Arc<()>,
}

impl Watch {
    fn job(&self, value: u64) -> impl FnOnce() -> u64 + Send + 'static + use<> {
        let watch = self.clone();
        move || {
            watch.count();
            value
        }
    }

    fn count(&self) {
        self.runs.fetch_add(1, Ordering::SeqCst);
    }

    fn runs(&self) -> usize {
        self.runs.load(Ordering::SeqCst)
    }

    /// How many jobs hold on to it.
    fn held(&self) -> usize {
        Arc::strong_count(&self.alive) - 1
    }
}

#[test]
fn what_a_job_returns_comes_back_with_its_key() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            for key in 0..20 {
                run(world, key, move || key * key);
            }
            wait_answers(world, 20);
            let mut seen = answers(world);
            seen.sort_unstable();
            assert_eq!(seen, (0..20).map(|key| (key, Some(key * key))).collect::<Vec<_>>());
            assert_eq!((world.metrics().jobs, world.metrics().jobs_active), (20, 0));
            assert_serves(world);
        },
    );
}

#[test]
fn a_job_may_follow_a_job_and_connections_are_served_meanwhile() {
    let hooks = Hooks {
        on_job: |_, cx, key| {
            if key < 50 {
                cx.run_blocking(JobKey(key + 1), move || key).expect("there is room");
            }
        },
        ..Hooks::ECHO
    };
    on_every_kernel(
        || Probe::new(hooks),
        |world| {
            run(world, 0, || 0);
            let (peer, id) = connect(world);
            let bytes = pattern(3, 2_000);
            assert_same(&exchange(world, peer, &bytes, bytes.len()), &bytes);
            wait_answers(world, 51);
            assert_eq!(answers(world).last(), Some(&(50, Some(49))));
            leave(world, peer, id);
        },
    );
}

#[test]
fn a_panic_comes_back_with_its_text_and_ends_nothing() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            run(world, 1, || std::panic::resume_unwind(Box::new("no such table")));
            run(world, 2, || std::panic::resume_unwind(Box::new(String::from("a text of its own"))));
            run(world, 3, || std::panic::resume_unwind(Box::new(17)));
            run(world, 4, || 4);
            wait_answers(world, 4);
            let mut texts: Vec<_> = world.handler().failed.iter().map(ToString::to_string).collect();
            texts.sort_unstable();
            let expected = [
                "the job panicked: a text of its own",
                "the job panicked: no such table",
                "the job panicked: something that is no text",
            ];
            assert_eq!(texts, expected);
            assert_eq!(world.metrics().jobs_panicked, 3);
            assert!(answers(world).contains(&(4, Some(4))));
            assert_serves(world);
        },
    );
}

#[test]
fn a_full_queue_gives_the_job_back() {
    on_every_kernel_with(
        base().blocking_threads(1).blocking_queue(2),
        || Probe::new(Hooks::ECHO),
        |world| {
            world.hold_jobs();
            let watch = Watch::default();
            // One for the thread, which may not begin, and two that wait.
            for key in 0..3 {
                run(world, key, watch.job(key));
            }
            let job = watch.job(3);
            let rejected = world.act(|_, cx| cx.run_blocking(JobKey(3), job)).expect_err("it is full");
            assert_eq!(rejected.error, JobError::QueueFull { limit: 2 });
            assert_eq!((rejected.job)(), 3, "the job itself comes back");
            assert_eq!((watch.runs(), world.metrics().jobs_rejected), (1, 1));
            world.release_jobs();
            wait_answers(world, 3);
            assert_eq!(answers(world), [(0, Some(0)), (1, Some(1)), (2, Some(2))], "one thread, in order");
        },
    );
}

#[test]
fn a_job_that_is_cancelled_before_it_begins_is_dropped_and_answered_once() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            world.hold_jobs();
            let watch = Watch::default();
            let ids: Vec<_> = (0..3).map(|key| run(world, key, watch.job(key))).collect();
            assert!(world.act(|_, cx| cx.cancel_job(ids[1])));
            assert!(!world.act(|_, cx| cx.cancel_job(ids[1])), "once");
            assert_eq!(watch.held(), 2, "it is dropped at once");
            wait_answers(world, 1);
            assert_eq!(answers(world), [(1, None)]);
            assert_eq!(world.handler().failed, [JobFailed::Cancelled]);
            world.release_jobs();
            wait_answers(world, 3);
            assert_eq!((watch.runs(), watch.held()), (2, 0));
            assert!(!world.act(|_, cx| cx.cancel_job(ids[0])), "it was answered");
            assert_eq!(world.metrics().jobs_dropped, 1);
        },
    );
}

#[test]
fn the_result_of_a_job_that_is_cancelled_too_late_is_dropped() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            world.hold_jobs();
            let watch = Watch::default();
            let id = run(world, 1, watch.job(1));
            assert!(world.run_job() && watch.held() <= 1);
            // On a thread of its own it begins when it likes.
            let begin = std::time::Instant::now();
            while watch.runs() == 0 || watch.held() > 0 {
                assert!(begin.elapsed() < ms(20_000), "the job is not run");
                std::thread::yield_now();
            }
            assert!(world.act(|_, cx| cx.cancel_job(id)));
            wait_answers(world, 1);
            assert_eq!((answers(world), watch.runs()), (vec![(1, None)], 1));
            world.release_jobs();
            run(world, 2, || 2);
            wait_answers(world, 2);
            assert_eq!(answers(world), [(1, None), (2, Some(2))], "nothing else comes for the first");
        },
    );
}

#[test]
fn a_job_of_a_connection_answers_to_the_connection() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            let (peer, id) = connect(world);
            run_for(world, id, 7, || 70);
            let event = Event::ConnJob(id, 7, Some(70));
            wait(world, "the answer comes", |world| world.handler().log.contains(&event));
            leave(world, peer, id);
            let rejected = world.act(|_, cx| cx.run_blocking_for(id, JobKey(8), || 8));
            assert_eq!(rejected.expect_err("it is gone").error, JobError::NotOpen);
        },
    );
}

#[test]
fn the_jobs_of_a_connection_end_with_it() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            world.hold_jobs();
            let watch = Watch::default();
            let (_, id) = connect(world);
            let (other_peer, other) = connect(world);
            let mine = run_for(world, id, 1, watch.job(1));
            run_for(world, id, 2, watch.job(2));
            run_for(world, other, 3, watch.job(3));
            world.act(|probe, cx| probe.abort(cx, id));
            wait_closed(world, id);
            assert_eq!((watch.held(), watch.runs()), (1, 0), "what has not begun is dropped");
            assert!(!world.act(|_, cx| cx.cancel_job(mine)));
            assert_eq!(world.metrics().jobs_dropped, 2);
            world.release_jobs();
            let event = Event::ConnJob(other, 3, Some(3));
            wait(world, "the answer comes", |world| world.handler().log.contains(&event));
            let is_job = |event: &Event| matches!(event, Event::ConnJob(..));
            assert!(!events_of(world, id).iter().any(is_job), "nothing comes for the first");
            leave(world, other_peer, other);
        },
    );
}

#[test]
fn no_answer_comes_for_a_connection_that_is_closing() {
    on_every_kernel(
        || Probe::new(Hooks::SINK),
        |world| {
            world.hold_jobs();
            let (peer, id) = connect(world);
            run_for(world, id, 1, || 1);
            world.act(|probe, cx| probe.close(cx, id));
            world.release_jobs();
            let dropped = |world: &mut World<Probe>| world.metrics().jobs_dropped == 1;
            wait(world, "the answer is dropped", dropped);
            assert!(!events_of(world, id).contains(&Event::ConnJob(id, 1, Some(1))));
            world.close(peer);
            wait_closed(world, id);
        },
    );
}

#[test]
fn a_shutdown_drops_what_has_not_begun_and_takes_no_more() {
    on_every_kernel(
        || Probe::new(Hooks::ECHO),
        |world| {
            world.hold_jobs();
            let watch = Watch::default();
            for key in 0..3 {
                run(world, key, watch.job(key));
            }
            world.shut_down(ms(60_000));
            assert_eq!(watch.held(), 0, "they are dropped");
            let rejected = world.act(|_, cx| cx.run_blocking(JobKey(9), || 9));
            assert_eq!(rejected.expect_err("it ends").error, JobError::ShuttingDown);
            wait_answers(world, 3);
            assert_eq!(answers(world), [(0, None), (1, None), (2, None)], "each is answered");
            assert_eq!(watch.runs(), 0);
        },
    );
}
