//! Imports go downhill: a module of ringline-core names only modules of its own layer or of a lower one.
//!
//! Every path that begins with `crate`, `self` or `super` is looked at, in imports, in code and inside macro calls. A
//! path to something that `lib.rs` exports again would hide its module, so it must be spelled in full.

use std::collections::BTreeSet;

use proc_macro2::Delimiter;

use super::finding::Finding;
use super::layers::{LAYERS, NEVER, is_within, rank};
use super::source::{Kind, Source};

const RULE: &str = "imports";
const TABLE: &str = "xtask/src/tidy/layers.rs";

/// Checks one file of ringline-core.
pub(super) fn check(source: &Source, findings: &mut Vec<Finding>) {
    let module = source.module();
    if module.is_empty() {
        return;
    }
    let Some(own) = rank(&module) else {
        let message = format!("module `{}` is not in the table of {TABLE}; give it a rank there", module[0]);
        findings.push(Finding::error(&source.path, 1, RULE, message));
        return;
    };
    let mut seen = BTreeSet::new();
    for (at, token) in source.tokens_of_product() {
        for target in targets(source, at) {
            if let Some(message) = judge(&module, own, &target)
                && seen.insert((token.line, message.clone()))
            {
                findings.push(Finding::error(&source.path, token.line, RULE, message));
            }
        }
    }
}

/// Finds the rows of the table whose module is gone.
pub(super) fn check_table<'a>(sources: impl Iterator<Item = &'a Source>, findings: &mut Vec<Finding>) {
    let modules: Vec<_> = sources.map(Source::module).collect();
    for (layer, _) in LAYERS {
        if !modules.iter().any(|module| is_within(module, layer)) {
            findings.push(Finding::warning(
                TABLE,
                1,
                RULE,
                format!("the table lists `{layer}`, which is no module"),
            ));
        }
    }
}

/// Something that a path names, from the crate's root.
#[derive(Debug)]
struct Target {
    path: Vec<String>,
    is_macro: bool,
}

/// What is wrong with naming `target` from `module`, whose rank is `own`.
fn judge(module: &[String], own: u8, target: &Target) -> Option<String> {
    let first = target.path.first()?;
    let name = target.path.join("::");
    if first == "*" || first.starts_with(char::is_uppercase) {
        return Some(format!("`crate::{name}` goes through lib.rs; name the module it comes from"));
    }
    let Some(rank) = rank(&target.path) else {
        let is_exported_macro = target.is_macro && target.path.len() == 1;
        return (!is_exported_macro)
            .then(|| format!("`crate::{name}` is in no module of the table of {TABLE}"));
    };
    if let Some((from, to)) =
        NEVER.iter().find(|(from, to)| is_within(module, from) && is_within(&target.path, to))
    {
        return Some(format!("`{from}` must never name `{to}`, here `crate::{name}`"));
    }
    (*first != module[0] && rank > own).then(|| {
        format!(
            "`{}` (rank {own}) names `crate::{name}` (rank {rank}); imports go downhill",
            module.join("::")
        )
    })
}

/// What the path that begins at token `at` names; nothing if none begins there.
fn targets(source: &Source, at: usize) -> Vec<Target> {
    let mut found = Vec::new();
    let is_inside_path = at >= 2 && source.is_path_separator(at - 2);
    if is_inside_path || !source.is_path_separator(at + 1) {
        return found;
    }
    match source.tokens[at].word() {
        Some("crate") => {
            read(source, at + 3, Vec::new(), &mut found);
        }
        Some("self" | "super") => {
            read(source, at, source.module_at(source.tokens[at].line), &mut found);
        }
        _ => {}
    }
    found
}

/// Reads the rest of a path, or of a tree of imports, below `prefix`; returns the place of the token that follows it.
fn read(source: &Source, at: usize, mut prefix: Vec<String>, found: &mut Vec<Target>) -> usize {
    let Some(token) = source.tokens.get(at) else {
        return at;
    };
    match &token.kind {
        Kind::Open(Delimiter::Brace) => return read_list(source, at + 1, &prefix, found),
        Kind::Word(word) if word == "super" => drop(prefix.pop()),
        Kind::Word(word) if word == "self" => {}
        Kind::Word(word) => prefix.push(word.clone()),
        Kind::Mark('*') => prefix.push("*".to_owned()),
        // Generic arguments end what names a module.
        _ => {
            found.push(Target { path: prefix, is_macro: false });
            return at;
        }
    }
    if source.is_path_separator(at + 1) {
        return read(source, at + 3, prefix, found);
    }
    let is_macro = source.tokens.get(at + 1).is_some_and(|next| next.is_mark('!'));
    found.push(Target { path: prefix, is_macro });
    at + 1
}

