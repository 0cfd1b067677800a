//! Threads that do what may block, and the queue in front of them.
//!
//! Invariant: a task is in the queue, or one thread runs it, or it is gone. A withdrawn one never runs.
//! There are never more threads than the limit, and one that has had nothing to do for a while ends.

use crate::buf::drop_carefully;
use crate::sys::affinity;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// How long a thread waits for work before it ends.
pub(super) const IDLE: Duration = Duration::from_secs(10);

/// What a thread is given.
pub(super) type Work = Box<dyn FnOnce() + Send>;

/// How a pool is.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What its threads are called, without their numbers.
    pub(super) name: &'static str,
    pub(super) threads: usize,
    pub(super) queue: usize,
    pub(super) idle: Duration,
    /// Where its threads may run; as whoever starts them if there is nothing said.
    pub(super) cpus: Option<Arc<[usize]>>,
    /// It has no threads: somebody else runs the tasks.
    pub(super) by_hand: bool,
}

/// Why a pool takes no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Full { limit: usize },
    NoThread { errno: i32 },
    Closed,
}

struct Task {
    id: u64,
    work: Work,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Task>,
    /// By number; a place without a thread is free.
    threads: Vec<Option<JoinHandle<()>>>,
    /// Threads on their last instructions.
    ended: Vec<JoinHandle<()>>,
    running: usize,
    is_closed: bool,
    /// How many tasks may begin, if somebody counts.
    permits: Option<usize>,
}

impl State {
    fn alive(&self) -> usize {
        self.threads.iter().flatten().count()
    }

    fn has_runnable(&self) -> bool {
        !self.queue.is_empty() && self.permits != Some(0)
    }

    fn next(&mut self) -> Option<Work> {
        if !self.has_runnable() {
            return None;
        }
        self.permits = self.permits.map(|left| left - 1);
        self.queue.pop_front().map(|task| task.work)
    }
}

struct Inner {
    plan: Plan,
    state: Mutex<State>,
    /// There is something in the queue, or the end has come.
    work: Condvar,
    /// A thread has run a task or ended.
    progress: Condvar,
}

/// A pool, shared by all that use it.
#[derive(Clone)]
pub(super) struct Pool {
    inner: Arc<Inner>,
}

/// Room for one task.
pub(super) struct Place<'a> {
    inner: &'a Inner,
    state: MutexGuard<'a, State>,
}

impl Place<'_> {
    pub(super) fn fill(mut self, id: u64, work: Work) {
        self.state.queue.push_back(Task { id, work });
        drop(self.state);
        self.inner.work.notify_one();
    }
}

impl Pool {
    pub(super) fn new(plan: Plan) -> Self {
        let state = Mutex::new(State::default());
        Self { inner: Arc::new(Inner { plan, state, work: Condvar::new(), progress: Condvar::new() }) }
    }

    /// How many tasks may wait.
    pub(super) fn limit(&self) -> usize {
        self.inner.plan.queue
    }

