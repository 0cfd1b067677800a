//! Unsafe code stays in its rooms, says who guarantees it, and is accounted for file by file in `docs/safety.md`.

use proc_macro2::Delimiter;

use super::finding::Finding;
use super::layers::UNSAFE_ROOMS;
use super::source::{Kind, Source};

const RULE: &str = "unsafe";

/// The account of all files with unsafe code, from the top of the repository.
pub(super) const ACCOUNT: &str = "docs/safety.md";

/// How many lines of code may stand between a comment and the unsafe block it belongs to.
const COMMENT_REACH_LINES: usize = 6;

/// Checks one file of a package; `account` is the text of [`ACCOUNT`].
pub(super) fn check(source: &Source, account: &str, findings: &mut Vec<Finding>) {
    let lines: Vec<&str> = source.text.lines().collect();
    let path = source.path_in_src().unwrap_or_default();
    let is_room =
        source.package() == Some("ringline-core") && UNSAFE_ROOMS.iter().any(|room| path.starts_with(room));
    let mut is_named = names_file(account, path);
    for (at, token) in source.tokens.iter().enumerate() {
        if token.word() != Some("unsafe") {
            continue;
        }
        let mut report =
            |message: String| findings.push(Finding::error(&source.path, token.line, RULE, message));
        if !is_room {
            report(format!("unsafe code outside of {}", UNSAFE_ROOMS.join(", ")));
        }
        if needs_comment(source, at) && !has_comment(&lines, token.line) {
            report(format!("no `// SAFETY:` comment within the {COMMENT_REACH_LINES} lines above"));
        }
        if !is_named {
            report(format!("the file holds unsafe code, but {ACCOUNT} does not name `{path}`"));
            is_named = true;
        }
    }
}

/// Finds files that the account names although they are gone or hold no unsafe code.
pub(super) fn check_account<'a>(
    account: &str,
    sources: impl Iterator<Item = &'a Source>,
    findings: &mut Vec<Finding>,
) {
    let holders: Vec<&str> = sources
        .filter(|source| source.tokens.iter().any(|token| token.word() == Some("unsafe")))
        .filter_map(Source::path_in_src)
        .collect();
    for (number, line) in account.lines().enumerate() {
        for name in line.split('`').skip(1).step_by(2).filter(|name| name.contains('/') && is_rust_file(name))
        {
            let name = name.split_once("/src/").map_or(name, |(_, below)| below);
            if !holders.contains(&name) {
                let message = format!("`{name}` is named here, but no such file holds unsafe code");
                findings.push(Finding::error(ACCOUNT, number + 1, RULE, message));
            }
        }
    }
}

fn is_rust_file(name: &str) -> bool {
    std::path::Path::new(name).extension().is_some_and(|extension| extension == "rs")
}

/// Whether the account names the file by its path below `src`, as a whole.
fn names_file(account: &str, path: &str) -> bool {
    account.match_indices(path).any(|(at, _)| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let before = &account[..at];
        !account[at + path.len()..].starts_with(is_part)
            && (before.ends_with("/src/") || !before.ends_with(|c: char| is_part(c) || c == '/'))
    })
}

/// Blocks, implementations, foreign functions and unsafe attributes promise something; signatures only demand it.
fn needs_comment(source: &Source, at: usize) -> bool {
    source.tokens.get(at + 1).is_some_and(|next| match &next.kind {
        Kind::Open(Delimiter::Brace | Delimiter::Parenthesis) => true,
        Kind::Word(word) if word == "impl" => true,
        Kind::Word(word) if word == "extern" => source.tokens[at + 2..]
            .iter()
            .find(|token| token.kind != Kind::Literal)
            .is_some_and(|token| token.kind == Kind::Open(Delimiter::Brace)),
        _ => false,
    })
}

/// Whether a safety comment stands above or on the line. Lines of comment do not count, so that a long one is in reach.
fn has_comment(lines: &[&str], line: usize) -> bool {
    let mut code_lines = 0;
    for text in lines[..line].iter().rev() {
        if text.contains("// SAFETY:") {
            return true;
        }
        if !text.trim_start().starts_with("//") {
            code_lines += 1;
        }
        if code_lines > COMMENT_REACH_LINES {
            return false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMED: &str = "- `sys/mmap.rs`, `buf/guard.rs`";

    fn parse(path: &str, text: &str) -> Source {
        Source::parse(path, text).expect("the snippet parses")
    }

    fn messages(path: &str, text: &str, account: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&parse(path, text), account, &mut findings);
        findings.into_iter().map(|finding| finding.message).collect()
    }

    #[test]
    fn unsafe_outside_of_its_rooms_is_an_error() {
        let text = "// SAFETY: the caller.\nfn f() { unsafe { g() } }";
        for path in
            ["ringline-core/src/conn/mod.rs", "ringline-core/src/buf/pool.rs", "ringline-nvme/src/sys/a.rs"]
        {
            let found = messages(path, text, "`conn/mod.rs` `buf/pool.rs` `sys/a.rs`");
            assert_eq!(found.len(), 1, "{path}: {found:?}");
            assert!(found[0].starts_with("unsafe code outside"), "{found:?}");
        }
        assert_eq!(messages("ringline-core/src/buf/guard.rs", text, NAMED), [""; 0]);
    }

    #[test]
    fn every_promise_needs_its_comment() {
        for text in [
            "fn f() { unsafe { g() } }",
            "unsafe impl Send for A {}",
            "unsafe extern \"C\" { fn g(); }",
            "#[unsafe(no_mangle)]\nfn f() {}",
            "fn f() { assert!(unsafe { g() }); }",
            "// SAFETY: too far away.\n\n\n\n\n\n\n\nunsafe impl Send for A {}",
        ] {
            let found = messages("ringline-core/src/sys/mmap.rs", text, NAMED);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].contains("SAFETY"), "{found:?}");
        }
        for text in [
            "// SAFETY: `map` is ours.\nfn f() { unsafe { g() } }",
            "// SAFETY: a\n// b\n// c\n// d\n// e\n// f\n// g\n// h\nunsafe impl Send for A {}",
            "unsafe fn f() {}",
            "unsafe trait T {}",
            "fn f(g: unsafe extern \"C\" fn()) {}",
        ] {
            assert_eq!(messages("ringline-core/src/sys/mmap.rs", text, NAMED), [""; 0], "{text}");
        }
    }

    #[test]
    fn the_account_names_each_file_once_and_only_those() {
        let text = "unsafe fn f() {}\nunsafe fn g() {}";
        for account in ["", "`buf/guard.rs`", "`sys/mmap.rs_`", "`other/sys/mmap.rs`"] {
            let found = messages("ringline-core/src/sys/mmap.rs", text, account);
            assert_eq!(found.len(), 1, "{account}: {found:?}");
            assert!(found[0].contains(ACCOUNT), "{found:?}");
        }
        assert_eq!(messages("ringline-core/src/sys/mmap.rs", text, "ringline-core/src/sys/mmap.rs"), [""; 0]);

        let sources =
            [parse("ringline-core/src/sys/mmap.rs", text), parse("ringline-core/src/buf/guard.rs", "")];
        let mut findings = Vec::new();
        check_account(&format!("head\n{NAMED}\n"), sources.iter(), &mut findings);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].line == 2 && findings[0].message.contains("buf/guard.rs"));
    }
}
