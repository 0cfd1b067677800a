//! The jobs of one worker, from the call to the answer.
//!
//! Invariant: a job has a row from the moment it is accepted until its answer is handed out or its
//! connection is gone. What arrives for a job without a row is dropped. So there is one answer at most,
//! and exactly one for a job that is not tied to a connection, unless the worker itself ends.

use super::error::{JobError, JobFailed, JobId, JobKey, JobRejected};
use super::names;
use super::pool::{Refusal, Work};
use super::pools::{Lane, Pools};
use crate::buf::drop_carefully;
use crate::conn::ConnId;
use crate::mail::Bell;
use crate::net::ResolveError;
use crossbeam_channel::{Receiver, Sender, unbounded};
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// How many answers may wait to be handed out, whatever the configuration says of jobs that wait.
const ANSWERS_MIN: usize = 1024;

/// Who gets the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Worker,
    Conn(ConnId),
    /// A connection that is to be made to a name.
    Dial(ConnId),
}

/// What became of a job.
#[derive(Debug)]
pub(crate) enum Answer<M> {
    Job(Result<M, JobFailed>),
    Names(Result<Vec<SocketAddr>, ResolveError>),
}

#[derive(Debug)]
struct Row {
    key: JobKey,
    owner: Owner,
    lane: Lane,
    is_cancelled: bool,
}

struct Done<M> {
    id: JobId,
    answer: Answer<M>,
}

/// The jobs of one worker.
pub(crate) struct Jobs<M> {
    pools: Pools,
    bell: Arc<Bell>,
    next: u64,
    rows: BTreeMap<JobId, Row>,
    /// Those that end with their connection.
    tied: BTreeSet<(ConnId, JobId)>,
    /// Has room for everything: there are no more answers than jobs that were accepted and cancelled.
    done: Sender<Done<M>>,
    answers: Receiver<Done<M>>,
}

