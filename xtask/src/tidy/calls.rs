//! One direction: operations are submitted in few named places, and callbacks are called in one.
//!
//! The names of the callbacks are read from the trait itself, so a new one is covered at once; a trait that cannot be
//! found is an error, or the check would pass for lack of anything to look for.

use std::collections::BTreeSet;

use proc_macro2::Delimiter;
use syn::{Item, TraitItem};

use super::finding::Finding;
use super::layers::{BACKEND_TRAIT, CALLBACK_TRAIT, CALLERS, SUBMIT, SUBMITTERS, is_within};
use super::source::{Kind, Source};

const SUBMIT_RULE: &str = "submit";
const DISPATCH_RULE: &str = "dispatch";

/// The names to look for.
#[derive(Debug, Default)]
pub(super) struct Names {
    callbacks: BTreeSet<String>,
    has_submit: bool,
}

impl Names {
    /// Reads the two traits from the sources of ringline-core.
    pub(super) fn collect<'a>(sources: impl Iterator<Item = &'a Source>) -> Self {
        let mut names = Self::default();
        for source in sources {
            for item in &source.syntax.items {
                let Item::Trait(item) = item else { continue };
                let mut methods = item.items.iter().filter_map(|item| match item {
                    TraitItem::Fn(function) => Some(function.sig.ident.to_string()),
                    _ => None,
                });
                if item.ident == CALLBACK_TRAIT {
                    names.callbacks.extend(methods.filter(|name| name.starts_with("on_")));
                } else if item.ident == BACKEND_TRAIT {
                    names.has_submit |= methods.any(|name| name.starts_with(SUBMIT));
                }
            }
        }
        names
    }

    /// Says which of the traits was not found.
    pub(super) fn check(&self, findings: &mut Vec<Finding>) {
        let root = "ringline-core/src/lib.rs";
        if self.callbacks.is_empty() {
            let message =
                format!("no trait {CALLBACK_TRAIT} with callbacks `on_*`, so no call can be checked");
            findings.push(Finding::error(root, 1, DISPATCH_RULE, message));
        }
        if !self.has_submit {
            let message = format!(
                "no trait {BACKEND_TRAIT} with a method `{SUBMIT}*`, so no submission can be checked"
            );
            findings.push(Finding::error(root, 1, SUBMIT_RULE, message));
        }
    }
}

/// Checks one file of a package.
pub(super) fn check(source: &Source, names: &Names, findings: &mut Vec<Finding>) {
    let module = source.module();
    let is_core = source.package() == Some("ringline-core");
    let is_one_of = |places: &[&str]| is_core && places.iter().any(|place| is_within(&module, place));
    let (may_call, may_submit) = (is_one_of(CALLERS), is_one_of(SUBMITTERS));
    for (at, token) in source.tokens_of_product() {
        let Some(name) = token.word() else { continue };
        if !may_call
            && names.callbacks.contains(name)
            && (is_method(source, at) || is_of_type(source, at, None))
        {
            let message = format!("`{name}` is called outside of {}", CALLERS.join(", "));
            findings.push(Finding::error(&source.path, token.line, DISPATCH_RULE, message));
        }
        let submits = name == SUBMIT || name.strip_prefix(SUBMIT).is_some_and(|rest| rest.starts_with('_'));
        if !may_submit
            && submits
            && (is_on_backend(source, at) || is_of_type(source, at, Some(BACKEND_TRAIT)))
        {
            let message = format!("`backend.{name}` is called outside of {}", SUBMITTERS.join(", "));
            findings.push(Finding::error(&source.path, token.line, SUBMIT_RULE, message));
        }
    }
}

/// Whether the word at `at` is called as a method: `.word(` or `.word::<`.
fn is_method(source: &Source, at: usize) -> bool {
    let is_called =
        source.tokens.get(at + 1).is_some_and(|next| next.kind == Kind::Open(Delimiter::Parenthesis));
    at > 0 && source.tokens[at - 1].is_mark('.') && (is_called || source.is_path_separator(at + 1))
}

/// Whether the method at `at` is called on something named `backend`: a variable, a field, or a getter.
fn is_on_backend(source: &Source, at: usize) -> bool {
    if !is_method(source, at) {
        return false;
    }
    let is_backend = |token: &super::source::Token| {
        token.word().is_some_and(|word| word == "backend" || word == "backend_mut")
    };
    // Brackets between the name and the dot belong to a getter's call or to a borrow: `self.backend().`, `(&mut backend).`.
    source.tokens[..at - 1]
        .iter()
        .rev()
        .find(|token| !matches!(token.kind, Kind::Open(_) | Kind::Close(_) | Kind::Mark('?')))
        .is_some_and(is_backend)
}

