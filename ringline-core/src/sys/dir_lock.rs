//! A lock on a directory, for those who agree to take it.
//!
//! It is held for as long as its value lives, goes with the process, and leaves nothing behind.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// A directory that nobody else has locked.
#[derive(Debug)]
pub(crate) struct DirLock {
    /// Closing it ends the lock.
    _directory: File,
}

impl DirLock {
    /// Locks a directory; `None` if somebody else has.
    pub(crate) fn try_lock(directory: &Path) -> io::Result<Option<Self>> {
        let directory = File::open(directory)?;
        // SAFETY: the call takes numbers only, and the descriptor is open.
        let status = unsafe { libc::flock(directory.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
        if status == 0 {
            return Ok(Some(Self { _directory: directory }));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() == Some(libc::EWOULDBLOCK) { Ok(None) } else { Err(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once_at_a_time() {
        let directory = std::env::temp_dir().join(format!("ringline-lock-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let first = DirLock::try_lock(&directory).unwrap().unwrap();
        assert!(DirLock::try_lock(&directory).unwrap().is_none());
        drop(first);
        assert!(DirLock::try_lock(&directory).unwrap().is_some());
        std::fs::remove_dir(&directory).unwrap();
        assert!(DirLock::try_lock(&directory).is_err());
    }
}
