//! What programs that are started from here do not inherit.
//!
//! Cargo tells a program that it runs about the program's own package. A build that is started with that makes
//! build scripts run again that look at it, such as those of cryptography, and everything behind them.

use std::env;
use std::ffi::OsStr;
use std::process::Command;

const OF_OUR_PACKAGE: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// A command that starts as from a shell.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(|name| OF_OUR_PACKAGE.iter().any(|prefix| name.starts_with(prefix))) {
            command.env_remove(name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_about_this_package_is_told() {
        assert!(env::var_os("CARGO_PKG_NAME").is_some(), "cargo runs the tests");
        let told = command("env").output().unwrap().stdout;
        let told = String::from_utf8(told).unwrap();
        assert!(told.lines().any(|line| line.starts_with("PATH=")));
        assert!(
            !told.lines().any(|line| OF_OUR_PACKAGE.iter().any(|prefix| line.starts_with(prefix))),
            "{told}"
        );
    }
}
