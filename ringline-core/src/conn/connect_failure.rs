//! Why a connection was not made, in few words.

use super::{CloseReason, Limit};
use crate::net::ResolveError;

/// What kept a connection that the handler has asked for from being made, as
/// [`CloseReason::connect_failure`] tells it. What to do about it depends on little more than this: ask again
/// later, ask somebody else, or say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectFailure {
    /// The host is there, and nobody takes connections at that address; on a Unix socket, there is no such
    /// socket, or more wait at it than it has room for.
    Refused,
    /// The network knows no way to the host.
    Unreachable,
    /// Nobody has answered in time: within
    /// [`connect_timeout`](crate::ConfigBuilder::connect_timeout), or for as long as the kernel tries.
    TimedOut,
    /// The name has no address, or none could be asked for.
    Unresolved(ResolveError),
    /// This process, worker or host has no more descriptors, connections, ports or memory.
    NoResources,
    /// A firewall, or the permissions of a Unix socket, forbid it.
    NotPermitted,
    /// Something else, such as a local address that this host does not have, or an option that the kernel
    /// refuses.
    Other {
        /// The error number, as in `errno(3)`.
        errno: i32,
    },
}

impl CloseReason {
    /// Why a connection that the handler has asked for was not made; `None` for the end of one that was, and
    /// of one that was given up.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringline_core::{CloseReason, ConnectFailure};
    ///
    /// fn is_worth_another_try(reason: CloseReason) -> bool {
    ///     matches!(reason.connect_failure(), Some(ConnectFailure::Refused | ConnectFailure::TimedOut))
    /// }
    /// # assert!(is_worth_another_try(CloseReason::ConnectFailed { errno: 111 }));
    /// ```
    pub fn connect_failure(self) -> Option<ConnectFailure> {
        match self {
            Self::LimitExceeded(Limit::ConnectTimeout) => Some(ConnectFailure::TimedOut),
            Self::Unresolved { error } => Some(ConnectFailure::Unresolved(error)),
            Self::ConnectFailed { errno } => Some(from_errno(errno)),
            _ => None,
        }
    }
}

fn from_errno(errno: i32) -> ConnectFailure {
    match errno {
        // A full Unix socket says `EAGAIN`; a missing one that there is no such file.
        libc::ECONNREFUSED | libc::ECONNRESET | libc::ENOENT | libc::EAGAIN => ConnectFailure::Refused,
        libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ENETDOWN => {
            ConnectFailure::Unreachable
        }
        libc::ETIMEDOUT => ConnectFailure::TimedOut,
        // Ports that are all in use are not available.
        libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM | libc::EADDRNOTAVAIL => {
            ConnectFailure::NoResources
        }
        libc::EACCES | libc::EPERM => ConnectFailure::NotPermitted,
        errno => ConnectFailure::Other { errno },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_of_a_connect_has_its_word_and_other_ends_have_none() {
        let failure = |errno| CloseReason::ConnectFailed { errno }.connect_failure();
        assert_eq!(failure(libc::ECONNREFUSED), Some(ConnectFailure::Refused));
        assert_eq!(failure(libc::ENOENT), Some(ConnectFailure::Refused));
        assert_eq!(failure(libc::EHOSTUNREACH), Some(ConnectFailure::Unreachable));
        assert_eq!(failure(libc::ETIMEDOUT), Some(ConnectFailure::TimedOut));
        assert_eq!(failure(libc::EMFILE), Some(ConnectFailure::NoResources));
        assert_eq!(failure(libc::EACCES), Some(ConnectFailure::NotPermitted));
        assert_eq!(failure(libc::EINVAL), Some(ConnectFailure::Other { errno: libc::EINVAL }));
        let timeout = CloseReason::LimitExceeded(Limit::ConnectTimeout);
        assert_eq!(timeout.connect_failure(), Some(ConnectFailure::TimedOut));
        let error = ResolveError::NotFound;
        let unresolved = CloseReason::Unresolved { error };
        assert_eq!(unresolved.connect_failure(), Some(ConnectFailure::Unresolved(error)));
        let others = [
            CloseReason::Aborted,
            CloseReason::LimitExceeded(Limit::Idle),
            CloseReason::Failed { errno: libc::ETIMEDOUT },
        ];
        assert!(others.iter().all(|reason| reason.connect_failure().is_none()));
    }
}
