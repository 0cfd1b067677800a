//! The process's resource limits.
//!
//! A limit is only ever raised, and never above what the administrator allows. `u64::MAX` stands
//! for "unlimited".
#![allow(unsafe_code)]

use std::io;

/// A resource limit: what is in force, and how far the process itself may raise it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    /// The limit in force.
    pub(crate) soft: u64,
    /// The highest value that `soft` may be raised to without privilege.
    pub(crate) hard: u64,
}

/// How many descriptors the process may have open; also the largest table of fixed files a ring may
/// register.
pub(crate) fn open_files() -> io::Result<Limit> {
    Resource::OpenFiles.limit()
}

/// Makes room for `needed` open descriptors and returns the soft limit then in force.
///
/// A soft limit that is too low is raised to the hard limit, not just to `needed`: files that the
/// application opens for itself count too. The result is below `needed` when the hard limit is, and
/// the caller decides what that means.
pub(crate) fn raise_open_files(needed: u64) -> io::Result<u64> {
    let Limit { soft, hard } = open_files()?;
    if needed <= soft || soft == hard {
        return Ok(soft);
    }
    Resource::OpenFiles.set(Limit { soft: hard, hard })?;
    Ok(hard)
}

/// How many bytes of memory the process may lock: the soft limit.
///
/// Registered buffers, and on newer kernels the rings themselves, are charged to it.
pub(crate) fn locked_memory() -> io::Result<u64> {
    Resource::LockedMemory.limit().map(|limit| limit.soft)
}

#[derive(Clone, Copy)]
enum Resource {
    OpenFiles,
    LockedMemory,
}

impl Resource {
    fn limit(self) -> io::Result<Limit> {
        let number = match self {
            Self::OpenFiles => libc::RLIMIT_NOFILE,
            Self::LockedMemory => libc::RLIMIT_MEMLOCK,
        };
        let mut raw = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `raw` is a live, writable `rlimit`; the call keeps no pointer to it.
        let status = unsafe { libc::getrlimit(number, &raw mut raw) };
        if status != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Limit { soft: raw.rlim_cur, hard: raw.rlim_max })
    }

    fn set(self, limit: Limit) -> io::Result<()> {
        let number = match self {
            Self::OpenFiles => libc::RLIMIT_NOFILE,
            Self::LockedMemory => libc::RLIMIT_MEMLOCK,
        };
        let raw = libc::rlimit { rlim_cur: limit.soft, rlim_max: limit.hard };
        // SAFETY: `raw` is a live `rlimit` that the call only reads; it keeps no pointer to it.
        let status = unsafe { libc::setrlimit(number, &raw const raw) };
        if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The soft and the hard limit in the row of `/proc/self/limits` that starts with `name`.
    fn reported(name: &str) -> Limit {
        let table = std::fs::read_to_string("/proc/self/limits").unwrap();
        let row = table.lines().find_map(|line| line.strip_prefix(name));
        let mut columns = row.unwrap().split_whitespace().map(|column| match column {
            "unlimited" => u64::MAX,
            number => number.parse().unwrap(),
        });
        Limit { soft: columns.next().unwrap(), hard: columns.next().unwrap() }
    }

    #[test]
    fn locked_memory_is_what_the_kernel_reports() {
        assert_eq!(locked_memory().unwrap(), reported("Max locked memory").soft);
    }

    /// One test for all, because the limit belongs to the whole process; it never goes lower than
    /// one below the hard limit.
    #[test]
    fn open_files_are_raised_to_the_hard_limit_when_needed() {
        let before = open_files().unwrap();
        let hard = before.hard;
        let lowered = Limit { soft: hard - 1, hard };
        Resource::OpenFiles.set(lowered).unwrap();
        assert_eq!(open_files().unwrap(), lowered);
        assert_eq!(reported("Max open files"), lowered);

        assert_eq!(raise_open_files(lowered.soft).unwrap(), lowered.soft);
        assert_eq!(open_files().unwrap(), lowered, "enough is left alone");

        assert_eq!(raise_open_files(hard).unwrap(), hard);
        assert_eq!(open_files().unwrap(), Limit { soft: hard, hard });

        assert_eq!(raise_open_files(u64::MAX).unwrap(), hard);
        Resource::OpenFiles.set(before).unwrap();
    }
}
