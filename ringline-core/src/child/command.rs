//! A program to be run, with everything it is to have.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::{fmt, io, mem};

use super::ChildId;
use crate::conn::ConnId;

/// Where one of the three standard streams of a child leads.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum ChildStdio {
    /// Nowhere: reading finds the end, and what is written is dropped.
    #[default]
    Null,
    /// Where the stream of this program leads.
    Inherit,
    /// To this descriptor, which the child gets. The program's own copy is closed.
    Descriptor(OwnedFd),
}

impl From<OwnedFd> for ChildStdio {
    fn from(descriptor: OwnedFd) -> Self {
        Self::Descriptor(descriptor)
    }
}

impl From<ChildStdio> for Stdio {
    fn from(stdio: ChildStdio) -> Self {
        match stdio {
            ChildStdio::Null => Self::null(),
            ChildStdio::Inherit => Self::inherit(),
            ChildStdio::Descriptor(descriptor) => descriptor.into(),
        }
    }
}

/// What becomes of a child when its server shuts down.
///
/// In every case it is collected when it has ended, and a child that its worker still waits for when the
/// deadline of the shutdown has come is ended with `SIGKILL`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AtShutdown {
    /// It gets `SIGTERM` when the shutdown begins.
    #[default]
    Terminate,
    /// It is waited for and gets no signal. For one that ends by itself when its connection does.
    Wait,
    /// It gets `SIGKILL` when the shutdown begins.
    Kill,
    /// It goes on running, and nobody is told when it ends.
    Detach,
}

/// A program to be run by [`Ctx::spawn`](crate::Ctx::spawn). `C` is the type of the states of connections:
/// [`EventHandler::Conn`](crate::EventHandler::Conn).
///
/// Unless said otherwise, the standard input is empty, the standard output and the standard error are
/// those of this program, and so are the environment and the directory. No other descriptor of ringline
/// gets to the child, its signal mask is empty, and `SIGPIPE` ends it, whatever this program has set.
///
/// # Examples
///
/// ```
/// use ringline_core::{AtShutdown, ChildCommand};
///
/// let command = ChildCommand::new("sort")
///     .arg("--numeric-sort")
///     .env("LC_ALL", "C")
///     .current_dir("/")
///     .connection("the state of its connection")
///     .at_shutdown(AtShutdown::Wait);
/// # let _ = command;
/// ```
#[must_use = "a command does nothing before it is spawned"]
pub struct ChildCommand<C = ()> {
    command: Command,
    connection: Option<C>,
    stderr_connection: Option<C>,
    merges_stderr: bool,
    at_shutdown: AtShutdown,
}

