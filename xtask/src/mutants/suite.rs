//! The tests of the core as stages, from fast to slow, and one run of a stage with an end to its patience.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::copy::Copy;
use crate::{artifacts, inherited};

/// The packages that are broken.
pub(super) const CORE: &str = "ringline-core";
pub(super) const TLS: &str = "ringline-tls";
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// Address space of a test program: a breakage may ask for memory without end.
const MEMORY_KIB: u64 = 16 << 20;

/// How often a failed test may try again to show that it fails.
const REPEATS: usize = 3;

/// A test program of the core.
#[derive(Debug)]
pub(super) struct Stage {
    /// The cargo target: `lib`, or the name of an integration test.
    pub(super) name: &'static str,
    pub(super) package: &'static str,
    limit: Duration,
}

/// Every stage that there may be, fast ones first.
pub(super) const STAGES: &[Stage] = &[
    Stage::of(CORE, "lib", 20),
    Stage::of(CORE, "sim_seeds", 60),
    Stage::of(CORE, "regressions", 20),
    Stage::of(CORE, "faults", 60),
    Stage::of(CORE, "suite", 60),
    Stage::of(CORE, "server", 60),
    Stage::of(CORE, "udp", 60),
    Stage::of(TLS, "bytes", 60),
    Stage::of(TLS, "simulated", 60),
];

/// What a stage says.
#[derive(Debug)]
pub(super) enum TestRun {
    Green,
    /// A test that failed, crashed or did not end.
    Red(String),
    NotBuilt,
}

/// What one run of a program says.
#[derive(Debug)]
enum Outcome {
    Passed,
    /// The tests that failed, by name.
    Failed(Vec<String>),
    /// The program crashed or was killed, in this test or a later one.
    Cut(String),
}

impl Stage {
    const fn of(package: &'static str, name: &'static str, seconds: u64) -> Self {
        Self { name, package, limit: Duration::from_secs(seconds) }
    }

    pub(super) fn exists(&self, root: &Path) -> bool {
        let tests = root.join(self.package).join("tests");
        self.name == "lib"
            || tests.join(self.name).join("main.rs").exists()
            || tests.join(format!("{}.rs", self.name)).exists()
    }

    /// Builds the test program and runs it.
    pub(super) fn run(&self, copy: &Copy) -> Result<TestRun, String> {
        let Some(program) = self.build(copy)? else { return Ok(TestRun::NotBuilt) };
        let failed = match self.run_tests(&program, copy, None)? {
            Outcome::Passed => return Ok(TestRun::Green),
            Outcome::Cut(what) => return Ok(TestRun::Red(what)),
            Outcome::Failed(tests) => tests,
        };
        // On a busy machine a test that measures time may fail once without any reason.
        for test in failed {
            for _ in 0..REPEATS {
                if !matches!(self.run_tests(&program, copy, Some(&test))?, Outcome::Passed) {
                    return Ok(TestRun::Red(test));
                }
            }
        }
        Ok(TestRun::Green)
    }

    /// Runs all tests of the program, or only one.
    fn run_tests(&self, program: &str, copy: &Copy, only: Option<&str>) -> Result<Outcome, String> {
        let fault = |error| format!("{program}: {error}");
        let log = File::create(copy.log()).map_err(fault)?;
        let mut tests = command(self, program, copy);
        if let Some(test) = only {
            tests.args(["--exact", test]);
        }
        let mut child = tests.stdout(log).spawn().map_err(fault)?;
        let status = wait(&mut child, self.limit).map_err(fault)?;
        let printed = fs::read(copy.log()).map_err(fault)?;
        let printed = String::from_utf8_lossy(&printed);
        if status.is_some_and(|status| status.success()) {
            return Ok(Outcome::Passed);
        }
        let failed = failed(&printed);
        if !failed.is_empty() {
            return Ok(Outcome::Failed(failed));
        }
        let how = if status.is_some() { "crash" } else { "time" };
        Ok(Outcome::Cut(format!("{} ({how})", unfinished(self, program, copy, &printed)?)))
    }

    /// The path of the test program, or nothing if it does not compile.
    fn build(&self, copy: &Copy) -> Result<Option<String>, String> {
        let mut cargo = inherited::command("cargo");
        cargo.args(["test", "--quiet", "--no-run", "--package", self.package, "--message-format=json"]);
        match self.name {
            "lib" => cargo.arg("--lib"),
            name => cargo.args(["--test", name]),
        };
        // A breakage may leave something unused, which is no reason to refuse it.
        let built = cargo
            .arg("--target-dir")
            .arg(copy.target())
            .env("RUSTFLAGS", "--cap-lints warn")
            .env("CARGO_PROFILE_DEV_DEBUG", "none")
            .current_dir(copy.root())
            .stderr(Stdio::null())
            .output()
            .map_err(|error| format!("cargo: {error}"))?;
        if !built.status.success() {
            return Ok(None);
        }
        let programs = artifacts::programs(&String::from_utf8_lossy(&built.stdout))?;
        let program = programs.into_iter().find(|program| program.is_test);
        program.map(|program| Some(program.path)).ok_or_else(|| format!("cargo built no test {}", self.name))
    }
}

/// The first of the tests that the program says nothing of, in a run that did not come to its end.
fn unfinished(stage: &Stage, program: &str, copy: &Copy, printed: &str) -> Result<String, String> {
    let listed = command(stage, program, copy)
        .arg("--list")
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let is_over =
        |name: &str| printed.lines().any(|line| verdict_on(line).is_some_and(|(test, _)| test == name));
    let mut open =
        listed.lines().filter_map(|line| line.strip_suffix(": test")).filter(|name| !is_over(name));
    Ok(open.next().unwrap_or("no single test").to_owned())
}

/// The program with bounded memory; the shell becomes the program, so killing it kills the tests.
fn command(stage: &Stage, program: &str, copy: &Copy) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\""), program])
        .current_dir(copy.root().join(stage.package))
        .env("RINGLINE_SEEDS", "3000")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// The end of a child, or nothing if it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let until = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// The failed tests in the order of their names, because the order of their ends is up to chance.
fn failed(printed: &str) -> Vec<String> {
    let failed = printed.lines().filter_map(verdict_on).filter(|(_, verdict)| *verdict == "FAILED");
    let mut tests: Vec<_> = failed.map(|(test, _)| test.to_owned()).collect();
    tests.sort_unstable();
    tests
}

/// The test and the verdict in a line such as `test conn::id::tests::ids_differ ... ok`.
fn verdict_on(line: &str) -> Option<(&str, &str)> {
    let (test, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    Some((test.strip_suffix(" - should panic").unwrap_or(test), verdict))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_tests_are_listed_by_name() {
        let printed = "running 3 tests\ntest b ... FAILED\ntest a - should panic ... FAILED\ntest 0 ... ok\n";
        assert_eq!(failed(printed), ["a", "b"]);
        assert!(failed("test a ... ok\n").is_empty());
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let begin = Instant::now();
        assert!(wait(&mut child, Duration::from_millis(50)).unwrap().is_none());
        assert!(begin.elapsed() < Duration::from_secs(30));
        let mut child = Command::new("true").spawn().unwrap();
        assert!(wait(&mut child, Duration::from_secs(30)).unwrap().unwrap().success());
    }
}
