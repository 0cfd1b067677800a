//! One child as its worker has it: a process of the system, or one that a test plays.

use super::{ChildExit, Company, Part, reaper};
use crate::sys::{self, EventFd};
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// A child whose end was not told.
#[derive(Debug)]
pub(crate) enum Process {
    System(sys::process::Process),
    /// It has ended, and somebody else has collected it before there was a descriptor of it. Its number
    /// may be a stranger's. In the place of its descriptor is one that is readable.
    Lost(EventFd),
    Simulated {
        company: Company,
        part: Part,
    },
}

impl Process {
    /// Takes hold of a child that has just been started. That number is its own until it is collected;
    /// others can be quicker with that: code of this program that waits for any child, and the system if
    /// the program ignores `SIGCHLD`.
    pub(super) fn hold(number: u32) -> io::Result<Self> {
        match sys::process::Process::open(number) {
            Ok(process) if process.is_child() => Ok(Self::System(process)),
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            // Nobody, or a stranger.
            Ok(_) | Err(_) => {
                let over = EventFd::new()?;
                over.signal()?;
                Ok(Self::Lost(over))
            }
        }
    }

    /// The descriptor that is readable when it has ended.
    pub(crate) fn descriptor(&self) -> RawFd {
        match self {
            Self::System(process) => process.as_fd().as_raw_fd(),
            Self::Lost(over) => over.as_fd().as_raw_fd(),
            Self::Simulated { part, .. } => part.descriptor(),
        }
    }

    /// Its number, if it has one.
    pub(crate) fn number(&self) -> Option<u32> {
        match self {
            Self::System(process) => Some(process.number()),
            Self::Lost(_) => None,
            Self::Simulated { part, .. } => Some(part.descriptor() as u32),
        }
    }

    /// How it has ended, if it has; from then on it is collected.
    pub(crate) fn try_wait(&self) -> Option<ChildExit> {
        match self {
            Self::System(process) => match process.try_wait() {
                Ok(ended) => ended.map(ChildExit::from),
                Err(_) => Some(ChildExit::Unknown),
            },
            Self::Lost(_) => Some(ChildExit::Unknown),
            Self::Simulated { company, part } => company.collect(*part),
        }
    }

    /// Sends a signal, or says why not, with a positive errno.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), i32> {
        match self {
            Self::System(process) => {
                process.signal(signal).map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
            }
            Self::Lost(_) => Err(libc::ESRCH),
            Self::Simulated { company, part } => company.signal(*part, signal),
        }
    }

    /// Lets somebody else wait for it.
    pub(crate) fn hand_over(self) {
        match self {
            Self::System(process) => reaper::take(process),
            Self::Lost(_) => {}
            Self::Simulated { company, part } => company.leave(part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::parent_id;
    use std::process::Command;

    /// What becomes of a child whose number leads nowhere, or to somebody else.
    fn assert_lost(number: u32) {
        let process = Process::hold(number).unwrap();
        assert!(matches!(process, Process::Lost(_)), "{process:?}");
        assert_eq!(process.number(), None);
        assert_eq!(process.signal(libc::SIGKILL), Err(libc::ESRCH), "nobody gets its signals");
        assert_eq!(process.try_wait(), Some(ChildExit::Unknown));
        let Process::Lost(over) = &process else { unreachable!("as was seen") };
        sys::process::wait_for_any(&[], over.as_fd()).unwrap();
        assert_eq!(over.drain().unwrap(), 1, "its end is seen at once");
        process.hand_over();
    }

    #[test]
    fn a_child_that_others_have_collected_has_ended_in_an_unknown_way() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_lost(child.id());
    }

    #[test]
    fn a_stranger_with_the_number_of_a_child_is_left_alone() {
        assert_lost(parent_id().max(1));
    }

    #[test]
    #[expect(clippy::zombie_processes, reason = "whoever takes it over collects it")]
    fn a_child_that_is_there_is_held() {
        let child = Command::new("true").spawn().unwrap();
        let process = Process::hold(child.id()).unwrap();
        assert_eq!(process.number(), Some(child.id()));
        process.hand_over();
    }
}