impl<C> ChildCommand<C> {
    /// The program at a path, or of a name that is looked for in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.stdin(Stdio::null());
        Self {
            command,
            connection: None,
            stderr_connection: None,
            merges_stderr: false,
            at_shutdown: AtShutdown::default(),
        }
    }

    /// One more argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// More arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Leaves a variable of this program's environment out.
    pub fn env_remove(mut self, name: impl AsRef<OsStr>) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Leaves all variables out but those that are set from now on.
    pub fn env_clear(mut self) -> Self {
        self.command.env_clear();
        self
    }

    /// The directory to run in.
    pub fn current_dir(mut self, path: impl AsRef<Path>) -> Self {
        self.command.current_dir(path);
        self
    }

    /// Runs it in a process group of its own, so that signals for the group of this program, such as
    /// those of a terminal, do not reach it.
    pub fn own_group(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    /// Where the standard input comes from, unless there is a [`connection`](Self::connection).
    pub fn stdin(mut self, stdio: impl Into<ChildStdio>) -> Self {
        self.command.stdin(stdio.into());
        self
    }

    /// Where the standard output goes to, unless there is a [`connection`](Self::connection).
    pub fn stdout(mut self, stdio: impl Into<ChildStdio>) -> Self {
        self.command.stdout(stdio.into());
        self
    }

    /// Where the standard error goes to, unless it goes to a connection.
    pub fn stderr(mut self, stdio: impl Into<ChildStdio>) -> Self {
        self.command.stderr(stdio.into());
        self
    }

    /// Makes the standard input and output a connection of the worker with this state: what the child
    /// writes comes to [`on_data`](crate::EventHandler::on_data), and what is sent is what it reads. When
    /// [`shutdown_write`](crate::Ctx::shutdown_write) has ended our direction, it reads the end.
    ///
    /// The connection begins without [deadlines](crate::Deadlines), and it is read also while its outbox
    /// is high, because many programs stop reading until their output has been taken. So look at the
    /// [`Pressure`](crate::Pressure) when you feed it, and go on in
    /// [`on_writable`](crate::EventHandler::on_writable).
    ///
    /// The child's end is a Unix socket, which a program takes for a pipe, unless it opens
    /// `/dev/stdin` or `/dev/stdout` by name.
    pub fn connection(mut self, state: C) -> Self {
        self.connection = Some(state);
        self
    }

    /// Makes the standard error a connection of its own, which takes no sends.
    pub fn stderr_connection(mut self, state: C) -> Self {
        self.stderr_connection = Some(state);
        self
    }

    /// Sends the standard error into the [`connection`](Self::connection), between the output. Does
    /// nothing without one.
    pub fn merge_stderr(mut self) -> Self {
        self.merges_stderr = true;
        self
    }

    /// What becomes of it when the server shuts down.
    pub fn at_shutdown(mut self, at_shutdown: AtShutdown) -> Self {
        self.at_shutdown = at_shutdown;
        self
    }

    pub(crate) fn shutdown_rule(&self) -> AtShutdown {
        self.at_shutdown
    }

    pub(crate) fn program(&self) -> OsString {
        self.command.get_program().to_owned()
    }

    pub(crate) fn arguments(&self) -> Vec<OsString> {
        self.command.get_args().map(OsStr::to_owned).collect()
    }

    pub(crate) fn directory(&self) -> Option<&Path> {
        self.command.get_current_dir()
    }

    /// How many connections it is to have.
    pub(crate) fn connections(&self) -> usize {
        usize::from(self.connection.is_some()) + usize::from(self.stderr_connection.is_some())
    }

    /// Makes the sockets of its connections and gives the command their far ends.
    pub(crate) fn make_ends(&mut self) -> io::Result<Ends> {
        let mut ends = Ends::default();
        if self.connection.is_some() {
            let (ours, theirs) = UnixStream::pair()?;
            if self.merges_stderr {
                self.command.stderr(OwnedFd::from(theirs.try_clone()?));
            }
            self.command.stdin(OwnedFd::from(theirs.try_clone()?)).stdout(OwnedFd::from(theirs));
            ends.stdio = Some(ours.into());
        }
        if self.stderr_connection.is_some() {
            let (ours, theirs) = UnixStream::pair()?;
            ours.shutdown(std::net::Shutdown::Write)?;
            self.command.stderr(OwnedFd::from(theirs));
            ends.stderr = Some(ours.into());
        }
        Ok(ends)
    }

    /// Runs it. This blocks until the program has taken the place of a copy of this process.
    pub(crate) fn run(&mut self) -> io::Result<std::process::Child> {
        self.command.spawn()
    }

    /// The states of its connections.
    pub(crate) fn take_states(&mut self) -> (Option<C>, Option<C>) {
        (mem::take(&mut self.connection), mem::take(&mut self.stderr_connection))
    }
}

impl<C> fmt::Debug for ChildCommand<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildCommand").field("command", &self.command).finish_non_exhaustive()
    }
}

/// Our ends of the connections of a child.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) stdio: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// A child that runs, and its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Spawned {
    /// The child.
    pub child: ChildId,
    /// Its standard input and output, if they are a [`connection`](ChildCommand::connection).
    pub conn: Option<ConnId>,
    /// Its standard error, if that is a [connection of its own](ChildCommand::stderr_connection).
    pub stderr: Option<ConnId>,
}
