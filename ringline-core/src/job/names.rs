//! From names to addresses.

use super::error::JobError;
use crate::net::resolve_error::{NAME_BYTES_MAX, ResolveError};
use dns_lookup::{AddrInfoHints, LookupErrorKind, getaddrinfo};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

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
