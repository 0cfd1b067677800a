//! Parcels that the kernel has been lent: who sent them, and when they are free again.
//!
//! One parcel is one or several linked entries, all under the same bits. Each entry brings one
//! completion with its result and, if that one says so, later a notification that the kernel no
//! longer needs the bytes. A send is over when every result is in; its memory is free when every
//! entry has completed for the last time. Bits are not used again before that, and then with
//! another generation, so that a cancel never meets a stranger.
#![allow(unsafe_code)]

use super::in_flight::Lent;
use super::lift::Final;
use super::ring::Cqe;
use crate::buf::{Lease, Link, Parcel, Unsent};
use crate::op::{Completion, Fd, Kind, Outcome, Tag, UserData};
use io_uring::{cqueue, opcode, squeue, types};
use std::ptr;

const SEND: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
/// `IORING_SEND_ZC_REPORT_USAGE` of `io_uring_enter(2)`: the notification tells whether the kernel
/// had to copy.
pub(super) const REPORT_USAGE: u16 = 1 << 3;
/// `IORING_NOTIF_USAGE_ZC_COPIED`: it had to.
const COPIED: u32 = 1 << 31;
/// The most that the kernel sends at once, in bytes: `MAX_RW_COUNT`.
const SEND_BYTES_MAX: usize = 0x7fff_f000;

/// A parcel with the lists that tell the kernel where its bytes are.
#[derive(Debug, Default)]
pub(super) struct Load {
    parcel: Option<Box<Parcel>>,
    stretches: Vec<libc::iovec>,
    headers: Vec<libc::msghdr>,
    /// The first stretch of each link.
    firsts: Vec<usize>,
}

impl Load {
    /// Takes a parcel; `address` says where the bytes of a lease are.
    fn pack(&mut self, parcel: Box<Parcel>, links_max: usize, address: impl Fn(&Lease) -> *const u8) {
        self.stretches.clear();
        self.headers.clear();
        self.firsts.clear();
        for piece in parcel.pieces() {
            let start = match piece.unsent() {
                Unsent::Here(bytes) => bytes.as_ptr(),
                Unsent::Leased(lease, skip) => address(lease).wrapping_add(skip),
            };
            let iov_base = start.cast_mut().cast();
            self.stretches.push(libc::iovec { iov_base, iov_len: piece.len() });
        }
        let mut first = 0;
        for Link { pieces, .. } in parcel.links().take(links_max) {
            // SAFETY: zeros and null pointers are a valid header without a name and control data.
            let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
            header.msg_iov = self.stretches[first..].as_mut_ptr();
            header.msg_iovlen = usize::from(pieces);
            self.headers.push(header);
            self.firsts.push(first);
            first += usize::from(pieces);
        }
        self.parcel = Some(parcel);
    }

    /// The entry for one link. What it names stays in place as long as the load is lent.
    fn entry(&self, fd: types::Fd, at: usize, link: Link, flags: i32, reports: bool) -> squeue::Entry {
        let header = ptr::from_ref(&self.headers[at]);
        if link.zero_copy {
            let usage = if reports { REPORT_USAGE } else { 0 };
            return opcode::SendMsgZc::new(fd, header).ioprio(usage).flags((SEND | flags) as u32).build();
        }
        if link.pieces == 1 {
            let stretch = self.stretches[self.firsts[at]];
            let len = stretch.iov_len.min(SEND_BYTES_MAX) as u32;
            return opcode::Send::new(fd, stretch.iov_base.cast(), len).flags(SEND | flags).build();
        }
        opcode::SendMsg::new(fd, header).flags((SEND | flags) as u32).build()
    }
}

#[derive(Debug)]
struct Transit {
    tag: Tag,
    load: Lent<Box<Load>>,
    results_left: u32,
    finals_left: u32,
    bytes: usize,
    errno: i32,
    was_copied: bool,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    transit: Option<Transit>,
}

/// Everything that was lent for sends.
#[derive(Debug, Default)]
pub(super) struct Parcels {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The slot of the send that a row waits for.
    by_row: Vec<Option<u32>>,
    #[expect(clippy::vec_box, reason = "loads travel as boxes, so the boxes are what is kept")]
    spare: Vec<Box<Load>>,
    /// The kernel can tell whether it had to copy.
    reports_usage: bool,
}

impl Parcels {
    pub(super) fn new(reports_usage: bool) -> Self {
        Self { reports_usage, ..Self::default() }
    }