/// Whether the word at `at` is named through a type: `H::word`, `<H as Trait>::word`; of the given trait only, if one
/// is given.
fn is_of_type(source: &Source, at: usize, wanted: Option<&str>) -> bool {
    if at < 3 || !source.is_path_separator(at - 2) {
        return false;
    }
    let mut owner = at - 3;
    if source.tokens[owner].is_mark('>') {
        owner = owner.saturating_sub(1);
    }
    source.tokens[owner].word().is_some_and(|word| match wanted {
        Some(wanted) => word == wanted,
        None => word.starts_with(char::is_uppercase),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAITS: &str = "pub trait EventHandler { fn on_data(&mut self); fn on_close(&mut self) {} fn helper(); }\n\
         pub trait Backend { fn push(&mut self, op: Op); fn reap(&mut self); }";

    fn parse(path: &str, text: &str) -> Source {
        Source::parse(path, text).expect("the snippet parses")
    }

    fn rules(path: &str, text: &str) -> Vec<&'static str> {
        let names = Names::collect([parse("ringline-core/src/handler.rs", TRAITS)].iter());
        let mut findings = Vec::new();
        check(&parse(path, text), &names, &mut findings);
        findings.iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn a_submission_outside_of_flush_is_an_error() {
        for text in [
            "fn f(&mut self) { self.backend.push(op); }",
            "fn f(&mut self) { self.io\n.backend\n.push(op); }",
            "fn f(&mut self) { self.backend_mut().push(op)?; }",
            "fn f(&mut self) { (&mut self.backend).push_op(op); }",
            "fn f(&mut self) { backend.push::<Send>(op); }",
            "fn f(&mut self) { Backend::push(backend, op); }",
            "fn f(&mut self) { <B as Backend>::push(backend, op); }",
            "fn f(&mut self) { assert!(backend.push(op).is_ok()); }",
        ] {
            assert_eq!(rules("ringline-core/src/worker/turn.rs", text), ["submit"], "{text}");
            assert_eq!(rules("ringline-core/src/worker/flush.rs", text), [""; 0], "{text}");
            assert_eq!(rules("ringline-core/src/worker/accept.rs", text), [""; 0], "{text}");
            assert_eq!(rules("ringline-tls/src/flush.rs", text), ["submit"], "{text}");
        }
    }

    #[test]
    fn other_pushes_are_fine() {
        for text in [
            "fn f(&mut self) { self.dirty.push(row); }",
            "fn f(&mut self) { self.backend.reap(); list.push(1); }",
            "fn f(&mut self) { self.backend.pushed(); Vec::push(&mut v, 1); }",
            "fn push(&mut self) {}\n#[cfg(test)]\nmod tests { fn f() { backend.push(op); } }",
        ] {
            assert_eq!(rules("ringline-core/src/worker/turn.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn a_callback_outside_of_dispatch_is_an_error() {
        for text in [
            "fn f(&mut self) { self.handler.on_data(cx); }",
            "fn f(&mut self) { H::on_close(handler); }",
            "fn f(&mut self) { <H as EventHandler>::on_close(handler); }",
            "fn f(&mut self) { catch(|| handler.on_close(cx)); }",
            "fn f(&mut self) { assert!(handler.on_data(cx)); }",
        ] {
            assert_eq!(rules("ringline-core/src/worker/mod.rs", text), ["dispatch"], "{text}");
            assert_eq!(rules("ringline-core/src/worker/dispatch.rs", text), [""; 0], "{text}");
            assert_eq!(rules("ringline-core/src/worker/dispatch/data.rs", text), [""; 0], "{text}");
            assert_eq!(rules("ringline-core/src/testing/kit.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn definitions_and_other_names_are_fine() {
        for text in [
            "impl EventHandler for Echo { fn on_data(&mut self) {} }",
            "fn f() { machine::on_close(row); self.on_recv(); }",
            "/// Calls `handler.on_data(cx)`.\nfn f() {}",
        ] {
            assert_eq!(rules("ringline-core/src/conn/machine.rs", text), [""; 0], "{text}");
        }
    }

    #[test]
    fn missing_traits_are_errors() {
        let mut findings = Vec::new();
        Names::collect([parse("ringline-core/src/lib.rs", "pub trait EventHandler {}")].iter())
            .check(&mut findings);
        assert_eq!(findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), ["dispatch", "submit"]);
        findings.clear();
        Names::collect([parse("ringline-core/src/lib.rs", TRAITS)].iter()).check(&mut findings);
        assert!(findings.is_empty());
    }
}
