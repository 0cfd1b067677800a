//! The receive buffers: a ring from which the kernel takes them, and the memory behind it.
//!
//! With incremental buffers (kernel 6.12) the kernel fills one buffer bit by bit for many
//! connections. A completion does not say where its bytes begin, so completions are lifted in the
//! order of the queue and the position is counted here. A buffer goes back to the ring when the
//! kernel is done with it and the last lease of it has come home; without incremental buffers that
//! is one lease per buffer.
#![allow(unsafe_code)]

use super::Setup;
use super::error::RingError;
use super::ring::Ring;
use crate::buf::Lease;
use crate::sys::{Anchor, Region};
use io_uring::types::BufRingEntry;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

/// The group under which receives name the ring.
pub(super) const GROUP: u16 = 0;
/// `IOU_PBUF_RING_INC` of `io_uring_register(2)`.
const INCREMENTAL: u16 = 2;
/// The largest buffer that is used whole for one receive.
const WHOLE_BYTES_MAX: u32 = 16 * 1024;
const BUFFERS_MAX: u32 = 1 << 15;

#[derive(Clone, Debug, Default)]
struct Buffer {
    /// How much of it the kernel has filled.
    filled: u32,
    /// How many leases of it are out.
    leases: u32,
    /// The kernel is done with it.
    is_done: bool,
}

/// A group of receive buffers.
#[derive(Debug)]
pub(super) struct BufRing {
    entries: Anchor,
    // Freed by `unregister` alone: whatever else happens, memory the kernel may use is leaked.
    entries_owner: Option<ManuallyDrop<Region>>,
    memory: Option<ManuallyDrop<Region>>,
    buffers: Vec<Buffer>,
    buffer_bytes: u32,
    is_incremental: bool,
    /// The name under which receives find it.
    group: u16,
    /// How many buffers the kernel is done with and has not got back.
    out: u16,
    /// Next entry to write, and the first that the kernel does not know of.
    tail: u16,
    published: u16,
}

impl BufRing {
    pub(super) fn new(ring: &mut Ring, setup: &Setup) -> Result<Self, RingError> {
        if setup.incremental {
            match Self::register(ring, setup.buffers, setup.buffer_bytes, INCREMENTAL, GROUP) {
                Err(RingError::Refused { errno: libc::EINVAL, .. }) => {}
                result => return result,
            }
        }
        let bytes = setup.buffer_bytes.min(WHOLE_BYTES_MAX);
        let count = u32::from(setup.buffers) * setup.buffer_bytes.div_ceil(bytes).next_power_of_two();
        Self::register(ring, count.min(BUFFERS_MAX) as u16, bytes, 0, GROUP)
    }

    /// Another group, of which each receive takes a buffer of its own.
    pub(super) fn whole(ring: &mut Ring, count: u16, bytes: u32, group: u16) -> Result<Self, RingError> {
        Self::register(ring, count, bytes, 0, group)
    }

    fn register(
        ring: &mut Ring,
        count: u16,
        buffer_bytes: u32,
        flags: u16,
        group: u16,
    ) -> Result<Self, RingError> {
        let no_memory = |source| RingError::NoMemory { source };
        let entries_owner = Region::new(usize::from(count) * size_of::<BufRingEntry>()).map_err(no_memory)?;
        let memory = Region::new(usize::from(count) * buffer_bytes as usize).map_err(no_memory)?;
        let entries = entries_owner.anchor();
        // SAFETY: the entries are page aligned, zeroed and large enough, and stay in place until the
        // group is unregistered: the drop of the backend calls `unregister` before it frees them.
        let registered = unsafe {
            ring.submitter().register_buf_ring_with_flags(entries.address() as u64, count, group, flags)
        };
        registered.map_err(RingError::from_buffers)?;
        let mut buffers = Self {
            entries,
            entries_owner: Some(ManuallyDrop::new(entries_owner)),
            memory: Some(ManuallyDrop::new(memory)),
            buffers: vec![Buffer::default(); usize::from(count)],
            buffer_bytes,
            is_incremental: flags == INCREMENTAL,
            group,
            out: 0,
            tail: 0,
            published: 0,
        };
        for buffer in 0..count {
            buffers.give(buffer);
        }
        buffers.publish();
        Ok(buffers)
    }

    pub(super) fn is_incremental(&self) -> bool {
        self.is_incremental
    }

