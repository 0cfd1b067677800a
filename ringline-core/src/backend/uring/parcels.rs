//! Parcels that the kernel has been lent: who sent them, and when they are free again.
//!
//! One parcel is one or several linked entries, each with bits of its own. An entry completes with a
//! result. If that announces more, the kernel has the bytes until a notification comes for the same
//! entry; if not, it is done with them, and a notification that comes all the same, as for a link
//! that never ran, says nothing. A send is over when every result is in; its memory is free when
//! every entry is done. Bits are used again only then, and with another generation, so that
//! neither a cancel nor a late notification meets a stranger.
#![allow(unsafe_code)]

use super::in_flight::Lent;
use super::lift::Final;
use super::ring::Cqe;
use crate::buf::{Lease, Link, Parcel, Piece, Unsent};
use crate::op::{Fd, Kind, Tag, UserData};
use io_uring::{cqueue, opcode, squeue, types};
use std::ptr;

const SEND: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
/// A send that waits and may be short. When the kernel gives the connection up, such a send fails with the
/// reason if it took nothing, and the one before has told what it took. One that must be whole would report
/// what it took instead of the reason, which nobody could learn any more.
const SEND_SOME: i32 = libc::MSG_NOSIGNAL;
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
        // Only what does not wait, or must not be followed by anything before it is whole, asks for that.
        let is_whole = flags & libc::MSG_DONTWAIT != 0 || self.headers.len() > 1 || self.is_chain();
        let flags = flags | if is_whole { SEND } else { SEND_SOME };
        if link.pieces == 1 {
            let stretch = self.stretches[self.firsts[at]];
            let len = stretch.iov_len.min(SEND_BYTES_MAX) as u32;
            return opcode::Send::new(fd, stretch.iov_base.cast(), len).flags(flags).build();
        }
        opcode::SendMsg::new(fd, header).flags(flags as u32).build()
    }

    fn is_chain(&self) -> bool {
        self.parcel.as_ref().is_some_and(|parcel| parcel.chain.is_some())
    }
}

/// How far an entry has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its result is not in.
    Flying,
    /// Its result is in, and the kernel still has the bytes.
    Lent,
    Done,
}

#[derive(Debug)]
struct Transit {
    tag: Tag,
    load: Lent<Box<Load>>,
    entries: Vec<Stage>,
    bytes: usize,
    errno: i32,
    was_copied: bool,
}

impl Transit {
    fn is_over(&self) -> bool {
        !self.entries.contains(&Stage::Flying)
    }

    fn is_free(&self) -> bool {
        self.entries.iter().all(|&entry| entry == Stage::Done)
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    transit: Option<Transit>,
}

/// A chain in the submission queue: its first position there, the one behind it, and its slot.
#[derive(Debug)]
struct Queued {
    first: u32,
    end: u32,
    slot: u32,
}

/// What a completion means to the parcel that it is for.
#[derive(Debug)]
pub(super) struct Note {
    pub(super) slot: u32,
    pub(super) tag: Tag,
    /// Its entry has completed for the last time that matters.
    pub(super) is_done: bool,
    /// With this the send is over: how many bytes have left, and what stopped it.
    pub(super) over: Option<(usize, i32)>,
    /// With this the memory is free.
    pub(super) is_free: bool,
}

/// Everything that was lent for sends.
#[derive(Debug, Default)]
pub(super) struct Parcels {
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// The slot of the send that a row waits for.
    by_row: Vec<Option<u32>>,
    /// Chains that the kernel has not consumed whole.
    chains: Vec<Queued>,
    spare: Vec<Box<Load>>,
    spare_entries: Vec<Vec<Stage>>,
    /// The kernel can tell whether it had to copy.
    reports_usage: bool,
}

impl Parcels {
    pub(super) fn new(reports_usage: bool) -> Self {
        Self { reports_usage, ..Self::default() }
    }

    /// Lends a parcel whose send waits. Its entries, made by [`Parcels::entry`], go to `position` and
    /// what follows in the submission queue. Returns its slot and how many entries there are.
    pub(super) fn lend(
        &mut self,
        tag: Tag,
        parcel: Box<Parcel>,
        position: u32,
        address: impl Fn(&Lease) -> *const u8,
    ) -> (u32, usize) {
        let links = parcel.links().len();
        assert!(links <= LINKS_MAX, "a parcel has no more links than its bits tell apart");
        let load = self.load(parcel, usize::MAX, address);
        let slot = self.free.pop().unwrap_or(self.slots.len() as u32);
        assert!(slot < SLOTS_MAX, "more parcels are lent than their bits tell apart");
        if slot as usize == self.slots.len() {
            self.slots.push(Slot::default());
        }
        let at = tag.row as usize;
        if self.by_row.len() <= at {
            self.by_row.resize(at + 1, None);
        }
        assert!(self.by_row[at].is_none(), "one send of a row waits at a time");
        self.by_row[at] = Some(slot);
        if links > 1 {
            self.chains.push(Queued { first: position, end: position.wrapping_add(links as u32), slot });
        }
        let mut entries = self.spare_entries.pop().unwrap_or_default();
        entries.resize(links, Stage::Flying);
        let load = Lent::new(load);
        let transit = Transit { tag, load, entries, bytes: 0, errno: 0, was_copied: false };
        self.slots[slot as usize].transit = Some(transit);
        (slot, links)
    }

