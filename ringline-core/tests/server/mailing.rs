//! Messages between threads and workers, and what they cost a worker that sleeps.

use super::{SOON, alone, config, wait_until, worker_threads};
use ringline_core::metrics::Snapshot;
use ringline_core::{Admit, ConnId, Consumed, Ctx, EventHandler, Mailbox, Peer, PostError, Running, Server};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

/// How many messages the large test posts.
const MESSAGES_VARIABLE: &str = "RINGLINE_MESSAGES";
const PRODUCERS: u64 = 4;

#[derive(Clone, Debug)]
enum Letter {
    Count {
        producer: usize,
        number: u64,
    },
    /// Takes the worker's time.
    Busy(Duration),
    /// Is passed on to the other worker so often.
    Ball(u64),
    Owned(Arc<()>),
    Report,
}

/// Counts what comes and tells when it is asked.
struct Clerk {
    tell: Sender<u64>,
    counts: [u64; PRODUCERS as usize],
    out_of_order: u64,
    messages: u64,
}

impl EventHandler for Clerk {
    type Conn = ();
    type Message = Letter;

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Refuse
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, letter: Letter) {
        self.messages += 1;
        match letter {
            Letter::Count { producer, number } => {
                self.out_of_order += u64::from(self.counts[producer] != number);
                self.counts[producer] = number + 1;
            }
            Letter::Busy(time) => thread::sleep(time),
            Letter::Ball(0) | Letter::Report => {
                assert_eq!(self.out_of_order, 0, "each producer's messages come in order");
                let _ = self.tell.send(self.messages);
            }
            Letter::Ball(left) => {
                let other = (cx.seat().worker + 1) % cx.seat().workers;
                cx.post(other, Letter::Ball(left - 1)).expect("one message has room");
            }
            Letter::Owned(owned) => drop(owned),
        }
    }
}

fn launch(workers: usize, messages: usize) -> (Running<Letter>, Receiver<u64>) {
    let (tell, told) = mpsc::channel();
    let config = config(workers).mailbox_messages(messages).build().expect("the configuration is valid");
    let running = Server::new(config).launch(move |_| Clerk {
        tell: tell.clone(),
        counts: Default::default(),
        out_of_order: 0,
        messages: 0,
    });
    (running.expect("a server"), told)
}

fn stop(running: Running<Letter>) {
    running.shutdown(SOON).expect("every worker ends well");
    wait_until("the workers' threads end", || worker_threads().is_empty());
}

/// Posts until there is room.
fn post(mailbox: &Mailbox<Letter>, mut letter: Letter) {
    while let Err(error) = mailbox.post(0, letter) {
        assert!(matches!(error, PostError::Full { .. }), "{error}");
        letter = error.into_message();
        thread::yield_now();
    }
}

/// Waits until the worker sleeps: no turn for a while.
fn wait_asleep(running: &Running<Letter>) -> Snapshot {
    let until = Instant::now() + SOON;
    loop {
        let before = running.metrics().snapshot();
        thread::sleep(Duration::from_millis(5));
        if running.metrics().snapshot() == before {
            return before;
        }
        assert!(Instant::now() < until, "the worker never sleeps");
    }
}

#[test]
fn four_producers_and_one_worker_keep_the_order_of_each() {
    let _alone = alone();
    let usual = if std::env::var_os("RINGLINE_GUEST").is_some() { 20_000 } else { 200_000 };
    let count = std::env::var(MESSAGES_VARIABLE).map_or(usual, |text| text.parse().expect("a number"));
    let (running, told) = launch(1, 4096);
    let begin = Instant::now();
    thread::scope(|scope| {
        for producer in 0..PRODUCERS as usize {
            let mailbox = running.mailbox();
            scope.spawn(move || {
                (0..count / PRODUCERS).for_each(|number| post(&mailbox, Letter::Count { producer, number }));
            });
        }
    });
    post(&running.mailbox(), Letter::Report);
    let total = count / PRODUCERS * PRODUCERS + 1;
    assert_eq!(told.recv_timeout(SOON), Ok(total));
    let took = begin.elapsed();
    let last = wait_asleep(&running);
    assert_eq!(last.mailbox_messages, total);
    assert!(last.mailbox_wakeups < total, "messages that meet a worker at work do not wake it");
    println!(
        "{} ns per message, {} wake-ups, {} times full; a channel: {} ns",
        took.as_nanos() / u128::from(total),
        last.mailbox_wakeups,
        last.mailbox_full,
        channel(count / PRODUCERS).as_nanos() / u128::from(total)
    );
    stop(running);
}

