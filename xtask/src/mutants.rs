//! Deliberate breakages: each breaks one promise of the core in a copy of the repository, and a test has to notice.
//!
//! A breakage counts as noticed if a test fails, crashes or does not end in time. The unbroken copy goes first and has
//! to pass, because otherwise a red test would prove nothing. `docs/mutations.md` holds the rows that a run prints.

mod admit;
mod child;
mod copy;
mod deadlines;
mod dial;
mod edge;
mod handshakes;
mod layer;
mod mail;
mod proof;
mod send;
mod state;
mod suite;
mod tls;
mod turn;
mod udp;
mod unix;

use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{env, fmt};

use copy::Copy;
use suite::{CORE, STAGES, Stage, TLS, TestRun};

/// A change of the core that breaks something it promises.
#[derive(Debug)]
struct Mutant {
    name: &'static str,
    /// What is not true any more, in one sentence.
    breaks: &'static str,
    /// Where that is promised or known to be needed: `P` in `docs/promises.md`, the others as the page explains.
    rules: &'static str,
    /// The file below `ringline-core/src`, or the whole path of one elsewhere.
    file: &'static str,
    /// Text that occurs in the file once.
    from: &'static str,
    to: &'static str,
}

impl Mutant {
    fn path(&self) -> String {
        if self.package() == TLS { self.file.to_owned() } else { format!("{CORE}/src/{}", self.file) }
    }

    /// The package that breaks, and whose tests have to notice.
    fn package(&self) -> &'static str {
        if self.file.starts_with(TLS) { TLS } else { CORE }
    }

    /// The source with this breakage in it.
    fn apply(&self, source: &str) -> Result<String, String> {
        match source.matches(self.from).count() {
            1 => Ok(source.replacen(self.from, self.to, 1)),
            count => Err(format!("its text occurs {count} times in {}, not once", self.path())),
        }
    }
}

/// What became of a breakage.
#[derive(Debug)]
enum Verdict {
    /// A test of this stage noticed.
    Red {
        stage: &'static str,
        what: String,
    },
    Survived,
    /// It could not be tried.
    Unfit(String),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Red { stage, what } => write!(f, "`{stage}`: {what}"),
            Self::Survived => f.write_str("SURVIVED"),
            Self::Unfit(reason) => write!(f, "UNFIT: {reason}"),
        }
    }
}

/// Prints the names of all breakages.
pub(crate) fn list() {
    for mutant in all() {
        println!("{}: {}", mutant.name, mutant.breaks);
    }
}

/// Tries the breakages named in `only`, or all if there are none, and wants a test to notice each.
pub(crate) fn run(root: &Path, only: &[String]) -> Result<(), String> {
    if let Some(unknown) = only.iter().find(|name| all().all(|mutant| mutant.name != **name)) {
        return Err(format!("there is no breakage {unknown}; --list shows the names"));
    }
    let begin = Instant::now();
    let place = target(root).join("mutants");
    let copy = Copy::make(root, &place)?;
    let chosen: Vec<_> =
        all().filter(|mutant| only.is_empty() || only.iter().any(|name| name == mutant.name)).collect();
    let is_wanted = |stage: &&Stage| chosen.iter().any(|mutant| mutant.package() == stage.package);
    let stages: Vec<_> = STAGES.iter().filter(|stage| stage.exists(copy.root())).filter(is_wanted).collect();
    check_unbroken(&copy, &stages)?;
    let mut missed = Vec::new();
    for (at, mutant) in chosen.iter().enumerate() {
        let verdict = try_out(&copy, mutant, &stages);
        eprintln!(
            "[{:4} s] {}/{} {}: {verdict}",
            begin.elapsed().as_secs(),
            at + 1,
            chosen.len(),
            mutant.name
        );
        println!("{}", row(mutant, &verdict));
        if !matches!(verdict, Verdict::Red { .. }) {
            missed.push(mutant.name);
        }
    }
    eprintln!("{} of {} breakages were noticed", chosen.len() - missed.len(), chosen.len());
    if missed.is_empty() { Ok(()) } else { Err(format!("nothing was seen of: {}", missed.join(", "))) }
}

fn check_unbroken(copy: &Copy, stages: &[&'static Stage]) -> Result<(), String> {
    for stage in stages {
        match stage.run(copy)? {
            TestRun::Green => {}
            TestRun::Red(what) => return Err(format!("without any breakage, {} is red: {what}", stage.name)),
            TestRun::NotBuilt => return Err(format!("{} does not compile", stage.name)),
        }
    }
    Ok(())
}

fn try_out(copy: &Copy, mutant: &Mutant, stages: &[&'static Stage]) -> Verdict {
    let outcome = copy.with(mutant, || {
        for stage in stages.iter().filter(|stage| stage.package == mutant.package()) {
            match stage.run(copy)? {
                TestRun::Green => {}
                TestRun::Red(what) => return Ok(Verdict::Red { stage: stage.name, what }),
                TestRun::NotBuilt => return Err("it does not compile".to_owned()),
            }
        }
        Ok(Verdict::Survived)
    });
    outcome.unwrap_or_else(Verdict::Unfit)
}

/// The beginning of a row: all but what a run finds out.
fn head(mutant: &Mutant) -> String {
    let rules = if mutant.rules.is_empty() { "-" } else { mutant.rules };
    format!("| {} | {} | {rules} |", mutant.name, mutant.breaks)
}

/// A row of the table in `docs/mutations.md`.
fn row(mutant: &Mutant, verdict: &Verdict) -> String {
    format!("{} {verdict} |", head(mutant))
}

fn all() -> impl Iterator<Item = &'static Mutant> {
    let early = state::MUTANTS.iter().chain(turn::MUTANTS).chain(deadlines::MUTANTS);
    early
        .chain(edge::MUTANTS)
        .chain(admit::MUTANTS)
        .chain(send::MUTANTS)
        .chain(dial::MUTANTS)
        .chain(udp::MUTANTS)
        .chain(mail::MUTANTS)
        .chain(child::MUTANTS)
        .chain(unix::MUTANTS)
        .chain(layer::MUTANTS)
        .chain(tls::MUTANTS)
        .chain(handshakes::MUTANTS)
        .chain(proof::MUTANTS)
}

/// Where cargo builds, unless told otherwise.
fn target(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn every_breakage_still_fits_the_sources() {
        for mutant in all() {
            let source = fs::read_to_string(root().join(mutant.path())).unwrap();
            let broken = mutant.apply(&source).unwrap_or_else(|reason| panic!("{}: {reason}", mutant.name));
            assert_ne!(broken, source, "{} changes nothing", mutant.name);
        }
    }

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = all().map(|mutant| mutant.name).collect();
        assert_eq!(names.len(), all().count());
    }

    #[test]
    fn the_page_has_a_row_for_every_breakage_and_no_other() {
        let page = fs::read_to_string(root().join("docs/mutations.md")).unwrap();
        let listed: Vec<_> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
        for mutant in all() {
            let beginning = format!("{} `", head(mutant));
            let rows = listed.iter().filter(|line| line.starts_with(&beginning)).count();
            assert_eq!(rows, 1, "rows of docs/mutations.md that begin with {beginning}");
        }
        assert_eq!(listed.len(), all().count(), "rows of docs/mutations.md");
    }
}
