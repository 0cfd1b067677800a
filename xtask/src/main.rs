//! The chores of this repository as one program, so that a developer's machine and CI run the same commands.
//!
//! Every command ends with status 0 only if all that it looked at was right.

mod artifacts;
#[cfg(test)]
mod faults;
mod inherited;
mod mutants;
mod smoke;
mod tidy;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The checks and chores of this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Checks the rules of style that no lint knows: layers, rooms of unsafe code, lengths, comments.
    Tidy {
        /// The folder to check; this repository if left out.
        #[arg(long)]
        root: Option<PathBuf>,
    },
    /// Starts a server, sends 64 KiB through it, stops it with SIGTERM and wants exit status 0.
    Smoke {
        /// The server's command line; `{addr}` in it stands for a free address of the loopback network.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Builds every example and treats it as `smoke` does, after asking it for `--help`.
    SmokeExamples {
        /// Builds the examples with optimisation.
        #[arg(long)]
        release: bool,
    },
    /// Breaks the core in one place after the other, in a copy, and wants a test to notice each time.
    Mutants {
        /// Tries only this breakage; may be given several times.
        #[arg(long)]
        only: Vec<String>,
        /// Only prints what there is.
        #[arg(long)]
        list: bool,
    },
    /// Reads the JSON messages of `cargo test --no-run` from standard input; prints `name<TAB>path` for each test binary.
    TestBinaries,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Tidy { root } => tidy::run(&root.unwrap_or_else(repository)),
        Command::Smoke { command } => smoke::one(&command),
        Command::SmokeExamples { release } => smoke::examples(&repository(), release),
        Command::Mutants { list: true, .. } => {
            mutants::list();
            Ok(())
        }
        Command::Mutants { only, list: false } => mutants::run(&repository(), &only),
        Command::TestBinaries => artifacts::print_tests(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("xtask: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// The top folder of the repository: the one above this package, which `cargo run` names.
fn repository() -> PathBuf {
    env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from("."), |package| PathBuf::from(package).join(".."))
}