/// How many eventfds the process has.
fn event_fds() -> usize {
    let fds = std::fs::read_dir("/proc/self/fd").expect("Linux has /proc");
    let is_event = |fd: &std::fs::DirEntry| {
        // A descriptor may be closed between being listed and being looked at.
        std::fs::read_link(fd.path()).is_ok_and(|target| target.to_string_lossy().contains("[eventfd]"))
    };
    fds.filter_map(Result::ok).filter(is_event).count()
}

/// The same with a channel and a receiver that blocks.
fn channel(count: u64) -> Duration {
    let (send, receive) = crossbeam_channel::bounded(4096);
    let begin = Instant::now();
    thread::scope(|scope| {
        for producer in 0..PRODUCERS as usize {
            let send = send.clone();
            scope.spawn(move || {
                for number in 0..count {
                    while send.try_send(Letter::Count { producer, number }).is_err() {
                        thread::yield_now();
                    }
                }
            });
        }
        drop(send);
        receive.iter().for_each(drop);
    });
    begin.elapsed()
}

#[test]
fn a_worker_that_sleeps_is_woken_once_and_one_that_works_is_not() {
    let _alone = alone();
    let (running, told) = launch(1, 4096);
    for round in 1..=50 {
        let before = wait_asleep(&running);
        assert_eq!(before.mailbox_wakeups, round - 1);
        running.post(0, Letter::Report).expect("there is room");
        assert_eq!(told.recv_timeout(SOON), Ok(round));
        assert_eq!(wait_asleep(&running).mailbox_wakeups, round, "one message, one wake-up");
    }
    running.post(0, Letter::Busy(Duration::from_millis(300))).expect("there is room");
    wait_until("it is busy", || running.metrics().snapshot().mailbox_messages == 51);
    for _ in 0..100 {
        running.post(0, Letter::Busy(Duration::ZERO)).expect("there is room");
    }
    running.post(0, Letter::Report).expect("there is room");
    assert_eq!(told.recv_timeout(SOON), Ok(152));
    assert_eq!(wait_asleep(&running).mailbox_wakeups, 51, "nobody wakes a worker that is awake");
    stop(running);
}

#[test]
fn workers_pass_messages_to_each_other() {
    let _alone = alone();
    let (running, told) = launch(2, 16);
    running.post(1, Letter::Ball(10_000)).expect("there is room");
    assert_eq!(told.recv_timeout(SOON), Ok(5001), "each has had half of them, and one the last");
    running.mailbox().broadcast(Letter::Report).expect("both are there");
    for _ in 0..2 {
        told.recv_timeout(SOON).expect("both answer");
    }
    stop(running);
}

#[test]
fn a_full_mailbox_does_not_hold_up_the_shutdown() {
    let _alone = alone();
    let (running, _told) = launch(1, 4);
    let mailbox = running.mailbox();
    let poster = thread::spawn(move || {
        loop {
            match mailbox.post(0, Letter::Busy(Duration::from_millis(2))) {
                Ok(()) | Err(PostError::Full { .. }) => thread::yield_now(),
                Err(error) => return error,
            }
        }
    });
    wait_until("it is full", || running.metrics().snapshot().mailbox_full > 100);
    let begin = Instant::now();
    stop(running);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    let error = poster.join().expect("the poster ends");
    assert!(matches!(error, PostError::Gone { .. }), "{error:?}");
}

#[test]
fn after_the_end_messages_come_back_and_none_is_kept() {
    let _alone = alone();
    for posts in [0, 1, 10] {
        let (running, _told) = launch(2, 16);
        let owned = Arc::new(());
        let mailbox = running.mailbox();
        for _ in 0..posts {
            mailbox.post(1, Letter::Owned(Arc::clone(&owned))).expect("there is room");
        }
        stop(running);
        assert_eq!(Arc::strong_count(&owned), 1, "every message is delivered or dropped");
        for worker in 0..2 {
            let error = mailbox.post(worker, Letter::Owned(Arc::clone(&owned))).expect_err("it has ended");
            assert!(matches!(error, PostError::Gone { message: Letter::Owned(_) }), "{error:?}");
        }
        assert_eq!(event_fds(), 0, "a mailbox that is kept keeps no descriptor");
        assert_eq!(mailbox.broadcast(Letter::Report).expect_err("all have ended").missed.len(), 2);
    }
}
