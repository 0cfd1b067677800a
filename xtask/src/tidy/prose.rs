//! What a reader should not have to stumble over: marks of unfinished work, commented-out code, stray white space, overlong
//! lines, files without a head, and paths that exist on one machine only.

use proc_macro2::Delimiter;
use syn::AttrStyle;

use super::finding::Finding;
use super::source::{Kind, Source};

const COLUMNS_MAX: usize = 140;

/// Marks of unfinished work. Each is put together from two parts, so that a search for it does not end here.
const MARKS: &[&str] = &[concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];

/// Folders at the top of a file system in which one machine's own files live.
const PRIVATE_FOLDERS: &[&str] = &["work", "home", "root", "farm", "Users", "tmp"];

/// Paths that are the same on every machine.
const PUBLIC_PATHS: &[&str] = &["/tmp/ringline"];

/// Checks any text file, Rust or not.
pub(super) fn check_text(path: &str, text: &str, findings: &mut Vec<Finding>) {
    for (number, line) in (1..).zip(text.lines()) {
        if line.ends_with(char::is_whitespace) {
            findings.push(Finding::error(path, number, "white-space", "white space at the end of the line"));
        }
        for mark in MARKS.iter().filter(|mark| has_word(line, mark)) {
            findings.push(Finding::error(
                path,
                number,
                "marks",
                format!("{mark}: finish it or write an issue"),
            ));
        }
        if let Some(found) = private_path(line) {
            findings.push(Finding::error(
                path,
                number,
                "paths",
                format!("`{found}` is a path of one machine"),
            ));
        }
    }
}

/// Checks what only Rust files have.
pub(super) fn check_rust(source: &Source, findings: &mut Vec<Finding>) {
    let is_head = |attribute: &syn::Attribute| {
        matches!(attribute.style, AttrStyle::Inner(_)) && attribute.path().is_ident("doc")
    };
    if !source.syntax.attrs.iter().any(is_head) {
        findings.push(Finding::error(
            &source.path,
            1,
            "head",
            "no `//!` that says what the file is and what it keeps",
        ));
    }
    for (number, line) in (1..).zip(source.text.lines()) {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            let message = format!("{columns} columns, at most {COLUMNS_MAX}");
            findings.push(Finding::error(&source.path, number, "columns", message));
        }
        if is_commented_code(line) && !source.is_in_literal(number) {
            findings.push(Finding::error(&source.path, number, "dead-code", "commented-out code"));
        }
    }
    for (at, token) in source.tokens.iter().enumerate() {
        let follows = |offset: usize, kind: &Kind| {
            source.tokens.get(at + offset).is_some_and(|next| next.kind == *kind)
        };
        if token.word() == Some("dbg") && follows(1, &Kind::Mark('!')) {
            findings.push(Finding::error(&source.path, token.line, "marks", "a debug print"));
        }
        let ignore = Kind::Word("ignore".to_owned());
        if token.is_mark('#') && follows(1, &Kind::Open(Delimiter::Bracket)) && follows(2, &ignore) {
            findings.push(Finding::error(&source.path, token.line, "marks", "a test that is never run"));
        }
    }
}

/// Whether the word stands in the line, not as a part of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

/// A path in the line that begins at the top of the file system, in one of the private folders.
fn private_path(line: &str) -> Option<&str> {
    line.match_indices('/').find_map(|(at, _)| {
        let rest = &line[at + 1..];
        let (folder, below) = rest.split_once('/')?;
        let goes_on = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_whole =
            !line[..at].ends_with(|c: char| goes_on(c) || matches!(c, '/' | '}' | ')' | '*' | '~'));
        let is_public = PUBLIC_PATHS.iter().any(|path| line[at..].starts_with(path));
        let is_private =
            PRIVATE_FOLDERS.contains(&folder) && is_whole && !is_public && below.starts_with(goes_on);
        let length = line[at..].find(|c: char| c != '/' && !goes_on(c)).unwrap_or(line.len() - at);
        is_private.then(|| &line[at..at + length])
    })
}

