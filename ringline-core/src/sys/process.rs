//! Processes of ours, each by a descriptor of its own.
//!
//! A number of a process means another process once the first is gone and collected; a descriptor
//! never does. Everything after the start goes by the descriptor.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

/// A process that this process has started and not collected.
#[derive(Debug)]
pub(crate) struct Process {
    descriptor: OwnedFd,
    number: u32,
}

/// How a process has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited { code: i32 },
    Killed { signal: i32, core_dumped: bool },
}

impl Process {
    /// Takes hold of the process that has a number now. Whether that is still the one that was meant,
    /// [`is_child`](Self::is_child) tells.
    pub(crate) fn open(number: u32) -> io::Result<Self> {
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, number as libc::pid_t, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
        let descriptor = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
        Ok(Self { descriptor, number })
    }

    /// Sends a signal. One that has ended and was not collected takes it and does nothing.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        let fd = self.descriptor.as_raw_fd();
        let no_details = ptr::null::<libc::siginfo_t>();
        // SAFETY: the call keeps no pointer; null stands for no details.
        let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, signal, no_details, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Whether it is a child of this process that nobody has collected.
    pub(crate) fn is_child(&self) -> bool {
        self.look(libc::WNOWAIT).is_ok()
    }

    /// Collects the process if it has ended.
    pub(crate) fn try_wait(&self) -> io::Result<Option<Ended>> {
        let details = self.look(0)?;
        // SAFETY: the fields are there after a call that has succeeded, and zero if nothing has ended.
        let (number, status) = unsafe { (details.si_pid(), details.si_status()) };
        if number == 0 {
            return Ok(None);
        }
        Ok(Some(match details.si_code {
            libc::CLD_EXITED => Ended::Exited { code: status },
            code => Ended::Killed { signal: status, core_dumped: code == libc::CLD_DUMPED },
        }))
    }

    /// Asks how it has ended, with more flags of `waitid(2)`.
    fn look(&self, flags: i32) -> io::Result<libc::siginfo_t> {
        // SAFETY: all zeros is a valid value of every field.
        let mut details: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let fd = self.descriptor.as_raw_fd() as libc::id_t;
        let flags = libc::WEXITED | libc::WNOHANG | flags;
        // SAFETY: the details are a live local of the right type; the call keeps no pointer to it.
        let waited = unsafe { libc::waitid(libc::P_PIDFD, fd, &raw mut details, flags) };
        if waited < 0 { Err(io::Error::last_os_error()) } else { Ok(details) }
    }

    /// Its number, which is its own until it was collected.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The descriptor, which is readable when the process has ended.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Blocks until one of the processes has ended or `wake` is readable. Also comes back for a signal.
pub(crate) fn wait_for_any(processes: &[Process], wake: BorrowedFd<'_>) -> io::Result<()> {
    let watch = |fd: BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut watched: Vec<_> = processes.iter().map(|process| watch(process.as_fd())).collect();
    watched.push(watch(wake));
    // SAFETY: the list is live and as long as is said; the call keeps no pointer to it.
    let ready = unsafe { libc::poll(watched.as_mut_ptr(), watched.len() as libc::nfds_t, -1) };
    match io::Error::last_os_error() {
        error if ready < 0 && error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Whether this process ignores a signal.
pub(crate) fn ignores(signal: i32) -> bool {
    // SAFETY: all zeros is a valid value of every field.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: null stands for no change, and what is to be written is a live local of the right type.
    let asked = unsafe { libc::sigaction(signal, ptr::null(), &raw mut now) };
    asked == 0 && now.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::EventFd;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[expect(clippy::zombie_processes, reason = "each test collects it")]
    fn start(script: &str) -> Process {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        Process::open(child.id()).unwrap()
    }

    fn wait(process: &Process) -> Ended {
        let wake = EventFd::new().unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < until, "it does not end");
            wait_for_any(&[Process::open(process.number()).unwrap()], wake.as_fd()).unwrap();
            if let Some(ended) = process.try_wait().unwrap() {
                return ended;
            }
        }
    }

    #[test]
    fn a_process_is_collected_once_with_how_it_ended() {
        let process = start("exit 7");
        assert_eq!(wait(&process), Ended::Exited { code: 7 });
        assert_eq!(process.try_wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
        let error = process.signal(libc::SIGKILL).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "the number may be another's by now");
    }

    #[test]
    fn only_a_child_that_was_not_collected_is_ours() {
        let process = start("exit 7");
        assert!(process.is_child());
        assert_eq!(wait(&process), Ended::Exited { code: 7 }, "looking does not collect");
        assert!(!process.is_child());
        let parent = Process::open(std::os::unix::process::parent_id().max(1)).unwrap();
        assert!(!parent.is_child());
    }

    #[test]
    fn a_signal_reaches_the_process() {
        let process = start("exec sleep 60");
        assert_eq!(process.try_wait().unwrap(), None);
        process.signal(libc::SIGTERM).unwrap();
        assert_eq!(wait(&process), Ended::Killed { signal: libc::SIGTERM, core_dumped: false });
    }

    #[test]
    fn a_wake_up_ends_the_wait() {
        let process = start("exec sleep 60");
        let wake = EventFd::new().unwrap();
        wake.signal().unwrap();
        wait_for_any(std::slice::from_ref(&process), wake.as_fd()).unwrap();
        assert_eq!(process.try_wait().unwrap(), None);
        process.signal(libc::SIGKILL).unwrap();
        assert_eq!(wait(&process), Ended::Killed { signal: libc::SIGKILL, core_dumped: false });
    }
}