impl<M: Send + 'static> Jobs<M> {
    pub(crate) fn new(pools: Pools, bell: Arc<Bell>, worker: usize) -> Self {
        let (done, answers) = unbounded();
        let (rows, tied) = (BTreeMap::new(), BTreeSet::new());
        // Ids of different workers differ, so that one is not taken for another.
        Self { pools, bell, next: (worker as u64) << 48, rows, tied, done, answers }
    }

    /// Has a job done, if there is room for it.
    pub(crate) fn run<F>(&mut self, key: JobKey, owner: Owner, job: F) -> Result<JobId, JobRejected<F>>
    where
        F: FnOnce() -> M + Send + 'static,
    {
        let id = JobId(self.next);
        if let Some(limit) = self.is_swamped(Lane::Jobs) {
            return Err(JobRejected { error: JobError::QueueFull { limit }, job });
        }
        let place = match self.pools.lane(Lane::Jobs).enter() {
            Ok(place) => place,
            Err(refusal) => return Err(JobRejected { error: refusal.into(), job }),
        };
        let report = self.reporter(id);
        let work = move || {
            let result = catch_unwind(AssertUnwindSafe(job));
            report(Answer::Job(result.map_err(|payload| JobFailed::Panicked { text: text_of(payload) })));
        };
        place.fill(id.0, Box::new(work));
        self.accepted(id, key, owner, Lane::Jobs);
        Ok(id)
    }

    /// Has a name resolved. An address needs nobody to ask; its answer comes the same way.
    pub(crate) fn resolve(
        &mut self,
        host: &str,
        port: u16,
        key: JobKey,
        owner: Owner,
    ) -> Result<JobId, ResolveError> {
        let id = JobId(self.next);
        if let Some(limit) = self.is_swamped(Lane::Names) {
            return Err(ResolveError::QueueFull { limit });
        }
        if let Some(ip) = names::literal(host) {
            self.accepted(id, key, owner, Lane::Names);
            self.reporter(id)(Answer::Names(Ok(vec![SocketAddr::new(ip, port)])));
            return Ok(id);
        }
        if !names::is_name(host) {
            return Err(ResolveError::BadName);
        }
        let (report, names, host) = (self.reporter(id), self.pools.names().clone(), host.to_owned());
        let place = match self.pools.lane(Lane::Names).enter() {
            Ok(place) => place,
            Err(Refusal::Full { limit }) => return Err(ResolveError::QueueFull { limit }),
            Err(refusal) => return Err(JobError::from(refusal).into()),
        };
        let work: Work = Box::new(move || report(Answer::Names(names.look_up(&host, port))));
        place.fill(id.0, work);
        self.accepted(id, key, owner, Lane::Names);
        Ok(id)
    }

    /// Cancels one job: it has no other answer than that. False if it was answered or cancelled before.
    pub(crate) fn cancel(&mut self, id: JobId) -> bool {
        let Some(row) = self.rows.get_mut(&id) else { return false };
        if std::mem::replace(&mut row.is_cancelled, true) {
            return false;
        }
        let (lane, answer) = (row.lane, cancelled(row.lane));
        self.pools.lane(lane).withdraw(id.0);
        self.reporter(id)(answer);
        true
    }

    /// Cancels everything that has not begun.
    pub(crate) fn cancel_waiting(&mut self) {
        let ids: Vec<_> = self.rows.iter().map(|(id, row)| (*id, row.lane)).collect();
        for (id, lane) in ids {
            if self.pools.lane(lane).withdraw(id.0)
                && let Some(row) = self.rows.get_mut(&id)
            {
                row.is_cancelled = true;
                self.reporter(id)(cancelled(lane));
            }
        }
    }

    /// Cancels everything.
    pub(crate) fn cancel_all(&mut self) {
        let ids: Vec<_> = self.rows.keys().copied().collect();
        for id in ids {
            self.cancel(id);
        }
    }

    /// Whether any job is tied to a connection.
    #[inline]
    pub(crate) fn any_tied(&self) -> bool {
        !self.tied.is_empty()
    }

    /// A connection is over, and so are its jobs. Says how many there were.
    pub(crate) fn forget(&mut self, conn: ConnId) -> usize {
        let range = (conn, JobId(0))..=(conn, JobId(u64::MAX));
        let ids: Vec<_> = self.tied.range(range).map(|(_, id)| *id).collect();
        for id in &ids {
            if let Some(row) = self.remove(*id) {
                self.pools.lane(row.lane).withdraw(id.0);
            }
        }
        ids.len()
    }

    /// The next answer, whose it is and what the handler calls it.
    pub(crate) fn next(&mut self) -> Option<(JobKey, Owner, Answer<M>)> {
        while let Ok(Done { id, answer }) = self.answers.try_recv() {
            let Some(row) = self.remove(id) else {
                discard(answer);
                continue;
            };
            let answer = if row.is_cancelled {
                discard(answer);
                cancelled(row.lane)
            } else {
                answer
            };
            return Some((row.key, row.owner, answer));
        }
        None
    }

    /// Whether any answer has come.
    pub(crate) fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// How many jobs have no answer yet.
    pub(crate) fn in_flight(&self) -> usize {
        self.rows.len()
    }

    fn accepted(&mut self, id: JobId, key: JobKey, owner: Owner, lane: Lane) {
        self.next += 1;
        self.rows.insert(id, Row { key, owner, lane, is_cancelled: false });
        if let Owner::Conn(conn) | Owner::Dial(conn) = owner {
            self.tied.insert((conn, id));
        }
    }

    /// The limit of answers that wait to be handed out, if it is reached. Jobs that are done, names that need
    /// not be asked for and what was cancelled wait in no other queue.
    fn is_swamped(&self, lane: Lane) -> Option<usize> {
        let limit = self.pools.lane(lane).limit().max(ANSWERS_MIN);
        (self.answers.len() >= limit).then_some(limit)
    }

    fn remove(&mut self, id: JobId) -> Option<Row> {
        let row = self.rows.remove(&id)?;
        if let Owner::Conn(conn) | Owner::Dial(conn) = row.owner {
            self.tied.remove(&(conn, id));
        }
        Some(row)
    }

    /// How an answer comes home, from any thread.
    fn reporter(&self, id: JobId) -> impl FnOnce(Answer<M>) + Send + 'static + use<M> {
        let (done, bell) = (self.done.clone(), Arc::clone(&self.bell));
        move |answer| {
            // A worker that has ended wants no answer.
            if done.send(Done { id, answer }).is_ok() {
                bell.ring();
            }
        }
    }
}

impl<M> Drop for Jobs<M> {
    /// Nobody is left who could use an answer.
    fn drop(&mut self) {
        for (id, row) in &self.rows {
            self.pools.lane(row.lane).withdraw(id.0);
        }
        while let Ok(Done { answer, .. }) = self.answers.try_recv() {
            discard(answer);
        }
    }
}

impl<M> fmt::Debug for Jobs<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jobs").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl From<Refusal> for JobError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full { limit } => Self::QueueFull { limit },
            Refusal::NoThread { errno } => Self::NoThread { errno },
            Refusal::Closed => Self::ShuttingDown,
        }
    }
}

fn cancelled<M>(lane: Lane) -> Answer<M> {
    match lane {
        Lane::Jobs => Answer::Job(Err(JobFailed::Cancelled)),
        Lane::Names => Answer::Names(Err(ResolveError::Cancelled)),
    }
}

/// What somebody panicked with, if it was a text.
fn text_of(payload: Box<dyn Any + Send>) -> String {
    let text = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (_, Some(text)) => text.clone(),
        _ => "something that is no text".to_owned(),
    };
    drop_carefully(payload);
    text
}

/// Drops an answer that nobody waits for any more. The drop of a message may panic.
pub(crate) fn discard<M>(answer: Answer<M>) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(answer))) {
        drop_carefully(payload);
    }
}