/// Whether the line is a plain comment that reads like code. Doc comments hold examples and are left alone.
fn is_commented_code(line: &str) -> bool {
    let Some(comment) = line.trim_start().strip_prefix("//") else {
        return false;
    };
    if comment.starts_with(['/', '!']) {
        return false;
    }
    let comment = comment.trim();
    let begins = |word: &str, sign: char| comment.strip_prefix(word).is_some_and(|rest| rest.contains(sign));
    comment.ends_with([';', '{'])
        || comment == "}"
        || comment.starts_with("#[")
        || begins("let ", '=')
        || begins("fn ", '(')
        || begins("pub ", '(')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_rules(text: &str) -> Vec<&'static str> {
        let mut findings = Vec::new();
        check_text("docs/guide.md", text, &mut findings);
        findings.iter().map(|finding| finding.rule).collect()
    }

    fn rust_rules(text: &str) -> Vec<&'static str> {
        let source = Source::parse("ringline-core/src/op/mod.rs", text).expect("the snippet parses");
        let mut findings = Vec::new();
        check_rust(&source, &mut findings);
        findings.iter().map(|finding| finding.rule).collect()
    }

    #[test]
    fn finds_every_mark_as_a_word() {
        for mark in MARKS {
            assert_eq!(text_rules(&format!("// {mark}: later")), ["marks"]);
            assert_eq!(text_rules(&format!("// {mark}S and X{mark} and {mark}_")), [""; 0]);
        }
        assert_eq!(rust_rules(&format!("//! Head.\nfn f() {{ {}!(1); }}", concat!("db", "g"))), ["marks"]);
        let ignored = format!("//! Head.\n#[test]\n#[{}]\nfn f() {{}}", concat!("ign", "ore"));
        assert_eq!(rust_rules(&ignored.replace("]\nfn", " = \"slow\"]\nfn")), ["marks"]);
    }

    #[test]
    fn finds_white_space_at_the_end() {
        assert_eq!(text_rules("a \nb\t\nc\n\n"), ["white-space", "white-space"]);
    }

    #[test]
    fn finds_paths_of_one_machine() {
        for folder in PRIVATE_FOLDERS {
            assert_eq!(text_rules(&format!("see `/{folder}/main`")), ["paths"], "{folder}");
            assert_eq!(
                private_path(&format!("x=/{folder}/a-b/c d")),
                Some(format!("/{folder}/a-b/c").as_str())
            );
        }
        for text in [
            "target/home/x",
            "https://a.b/home/x",
            "home/x",
            "/proc/self",
            "/tmp/ringline.sock",
            "$d/root/x",
            "/tmp",
        ] {
            let rules = text_rules(text);
            assert!(rules.is_empty(), "{text}: {rules:?}");
        }
    }

    #[test]
    fn finds_commented_code() {
        for line in [
            "// let a = 1",
            "    // fn f(a: u8)",
            "// pub fn f()",
            "// a.push(1);",
            "// if a {",
            "// }",
            "//#[inline]",
        ] {
            assert_eq!(rust_rules(&format!("//! Head.\n{line}\n")), ["dead-code"], "{line}");
        }
        for text in [
            "// let the kernel decide",
            "// A row; then a generation.",
            "/// let a = 1;\nfn f() {}",
            "//! let a = 1;",
            "const A: &str = r\"\n// let a = 1;\n\";",
        ] {
            assert_eq!(rust_rules(&format!("//! Head.\n{text}\n")), [""; 0], "{text}");
        }
    }

    #[test]
    fn finds_long_lines_and_missing_heads() {
        let limit = format!("//! {}", "a".repeat(COLUMNS_MAX - 4));
        assert_eq!(rust_rules(&limit), [""; 0]);
        assert_eq!(rust_rules(&format!("{limit}a")), ["columns"]);
        assert_eq!(rust_rules("// Head.\nfn f() {}"), ["head"]);
        assert_eq!(rust_rules("/// Head.\nfn f() {}"), ["head"]);
        assert_eq!(rust_rules("#![allow(unused)]\n//! Head.\nfn f() {}"), [""; 0]);
    }
}
