//! Work that blocks, given away.

use super::Ctx;
use crate::conn::ConnId;
use crate::handler::EventHandler;
use crate::job::{JobError, JobId, JobKey, JobRejected, Owner, ResolveError};

impl<H: EventHandler> Ctx<'_, H> {
    /// Has something done on another thread that may block: reading a file, asking a database, a long
    /// calculation. What it returns comes with [`on_job`](EventHandler::on_job), exactly once for every
    /// job that is accepted.
    ///
    /// A server has [`blocking_threads`](crate::ConfigBuilder::blocking_threads) for that, which are
    /// started when they are needed and end when they are not; starting one takes this callback some
    /// ten microseconds. Jobs begin in the order in which they were given.
    ///
    /// # Errors
    ///
    /// [`JobError::QueueFull`], also when as many answers wait to be handed out
    /// ([`blocking_queue`](crate::ConfigBuilder::blocking_queue), at least 1024), [`JobError::NoThread`] and
    /// [`JobError::ShuttingDown`]. The job comes back.
    pub fn run_blocking<F>(&mut self, key: JobKey, job: F) -> Result<JobId, JobRejected<F>>
    where
        F: FnOnce() -> H::Message + Send + 'static,
    {
        self.give(key, Owner::Worker, job)
    }

    /// The same for a connection. What it returns comes with
    /// [`on_conn_job`](EventHandler::on_conn_job) if the connection is still open by then. When the
    /// connection is over, a job that has not begun is dropped without being run, and the result of one
    /// that runs is dropped when it comes.
    ///
    /// # Errors
    ///
    /// As [`run_blocking`](Self::run_blocking), and [`JobError::NotOpen`].
    pub fn run_blocking_for<F>(&mut self, conn: ConnId, key: JobKey, job: F) -> Result<JobId, JobRejected<F>>
    where
        F: FnOnce() -> H::Message + Send + 'static,
    {
        if !self.io.is_open(conn) {
            return Err(JobRejected { error: JobError::NotOpen, job });
        }
        self.give(key, Owner::Conn(conn), job)
    }

    /// Cancels a job or a resolution of this worker. Its answer says so, and comes at once: one that has
    /// not begun is dropped without being run, and the result of one that runs is dropped when it comes.
    /// False if the answer has come, or it was cancelled before, or ended with its connection.
    pub fn cancel_job(&mut self, job: JobId) -> bool {
        self.desk.jobs.cancel(job)
    }

    /// Looks up the addresses of a host, with the system's resolver and on threads of its own. They come
    /// with [`on_resolved`](EventHandler::on_resolved), each with `port`, in the order that the resolver
    /// prefers, each once. A host that is an address already needs no thread, and its answer comes as
    /// soon.
    ///
    /// # Errors
    ///
    /// [`ResolveError::BadName`], [`ResolveError::QueueFull`], also when as many answers wait to be handed out
    /// ([`resolve_queue`](crate::ConfigBuilder::resolve_queue), at least 1024), [`ResolveError::NoThread`] and
    /// [`ResolveError::ShuttingDown`]; then no answer follows.
    pub fn resolve(&mut self, host: &str, port: u16, key: JobKey) -> Result<JobId, ResolveError> {
        let given = if self.io.is_ending {
            Err(ResolveError::ShuttingDown)
        } else {
            self.desk.jobs.resolve(host, port, key, Owner::Worker)
        };
        self.count(given.is_ok());
        given
    }

    fn give<F>(&mut self, key: JobKey, owner: Owner, job: F) -> Result<JobId, JobRejected<F>>
    where
        F: FnOnce() -> H::Message + Send + 'static,
    {
        let given = if self.io.is_ending {
            Err(JobRejected { error: JobError::ShuttingDown, job })
        } else {
            self.desk.jobs.run(key, owner, job)
        };
        self.count(given.is_ok());
        given
    }

    fn count(&self, is_accepted: bool) {
        let shard = &self.io.shard;
        let counter = if is_accepted { &shard.jobs } else { &shard.jobs_rejected };
        counter.increment();
        shard.jobs_active.set(self.desk.jobs.in_flight() as i64);
    }
}
