//! Operations into submission entries.
#![allow(unsafe_code)]

use super::Uring;
use crate::buf::{Span, Stage};
use crate::op::{Fd, Kind, Op, UserData};
use io_uring::types::{CancelBuilder, DestinationSlot, Fd as RawFd, Fixed};
use io_uring::{opcode, squeue};
use std::os::fd::AsRawFd;

const SEND: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

impl Uring {
    /// Queues the entry for an operation; there is room for it.
    #[inline]
    pub(super) fn lower(&mut self, user_data: UserData, op: Op, stage: &Stage) {
        match op {
            Op::SendNow { fd, span } => self.lower_send_now(user_data, fd, span, stage),
            Op::Recv { fd } => {
                let entry = opcode::RecvMulti::new(Fixed(fd.0), super::buf_ring::GROUP).build();
                self.submit(user_data, entry);
            }
            op => self.lower_rare(user_data, op),
        }
    }

    /// Watches the wake-up for as long as the kernel likes.
    pub(super) fn lower_wake(&mut self) {
        let fd = RawFd(self.wake.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        self.submit(Kind::WAKE, entry);
    }

    #[inline]
    fn lower_send_now(&mut self, user_data: UserData, fd: Fd, span: Span, stage: &Stage) {
        let anchor = self.stage.get_or_insert_with(|| stage.memory().anchor());
        let start = (anchor.address() + span.start as usize) as *const u8;
        let complaint = self.staged.add(user_data, span.len, self.ring.position());
        let entry = opcode::Send::new(Fixed(fd.0), start, span.len)
            .flags(SEND | libc::MSG_DONTWAIT)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(complaint.bits());
        // SAFETY: a non-blocking send reads its bytes while the kernel consumes the entry and never
        // again. They lie in the stage, which `self.stage` keeps in place, and the core leaves a span
        // alone until its send has completed.
        unsafe { self.ring.push(&entry) };
    }

    fn lower_rare(&mut self, user_data: UserData, op: Op) {
        let row = user_data.decode().map_or(0, |tag| tag.row);
        let entry = match op {
            Op::Send { fd, block } => {
                let (start, len) = self.in_flight.lend_block(row, block);
                opcode::Send::new(Fixed(fd.0), start, len as u32).flags(SEND).build()
            }
            Op::Accept { listener } => {
                let (storage, len) = self.in_flight.lend_address(row);
                opcode::Accept::new(RawFd(listener), storage, len)
                    .file_index(Some(DestinationSlot::auto_target()))
                    .build()
            }
            Op::ShutdownWrite { fd } => opcode::Shutdown::new(Fixed(fd.0), libc::SHUT_WR).build(),
            Op::Close { fd } => opcode::Close::new(Fixed(fd.0)).build(),
            Op::Cancel { target } => {
                opcode::AsyncCancel2::new(CancelBuilder::user_data(target.bits())).build()
            }
            Op::SendNow { .. } | Op::Recv { .. } => unreachable!("lowered before"),
        };
        self.submit(user_data, entry);
    }

    #[inline]
    fn submit(&mut self, user_data: UserData, entry: squeue::Entry) {
        self.in_flight.begin();
        // SAFETY: what the entry names was lent to `in_flight`, which gives it back only for the
        // last completion; receives name a group of buffers that `buffers` owns.
        unsafe { self.ring.push(&entry.user_data(user_data.bits())) };
    }
}
