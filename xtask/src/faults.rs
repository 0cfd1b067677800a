//! `docs/faults.md` against the sources: every fault has exactly one row with a verdict, and every test that a row names
//! exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::repository;

const PAGE: &str = include_str!("../../docs/faults.md");
/// The faults of the list are numbered from 1 to this.
const NUMBERED: usize = 134;
/// Those that were seen in one predecessor are D1 to this.
const OF_PREDECESSOR: usize = 11;
const VERDICTS: [&str; 4] = ["impossible", "tested", "later", "open"];

/// A row of the page's tables.
#[derive(Debug)]
struct Row<'a> {
    number: &'a str,
    verdict: &'a str,
    proof: &'a str,
}

/// Rows whose first column is a number, or a letter and a number.
fn rows(page: &str) -> impl Iterator<Item = Row<'_>> {
    page.lines().filter(|line| line.starts_with('|')).filter_map(|line| {
        let columns: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let number = *columns.first()?;
        let digits = number.trim_start_matches(|letter: char| letter.is_ascii_uppercase());
        digits.parse::<usize>().ok()?;
        let [_, _, verdict, proof] = columns[..] else { panic!("a row has four columns: {line}") };
        Some(Row { number, verdict, proof })
    })
}

/// What stands between back quotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The names of tests, each with its file in ringline-core: `path/to/file.rs::name`.
fn named_tests(text: &str) -> impl Iterator<Item = (&str, &str)> {
    quoted(text)
        .filter_map(|quoted| quoted.rsplit_once("::"))
        .filter(|(path, _)| Path::new(path).extension().is_some_and(|extension| extension == "rs"))
}

/// Whether `source` has a test of this name; a property counts as a test as well.
fn has_test(source: &str, name: &str) -> bool {
    let head = format!("fn {name}(");
    source.lines().any(|line| line.trim_start().starts_with(&head))
}

#[test]
fn every_fault_has_one_row_with_a_verdict_and_a_proof() {
    let mut counts = BTreeMap::new();
    for row in rows(PAGE) {
        *counts.entry(row.number.to_owned()).or_insert(0) += 1;
        assert!(VERDICTS.contains(&row.verdict), "{}: no such verdict: {}", row.number, row.verdict);
        assert!(!row.proof.is_empty(), "{} has a reason", row.number);
        let names_a_test = named_tests(row.proof).next().is_some();
        assert!(row.verdict != "tested" || names_a_test, "{} names its test", row.number);
    }
    let numbered = (1..=NUMBERED).map(|number| number.to_string());
    let of_predecessor = (1..=OF_PREDECESSOR).map(|number| format!("D{number}"));
    for number in numbered.chain(of_predecessor) {
        assert_eq!(counts.remove(&number), Some(1), "rows of {number}");
    }
    assert!(counts.keys().all(|number| number.starts_with('K')), "rows of no fault: {counts:?}");
}

#[test]
fn every_test_that_is_named_exists() {
    let mut checked = 0;
    for (path, name) in named_tests(PAGE) {
        let source = fs::read_to_string(repository().join("ringline-core").join(path));
        let source = source.unwrap_or_else(|error| panic!("{path}::{name}: {error}"));
        assert!(has_test(&source, name), "{path} has no test {name}");
        checked += 1;
    }
    assert!(checked > 50, "only {checked} tests are named");
}

#[test]
fn rows_and_tests_are_recognised() {
    let page =
        "| No. | fault |\n|---|---|\n| 7 | a | tested | `a/b.rs::c`, `Type::new` |\n| D1 | b | later | x |";
    let rows: Vec<_> = rows(page).collect();
    assert_eq!((rows[0].number, rows[0].verdict, rows[1].number), ("7", "tested", "D1"));
    assert!(named_tests(page).eq([("a/b.rs", "c")]));
    assert!(has_test("#[test]\n    fn c() {}", "c"));
    assert!(!has_test("fn cd() {}\n// fn c", "c"));
}
