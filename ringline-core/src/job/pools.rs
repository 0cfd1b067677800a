//! The two pools of a server.

use super::names::{Names, ResolveError};
use super::pool::{IDLE, Plan, Pool};
use crate::config::Config;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// Whose pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Jobs,
    Names,
}

/// One worker's copy.
#[derive(Clone, Debug)]
pub(crate) struct Pools {
    jobs: Pool,
    lookups: Pool,
    names: Names,
}

impl Pools {
    /// With threads that run on these CPUs, if they are named.
    pub(crate) fn new(config: &Config, cpus: Option<Vec<usize>>) -> Self {
        Self::with(config, cpus.map(Into::into), false, Names::System)
    }

    /// For a worker under test: only names from a table, and without threads if it is to be run by hand.
    pub(crate) fn for_test(config: &Config, by_hand: bool) -> Self {
        Self::with(config, None, by_hand, Names::table())
    }

    fn with(config: &Config, cpus: Option<Arc<[usize]>>, by_hand: bool, names: Names) -> Self {
        let jobs = Plan {
            name: "ringline-job",
            threads: config.blocking_threads(),
            queue: config.blocking_queue(),
            idle: IDLE,
            cpus,
            by_hand,
        };
        let lookups = Plan {
            name: "ringline-dns",
            threads: config.resolve_threads(),
            queue: config.resolve_queue(),
            ..jobs.clone()
        };
        Self { jobs: Pool::new(jobs), lookups: Pool::new(lookups), names }
    }

    /// Takes nothing more and drops what has not begun.
    pub(crate) fn close(&self) {
        self.both().for_each(Pool::close);
    }

    /// Waits until `until` for jobs that run, and for the threads of those that do not; says how many
    /// jobs are left.
    pub(crate) fn wait(&self, until: Instant) -> usize {
        self.both().map(|pool| pool.wait(until)).sum()
    }

    /// Runs everything that waits, here and now.
    pub(crate) fn run_by_hand(&self) {
        self.both().for_each(|pool| while pool.run_one() {});
    }

    /// Whether anything waits that nobody holds back.
    pub(crate) fn has_runnable(&self) -> bool {
        self.both().any(Pool::has_runnable)
    }

    pub(crate) fn hold(&self) {
        self.both().for_each(Pool::hold);
    }

    pub(crate) fn release(&self) {
        self.both().for_each(Pool::release);
    }

    /// Permits one held job to begin, one for a handler rather than a name. False if none waits.
    pub(crate) fn permit(&self) -> bool {
        self.jobs.permit() || self.lookups.permit()
    }

    /// Gives a name an answer, under test.
    pub(crate) fn name(&self, host: &str, answer: Result<Vec<IpAddr>, ResolveError>) {
        self.names.set(host, answer);
    }

    pub(super) fn lane(&self, lane: Lane) -> &Pool {
        match lane {
            Lane::Jobs => &self.jobs,
            Lane::Names => &self.lookups,
        }
    }

    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    fn both(&self) -> impl Iterator<Item = &Pool> {
        [&self.jobs, &self.lookups].into_iter()
    }
}