    /// The entry for one link of a parcel that is lent.
    pub(super) fn entry(&self, slot: u32, fd: Fd, at: usize) -> Option<squeue::Entry> {
        let Slot { generation, transit } = &self.slots[slot as usize];
        let load = transit.as_ref()?.load.peek();
        let link = load.parcel.as_ref()?.links().nth(at)?;
        let is_last = at + 1 == load.headers.len();
        let entry = load.entry(super::lower::raw(fd), at, link, 0, self.reports_usage);
        let flags = if is_last { squeue::Flags::empty() } else { squeue::Flags::IO_LINK };
        Some(entry.flags(flags).user_data(bits(*generation, slot, at).bits()))
    }

    /// Lends a parcel for a send of its first link that is over when the kernel has consumed it.
    /// Returns the load, its entry, and how many bytes the link has.
    pub(super) fn lend_briefly(
        &mut self,
        fd: Fd,
        parcel: Box<Parcel>,
        address: impl Fn(&Lease) -> *const u8,
    ) -> (Lent<Box<Load>>, squeue::Entry, usize) {
        let pieces = parcel.links().next().map_or(0, |link| link.pieces);
        let len = parcel.pieces().take(usize::from(pieces)).map(Piece::len).sum();
        let load = self.load(parcel, 1, address);
        let link = Link { pieces, zero_copy: false };
        let entry = load.entry(super::lower::raw(fd), 0, link, libc::MSG_DONTWAIT, false);
        (Lent::new(load), entry, len)
    }

    /// The parcel of a load that the kernel is done with.
    pub(super) fn unload(&mut self, load: Lent<Box<Load>>, proof: Final) -> Option<Box<Parcel>> {
        let mut load = load.reclaim(proof);
        let parcel = load.parcel.take();
        if self.spare.len() < SPARE_MAX {
            self.spare.push(load);
        }
        parcel
    }

    /// The bits of the entry that the send of a row waits for, if it is not over. If that one is
    /// cancelled, so are those behind it.
    pub(super) fn find(&self, tag: Tag) -> Option<UserData> {
        let slot = (*self.by_row.get(tag.row as usize)?)?;
        let Slot { generation, transit } = &self.slots[slot as usize];
        let transit = transit.as_ref().filter(|transit| transit.tag == tag)?;
        let at = transit.entries.iter().position(|&entry| entry == Stage::Flying)?;
        Some(bits(*generation, slot, at))
    }

    /// The kernel has consumed everything before `position`. A chain of which it took a part only, for
    /// lack of memory, is one no more: what follows could overtake, so the send has failed.
    #[inline]
    pub(super) fn consumed(&mut self, position: u32) {
        if self.chains.is_empty() {
            return;
        }
        let is_before = |one: u32, other: u32| (other.wrapping_sub(one) as i32) > 0;
        for Queued { first, end, slot } in &self.chains {
            if is_before(*first, position)
                && is_before(position, *end)
                && let Some(transit) = &mut self.slots[*slot as usize].transit
            {
                transit.errno = libc::EIO;
            }
        }
        self.chains.retain(|chain| !is_before(chain.first, position));
    }

    /// Takes a completion of one of a parcel's entries; `None` if it says nothing about any.
    pub(super) fn note(&mut self, tag: Tag, cqe: Cqe) -> Option<Note> {
        let (slot, at) = (tag.row / LINKS_MAX as u32, tag.row as usize % LINKS_MAX);
        let Slot { generation, transit } = self.slots.get_mut(slot as usize)?;
        let transit =
            transit.as_mut().filter(|_| *generation & UserData::GENERATION_MASK == tag.generation)?;
        let entry = transit.entries.get_mut(at)?;
        let is_result = !cqueue::notif(cqe.flags);
        match (is_result, *entry) {
            (true, Stage::Flying) => {
                *entry = if cqueue::more(cqe.flags) { Stage::Lent } else { Stage::Done };
                match usize::try_from(cqe.result) {
                    Ok(bytes) => transit.bytes += bytes,
                    // What follows a link that broke says only that.
                    Err(_) if transit.errno == 0 => transit.errno = -cqe.result,
                    Err(_) => {}
                }
            }
            (false, Stage::Lent) => {
                *entry = Stage::Done;
                transit.was_copied |= cqe.result as u32 & COPIED != 0;
            }
            _ => return None,
        }
        let is_done = *entry == Stage::Done;
        let over = (is_result && transit.is_over()).then_some((transit.bytes, transit.errno));
        if over.is_some() {
            self.by_row[transit.tag.row as usize] = None;
        }
        Some(Note { slot, tag: transit.tag, is_done, over, is_free: transit.is_free() })
    }

    /// Every entry of a parcel is done: it is ours again.
    pub(super) fn land(&mut self, slot: u32, proof: Final) -> Option<Box<Parcel>> {
        let Slot { generation, transit } = &mut self.slots[slot as usize];
        let Transit { load, mut entries, was_copied, .. } = transit.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(slot);
        if self.spare_entries.len() < SPARE_MAX {
            entries.clear();
            self.spare_entries.push(entries);
        }
        let mut parcel = self.unload(load, proof)?;
        parcel.was_copied = was_copied;
        Some(parcel)
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

/// How many entries of a parcel its bits can tell apart. A chain has fewer.
const LINKS_MAX: usize = 64;
/// How many parcels can be lent at a time.
const SLOTS_MAX: u32 = u32::MAX / LINKS_MAX as u32;
/// How many loads are kept for later.
const SPARE_MAX: usize = 1024;

/// The bits of one entry of the parcel in a slot.
fn bits(generation: u32, slot: u32, at: usize) -> UserData {
    UserData::new(Kind::Parcel, generation, slot * LINKS_MAX as u32 + at as u32)
}

#[cfg(test)]
#[path = "parcels_tests.rs"]
mod tests;
