//! Answers of jobs, and what the end of a connection or of the worker means for them.

use super::Worker;
use crate::backend::Backend;
use crate::conn::ConnId;
use crate::handler::EventHandler;
use crate::job::{self, Answer, JobFailed, JobKey, Owner, ResolveError};

/// How many answers a turn hands out at most; what is left is for the next turn, which does not wait.
const ANSWERS_PER_TURN: usize = 256;

impl<H: EventHandler, B: Backend> Worker<H, B> {
    pub(super) fn deliver_answers(&mut self) {
        for _ in 0..ANSWERS_PER_TURN {
            let Some((key, owner, answer)) = self.desk.jobs.next() else { break };
            match (owner, answer) {
                (_, Answer::Names(result)) => {
                    let is_dropped = result == Err(ResolveError::Cancelled);
                    self.io.shard.jobs_dropped.add(is_dropped.into());
                    self.resolved_handler(key, result);
                }
                (Owner::Worker, Answer::Job(result)) => {
                    self.count_failed(&result);
                    self.job_handler(key, result);
                }
                (Owner::Conn(id), Answer::Job(result)) => self.deliver_conn_answer(id, key, result),
            }
        }
        self.io.shard.jobs_active.set(self.desk.jobs.in_flight() as i64);
    }

    fn deliver_conn_answer(&mut self, id: ConnId, key: JobKey, result: Result<H::Message, JobFailed>) {
        if self.io.is_open(id) {
            self.count_failed(&result);
            self.conn_job_handler(id, key, result);
        } else {
            self.io.shard.jobs_dropped.increment();
            job::discard(Answer::Job(result));
        }
    }

    /// A connection is over.
    #[cold]
    pub(super) fn drop_jobs_of(&mut self, id: ConnId) {
        let dropped = self.desk.jobs.forget(id);
        self.io.shard.jobs_dropped.add(dropped as u64);
        self.io.shard.jobs_active.set(self.desk.jobs.in_flight() as i64);
    }

    fn count_failed(&self, result: &Result<H::Message, JobFailed>) {
        match result {
            Ok(_) => {}
            Err(JobFailed::Panicked { .. }) => self.io.shard.jobs_panicked.increment(),
            Err(JobFailed::Cancelled) => self.io.shard.jobs_dropped.increment(),
        }
    }
}
