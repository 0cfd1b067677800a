//! The children of one worker.
//!
//! A row is freed when nothing of its child is in flight: it was collected, or handed over.

use super::{AtShutdown, ChildCommand, ChildId, ChildKey, Company, Process, SpawnError};
use crate::conn::{ConnId, Table};
use crate::op::Tag;
use crate::timer::TimerId;
use std::io;

/// One child.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) process: Process,
    pub(crate) key: ChildKey,
    pub(crate) at_shutdown: AtShutdown,
    /// The worker's ring watches its descriptor.
    pub(crate) is_watched: bool,
    /// That was cancelled; one cancel is enough.
    pub(crate) is_cancelled: bool,
    /// Nobody is to wait for it any more.
    pub(crate) is_leaving: bool,
    /// When to look again after a watch that has failed, and how many have.
    pub(crate) rest: Option<TimerId>,
    pub(crate) rests: u8,
}

/// Who starts processes.
#[derive(Debug)]
enum Source {
    System,
    Simulated(Company),
}

/// All children of a worker. Those that are left when this is dropped are killed, unless they may go
/// on, and in any case somebody waits for them.
#[derive(Debug)]
pub(crate) struct Children {
    rows: Table<Child>,
    source: Source,
    /// Those of which something is to be submitted.
    pub(crate) restless: Vec<ConnId>,
    /// The list above is on the worker's own list.
    pub(crate) is_marked: bool,
    /// Cancels in flight.
    pub(crate) cancels: u32,
}

impl Children {
    pub(crate) fn new(limit: u32, worker: u32) -> Self {
        Self {
            rows: Table::new(limit, worker),
            source: Source::System,
            restless: Vec::new(),
            is_marked: false,
            cancels: 0,
        }
    }

    /// From now on nothing is really started.
    pub(crate) fn simulate(&mut self, company: Company) {
        self.source = Source::Simulated(company);
    }

    /// Starts a child for which there is room.
    pub(crate) fn start<C>(
        &mut self,
        command: &mut ChildCommand<C>,
        key: ChildKey,
    ) -> Result<ChildId, SpawnError> {
        let started = match &self.source {
            Source::System => start_process(command),
            Source::Simulated(company) => company
                .start(command.program(), command.arguments())
                .map(|part| Process::Simulated { company: company.clone(), part })
                .map_err(io::Error::from_raw_os_error),
        };
        let process = started
            .map_err(|error| SpawnError::from_system(error, command.program(), command.directory()))?;
        let child = Child {
            process,
            key,
            at_shutdown: command.shutdown_rule(),
            is_watched: false,
            is_cancelled: false,
            is_leaving: false,
            rest: None,
            rests: 0,
        };
        let Ok(row) = self.rows.insert(child) else { unreachable!("the caller made sure of room") };
        self.restless.push(row);
        Ok(ChildId::new(row))
    }

    pub(crate) fn get(&self, id: ChildId) -> Option<&Child> {
        self.rows.get(id.row())
    }

    pub(crate) fn get_mut(&mut self, id: ChildId) -> Option<&mut Child> {
        self.rows.get_mut(id.row())
    }

    /// The child that a completion is about.
    pub(crate) fn find_mut(&mut self, tag: Tag) -> Option<(ChildId, &mut Child)> {
        self.rows.find_mut(tag).map(|(row, child)| (ChildId::new(row), child))
    }

    pub(crate) fn remove(&mut self, id: ChildId) -> Option<Child> {
        let child = self.rows.remove(id.row())?;
        if self.rows.live() == 0 {
            // Whoever is on it still is gone, and the worker may be done before it is worked off.
            self.restless.clear();
        }
        Some(child)
    }

    /// All ids at this time.
    pub(crate) fn ids(&self) -> Vec<ChildId> {
        (0..self.rows.height()).filter_map(|row| self.rows.at(row)).map(ChildId::new).collect()
    }

    pub(crate) fn live(&self) -> usize {
        self.rows.live()
    }

    pub(crate) fn limit(&self) -> u32 {
        self.rows.limit()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.rows.is_full()
    }

    /// Whether there are none, and nothing is in flight for any.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.live() == 0 && self.cancels == 0
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for id in self.ids() {
            let Some(child) = self.remove(id) else { continue };
            if child.at_shutdown != AtShutdown::Detach {
                // One that cannot be signalled has ended or is not ours to kill.
                let _ = child.process.signal(libc::SIGKILL);
            }
            child.process.hand_over();
        }
    }
}

/// Starts a process and takes hold of it by a descriptor.
fn start_process<C>(command: &mut ChildCommand<C>) -> io::Result<Process> {
    let mut child = command.run()?;
    Process::hold(child.id()).inspect_err(|_| {
        // Without the descriptor nobody could wait for it. One that others have collected is left alone,
        // because its number may be a stranger's.
        if matches!(child.try_wait(), Ok(None)) {
            let _ = child.kill();
            let _ = child.wait();
        }
    })
}
