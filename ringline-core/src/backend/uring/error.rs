//! Why a ring could not be set up, and what to do about it.

use crate::sys::limits;
use std::io;

/// A ring could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// `EPERM`: somebody has switched io_uring off for this process.
    #[error(
        "io_uring is not permitted ({}); allow it in the container's seccomp profile or set \
         kernel.io_uring_disabled to 0", disabled(*.sysctl)
    )]
    NotPermitted {
        /// The value of the sysctl `kernel.io_uring_disabled`, if the kernel has it: 1 permits a
        /// group, 2 nobody.
        sysctl: Option<u32>,
    },
    /// `ENOSYS`: the kernel, or a filter that poses as one, has no io_uring.
    #[error(
        "this system has no io_uring (ENOSYS); use Linux 6.1 or newer, outside of sandboxes that hide it"
    )]
    NotSupported,
    /// `EINVAL`: a feature that every kernel since 6.1 has is missing.
    #[error("the kernel is too old for this ring of {entries} entries; Linux 6.1 or newer is needed")]
    KernelTooOld {
        /// Submission entries asked for.
        entries: u32,
    },
    /// Locked memory, or memory altogether, is short.
    #[error(
        "not enough memory for a ring ({source}); the limit of locked memory (RLIMIT_MEMLOCK) is {} \
         for all rings of the user: raise it, lower ring_entries or use fewer workers", amount(*.locked_limit)
    )]
    LockedMemory {
        /// The soft limit in force, in bytes.
        locked_limit: Option<u64>,
        /// What the kernel said.
        source: io::Error,
    },
    /// The table of descriptors would exceed the limit of open files.
    #[error(
        "{needed} descriptors are needed and the limit of open files (RLIMIT_NOFILE) is {}; raise it \
         with ulimit -n, or lower connections_per_worker", amount(*.limit)
    )]
    TooManyOpenFiles {
        /// Rows of the table: connections per worker and some spare ones.
        needed: u32,
        /// The soft limit in force.
        limit: Option<u64>,
    },
    /// The process has no descriptor left for a ring.
    #[error(
        "no descriptor is left for a ring; the limit of open files (RLIMIT_NOFILE) is {}; raise it with \
         ulimit -n, or close files", amount(*.limit)
    )]
    NoDescriptor {
        /// The soft limit in force.
        limit: Option<u64>,
    },
    /// Memory for receive buffers could not be mapped.
    #[error("no memory for receive buffers ({source}); lower receive_buffers or receive_buffer_bytes")]
    NoMemory {
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused for a reason of its own.
    #[error("the kernel refused to {what}: {}", io::Error::from_raw_os_error(*.errno))]
    Refused {
        /// What was asked of it.
        what: &'static str,
        /// The error number.
        errno: i32,
    },
}

impl RingError {
    /// Of `io_uring_setup(2)`.
    pub(super) fn from_setup(error: io::Error, entries: u32) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM) => Self::NotPermitted { sysctl: sysctl() },
            Some(libc::ENOSYS) => Self::NotSupported,
            Some(libc::EINVAL) => Self::KernelTooOld { entries },
            Some(libc::ENOMEM) => Self::locked_memory(error),
            Some(libc::EMFILE | libc::ENFILE) => Self::NoDescriptor { limit: open_files() },
            errno => Self::Refused { what: "set up a ring", errno: errno.unwrap_or(0) },
        }
    }

    /// Of registering the table of descriptors.
    pub(super) fn from_files(error: io::Error, needed: u32) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM) => Self::NotPermitted { sysctl: sysctl() },
            Some(libc::EMFILE) => Self::TooManyOpenFiles { needed, limit: open_files() },
            Some(libc::ENOMEM) => Self::locked_memory(error),
            errno => Self::Refused { what: "register descriptors", errno: errno.unwrap_or(0) },
        }
    }

    /// Of registering receive buffers.
    pub(super) fn from_buffers(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM) => Self::NotPermitted { sysctl: sysctl() },
            Some(libc::ENOMEM) => Self::locked_memory(error),
            errno => Self::Refused { what: "register receive buffers", errno: errno.unwrap_or(0) },
        }
    }

    /// Of the first `io_uring_enter(2)`.
    pub(super) fn from_enter(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EPERM) => Self::NotPermitted { sysctl: sysctl() },
            Some(libc::ENOSYS) => Self::NotSupported,
            errno => Self::Refused { what: "enter a ring", errno: errno.unwrap_or(0) },
        }
    }

    fn locked_memory(source: io::Error) -> Self {
        Self::LockedMemory { locked_limit: limits::locked_memory().ok(), source }
    }
}

fn sysctl() -> Option<u32> {
    std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn open_files() -> Option<u64> {
    limits::open_files().ok().map(|limit| limit.soft)
}

fn disabled(sysctl: Option<u32>) -> String {
    match sysctl {
        Some(value @ 1..) => format!("kernel.io_uring_disabled is {value}"),
        Some(0) | None => String::from("a seccomp filter or security module refuses it"),
    }
}

fn amount(limit: Option<u64>) -> String {
    limit.map_or_else(|| String::from("unknown"), |limit| limit.to_string())
}
