//! Borrows are split with fields and short-lived views: no cell, no shared count and no raw pointer in the modules that
//! hold the state of connections and workers.

use super::finding::Finding;
use super::layers::{WITHOUT_CELLS, is_within};
use super::source::Source;

const RULE: &str = "cells";
const FORBIDDEN: &[&str] = &["RefCell", "UnsafeCell", "Rc", "NonNull"];

/// Checks one file of ringline-core.
pub(super) fn check(source: &Source, findings: &mut Vec<Finding>) {
    let module = source.module();
    if !WITHOUT_CELLS.iter().any(|place| is_within(&module, place)) {
        return;
    }
    for (at, token) in source.tokens_of_product() {
        let next = source.tokens.get(at + 1).and_then(|next| next.word());
        let found = match token.word() {
            Some(word) if FORBIDDEN.contains(&word) => word.to_owned(),
            None if token.is_mark('*') && matches!(next, Some("const" | "mut")) => {
                format!("*{}", next.unwrap_or_default())
            }
            _ => continue,
        };
        let message = format!("`{found}` in `{}`; split the borrow with fields or a view", module[0]);
        findings.push(Finding::error(&source.path, token.line, RULE, message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        let mut findings = Vec::new();
        check(&Source::parse(path, text).expect("the snippet parses"), &mut findings);
        findings.len()
    }

    #[test]
    fn cells_and_pointers_are_errors() {
        for text in [
            "struct A { a: RefCell<u8> }",
            "use std::rc::Rc;",
            "fn f() { let a = Rc::new(1); }",
            "fn f(a: *mut u8) {}",
            "fn f() { let p = vec![0 as *const u8]; }",
            "struct A(NonNull<u8>);",
            "struct A(std::cell::UnsafeCell<u8>);",
        ] {
            for path in ["conn/table.rs", "ctx/mod.rs", "ctx.rs", "worker/turn.rs"] {
                assert_eq!(count(&format!("ringline-core/src/{path}"), text), 1, "{path}: {text}");
            }
            assert_eq!(count("ringline-core/src/buf/pool.rs", text), 0, "{text}");
        }
    }

    #[test]
    fn tests_and_other_stars_are_fine() {
        for text in [
            "fn f(a: &mut u8) { *a = 2 * 3; }",
            "#[cfg(test)]\nmod tests { use std::{cell::RefCell, rc::Rc}; }",
            "// RefCell\nfn f(rc: Arc<u8>) {}",
        ] {
            assert_eq!(count("ringline-core/src/conn/table.rs", text), 0, "{text}");
        }
    }
}