/// Reads what stands between the braces of an import, and returns the place after them.
fn read_list(source: &Source, mut at: usize, prefix: &[String], found: &mut Vec<Target>) -> usize {
    while let Some(token) = source.tokens.get(at) {
        at = match &token.kind {
            Kind::Close(_) => return at + 1,
            // The new name of an import says nothing about where it comes from.
            Kind::Word(word) if word == "as" => at + 2,
            Kind::Mark(',') => at + 1,
            _ => read(source, at, prefix.to_vec(), found).max(at + 1),
        };
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(path: &str, text: &str) -> Vec<String> {
        let source = Source::parse(&format!("ringline-core/src/{path}"), text).expect("the snippet parses");
        let mut findings = Vec::new();
        check(&source, &mut findings);
        findings.iter().map(|finding| format!("{}: {}", finding.line, finding.message)).collect()
    }

    #[test]
    fn uphill_is_an_error_in_every_spelling() {
        for text in [
            "use crate::worker::Worker;",
            "use crate::{op::Op, worker::{self}};",
            "use super::super::worker::Worker;",
            "use self::super::super::worker::Worker;",
            "fn f() { crate::worker::turn(); }",
            "fn f(turn: &crate::worker::Turn) {}",
            "fn f() { assert!(crate::worker::ready()); }",
            "fn f() { assert!(super::super::worker::ready()); }",
            "mod inner { use super::super::super::worker::Worker; }",
            "macro_rules! m { () => { $crate::worker::turn() } }",
            "pub(super) use crate::worker::*;",
        ] {
            let found = errors("conn/phase.rs", text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].contains("imports go downhill"), "{text}: {found:?}");
        }
    }

    #[test]
    fn downhill_and_level_are_fine() {
        for (path, text) in [
            (
                "worker/flush.rs",
                "use crate::{backend::Backend, conn::{id::ConnId as Id, table::Table}, op::{self, Op}};",
            ),
            (
                "conn/phase.rs",
                "use super::{close::CloseReason, id::ConnId};\nuse crate::op::{Op as _, Outcome};",
            ),
            ("conn/phase.rs", "mod inner { use super::super::id::ConnId; }"),
            ("ctx/mod.rs", "use crate::handler::EventHandler;"),
            ("handler.rs", "use crate::ctx::Ctx;\nfn f(f: &self::F) { crate::assert_row!(f); }"),
            ("backend/mod.rs", "pub(crate) use self::uring::Uring; use crate::backend::sim::Sim;"),
            ("lib.rs", "pub use crate::testing::Kit; use worker::Worker;"),
            ("conn/phase.rs", "#[cfg(test)]\nmod tests { use super::*; use crate::testing::Kit; }"),
            ("conn/phase.rs", "//! See `crate::worker`.\nconst A: &str = \"crate::worker\";"),
        ] {
            assert_eq!(errors(path, text), [""; 0], "{path}: {text}");
        }
    }

    #[test]
    fn conn_and_backend_never_meet() {
        for (path, text) in [
            ("conn/mod.rs", "use crate::backend::Backend;"),
            ("conn/inbox.rs", "use crate::backend;"),
            ("backend/uring/lift.rs", "use crate::conn::id::ConnId;"),
            ("backend/mod.rs", "use crate::{handler, op};"),
            ("backend/sim/mod.rs", "use super::uring::Ring;"),
            ("backend/uring/mod.rs", "use crate::backend::sim::Sim;"),
        ] {
            let found = errors(path, text);
            assert_eq!(found.len(), 1, "{path}: {text}: {found:?}");
            assert!(found[0].contains("must never name"), "{found:?}");
        }
    }

    #[test]
    fn a_name_of_the_root_hides_its_module() {
        for text in
            ["use crate::Config;", "use crate::*;", "use super::super::Config;", "use crate::{Config, op};"]
        {
            let found = errors("conn/phase.rs", text);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].contains("goes through lib.rs"), "{found:?}");
        }
    }

    #[test]
    fn an_unknown_module_must_be_added() {
        let found = errors("novel/mod.rs", "use crate::op::Op;");
        assert!(found[0].contains("`novel` is not in the table"), "{found:?}");
        let found = errors("conn/phase.rs", "use crate::novel::Thing;");
        assert!(found[0].contains("in no module of the table"), "{found:?}");
    }

    #[test]
    fn a_row_without_a_module_is_reported() {
        let source = Source::parse("ringline-core/src/op/mod.rs", "").expect("an empty file parses");
        let mut findings = Vec::new();
        check_table([source].iter(), &mut findings);
        assert_eq!(findings.len(), LAYERS.len() - 1);
    }
}
