//! What a check has to say, and how it is shown: one line per finding, `path:line: rule: message`.
//!
//! Only an error makes the run fail; a warning is a limit that is near.

use std::fmt;

/// Whether a finding makes the run fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Shown only.
    Warning,
    /// Shown, and the run fails.
    Error,
}

/// One breach of one rule at one place.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) path: String,
    pub(crate) line: usize,
    pub(crate) rule: &'static str,
    pub(crate) severity: Severity,
    pub(crate) message: String,
}

impl Finding {
    /// A breach that must be mended.
    pub(crate) fn error(path: &str, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, rule, severity: Severity::Error, message: message.into() }
    }

    /// A limit that is near.
    pub(crate) fn warning(path: &str, line: usize, rule: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, line, rule, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, rule, message, .. } = self;
        match self.severity {
            Severity::Error => write!(f, "{path}:{line}: {rule}: {message}"),
            Severity::Warning => write!(f, "{path}:{line}: {rule}: warning: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_place_rule_and_severity() {
        assert_eq!(Finding::error("a/b.rs", 7, "cells", "no").to_string(), "a/b.rs:7: cells: no");
        assert_eq!(
            Finding::warning("a/b.rs", 7, "length", "long").to_string(),
            "a/b.rs:7: length: warning: long"
        );
    }
}
