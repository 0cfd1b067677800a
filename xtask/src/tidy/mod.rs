//! Style as a program: the rules of the house that no lint of the compiler knows.
//!
//! Every check is a function from a file to findings, and has tests that feed it what it must refuse. A file that cannot
//! be read or parsed is itself a finding, so nothing is passed over in silence.

mod calls;
mod cells;
mod finding;
mod imports;
mod layers;
mod length;
mod prose;
mod source;
mod unsafety;

use std::fs;
use std::path::Path;

use self::finding::{Finding, Severity};
use self::source::{Source, module_of};

/// Folders that hold no text of the project.
const SKIPPED_FOLDERS: &[&str] = &["target", "corpus", "artifacts", ".git"];

/// Files without an ending that are text: scripts live in these folders.
const SCRIPT_FOLDERS: &[&str] = &[".ci/", "scripts/"];

/// Checks the repository at `root` and prints what was found.
pub(crate) fn run(root: &Path) -> Result<(), String> {
    let mut files = Vec::new();
    read_files(root, "", &mut files).map_err(|error| format!("cannot read {}: {error}", root.display()))?;
    let findings = check(&files);
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    println!("tidy: {} files, {errors} errors, {} warnings", files.len(), findings.len() - errors);
    if errors > 0 { Err(format!("{errors} breaches of the rules of style")) } else { Ok(()) }
}

/// A text file: its path from the top of the repository, and what it says.
#[derive(Debug)]
struct TextFile {
    path: String,
    text: String,
}

/// All findings of all checks, by path and line.
fn check(files: &[TextFile]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files {
        prose::check_text(&file.path, &file.text, &mut findings);
    }
    let sources = parse(files, &mut findings);
    for source in &sources {
        prose::check_rust(source, &mut findings);
        length::check(source, &mut findings);
    }
    check_packages(files, &sources, &mut findings);
    findings.sort_by(|a, b| (&a.path, a.line, a.rule).cmp(&(&b.path, b.line, b.rule)));
    findings
}

/// The rules for the sources of the published packages: layers, one direction, unsafe code.
fn check_packages(files: &[TextFile], sources: &[Source], findings: &mut Vec<Finding>) {
    let is_published = |source: &&Source| {
        source.package().is_some_and(|package| package.starts_with("ringline-") && !package.contains('/'))
    };
    let is_core = |source: &&Source| source.package() == Some("ringline-core");
    let account = files.iter().find(|file| file.path == unsafety::ACCOUNT).map_or("", |file| &file.text);
    let names = calls::Names::collect(sources.iter().filter(is_core));
    names.check(findings);
    for source in sources.iter().filter(is_published) {
        calls::check(source, &names, findings);
        unsafety::check(source, account, findings);
    }
    for source in sources.iter().filter(is_core) {
        imports::check(source, findings);
        cells::check(source, findings);
    }
    imports::check_table(sources.iter().filter(is_core), findings);
    unsafety::check_account(account, sources.iter().filter(is_published), findings);
}

/// Parses the Rust files, and marks as tests those that others declare for tests only.
fn parse(files: &[TextFile], findings: &mut Vec<Finding>) -> Vec<Source> {
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| is_rust(&file.path)) {
        match Source::parse(&file.path, &file.text) {
            Ok(source) => sources.push(source),
            Err((line, error)) => findings.push(Finding::error(&file.path, line, "syntax", error)),
        }
    }
    let test_modules: Vec<(String, Vec<String>)> = sources
        .iter()
        .filter_map(|source| Some((source.package()?.to_owned(), source)))
        .flat_map(|(package, source)| source.test_modules().map(move |module| (package.clone(), module)))
        .collect();
    for source in &mut sources {
        let Some(package) = source.package().map(str::to_owned) else {
            continue;
        };
        let module = source.path_in_src().map(module_of).unwrap_or_default();
        if test_modules.iter().any(|(of, test)| *of == package && module.starts_with(test)) {
            source.set_test();
        }
    }
    sources
}

fn is_rust(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|extension| extension == "rs")
}

/// Collects the text files below `root`; `prefix` is the path so far.
fn read_files(root: &Path, prefix: &str, files: &mut Vec<TextFile>) -> std::io::Result<()> {
    for entry in fs::read_dir(root.join(prefix))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED_FOLDERS.contains(&name.as_str()) {
            read_files(root, &path, files)?;
        } else if kind.is_file() && is_text(&path) {
            files.push(TextFile { text: fs::read_to_string(entry.path())?, path });
        }
    }
    Ok(())
}

