//! Child processes: what a program asks for, what becomes of it, and who waits for it.
//!
//! Whoever has started a process waits for it until it has ended and was collected; a process that
//! nobody waits for any more is handed to the reaper. So no child stays behind as a zombie.

mod command;
mod error;
mod exit;
mod nursery;
mod process;
mod reaper;
mod simulated;

pub use command::{AtShutdown, ChildCommand, ChildStdio, Spawned};
pub use error::{KillError, NotSpawned, SpawnError};
pub use exit::ChildExit;

pub(crate) use command::Ends;
pub(crate) use nursery::{Child, Children};
pub(crate) use process::Process;
pub(crate) use simulated::{Company, Part};

use crate::conn::ConnId;
use std::fmt;

/// What a child means, in the words of whoever has started it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChildKey(pub u64);

/// Names one child of one worker, for as long as you like.
///
/// It is not the number of a process, which the system gives to another process one day. An id never
/// means another child, and one that is over is harmless.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChildId(ConnId);

impl ChildId {
    pub(crate) fn new(row: ConnId) -> Self {
        Self(row)
    }

    /// Its row in the table of children.
    pub(crate) fn row(self) -> ConnId {
        self.0
    }
}

impl fmt::Debug for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChildId({})", self.0)
    }
}

impl fmt::Display for ChildId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
