//! Jobs and names of the worker.

use super::{Kernel, World};
use crate::handler::EventHandler;
use crate::job::ResolveError;
use std::net::IpAddr;

impl<H: EventHandler> World<H> {
    /// From now on no job begins before [`run_job`](Self::run_job) or
    /// [`release_jobs`](Self::release_jobs) says so. That goes for names, too.
    ///
    /// Without it, jobs of a simulated worker run at the beginning of the next turn, one after the other
    /// and on the thread of the test; on the real kernel they have threads of their own.
    pub fn hold_jobs(&mut self) {
        self.pools.hold();
    }

    /// Undoes [`hold_jobs`](Self::hold_jobs).
    pub fn release_jobs(&mut self) {
        self.pools.release();
    }

    /// Has one held job begin, the one that has waited longest. False if none waits.
    pub fn run_job(&mut self) -> bool {
        let has_one = self.pools.permit();
        self.run_jobs();
        has_one
    }

    /// Says what the worker is told when it asks for this name. Other names do not exist: a worker under
    /// test does not ask the system.
    pub fn set_name(&mut self, host: &str, answer: Result<Vec<IpAddr>, ResolveError>) {
        self.pools.name(host, answer);
    }

    /// A simulated worker has nobody else to run its jobs.
    pub(super) fn run_jobs(&mut self) {
        if let Kernel::Simulated { .. } = self.kernel {
            self.pools.run_by_hand();
        }
    }
}
