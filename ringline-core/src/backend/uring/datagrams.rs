//! Datagrams: the buffers they are received into, and the memory of those on their way out.
//!
//! The buffers are a group of their own, which exists from the first receive of datagrams on, so a
//! server without such sockets pays nothing. What the kernel reads of a datagram that it was given to
//! send, which is lists, addresses and the bytes themselves, lies in a cell that stays in place and
//! comes back with the last completion.
#![allow(unsafe_code)]

use super::Uring;
use super::buf_ring::BufRing;
use super::in_flight::Lent;
use super::lift::Final;
use super::lower::raw;
use super::ring::Cqe;
use crate::buf::{Lease, Outgoing};
use crate::net::arrival;
use crate::op::{Fd, Kind, Outcome, Tag};
use crate::sys::sock_addr;
use io_uring::{cqueue, opcode, squeue, types};
use std::net::{IpAddr, Ipv6Addr};
use std::ptr::{self, NonNull};

/// The group under which receives of datagrams name their buffers.
const GROUP: u16 = 1;
/// How many cells are kept for later.
const SPARE_MAX: usize = 4096;
/// Room for the source address and the size of segments.
const CONTROL_WORDS: usize = 8;

struct Template(libc::msghdr);

// SAFETY: the one header there is has null pointers only, and nobody writes to it.
unsafe impl Sync for Template {}

/// How much room the kernel leaves for addresses and control messages in each buffer.
static TEMPLATE: Template = {
    // SAFETY: zeros and null pointers are a valid header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_namelen = arrival::NAME_BYTES as libc::socklen_t;
    header.msg_controllen = arrival::CONTROL_BYTES;
    Template(header)
};

/// What the kernel reads of a datagram besides its bytes.
#[repr(C)]
struct RawMessage {
    name: libc::sockaddr_storage,
    stretch: libc::iovec,
    header: libc::msghdr,
    control: [u64; CONTROL_WORDS],
}

/// A heap cell that stays in place, with the datagram that it describes.
#[derive(Debug)]
pub(super) struct Message {
    raw: NonNull<RawMessage>,
    datagram: Option<Box<Outgoing>>,
}

impl Message {
    fn new() -> Self {
        // SAFETY: zeros and null pointers are a valid value of every field.
        let raw: RawMessage = unsafe { std::mem::zeroed() };
        Self { raw: NonNull::from(Box::leak(Box::new(raw))), datagram: None }
    }

    /// Takes a datagram and makes the entry that sends it. What the entry names stays in place as long
    /// as the message is lent.
    fn pack(&mut self, fd: types::Fd, datagram: Box<Outgoing>) -> squeue::Entry {
        // SAFETY: the cell is ours until it is lent, and no other reference to it exists.
        let raw = unsafe { self.raw.as_mut() };
        let name_len = datagram.to.map_or(0, |to| sock_addr::to_raw(&to, &mut raw.name));
        let control_len = write_control(&mut raw.control, &datagram);
        let bytes = datagram.bytes();
        let (start, len) = (bytes.as_ptr(), bytes.len());
        self.datagram = Some(datagram);
        let name = if name_len == 0 { ptr::null_mut() } else { (&raw mut raw.name).cast() };
        if control_len == 0 {
            return opcode::Send::new(fd, start, len as u32)
                .flags(libc::MSG_NOSIGNAL)
                .dest_addr(name)
                .dest_addr_len(name_len)
                .build();
        }
        raw.stretch = libc::iovec { iov_base: start.cast_mut().cast(), iov_len: len };
        raw.header.msg_name = name.cast();
        raw.header.msg_namelen = name_len;
        raw.header.msg_iov = &raw mut raw.stretch;
        raw.header.msg_iovlen = 1;
        raw.header.msg_control = raw.control.as_mut_ptr().cast();
        raw.header.msg_controllen = control_len;
        opcode::SendMsg::new(fd, &raw const raw.header).flags(libc::MSG_NOSIGNAL as u32).build()
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        // SAFETY: the cell came from a leaked box, and a lent one is never dropped.
        drop(unsafe { Box::from_raw(self.raw.as_ptr()) });
    }
}

/// Writes the control messages that a datagram needs, and says how long they are together.
fn write_control(control: &mut [u64; CONTROL_WORDS], datagram: &Outgoing) -> usize {
    let mut len = 0;
    match datagram.source {
        Some(IpAddr::V4(source)) => {
            let own = u32::from_ne_bytes(source.octets());
            // The interface is left to the routes; so is the address in the header.
            let info = u64::from(own) << 32;
            len = push_control(control, len, libc::IPPROTO_IP, libc::IP_PKTINFO, 12, &[info, 0]);
        }
        Some(IpAddr::V6(source)) => {
            let [low, high] = halves(source);
            let interface = scope_of(datagram);
            let words = [low, high, u64::from(interface)];
            len = push_control(control, len, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, 20, &words);
        }
        None => {}
    }
    if datagram.segment_bytes > 0 {
        let size = [u64::from(datagram.segment_bytes)];
        len = push_control(control, len, libc::SOL_UDP, libc::UDP_SEGMENT, 2, &size);
    }
    len
}