    /// Takes back a buffer that came with an end or an error, if one did.
    ///
    /// A whole buffer is free again. Of one that is filled bit by bit nothing was used, and the
    /// kernel keeps it, whatever it says.
    pub(super) fn return_unused(&mut self, buffer: Option<u16>) {
        let Some(buffer) = buffer else { return };
        let lease = self.lease(buffer, 0, !self.is_incremental);
        self.release(lease);
    }

    /// The next `len` bytes of a buffer, which the kernel has just filled.
    #[inline]
    pub(super) fn lease(&mut self, buffer: u16, len: u32, is_done: bool) -> Lease {
        let state = &mut self.buffers[usize::from(buffer)];
        let offset = state.filled;
        state.filled += len;
        assert!(state.filled <= self.buffer_bytes, "the kernel fills no more than a buffer holds");
        state.leases += 1;
        self.out += u16::from(is_done && !state.is_done);
        state.is_done |= is_done;
        Lease { buffer, offset, len }
    }

    /// Takes note of another lease of bytes that are on loan.
    pub(super) fn share(&mut self, part: &Lease) {
        let state = &mut self.buffers[usize::from(part.buffer)];
        assert!(state.leases > 0, "only what is on loan is shared");
        state.leases += 1;
    }

    /// How many buffers the kernel is done with and has not got back.
    #[inline]
    pub(super) fn held(&self) -> usize {
        usize::from(self.out)
    }

    /// Whether at least half of the buffers, and two, are with the kernel.
    #[inline]
    pub(super) fn has_spare(&self) -> bool {
        let (all, out) = (self.buffers.len(), usize::from(self.out));
        2 * out <= all && all >= out + 2
    }

    #[inline]
    pub(super) fn bytes(&self, lease: &Lease) -> &[u8] {
        let start = usize::from(lease.buffer) * self.buffer_bytes as usize + lease.offset as usize;
        match &self.memory {
            Some(memory) => memory.slice(start, lease.len as usize),
            None => &[],
        }
    }

    /// The kernel has finished writing a lease and does not read it unless a part of it was shared, so
    /// whoever has the only one may change what it stands for.
    #[inline]
    pub(super) fn bytes_mut(&mut self, lease: &mut Lease) -> &mut [u8] {
        let start = usize::from(lease.buffer) * self.buffer_bytes as usize + lease.offset as usize;
        match &mut self.memory {
            Some(memory) => memory.slice_mut(start, lease.len as usize),
            None => &mut [],
        }
    }

    #[inline]
    pub(super) fn release(&mut self, lease: Lease) {
        let Lease { buffer, .. } = lease;
        let state = &mut self.buffers[usize::from(buffer)];
        state.leases -= 1;
        if state.leases == 0 && state.is_done {
            *state = Buffer::default();
            self.out -= 1;
            self.give(buffer);
        }
    }

    /// Lets the kernel see what was given back.
    #[inline]
    pub(super) fn publish(&mut self) {
        if self.tail == self.published {
            return;
        }
        self.published = self.tail;
        // SAFETY: the first entry was written by `give`, so it is initialised, and its reserved
        // field is the ring's tail; the address is page aligned and mapped, thanks to `entries`.
        unsafe {
            let tail = BufRingEntry::tail(self.entry(0)).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    /// Takes the group from the kernel and frees its memory. Nothing is in flight any more; if the
    /// kernel will not let go of the group, the memory is leaked.
    pub(super) fn unregister(&mut self, ring: &Ring) {
        if ring.submitter().unregister_buf_ring(self.group).is_ok() {
            self.memory.take().map(ManuallyDrop::into_inner);
            self.entries_owner.take().map(ManuallyDrop::into_inner);
        }
    }

    #[inline]
    fn give(&mut self, buffer: u16) {
        let Some(memory) = &self.memory else { return };
        let mask = self.buffers.len() as u16 - 1;
        let entry = self.entry(self.tail & mask);
        let address = memory.anchor().address() + usize::from(buffer) * self.buffer_bytes as usize;
        // SAFETY: the entry lies in the mapping of `entries`, and the kernel does not look at it
        // before `publish` has moved the tail beyond it. Only setters run on it, so that the field
        // of the first entry that is the tail keeps its value.
        unsafe {
            (*entry).set_addr(address as u64);
            (*entry).set_len(self.buffer_bytes);
            (*entry).set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    #[inline]
    fn entry(&self, at: u16) -> *mut BufRingEntry {
        ptr::with_exposed_provenance_mut::<BufRingEntry>(self.entries.address()).wrapping_add(usize::from(at))
    }
}
