//! One thin wrapper per facility of the operating system.
//!
//! Each module turns raw calls into a safe interface and decides nothing: whoever calls it chooses
//! what happens next. No raw pointer leaves this folder, and every descriptor and mapping has
//! owners that give it back when the last of them is dropped.

pub(crate) mod affinity;
pub(crate) mod dir_lock;
pub(crate) mod event_fd;
pub(crate) mod limits;
pub(crate) mod process;
pub(crate) mod region;
pub(crate) mod sock_addr;
pub(crate) mod sock_opt;

pub(crate) use event_fd::EventFd;
pub(crate) use region::{Anchor, Region};
