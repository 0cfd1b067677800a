//! The ring itself: set-up with fallbacks, submission, waiting, completions.
#![allow(unsafe_code)]

use super::error::RingError;
use crate::backend::Wait;
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, opcode, squeue};
use std::fmt;
use std::io;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::time::Duration;

/// A completion as the kernel wrote it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cqe {
    pub(super) user_data: u64,
    pub(super) result: i32,
    pub(super) flags: u32,
}

/// `IORING_MAX_CQ_ENTRIES` of the kernel.
const COMPLETIONS_MAX: u32 = 1 << 16;
/// How long to stay out of the kernel's way when it is short of memory.
const SHORT_OF_MEMORY: Duration = Duration::from_millis(1);

/// A ring that is used by the thread that made it.
pub(super) struct Ring {
    // The three halves borrow from the ring; the drop of this ends them before it.
    submitter: ManuallyDrop<Submitter<'static>>,
    sq: ManuallyDrop<SubmissionQueue<'static>>,
    cq: ManuallyDrop<CompletionQueue<'static>>,
    uring: NonNull<IoUring>,
    /// Entries pushed since the start, modulo 2^32.
    pushed: u32,
}

impl Ring {
    /// A ring with `entries` submission entries and four times as many completion entries, and
    /// whether it goes without the index array of old kernels.
    pub(super) fn new(entries: u32) -> Result<(Self, bool), RingError> {
        let build = |no_sqarray: bool| {
            let mut builder = IoUring::builder();
            builder
                .setup_cqsize((4 * entries).min(COMPLETIONS_MAX))
                .setup_submit_all()
                .setup_coop_taskrun()
                .setup_single_issuer()
                .setup_defer_taskrun();
            if no_sqarray {
                builder.setup_no_sqarray();
            }
            builder.build(entries)
        };
        // NO_SQARRAY is from 6.6; everything else is in 6.1, our floor.
        let (uring, no_sqarray) = match build(true) {
            Ok(uring) => (uring, true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                (build(false).map_err(|error| RingError::from_setup(error, entries))?, false)
            }
            Err(error) => return Err(RingError::from_setup(error, entries)),
        };
        let mut ring = Self::split(uring);
        // Saves a look-up of the descriptor per enter; without it everything works as well.
        let _ = ring.submitter.register_ring_fd();
        Ok((ring, no_sqarray))
    }

    fn split(uring: IoUring) -> Self {
        let uring = NonNull::from(Box::leak(Box::new(uring)));
        // SAFETY: the box was leaked, so the ring stays where it is and the halves may borrow from it
        // for as long as they like. Only the drop frees it, after it has ended the halves; they do
        // not leave this file except for the time of a call, and nobody reaches the ring otherwise.
        let (submitter, sq, cq) = unsafe { (*uring.as_ptr()).split() };
        Self {
            submitter: ManuallyDrop::new(submitter),
            sq: ManuallyDrop::new(sq),
            cq: ManuallyDrop::new(cq),
            uring,
            pushed: 0,
        }
    }

    pub(super) fn register_files(&mut self, files: u32) -> Result<(), RingError> {
        self.submitter.register_files_sparse(files).map_err(|error| RingError::from_files(error, files))
    }

    pub(super) fn unregister_files(&mut self) {
        // Without a table there is nothing to take back.
        let _ = self.submitter.unregister_files();
    }

