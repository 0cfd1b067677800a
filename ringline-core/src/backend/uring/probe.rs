//! What the kernel offers beyond the floor of 6.1, as found out by asking for it.

use std::fmt;

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
    /// The submission queue goes without an index array (kernel 6.6).
    pub direct_submission: bool,
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let yes_no = |has| if has { "yes" } else { "no" };
        write!(
            f,
            "io_uring: incremental buffers {}, direct descriptors {}, direct submission {}",
            yes_no(self.incremental_buffers),
            yes_no(self.direct_descriptors),
            yes_no(self.direct_submission)
        )
    }
}