    /// Lends a parcel whose send waits, and hands out the entries for it, the last one unlinked.
    pub(super) fn lend(
        &mut self,
        tag: Tag,
        fd: Fd,
        parcel: Box<Parcel>,
        address: impl Fn(&Lease) -> *const u8,
        mut submit: impl FnMut(squeue::Entry, squeue::Flags),
    ) {
        let links = parcel.links().len() as u32;
        let load = self.load(parcel, usize::MAX, address);
        let row = self.free.pop().unwrap_or(self.slots.len() as u32);
        if row as usize == self.slots.len() {
            self.slots.push(Slot::default());
        }
        let user_data = UserData::new(Kind::Parcel, self.slots[row as usize].generation, row);
        for (at, link) in load.parcel.iter().flat_map(|parcel| parcel.links()).enumerate() {
            let entry = load.entry(super::lower::raw(fd), at, link, 0, self.reports_usage);
            let is_last = at + 1 == links as usize;
            let flags = if is_last { squeue::Flags::empty() } else { squeue::Flags::IO_LINK };
            submit(entry.user_data(user_data.bits()), flags);
        }
        let at = tag.row as usize;
        if self.by_row.len() <= at {
            self.by_row.resize(at + 1, None);
        }
        self.by_row[at] = Some(row);
        self.slots[row as usize].transit = Some(Transit {
            tag,
            load: Lent::new(load),
            results_left: links,
            finals_left: links,
            bytes: 0,
            errno: 0,
            was_copied: false,
        });
    }

    /// Lends a parcel for a send of its first link that is over when the kernel has consumed it.
    pub(super) fn lend_briefly(
        &mut self,
        fd: Fd,
        parcel: Box<Parcel>,
        address: impl Fn(&Lease) -> *const u8,
    ) -> (Lent<Box<Load>>, squeue::Entry) {
        let pieces = parcel.links().next().map_or(0, |link| link.pieces);
        let load = self.load(parcel, 1, address);
        let link = Link { pieces, zero_copy: false };
        let entry = load.entry(super::lower::raw(fd), 0, link, libc::MSG_DONTWAIT, false);
        (Lent::new(load), entry)
    }

    /// The parcel of a load that the kernel is done with.
    pub(super) fn unload(&mut self, load: Lent<Box<Load>>, proof: Final) -> Option<Box<Parcel>> {
        let mut load = load.reclaim(proof);
        let parcel = load.parcel.take();
        self.spare.push(load);
        parcel
    }

    /// The bits under which the send of a row can be cancelled, if it is not over.
    pub(super) fn find(&self, tag: Tag) -> Option<UserData> {
        let row = (*self.by_row.get(tag.row as usize)?)?;
        let slot = &self.slots[row as usize];
        let transit = slot.transit.as_ref().filter(|transit| transit.tag == tag)?;
        (transit.results_left > 0).then(|| UserData::new(Kind::Parcel, slot.generation, row))
    }

    /// Takes a completion of one of a parcel's entries; the last one of an entry comes with proof.
    pub(super) fn lift(&mut self, row: u32, cqe: Cqe, proof: Option<Final>) -> Option<Completion> {
        let transit = self.slots[row as usize].transit.as_mut()?;
        transit.finals_left -= u32::from(proof.is_some());
        if cqueue::notif(cqe.flags) {
            transit.was_copied |= cqe.result as u32 & COPIED != 0;
            let proof = proof.filter(|_| transit.finals_left == 0 && transit.results_left == 0)?;
            let (tag, parcel) = self.land(row, proof)?;
            return Some(Completion { tag, outcome: Outcome::Returned(parcel), more: false });
        }
        transit.results_left -= 1;
        match usize::try_from(cqe.result) {
            Ok(bytes) => transit.bytes += bytes,
            // What follows a link that broke says only that.
            Err(_) if transit.errno == 0 => transit.errno = -cqe.result,
            Err(_) => {}
        }
        if transit.results_left > 0 {
            return None;
        }
        let Transit { tag, bytes, errno, finals_left, .. } = *transit;
        self.by_row[tag.row as usize] = None;
        let parcel = proof.filter(|_| finals_left == 0).and_then(|proof| self.land(row, proof));
        let parcel = parcel.map(|(_, parcel)| parcel);
        let more = parcel.is_none();
        Some(Completion { tag, outcome: Outcome::Sent { bytes, errno, parcel }, more })
    }

    /// The last completion of the last entry is in: the parcel is ours again.
    fn land(&mut self, row: u32, proof: Final) -> Option<(Tag, Box<Parcel>)> {
        let slot = &mut self.slots[row as usize];
        let transit = slot.transit.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(row);
        let mut parcel = self.unload(transit.load, proof)?;
        parcel.was_copied = transit.was_copied;
        Some((transit.tag, parcel))
    }

    fn load(
        &mut self,
        parcel: Box<Parcel>,
        links_max: usize,
        address: impl Fn(&Lease) -> *const u8,
    ) -> Box<Load> {
        let mut load = self.spare.pop().unwrap_or_default();
        load.pack(parcel, links_max, address);
        load
    }
}
