//! The protocol of `sleep`, in every order that two posters and a worker can come to under the memory
//! model of the language.

mod atomics {
    pub(super) use loom::sync::atomic::{AtomicU8, Ordering, fence};
}

#[path = "sleep.rs"]
#[allow(clippy::duplicate_mod, reason = "once with the atomics of the program, once with those of the model")]
mod sleep;

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread::{self, JoinHandle};
use sleep::Sleep;

/// A channel that only counts, and the counter in the kernel that ends a wait.
struct Place {
    sleep: Sleep,
    put: AtomicUsize,
    rings: AtomicUsize,
}

impl Place {
    fn post(&self) {
        self.put.fetch_add(1, Ordering::Relaxed);
        if self.sleep.must_ring() {
            self.rings.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// What the worker does until it has seen `count`. When nobody has rung and it would sleep, it lets
    /// the posters come to their end: one of them must have rung by then.
    fn work(&self, count: usize, posters: &mut Vec<JoinHandle<()>>) {
        let mut is_used = false;
        loop {
            if is_used {
                self.sleep.fall_asleep();
                if self.put.load(Ordering::Relaxed) == count {
                    return;
                }
            }
            if self.rings.swap(0, Ordering::AcqRel) == 0 {
                assert!(!posters.is_empty(), "the worker sleeps for ever");
                for poster in posters.drain(..) {
                    poster.join().unwrap();
                }
                assert!(self.rings.swap(0, Ordering::AcqRel) > 0, "nobody rings and the worker sleeps");
            }
            if is_used {
                self.sleep.wake_up();
            } else {
                is_used = self.sleep.is_used();
            }
            if self.put.load(Ordering::Relaxed) == count {
                return;
            }
        }
    }
}

fn check(posters: usize, posts: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let place =
            Arc::new(Place { sleep: Sleep::new(), put: AtomicUsize::new(0), rings: AtomicUsize::new(0) });
        let spawn = |_| {
            let place = Arc::clone(&place);
            thread::spawn(move || (0..posts).for_each(|_| place.post()))
        };
        let mut threads = (0..posters).map(spawn).collect();
        place.work(posters * posts, &mut threads);
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

#[test]
fn one_poster_never_leaves_the_worker_asleep() {
    check(1, 3);
}

#[test]
fn two_posters_never_leave_the_worker_asleep() {
    check(2, 2);
}
