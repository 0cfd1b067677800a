//! How a child has ended.

use crate::sys::process::Ended;
use std::fmt;

/// How a child has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChildExit {
    /// It has exited with this code; 0 stands for success.
    Code(i32),
    /// A signal has ended it.
    Signal {
        /// The number of the signal.
        signal: i32,
        /// It has left a core dump.
        core_dumped: bool,
    },
    /// It has ended, and somebody else has collected it before: other code of this program that waits
    /// for any child, or the system, because the program ignores `SIGCHLD`.
    Unknown,
}

impl ChildExit {
    /// Whether it has exited with code 0.
    pub fn is_success(self) -> bool {
        self == Self::Code(0)
    }
}

impl From<Ended> for ChildExit {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Exited { code } => Self::Code(code),
            Ended::Killed { signal, core_dumped } => Self::Signal { signal, core_dumped },
        }
    }
}

impl fmt::Display for ChildExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal { signal, core_dumped: false } => write!(f, "ended by signal {signal}"),
            Self::Signal { signal, core_dumped: true } => write!(f, "ended by signal {signal} (core dumped)"),
            Self::Unknown => f.write_str("ended in an unknown way"),
        }
    }
}
