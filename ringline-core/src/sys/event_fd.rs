//! A counter in the kernel that wakes a worker which sleeps in its ring.
//!
//! The descriptor is closed when its `EventFd` is dropped and not before. A sender shares the
//! `EventFd` itself and never its number, so a late signal cannot land in a descriptor that has
//! since got that number.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};

/// An event counter, non-blocking and closed on exec.
#[derive(Debug)]
pub(crate) struct EventFd {
    counter: File,
}

impl EventFd {
    /// A counter that nobody has signalled yet.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: the call takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
        let counter = unsafe { File::from_raw_fd(fd) };
        Ok(Self { counter })
    }

    /// Makes the descriptor readable and so wakes whoever reads it; signals that nobody has read
    /// yet merge into one.
    pub(crate) fn signal(&self) -> io::Result<()> {
        loop {
            match (&self.counter).write(&1_u64.to_ne_bytes()) {
                Ok(_) => return Ok(()),
                // The counter is at its maximum: it has been signalled and nobody has read it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The descriptor, for the poll that the worker's ring keeps in flight.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.counter.as_fd()
    }

    /// Takes the number of signals since the last read; `WouldBlock` when there were none.
    pub(crate) fn drain(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        (&self.counter).read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn signals_merge_until_they_are_drained() {
        let event = EventFd::new().unwrap();
        assert_eq!(event.drain().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        event.signal().unwrap();
        event.signal().unwrap();
        assert_eq!(event.drain().unwrap(), 2);
        assert_eq!(event.drain().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_full_counter_counts_as_signalled() {
        let event = EventFd::new().unwrap();
        let full = u64::MAX - 1;
        (&event.counter).write_all(&full.to_ne_bytes()).unwrap();
        event.signal().unwrap();
        assert_eq!(event.drain().unwrap(), full);
    }

    #[test]
    fn the_descriptor_is_closed_on_exec_and_does_not_block() {
        let event = EventFd::new().unwrap();
        let path = format!("/proc/self/fdinfo/{}", event.as_fd().as_raw_fd());
        let info = std::fs::read_to_string(path).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = i32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
        assert_eq!(flags & libc::O_CLOEXEC, libc::O_CLOEXEC);
        assert_eq!(flags & libc::O_NONBLOCK, libc::O_NONBLOCK);
    }
}
