//! Received bytes on loan from a backend.
//!
//! A lease is neither `Clone` nor `Copy`: it goes back to its backend exactly once, and the slice it
//! stands for cannot outlive it.

/// A part of one of a backend's receive buffers that the kernel has finished writing.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease that is not released keeps its buffer from the kernel"]
pub(crate) struct Lease {
    /// Which receive buffer.
    pub(crate) buffer: u16,
    /// Where in that buffer the bytes begin.
    pub(crate) offset: u32,
    /// How many bytes there are.
    pub(crate) len: u32,
}