    /// For registrations that need more than a number.
    pub(super) fn submitter(&self) -> &Submitter<'static> {
        &self.submitter
    }

    #[inline]
    pub(super) fn is_full(&mut self) -> bool {
        self.sq.is_full()
    }

    /// How many entries there is room for.
    #[inline]
    pub(super) fn room(&mut self) -> usize {
        self.sq.capacity() - self.sq.len()
    }

    /// Queues an entry; there is room.
    ///
    /// # Safety
    ///
    /// The memory that the entry names stays in place and is used by nobody else until the
    /// operation's last completion, or, if the entry says so, until the kernel has consumed it.
    #[inline]
    pub(super) unsafe fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: the caller vouches for the entry.
        let pushed = unsafe { self.sq.push(entry) };
        assert!(pushed.is_ok(), "the caller made sure of room");
        self.pushed = self.pushed.wrapping_add(1);
    }

    /// How many entries were pushed before the next one, modulo 2^32.
    #[inline]
    pub(super) fn position(&self) -> u32 {
        self.pushed
    }

    /// How many entries the kernel has consumed, modulo 2^32.
    #[inline]
    pub(super) fn consumed(&self) -> u32 {
        self.pushed.wrapping_sub(self.sq.len() as u32)
    }

    /// Submits everything queued and waits. Task work runs and completions are posted only on an
    /// enter with GETEVENTS, so every enter has it.
    #[inline]
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.sq.sync();
        let queued = self.sq.len() as u32;
        let entered = match wait {
            Wait::No => self.call(queued, 0),
            Wait::Forever => self.call(queued, 1),
            Wait::For(timeout) => self.call_for(queued, timeout),
        };
        self.sq.sync();
        self.cq.sync();
        if self.cq.overflow() != 0 {
            // The kernel had no memory to keep a completion: what it was about is unknown for ever.
            return Err(io::Error::from_raw_os_error(libc::EBADR));
        }
        match entered {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                // A signal, a completion backlog, the time: all of them just end the wait.
                Some(libc::EINTR | libc::EBUSY | libc::ETIME) => Ok(()),
                Some(libc::EAGAIN | libc::ENOMEM) => {
                    if self.cq.is_empty() {
                        std::thread::sleep(SHORT_OF_MEMORY);
                    }
                    Ok(())
                }
                _ => Err(error),
            },
        }
    }

    /// Whether completions wait in the kernel because the queue is full.
    #[inline]
    pub(super) fn has_overflowed(&self) -> bool {
        self.sq.cq_overflow()
    }

    /// Hands out every completion in the queue and makes room for more.
    #[inline]
    pub(super) fn drain(&mut self, mut take: impl FnMut(Cqe)) {
        for entry in &mut *self.cq {
            take(Cqe { user_data: entry.user_data(), result: entry.result(), flags: entry.flags() });
        }
        self.cq.sync();
    }

    /// Cancels every operation there is.
    pub(super) fn cancel_all(&mut self) {
        let sqe = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(0);
        if !self.is_full() {
            // SAFETY: the entry names no memory.
            unsafe { self.push(&sqe) };
        }
    }

    #[inline]
    fn call(&self, queued: u32, wanted: u32) -> io::Result<usize> {
        let flags = EnterFlags::GETEVENTS.bits();
        // SAFETY: no argument is passed, and the queue's entries were vouched for when pushed.
        unsafe { self.submitter.enter::<libc::sigset_t>(queued, wanted, flags, None) }
    }

    #[inline(never)]
    fn call_for(&self, queued: u32, timeout: Duration) -> io::Result<usize> {
        let flags = (EnterFlags::GETEVENTS | EnterFlags::EXT_ARG).bits();
        let timespec = Timespec::from(timeout);
        let args = SubmitArgs::new().timespec(&timespec);
        // SAFETY: the argument is what EXT_ARG announces, and both it and the time outlive the call.
        unsafe { self.submitter.enter(queued, 1, flags, Some(&args)) }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // A registered descriptor would keep the ring, and its sockets, until the thread ends.
        let _ = self.submitter.unregister_ring_fd();
        // SAFETY: a drop runs once, the halves end before what they borrow from, and the pointer came
        // from a leaked box.
        unsafe {
            ManuallyDrop::drop(&mut self.cq);
            ManuallyDrop::drop(&mut self.sq);
            ManuallyDrop::drop(&mut self.submitter);
            drop(Box::from_raw(self.uring.as_ptr()));
        }
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("pushed", &self.pushed).finish_non_exhaustive()
    }
}
