//! Why a child was not started, or not reached.

use super::ChildCommand;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fmt, io};

/// Why [`Ctx::spawn`](crate::Ctx::spawn) has not started a child.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The worker has as many children as it may. Wait for one to end, or raise
    /// `children_per_worker`.
    #[error("the worker has {limit} children already; wait for one to end or raise children_per_worker")]
    Full {
        /// The limit in force.
        limit: u32,
    },
    /// The child is to have connections, and the worker has no room for them.
    #[error("the worker has {limit} connections already; close some or raise connections_per_worker")]
    ConnectionsFull {
        /// The limit in force.
        limit: u32,
    },
    /// The server shuts down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// There is no such program.
    #[error("there is no program {}; give its path, or a name that is in PATH", program.display())]
    NotFound {
        /// The program as it was named.
        program: OsString,
    },
    /// There is no such directory to run in.
    #[error("there is no directory {} to run in", path.display())]
    NoDirectory {
        /// The directory as it was named.
        path: PathBuf,
    },
    /// The program may not be run.
    #[error("{} may not be run ({source}); look at its mode, its owner and how it is mounted", program.display())]
    NotPermitted {
        /// The program as it was named.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },
    /// There are as many processes as there may be.
    #[error("no process more ({source}); raise RLIMIT_NPROC (ulimit -u) or pids.max of the control group")]
    TooManyProcesses {
        /// What the system said.
        source: io::Error,
    },
    /// There are as many open files as there may be.
    #[error("no descriptor more ({source}); raise RLIMIT_NOFILE (ulimit -n)")]
    TooManyFiles {
        /// What the system said.
        source: io::Error,
    },
    /// Something else.
    #[error("{} could not be started: {source}", program.display())]
    Failed {
        /// The program as it was named.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },
}

impl SpawnError {
    /// What the system's answer to the start of `program` means.
    pub(crate) fn from_system(source: io::Error, program: OsString, directory: Option<&Path>) -> Self {
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => match directory.filter(|path| !path.is_dir()) {
                Some(path) => Self::NoDirectory { path: path.to_owned() },
                None => Self::NotFound { program },
            },
            Some(libc::EACCES | libc::EPERM) => Self::NotPermitted { program, source },
            Some(libc::EAGAIN) => Self::TooManyProcesses { source },
            Some(libc::EMFILE | libc::ENFILE) => Self::TooManyFiles { source },
            _ => Self::Failed { program, source },
        }
    }
}

/// A child that was not started: why, and the command as it was given, with its states.
pub struct NotSpawned<C> {
    /// Why not.
    pub error: SpawnError,
    /// The command, to be tried again or taken apart.
    pub command: Box<ChildCommand<C>>,
}

impl<C> fmt::Debug for NotSpawned<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotSpawned").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<C> fmt::Display for NotSpawned<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<C> std::error::Error for NotSpawned<C> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// Why [`Ctx::kill`](crate::Ctx::kill) has not sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KillError {
    /// The child has ended.
    #[error("the child has ended")]
    Gone,
    /// The child has changed its user and cannot be signalled any more.
    #[error("the child runs as another user and takes no signals from here")]
    NotPermitted,
    /// Something else.
    #[error("the signal could not be sent (errno {errno})")]
    Failed {
        /// What the system said.
        errno: i32,
    },
}

impl KillError {
    pub(crate) fn from_errno(errno: i32) -> Self {
        match errno {
            libc::ESRCH => Self::Gone,
            libc::EPERM => Self::NotPermitted,
            errno => Self::Failed { errno },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(errno: i32, directory: Option<&str>) -> String {
        let source = io::Error::from_raw_os_error(errno);
        SpawnError::from_system(source, "tool".into(), directory.map(Path::new)).to_string()
    }

    #[test]
    fn an_error_names_what_is_in_the_way_and_the_way_out() {
        assert_eq!(
            text(libc::ENOENT, None),
            "there is no program tool; give its path, or a name that is in PATH"
        );
        assert_eq!(
            text(libc::ENOENT, Some("/")),
            "there is no program tool; give its path, or a name that is in PATH"
        );
        assert_eq!(text(libc::ENOENT, Some("/no/such")), "there is no directory /no/such to run in");
        assert!(text(libc::EACCES, None).starts_with("tool may not be run (Permission denied"));
        assert!(text(libc::EAGAIN, None).contains("RLIMIT_NPROC"));
        assert!(text(libc::EMFILE, None).contains("RLIMIT_NOFILE"));
        assert!(text(libc::E2BIG, None).starts_with("tool could not be started: Argument list too long"));
    }
}
