//! One child as its worker has it: a process of the system, or one that a test plays.

use super::{ChildExit, Company, Part, reaper};
use crate::sys;
use std::os::fd::{AsRawFd, RawFd};

/// A child that was not collected.
#[derive(Debug)]
pub(crate) enum Process {
    System(sys::process::Process),
    Simulated { company: Company, part: Part },
}

impl Process {
    /// The descriptor that is readable when it has ended.
    pub(crate) fn descriptor(&self) -> RawFd {
        match self {
            Self::System(process) => process.as_fd().as_raw_fd(),
            Self::Simulated { part, .. } => part.descriptor(),
        }
    }

    /// Its number, if it has one.
    pub(crate) fn number(&self) -> u32 {
        match self {
            Self::System(process) => process.number(),
            Self::Simulated { part, .. } => part.descriptor() as u32,
        }
    }

    /// How it has ended, if it has; from then on it is collected.
    pub(crate) fn try_wait(&self) -> Option<ChildExit> {
        match self {
            Self::System(process) => match process.try_wait() {
                Ok(ended) => ended.map(ChildExit::from),
                Err(_) => Some(ChildExit::Unknown),
            },
            Self::Simulated { company, part } => company.collect(*part),
        }
    }

    /// Sends a signal, or says why not, with a positive errno.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), i32> {
        match self {
            Self::System(process) => {
                process.signal(signal).map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
            }
            Self::Simulated { company, part } => company.signal(*part, signal),
        }
    }

    /// Lets somebody else wait for it.
    pub(crate) fn hand_over(self) {
        match self {
            Self::System(process) => reaper::take(process),
            Self::Simulated { company, part } => company.leave(part),
        }
    }
}