    /// Room for one task and a thread that will run it, sooner or later.
    pub(super) fn enter(&self) -> Result<Place<'_>, Refusal> {
        let inner = &*self.inner;
        let mut state = inner.lock();
        if state.is_closed {
            return Err(Refusal::Closed);
        }
        let alive = state.alive();
        // Threads that begin, wait or have just finished are about to take one each.
        let free = if inner.plan.by_hand { inner.plan.threads } else { alive - state.running };
        let full = Refusal::Full { limit: inner.plan.queue };
        let is_full = state.queue.len() >= inner.plan.queue + free;
        if state.queue.len() >= free && alive < inner.plan.threads && !inner.plan.by_hand {
            match self.start(&mut state) {
                Err(errno) if alive == 0 => return Err(Refusal::NoThread { errno }),
                Err(_) if is_full => return Err(full),
                // It waits for one of the threads that there are.
                Ok(()) | Err(_) => {}
            }
        } else if is_full {
            return Err(full);
        }
        Ok(Place { inner, state })
    }

    /// Takes a task back that has not begun; its memory is dropped here.
    pub(super) fn withdraw(&self, id: u64) -> bool {
        let mut state = self.inner.lock();
        let at = state.queue.iter().position(|task| task.id == id);
        let task = at.and_then(|at| state.queue.remove(at));
        drop(state);
        task.map(|task| discard(task.work)).is_some()
    }

    /// Runs the oldest task here and now.
    pub(super) fn run_one(&self) -> bool {
        let work = self.inner.lock().next();
        work.map(perform).is_some()
    }

    /// Whether a task waits for somebody to run it.
    pub(super) fn has_runnable(&self) -> bool {
        self.inner.lock().has_runnable()
    }

    /// From now on tasks begin only when they are permitted to.
    pub(super) fn hold(&self) {
        self.inner.lock().permits = Some(0);
    }

    /// Undoes `hold`.
    pub(super) fn release(&self) {
        self.inner.lock().permits = None;
        self.inner.work.notify_all();
    }

    /// Permits one more task to begin. False if none waits.
    pub(super) fn permit(&self) -> bool {
        let mut state = self.inner.lock();
        state.permits = state.permits.map(|left| left + 1);
        self.inner.work.notify_all();
        !state.queue.is_empty()
    }

    /// Takes nothing more, and drops what has not begun.
    pub(super) fn close(&self) {
        let mut state = self.inner.lock();
        state.is_closed = true;
        let left = std::mem::take(&mut state.queue);
        drop(state);
        self.inner.work.notify_all();
        for task in left {
            discard(task.work);
        }
    }

    /// Waits for the threads of a closed pool, and for tasks that run, until `until`; says how many are
    /// left.
    pub(super) fn wait(&self, until: Instant) -> usize {
        let mut state = self.inner.lock();
        while state.alive() > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() && state.alive() <= state.running {
                break;
            }
            let patience = if left.is_zero() { IDLE } else { left };
            let waited = self.inner.progress.wait_timeout(state, patience);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let ended = std::mem::take(&mut state.ended);
        let running = state.running;
        drop(state);
        join(ended);
        running
    }

    fn start(&self, state: &mut State) -> Result<(), i32> {
        join(std::mem::take(&mut state.ended));
        let free = state.threads.iter().position(Option::is_none);
        let number = free.unwrap_or(state.threads.len());
        let inner = Arc::clone(&self.inner);
        let thread = Builder::new()
            .name(format!("{}-{number}", self.inner.plan.name))
            .spawn(move || inner.serve(number))
            .map_err(|error| error.raw_os_error().unwrap_or(libc::EAGAIN))?;
        if free.is_none() {
            state.threads.push(None);
        }
        state.threads[number] = Some(thread);
        Ok(())
    }

    #[cfg(test)]
    fn alive(&self) -> usize {
        self.inner.lock().alive()
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("plan", &self.inner.plan).finish_non_exhaustive()
    }
}

impl Inner {
    /// The life of one thread.
    fn serve(&self, number: usize) {
        if let Some(cpus) = &self.plan.cpus
            && let Err(error) = affinity::allow_current_thread(cpus)
        {
            log::warn!("a thread for blocking work stays on the CPU of a worker: {error}");
        }
        let mut state = self.lock();
        loop {
            if let Some(work) = state.next() {
                state.running += 1;
                drop(state);
                perform(work);
                state = self.lock();
                state.running -= 1;
                self.progress.notify_all();
                continue;
            }
            if state.is_closed {
                break;
            }
            let waited = self.work.wait_timeout(state, self.plan.idle);
            let (woken, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && state.queue.is_empty() {
                break;
            }
        }
        let thread = state.threads[number].take();
        state.ended.extend(thread);
        self.progress.notify_all();
    }

    /// Nothing in a critical section panics, so a poisoned lock is as good as any.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tasks contain their panics; what they drop at their very end may still panic.
fn perform(work: Work) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(work)) {
        drop_carefully(payload);
    }
}

fn discard(work: Work) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(work))) {
        drop_carefully(payload);
    }
}

