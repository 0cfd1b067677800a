//! Signals by name.

use std::fmt;

/// A signal that programs send each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Signal {
    /// `SIGHUP`: the terminal is gone, or, for a server, the configuration is to be read again.
    Hangup,
    /// `SIGINT`: Ctrl-C.
    Interrupt,
    /// `SIGQUIT`: Ctrl-\\.
    Quit,
    /// `SIGKILL`: ends a process, which hears nothing of it.
    Kill,
    /// `SIGUSR1`: whatever the program says.
    User1,
    /// `SIGUSR2`: whatever the program says.
    User2,
    /// `SIGTERM`: the process is to end.
    Terminate,
    /// `SIGCONT`: a process that was stopped goes on.
    Continue,
    /// `SIGSTOP`: stops a process, which hears nothing of it.
    Stop,
    /// `SIGWINCH`: the terminal has another size.
    WindowChange,
}

impl Signal {
    pub(super) const ALL: [Self; 10] = [
        Self::Hangup,
        Self::Interrupt,
        Self::Quit,
        Self::Kill,
        Self::User1,
        Self::User2,
        Self::Terminate,
        Self::Continue,
        Self::Stop,
        Self::WindowChange,
    ];

    /// The number that this system has given it.
    pub fn number(self) -> i32 {
        match self {
            Self::Hangup => libc::SIGHUP,
            Self::Interrupt => libc::SIGINT,
            Self::Quit => libc::SIGQUIT,
            Self::Kill => libc::SIGKILL,
            Self::User1 => libc::SIGUSR1,
            Self::User2 => libc::SIGUSR2,
            Self::Terminate => libc::SIGTERM,
            Self::Continue => libc::SIGCONT,
            Self::Stop => libc::SIGSTOP,
            Self::WindowChange => libc::SIGWINCH,
        }
    }

    /// Whether a program can have it come to a callback.
    pub fn can_be_caught(self) -> bool {
        !matches!(self, Self::Kill | Self::Stop)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hangup => "SIGHUP",
            Self::Interrupt => "SIGINT",
            Self::Quit => "SIGQUIT",
            Self::Kill => "SIGKILL",
            Self::User1 => "SIGUSR1",
            Self::User2 => "SIGUSR2",
            Self::Terminate => "SIGTERM",
            Self::Continue => "SIGCONT",
            Self::Stop => "SIGSTOP",
            Self::WindowChange => "SIGWINCH",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_numbered_as_listed() {
        for (at, signal) in Signal::ALL.into_iter().enumerate() {
            assert_eq!(signal as usize, at);
        }
    }
}
