//! The layers of ringline-core: which module may name which. This table is the place to edit when a module is added.
//!
//! A module names its own rank and what lies below. The invariant this keeps: no cycle between layers, and neither the
//! connection's state machine nor a backend can be changed by a change in the other.

/// A module and its rank; names go from a higher rank to a lower one, or to an equal one. A folder inside a module may
/// have a rank of its own. `lib.rs` stands above all and is not listed.
pub(crate) const LAYERS: &[(&str, u8)] = &[
    ("sys", 0),
    ("buf", 1),
    ("layer", 1),
    ("metrics", 1),
    ("op", 1),
    ("timer", 1),
    ("backend", 2),
    ("mail", 2),
    ("config", 3),
    ("net", 2),
    // Plain data that the kernel's form is made from, and what operations carry of it.
    ("net::addr", 0),
    ("net::unix_addr", 0),
    ("net::peer", 1),
    ("net::connect_options", 1),
    ("net::socket_options", 1),
    ("signal", 2),
    ("backend::sim", 3),
    ("child", 3),
    ("backend::uring", 3),
    ("conn", 3),
    ("udp", 3),
    ("job", 3),
    ("consumed", 4),
    ("ctx", 4),
    ("handler", 4),
    ("worker", 5),
    ("server", 6),
    ("testing", 7),
];

/// Names that stay forbidden although the ranks would allow them.
pub(crate) const NEVER: &[(&str, &str)] = &[
    ("conn", "backend"),
    ("backend", "conn"),
    ("backend", "ctx"),
    ("backend", "handler"),
    ("backend", "worker"),
    ("backend::sim", "backend::uring"),
    ("backend::uring", "backend::sim"),
];

/// The trait whose methods are the callbacks.
pub(crate) const CALLBACK_TRAIT: &str = "EventHandler";

/// The modules that may call a callback.
pub(crate) const CALLERS: &[&str] = &["worker::dispatch", "testing"];

/// The trait that a backend implements; a value of it is called `backend` everywhere.
pub(crate) const BACKEND_TRAIT: &str = "Backend";

/// The beginning of the names of a backend's methods that submit an operation.
pub(crate) const SUBMIT: &str = "push";

/// The modules that may submit.
pub(crate) const SUBMITTERS: &[&str] =
    &["worker::flush", "worker::accept", "worker::children", "worker::datagrams", "backend", "testing"];

/// Folders and files below `ringline-core/src` that may hold unsafe code.
pub(crate) const UNSAFE_ROOMS: &[&str] = &["sys/", "backend/uring/", "buf/guard.rs"];

/// Modules that split borrows with fields and views, never with cells or pointers.
pub(crate) const WITHOUT_CELLS: &[&str] = &["conn", "ctx", "worker"];

/// The rank of a module: the one of its longest prefix that is listed.
pub(crate) fn rank(module: &[String]) -> Option<u8> {
    (1..=module.len()).rev().find_map(|length| {
        let name = module[..length].join("::");
        LAYERS.iter().find(|(layer, _)| *layer == name).map(|(_, rank)| *rank)
    })
}

/// Whether the module is the named one or inside it.
pub(crate) fn is_within(module: &[String], name: &str) -> bool {
    let mut parts = module.iter();
    name.split("::").all(|wanted| parts.next().is_some_and(|part| part == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str) -> Vec<String> {
        path.split("::").map(str::to_owned).collect()
    }

    #[test]
    fn a_folder_may_outrank_its_module() {
        assert_eq!(rank(&module("backend")), Some(2));
        assert_eq!(rank(&module("backend::uring::lift")), Some(3));
        assert_eq!(rank(&module("nowhere")), None);
        assert_eq!(rank(&[]), None);
    }

    #[test]
    fn within_goes_by_whole_names() {
        assert!(is_within(&module("worker::dispatch::data"), "worker::dispatch"));
        assert!(!is_within(&module("worker::dispatcher"), "worker::dispatch"));
        assert!(!is_within(&module("worker"), "worker::dispatch"));
    }

    #[test]
    fn no_module_is_listed_twice() {
        let mut names: Vec<_> = LAYERS.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LAYERS.len());
    }

    #[test]
    fn what_is_never_named_is_listed() {
        for name in NEVER.iter().flat_map(|(from, to)| [from, to]) {
            assert!(LAYERS.iter().any(|(layer, _)| layer == name), "{name} is in no layer");
        }
    }
}
