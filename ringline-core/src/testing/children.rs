//! Children of the worker under test, and sockets for it to adopt.

use super::{Kernel, World};
use crate::child::{ChildExit, Part};
use crate::handler::EventHandler;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// A child that the handler has started on the simulated kernel. Nothing is really run: how it goes on
/// is up to the test.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimulatedChild {
    part: Part,
    /// The program that was to be run.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

impl<H: EventHandler> World<H> {
    /// The next child that the handler has started on the simulated kernel, each once; nothing on the
    /// real one, where children are real. The far ends of its connections come as peers, from
    /// [`dialed`](Self::dialed), when the handler is told of them.
    pub fn spawned(&mut self) -> Option<SimulatedChild> {
        let Kernel::Simulated { worker, .. } = &self.kernel else { return None };
        let (part, program, arguments) = worker.backend.company().introduce()?;
        Some(SimulatedChild { part, program, arguments })
    }

    /// Ends a child, unless it has ended. Its connections stay as they are until their peers are closed.
    pub fn end_child(&mut self, child: &SimulatedChild, exit: ChildExit) {
        if let Kernel::Simulated { worker, .. } = &self.kernel {
            worker.backend.company().end(child.part, exit);
        }
    }

    /// The numbers of the signals that a child has got. `SIGKILL` has ended it, and so have `SIGTERM`,
    /// `SIGINT`, `SIGHUP` and `SIGQUIT`, unless it [endures](Self::endure) them.
    pub fn signals_of(&self, child: &SimulatedChild) -> Vec<i32> {
        match &self.kernel {
            Kernel::Simulated { worker, .. } => worker.backend.company().signals(child.part),
            Kernel::Real { .. } => Vec::new(),
        }
    }

    /// From now on only `SIGKILL` ends this child.
    pub fn endure(&mut self, child: &SimulatedChild) {
        if let Kernel::Simulated { worker, .. } = &self.kernel {
            worker.backend.company().endure(child.part);
        }
    }

    /// From now on starting a child fails with this error of the system on the simulated kernel, or works
    /// again.
    pub fn refuse_children(&mut self, errno: Option<i32>) {
        if let Kernel::Simulated { worker, .. } = &self.kernel {
            worker.backend.company().refuse(errno);
        }
    }

    /// A connected socket that the handler can [adopt](crate::Ctx::adopt); its peer comes from
    /// [`dialed`](Self::dialed). On the simulated kernel a socket stands for a connection in memory, and its
    /// real far end is of no use.
    ///
    /// # Panics
    ///
    /// If there is no socket to be had.
    pub fn adoptable(&mut self) -> OwnedFd {
        match &mut self.kernel {
            Kernel::Simulated { .. } => UnixStream::pair().expect("a pair of sockets").0.into(),
            Kernel::Real { peers, .. } => peers.adoptable(),
        }
    }
}