/// Whether the file is one that people write: sources, papers, settings and scripts.
fn is_text(path: &str) -> bool {
    let is_script = SCRIPT_FOLDERS.iter().any(|folder| path.starts_with(folder));
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("rs" | "md" | "toml" | "sh")) || (is_script && extension.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> TextFile {
        TextFile { path: path.to_owned(), text: text.to_owned() }
    }

    fn errors(files: &[TextFile]) -> Vec<String> {
        let errors = check(files).into_iter().filter(|finding| finding.severity == Severity::Error);
        errors.map(|finding| format!("{}: {}", finding.path, finding.rule)).collect()
    }

    /// A repository without a fault, to which each test adds one.
    fn clean() -> Vec<TextFile> {
        vec![
            file("docs/safety.md", "`sys/mmap.rs` maps memory.\n"),
            file("ringline-core/src/lib.rs", "//! Head.\nmod handler;\n"),
            file(
                "ringline-core/src/handler.rs",
                "//! Head.\npub trait EventHandler { fn on_data(&mut self); }\n",
            ),
            file(
                "ringline-core/src/backend/mod.rs",
                "//! Head.\npub trait Backend { fn push(&mut self); }\n",
            ),
            file("ringline-core/src/sys/mmap.rs", "//! Head.\nunsafe fn map() {}\n"),
        ]
    }

    fn with(path: &str, text: &str) -> Vec<String> {
        let mut files = clean();
        files.push(file(path, text));
        errors(&files)
    }

    #[test]
    fn a_clean_repository_passes() {
        assert_eq!(errors(&clean()), [""; 0]);
    }

    #[test]
    fn every_check_is_wired_in() {
        for (path, text, rule) in [
            ("ringline-core/src/conn/mod.rs", "//! Head.\nuse crate::worker::Worker;\n", "imports"),
            ("ringline-core/src/conn/mod.rs", "//! Head.\nfn f() { self.backend.push(); }\n", "submit"),
            ("ringline-core/src/conn/mod.rs", "//! Head.\nfn f() { self.handler.on_data(); }\n", "dispatch"),
            ("ringline-tls/src/lib.rs", "//! Head.\nfn f() { self.handler.on_data(); }\n", "dispatch"),
            ("ringline-core/src/conn/mod.rs", "//! Head.\nstruct A(Rc<u8>);\n", "cells"),
            ("ringline-core/src/sys/fd.rs", "//! Head.\nunsafe fn f() {}\n", "unsafe"),
            ("ringline-nvme/src/lib.rs", "fn f() {}\n", "head"),
            ("examples/src/bin/echo.rs", "//! Head.\n// let a = 1;\n", "dead-code"),
            ("bench/src/main.rs", "//! Head.\nfn {}\n", "syntax"),
            ("README.md", "a \n", "white-space"),
            (".ci/run", concat!("cd /ho", "me/me\n"), "paths"),
        ] {
            assert_eq!(with(path, text), [format!("{path}: {rule}")], "{text}");
        }
        let long = format!("//! Head.\n{}", "// a\n".repeat(900));
        assert_eq!(with("xtask/src/a.rs", &long), ["xtask/src/a.rs: length"]);
    }

    #[test]
    fn a_stale_account_is_an_error() {
        let mut files = clean();
        files.pop();
        assert_eq!(errors(&files), ["docs/safety.md: unsafe"]);
    }

    #[test]
    fn a_file_of_tests_may_look_anywhere() {
        let mut files = clean();
        files.push(file("ringline-core/src/conn/mod.rs", "//! Head.\n#[cfg(test)]\nmod tests;\n"));
        files.push(file("ringline-core/src/conn/tests.rs", "//! Head.\nuse crate::worker::Worker;\n"));
        files.push(file("ringline-core/src/conn/tests/rows.rs", "//! Head.\nuse crate::worker::Worker;\n"));
        assert_eq!(errors(&files), [""; 0]);
        files.push(file("ringline-core/src/op/tests.rs", "//! Head.\nuse crate::worker::Worker;\n"));
        assert_eq!(errors(&files), ["ringline-core/src/op/tests.rs: imports"]);
    }

    #[test]
    fn text_is_known_by_its_place_or_ending() {
        for path in ["a/b.rs", "README.md", "Cargo.toml", ".ci/run", "scripts/guest-tests", "x.sh"] {
            assert!(is_text(path), "{path}");
        }
        for path in ["LICENSE-MIT", "Cargo.lock", "a.png", "bench/run"] {
            assert!(!is_text(path), "{path}");
        }
    }
}