fn join(threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        // Its panics were caught.
        let _ = thread.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const SOON: Duration = Duration::from_secs(20);

    fn pool(threads: usize, queue: usize, idle: Duration) -> Pool {
        Pool::new(Plan { name: "ringline-job", threads, queue, idle, cpus: None, by_hand: false })
    }

    fn put(pool: &Pool, id: u64, work: impl FnOnce() + Send + 'static) -> Result<(), Refusal> {
        pool.enter().map(|place| place.fill(id, Box::new(work)))
    }

    #[test]
    fn a_thread_is_started_for_each_task_up_to_the_limit_and_then_tasks_wait() {
        let pool = pool(2, 3, IDLE);
        assert_eq!(pool.alive(), 0);
        let (tell, told) = mpsc::channel();
        let (release, blocked) = mpsc::channel::<()>();
        let blocked = Arc::new(Mutex::new(blocked));
        for id in 0..2 {
            let (tell, blocked) = (tell.clone(), Arc::clone(&blocked));
            let work = move || {
                tell.send(id).unwrap();
                blocked.lock().unwrap().recv().unwrap();
            };
            put(&pool, id, work).unwrap();
            told.recv_timeout(SOON).unwrap();
        }
        assert_eq!(pool.alive(), 2);
        for id in 2..5 {
            let tell = tell.clone();
            put(&pool, id, move || tell.send(id).unwrap()).unwrap();
        }
        assert_eq!(put(&pool, 5, || ()), Err(Refusal::Full { limit: 3 }));
        assert!(pool.withdraw(3) && !pool.withdraw(3) && !pool.withdraw(0));
        release.send(()).unwrap();
        release.send(()).unwrap();
        let mut seen = [told.recv_timeout(SOON).unwrap(), told.recv_timeout(SOON).unwrap()];
        seen.sort_unstable();
        assert_eq!(seen, [2, 4]);
        pool.close();
        assert_eq!(put(&pool, 6, || ()), Err(Refusal::Closed));
        assert_eq!(pool.wait(Instant::now() + SOON), 0);
        assert_eq!(pool.alive(), 0);
    }

    #[test]
    fn a_thread_without_work_ends_and_another_comes_when_it_is_needed() {
        let pool = pool(4, 4, Duration::from_millis(5));
        let (tell, told) = mpsc::channel();
        for round in 0..3 {
            let tell = tell.clone();
            put(&pool, round, move || tell.send(std::thread::current().name().map(str::to_owned)).unwrap())
                .unwrap();
            assert_eq!(told.recv_timeout(SOON).unwrap().as_deref(), Some("ringline-job-0"));
            let until = Instant::now() + SOON;
            while pool.alive() > 0 {
                assert!(Instant::now() < until, "the thread does not end");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        pool.close();
        assert_eq!(pool.wait(Instant::now()), 0);
    }

    #[test]
    fn a_task_that_panics_takes_no_thread_with_it() {
        let pool = pool(1, 4, IDLE);
        let (tell, told) = mpsc::channel();
        put(&pool, 0, || std::panic::resume_unwind(Box::new(1))).unwrap();
        put(&pool, 1, move || tell.send(()).unwrap()).unwrap();
        told.recv_timeout(SOON).unwrap();
        pool.close();
        assert_eq!(pool.wait(Instant::now() + SOON), 0);
    }

    #[test]
    fn the_end_waits_for_what_runs_until_the_deadline_and_drops_the_rest() {
        let pool = pool(1, 4, IDLE);
        let (release, blocked) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let work = move || {
            tell.send(()).unwrap();
            let _ = blocked.recv();
        };
        put(&pool, 0, work).unwrap();
        told.recv_timeout(SOON).unwrap();
        let counted = Arc::new(());
        let held = Arc::clone(&counted);
        put(&pool, 1, move || drop(held)).unwrap();
        pool.close();
        assert_eq!(Arc::strong_count(&counted), 1, "what has not begun is dropped");
        let begin = Instant::now();
        assert_eq!(pool.wait(begin + Duration::from_millis(30)), 1);
        assert!(begin.elapsed() >= Duration::from_millis(30));
        drop(release);
        assert_eq!(pool.wait(Instant::now() + SOON), 0);
    }

    #[test]
    fn held_tasks_begin_one_by_one() {
        let pool = pool(2, 4, IDLE);
        pool.hold();
        let (tell, told) = mpsc::channel();
        for id in 0..3 {
            let tell = tell.clone();
            put(&pool, id, move || tell.send(id).unwrap()).unwrap();
        }
        assert!(told.recv_timeout(Duration::from_millis(20)).is_err());
        assert!(pool.permit());
        assert_eq!(told.recv_timeout(SOON), Ok(0));
        assert!(told.recv_timeout(Duration::from_millis(20)).is_err());
        pool.release();
        told.recv_timeout(SOON).unwrap();
        told.recv_timeout(SOON).unwrap();
        assert!(!pool.has_runnable());
        pool.close();
        assert_eq!(pool.wait(Instant::now() + SOON), 0);
    }
}
