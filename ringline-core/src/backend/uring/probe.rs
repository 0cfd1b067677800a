//! What the kernel offers beyond the floor of 6.1, as found out by asking for it.
#![allow(unsafe_code)]

use super::parcels::REPORT_USAGE;
use super::ring::Ring;
use crate::backend::Wait;
use io_uring::types::Fd;
use io_uring::{cqueue, opcode};
use std::fmt;
use std::time::Duration;

/// Features of the running kernel that a server makes use of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Receive buffers are filled bit by bit (kernel 6.12), so that a few large ones serve small
    /// and large messages alike. Without it each receive takes a buffer of its own.
    pub incremental_buffers: bool,
    /// Sockets live in a table of the ring instead of that of the process (kernel 6.13; before that,
    /// closing such a socket could be delayed for as long as any other connection was idle). Without
    /// it every connection counts towards the process's limit of open files.
    pub direct_descriptors: bool,
    /// The kernel tells when it had to copy the bytes of a zero-copy send (kernel 6.2), so that a
    /// connection where it always does can go over to copying.
    pub zero_copy_reports: bool,
    /// The submission queue goes without an index array (kernel 6.6).
    pub direct_submission: bool,
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes_no = |has| if has { "yes" } else { "no" };
        write!(
            f,
            "io_uring: incremental buffers {}, direct descriptors {}, zero-copy reports {}, direct submission {}",
            yes_no(self.incremental_buffers),
            yes_no(self.direct_descriptors),
            yes_no(self.zero_copy_reports),
            yes_no(self.direct_submission)
        )
    }
}

/// Whether a zero-copy send may ask for a report: a kernel that does not know the flag says so before
/// it finds that there is no socket.
pub(super) fn zero_copy_reports(ring: &mut Ring) -> bool {
    let entry = opcode::SendMsgZc::new(Fd(-1), &raw const EMPTY.0).ioprio(REPORT_USAGE).build();
    // SAFETY: the entry names the header alone, which is static.
    unsafe { ring.push(&entry) };
    let (mut result, mut is_over) = (None, false);
    while !is_over {
        if ring.enter(Wait::For(Duration::from_millis(10))).is_err() {
            return false;
        }
        ring.drain(|cqe| {
            // Even an operation that fails at once may announce a notification.
            is_over = !cqueue::more(cqe.flags);
            if !cqueue::notif(cqe.flags) {
                result = Some(cqe.result);
            }
        });
    }
    result == Some(-libc::EBADF)
}

struct Header(libc::msghdr);

// SAFETY: the one header there is has null pointers only, and nobody writes to it.
unsafe impl Sync for Header {}

/// The header of a message without bytes.
static EMPTY: Header = Header(
    // SAFETY: zeros and null pointers are a valid header.
    unsafe { std::mem::zeroed() },
);