/// Appends one control message with `bytes` of `data`; numbers shorter than a word lie in its first
/// bytes, as on every machine that we run on.
fn push_control(
    control: &mut [u64; CONTROL_WORDS],
    len: usize,
    level: i32,
    kind: i32,
    bytes: usize,
    data: &[u64],
) -> usize {
    let at = len / size_of::<u64>();
    control[at] = (2 * size_of::<u64>() + bytes) as u64;
    control[at + 1] = u64::from(level as u32) | u64::from(kind as u32) << 32;
    control[at + 2..at + 2 + data.len()].copy_from_slice(data);
    len + (2 + data.len()) * size_of::<u64>()
}

fn halves(address: Ipv6Addr) -> [u64; 2] {
    let octets = address.octets();
    let (low, high) = octets.split_at(8);
    [low, high].map(|half| u64::from_ne_bytes(half.try_into().expect("a half has eight bytes")))
}

/// The interface of a link-local peer, which a link-local source needs, too.
fn scope_of(datagram: &Outgoing) -> u32 {
    match datagram.to {
        Some(std::net::SocketAddr::V6(to)) => to.scope_id(),
        _ => 0,
    }
}

/// The datagrams that the kernel has, by the row of their operation, and the buffers for those that
/// arrive.
#[derive(Debug)]
pub(super) struct Datagrams {
    buffers: Option<BufRing>,
    count: u16,
    buffer_bytes: u32,
    sends: Vec<Option<Lent<Message>>>,
    spare: Vec<Message>,
}

impl Datagrams {
    pub(super) fn new(count: u16, datagram_bytes: u32) -> Self {
        // An odd number of cache lines, so that the heads of the buffers do not all compete for the
        // same few places of the cache.
        let lines = (arrival::OVERHEAD_BYTES as u32 + datagram_bytes).div_ceil(64) | 1;
        Self { buffers: None, count, buffer_bytes: lines * 64, sends: Vec::new(), spare: Vec::new() }
    }

    /// The bytes of a lease of ours.
    #[inline]
    pub(super) fn bytes(&self, lease: &Lease) -> &[u8] {
        self.buffers.as_ref().map_or(&[], |buffers| buffers.bytes(lease))
    }

    /// Lets the kernel have a buffer again.
    #[inline]
    pub(super) fn release(&mut self, lease: Lease) {
        if let Some(buffers) = &mut self.buffers {
            buffers.release(lease);
            buffers.publish();
        }
    }

    pub(super) fn unregister(&mut self, ring: &super::ring::Ring) {
        if let Some(buffers) = &mut self.buffers {
            buffers.unregister(ring);
        }
    }

    fn lend(&mut self, row: u32, fd: Fd, datagram: Box<Outgoing>) -> squeue::Entry {
        let mut message = self.spare.pop().unwrap_or_else(Message::new);
        let entry = message.pack(raw(fd), datagram);
        super::in_flight::lend(&mut self.sends, row, message);
        entry
    }

    fn reclaim(&mut self, row: u32, proof: Final) -> Option<Box<Outgoing>> {
        let mut message = self.sends.get_mut(row as usize)?.take()?.reclaim(proof);
        let datagram = message.datagram.take();
        if self.spare.len() < SPARE_MAX {
            self.spare.push(message);
        }
        datagram
    }
}

impl Uring {
    /// Makes the buffers, if there are none yet.
    pub(super) fn make_datagram_buffers(&mut self) -> Result<(), i32> {
        let Self { datagrams, ring, .. } = self;
        if datagrams.buffers.is_none() {
            let buffers = BufRing::whole(ring, datagrams.count, datagrams.buffer_bytes, GROUP);
            datagrams.buffers = Some(buffers.map_err(|error| {
                log::error!("no buffers for datagrams: {error}");
                libc::ENOMEM
            })?);
        }
        Ok(())
    }

    pub(super) fn lower_recv_datagrams(&mut self, tag: Tag, fd: Fd) {
        assert!(self.datagrams.buffers.is_some(), "buffers are prepared before a receive names them");
        // With this flag the kernel tells how long a datagram was that it had to cut; of a stream it
        // would throw the bytes away.
        let flags = if tag.kind == Kind::RecvStamped { 0 } else { libc::MSG_TRUNC as u32 };
        let entry = opcode::RecvMsgMulti::new(raw(fd), &raw const TEMPLATE.0, GROUP).flags(flags).build();
        self.submit(tag.encode(), entry.flags(self.descriptors.flags(fd)));
    }

    pub(super) fn lower_send_datagram(&mut self, tag: Tag, fd: Fd, datagram: Box<Outgoing>) {
        let entry = self.datagrams.lend(tag.row, fd, datagram);
        self.submit(tag.encode(), entry.flags(self.descriptors.flags(fd)));
    }

    #[inline]
    pub(super) fn lift_datagram(&mut self, cqe: Cqe) -> Outcome {
        let buffer = cqueue::buffer_select(cqe.flags);
        let Some(buffers) = &mut self.datagrams.buffers else {
            unreachable!("no receive of datagrams is lowered without buffers, and they go with the ring");
        };
        match (u32::try_from(cqe.result), buffer) {
            (Ok(len), Some(buffer)) if len > 0 => Outcome::Datagram(buffers.lease(buffer, len, true)),
            (result, buffer) => {
                buffers.return_unused(buffer);
                buffers.publish();
                Outcome::Failed { errno: if result.is_ok() { libc::EIO } else { -cqe.result } }
            }
        }
    }

    pub(super) fn lift_datagram_sent(&mut self, row: u32, result: i32, proof: Final) -> Option<Outcome> {
        let datagram = self.datagrams.reclaim(row, proof)?;
        Some(Outcome::DatagramSent { errno: (-result).max(0), datagram })
    }
}
