//! From names to addresses.

use super::error::JobError;
use dns_lookup::{AddrInfoHints, LookupErrorKind, getaddrinfo};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

/// No name is longer, as text.
const NAME_BYTES_MAX: usize = 253;

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// There is no such name, or it has no address.
    #[error("no such name")]
    NotFound,
    /// No server has answered, or not yet. Asking later may help.
    #[error("the name could not be resolved now; try again later")]
    TryAgain,
    /// The resolver cannot do it.
    #[error("the resolver failed (EAI {code}); look at the configuration of the system's resolver")]
    Failed {
        /// What `getaddrinfo` returned.
        code: i32,
    },
    /// It is empty, longer than a name may be, or holds a zero.
    #[error("a name has 1 to {NAME_BYTES_MAX} bytes, none of them zero")]
    BadName,
    /// As many names wait as may.
    #[error("{limit} names wait already; try again later or raise resolve_queue or resolve_threads")]
    QueueFull {
        /// The limit in force: `resolve_queue`.
        limit: usize,
    },
    /// There is no thread, and none could be started.
    #[error("no thread could be started (errno {errno}); look at the limit of threads")]
    NoThread {
        /// What the system said.
        errno: i32,
    },
    /// It was cancelled, by [`Ctx::cancel_job`](crate::Ctx::cancel_job) or because the server shut down.
    #[error("the resolution was cancelled")]
    Cancelled,
    /// The server shuts down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl From<JobError> for ResolveError {
    fn from(error: JobError) -> Self {
        match error {
            JobError::QueueFull { limit } => Self::QueueFull { limit },
            JobError::NoThread { errno } => Self::NoThread { errno },
            JobError::NotOpen => Self::Cancelled,
            JobError::ShuttingDown => Self::ShuttingDown,
        }
    }
}

type Table = BTreeMap<String, Result<Vec<IpAddr>, ResolveError>>;

/// Who knows the names.
#[derive(Clone, Debug)]
pub(super) enum Names {
    System,
    /// A test does; names that it has not set do not exist.
    Table(Arc<Mutex<Table>>),
}

impl Names {
    pub(super) fn table() -> Self {
        Self::Table(Arc::default())
    }

    pub(super) fn set(&self, host: &str, answer: Result<Vec<IpAddr>, ResolveError>) {
        if let Self::Table(table) = self {
            let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
            table.insert(host.to_owned(), answer);
        }
    }

    /// All addresses of a name, in the order that the resolver prefers, each once. Blocks.
    pub(super) fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
        let found = match self {
            Self::System => ask_system(host)?,
            Self::Table(table) => {
                let table = table.lock().unwrap_or_else(PoisonError::into_inner);
                let ips = table.get(host).cloned().unwrap_or(Err(ResolveError::NotFound))?;
                ips.into_iter().map(|ip| SocketAddr::new(ip, 0)).collect()
            }
        };
        let mut addresses: Vec<SocketAddr> = Vec::with_capacity(found.len());
        for mut address in found {
            address.set_port(port);
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() { Err(ResolveError::NotFound) } else { Ok(addresses) }
    }
}

/// The address that the text of a host is already, with or without the brackets of IPv6.
pub(super) fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bare {
        Some(bare) => bare.parse().ok().map(IpAddr::V6),
        None => host.parse().ok(),
    }
}

/// Whether a resolver can be asked for it at all.
pub(super) fn is_name(host: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&host.len()) && !host.contains('\0')
}

fn ask_system(host: &str) -> Result<Vec<SocketAddr>, ResolveError> {
    // Without a type every address would come once for each type of socket.
    let hints = AddrInfoHints { socktype: libc::SOCK_STREAM, ..AddrInfoHints::default() };
    let found = getaddrinfo(Some(host), None, Some(hints)).map_err(|error| match error.kind() {
        LookupErrorKind::NoName | LookupErrorKind::NoData => ResolveError::NotFound,
        LookupErrorKind::Again => ResolveError::TryAgain,
        _ => ResolveError::Failed { code: error.error_num() },
    })?;
    // Addresses of other families are none that could be connected to.
    Ok(found.filter_map(Result::ok).map(|info| info.sockaddr).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_known_without_asking() {
        assert_eq!(literal("192.0.2.1"), Some(IpAddr::from([192, 0, 2, 1])));
        assert_eq!(literal("::1"), literal("[::1]"));
        assert!(literal("::1").is_some());
        for name in ["localhost", "", "[192.0.2.1]", "[::1", "1.2.3"] {
            assert_eq!(literal(name), None, "{name}");
        }
    }

    #[test]
    fn what_cannot_be_a_name_is_not_asked_for() {
        assert!(is_name("a") && is_name(&"a".repeat(253)));
        assert!(!is_name("") && !is_name(&"a".repeat(254)) && !is_name("a\0b"));
    }

    #[test]
    fn every_address_comes_once_and_in_order() {
        let names = Names::table();
        let [first, second] = [IpAddr::from([192, 0, 2, 7]), IpAddr::from([192, 0, 2, 3])];
        names.set("host", Ok(vec![first, second, first]));
        names.set("empty", Ok(Vec::new()));
        names.set("later", Err(ResolveError::TryAgain));
        let expected = [SocketAddr::new(first, 80), SocketAddr::new(second, 80)];
        assert_eq!(names.look_up("host", 80).unwrap(), expected);
        assert_eq!(names.look_up("empty", 80), Err(ResolveError::NotFound));
        assert_eq!(names.look_up("later", 80), Err(ResolveError::TryAgain));
        assert_eq!(names.look_up("nobody", 80), Err(ResolveError::NotFound));
    }
}
