//! Operations into submission entries.
#![allow(unsafe_code)]

use super::Uring;
use crate::buf::{Lease, Parcel, Span, Stage};
use crate::net::Setting;
use crate::op::{Fd, Kind, Op, Tag, UserData};
use io_uring::types::{CancelBuilder, DestinationSlot, Fd as RawFd, Fixed};
use io_uring::{opcode, squeue};
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::AtomicU8;

const SEND: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
const PEEK: i32 = libc::MSG_PEEK | libc::MSG_DONTWAIT;

impl Uring {
    /// Queues the entry for an operation; there is room for it.
    #[inline]
    pub(super) fn lower(&mut self, user_data: UserData, op: Op, stage: &Stage) {
        let tag = fitting(user_data, &op);
        match op {
            Op::SendNow { fd, span } => self.lower_send_now(user_data, fd, span, stage),
            Op::Send { fd, parcel, waits } => self.lower_parcel(user_data, tag, fd, parcel, waits),
            Op::Recv { fd } => {
                let entry = opcode::RecvMulti::new(raw(fd), super::buf_ring::GROUP).build();
                self.submit(user_data, entry.flags(self.descriptors.flags(fd)));
            }
            Op::SendDatagram { fd, datagram } => self.lower_send_datagram(tag, fd, datagram),
            Op::RecvDatagrams { fd } => self.lower_recv_datagrams(tag, fd),
            op => self.lower_rare(tag, op),
        }
    }

    /// Watches the wake-up for as long as the kernel likes.
    pub(super) fn lower_wake(&mut self) {
        let fd = RawFd(self.wake.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build();
        self.submit(Kind::WAKE, entry);
    }

    #[expect(clippy::inline_always, reason = "arguments that go through memory in parts cost a stall")]
    #[inline(always)]
    pub(super) fn lower_send_now(&mut self, user_data: UserData, fd: Fd, span: Span, stage: &Stage) {
        let bytes = stage.bytes(span);
        let anchor = self.stage.get_or_insert_with(|| stage.memory().anchor());
        assert!(anchor.contains(bytes), "a ring serves one stage");
        let start = bytes.as_ptr();
        let complaint = self.staged.add(user_data, span.len as usize, self.ring.position(), None);
        let entry = opcode::Send::new(raw(fd), start, span.len)
            .flags(SEND | libc::MSG_DONTWAIT)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS | self.descriptors.flags(fd))
            .user_data(complaint.bits());
        // SAFETY: a non-blocking send reads its bytes while the kernel consumes the entry, that is
        // inside our own `enter`, and never again. They lie in the stage, whose memory `self.stage`
        // keeps in place for as long as the ring lives.
        unsafe { self.ring.push(&entry) };
    }

    fn lower_parcel(&mut self, user_data: UserData, tag: Tag, fd: Fd, parcel: Box<Parcel>, waits: bool) {
        let Self { parcels, buffers, ring, in_flight, staged, descriptors, .. } = self;
        let address = |lease: &Lease| buffers.bytes(lease).as_ptr();
        let kind_of_fd = descriptors.flags(fd);
        if waits {
            let (slot, links) = parcels.lend(tag, parcel, ring.position(), address);
            for entry in (0..links).filter_map(|at| parcels.entry(slot, fd, at)) {
                in_flight.begin();
                // SAFETY: the entry names bytes and lists that `parcels` has been lent and gives back
                // only when every entry of the parcel is done; the bytes of leases stay the backend's,
                // whose buffers outlive every operation.
                unsafe { ring.push(&entry.flags(kind_of_fd)) };
            }
            return;
        }
        let (load, entry, len) = parcels.lend_briefly(fd, parcel, address);
        let complaint = staged.add(user_data, len, ring.position(), Some(load));
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS | kind_of_fd).user_data(complaint.bits());
        // SAFETY: a non-blocking send reads its bytes while the kernel consumes the entry. Until then
        // `staged` keeps what it names, and for ever if it is never known to be over.
        unsafe { ring.push(&entry) };
    }

    fn lower_rare(&mut self, tag: Tag, op: Op) {
        let row = tag.row;
        let entry = match op {
            Op::Accept { listener, is_unix } => {
                let (storage, len) = self.in_flight.lend_address(row, is_unix);
                let accept = opcode::Accept::new(RawFd(listener), storage, len);
                // Who is asked for credentials must be a descriptor of the process.
                if self.descriptors.is_direct() && !is_unix {
                    accept.file_index(Some(DestinationSlot::auto_target())).build()
                } else {
                    accept.flags(libc::SOCK_CLOEXEC).build()
                }
            }
            Op::Connect { fd, dial } => {
                let (start, len) = self.in_flight.lend_target(row, &dial.addr);
                opcode::Connect::new(raw(fd), start, len).build().flags(self.descriptors.flags(fd))
            }
            Op::Peek { fd } => {
                let entry = opcode::Recv::new(raw(fd), PEEKED.as_ptr(), 1).flags(PEEK).build();
                entry.flags(self.descriptors.flags(fd))
            }
            Op::ShutdownWrite { fd } => {
                let entry = opcode::Shutdown::new(raw(fd), libc::SHUT_WR).build();
                entry.flags(self.descriptors.flags(fd))
            }
            Op::Close { fd } => {
                self.descriptors.closing(fd);
                if self.descriptors.is_row(fd) {
                    opcode::Close::new(Fixed(fd.0)).build()
                } else {
                    opcode::Close::new(raw(fd)).build()
                }
            }
            Op::Reset { fd } => self.lower_reset(fd),
            Op::SetOption { fd, setting } => self.lower_option(row, fd, setting),
            Op::Cancel { target } => {
                // A send in flight goes by bits of the backend's own.
                let send = target.decode().filter(|tag| tag.kind == Kind::Send);
                let target = send.and_then(|tag| self.parcels.find(tag)).unwrap_or(target);
                opcode::AsyncCancel2::new(CancelBuilder::user_data(target.bits())).build()
            }
            Op::Poll { descriptor } => opcode::PollAdd::new(RawFd(descriptor), libc::POLLIN as u32).build(),
            Op::SendNow { .. }
            | Op::Send { .. }
            | Op::Recv { .. }
            | Op::SendDatagram { .. }
            | Op::RecvDatagrams { .. } => unreachable!("lowered before"),
        };
        self.submit(tag.encode(), entry);
    }

    /// Has the close send a reset: with the option set, the kernel lets go of everything at once.
    fn lower_reset(&mut self, fd: Fd) -> squeue::Entry {
        if self.descriptors.is_row(fd) {
            let (level, name) = (libc::SOL_SOCKET as u32, libc::SO_LINGER as u32);
            let value = ptr::from_ref(&AT_ONCE).cast();
            let entry = opcode::SetSockOpt::new(raw(fd), level, name, value, size_of_val(&AT_ONCE) as u32);
            return entry.build().flags(self.descriptors.flags(fd));
        }
        self.descriptors.reset(fd);
        opcode::Nop::new().build()
    }

    /// On a row of the ring's own table an operation sets the option; on an ordinary descriptor a call does,
    /// and the operation only reports.
    fn lower_option(&mut self, row: u32, fd: Fd, setting: Box<Setting>) -> squeue::Entry {
        if self.descriptors.is_row(fd) {
            let (level, name) = (setting.level as u32, setting.name as u32);
            let (value, len) = self.in_flight.lend_setting(row, setting);
            let entry = opcode::SetSockOpt::new(raw(fd), level, name, value, len);
            return entry.build().flags(self.descriptors.flags(fd));
        }
        if let Err(errno) = self.descriptors.set_option(fd, &setting) {
            self.in_flight.refuse_setting(row, errno);
        }
        opcode::Nop::new().build()
    }

    #[inline]
    pub(super) fn submit(&mut self, user_data: UserData, entry: squeue::Entry) {
        self.in_flight.begin();
        // SAFETY: what the entry names was lent to `in_flight` or `datagrams`, which give it back only for
        // the last completion, or is static; receives name a group of buffers that `buffers` or
        // `datagrams` owns. Descriptors that are named are no memory.
        unsafe { self.ring.push(&entry.user_data(user_data.bits())) };
    }
}

/// What makes a close drop everything: to linger, for no time at all.
static AT_ONCE: libc::linger = libc::linger { l_onoff: 1, l_linger: 0 };

/// Where the kernel puts the bytes that are only looked for. Nobody reads it.
static PEEKED: AtomicU8 = AtomicU8::new(0);

/// The number alone; the entry's flags say what it counts.
#[inline]
pub(super) fn raw(fd: Fd) -> RawFd {
    RawFd(fd.number() as i32)
}

/// The tag of an operation. What an operation lends comes back by its kind, so the two must belong together.
#[inline]
fn fitting(user_data: UserData, op: &Op) -> Tag {
    let Some(tag) = user_data.decode() else { unreachable!("the core encodes every tag") };
    assert!(fits(tag.kind, op), "{:?} does not fit {op:?}", tag.kind);
    tag
}

#[inline]
fn fits(kind: Kind, op: &Op) -> bool {
    match op {
        // These go under bits of the backend's own.
        Op::Send { .. } | Op::SendNow { .. } => kind == Kind::Send,
        Op::Accept { .. } => kind == Kind::Accept,
        Op::Recv { .. } => kind == Kind::Recv,
        Op::Peek { .. } => kind == Kind::Peek,
        Op::Connect { .. } => kind == Kind::Connect,
        Op::ShutdownWrite { .. } => kind == Kind::Shutdown,
        Op::Reset { .. } => kind == Kind::Reset,
        Op::SetOption { .. } => kind == Kind::SetOption,
        Op::Close { .. } => matches!(kind, Kind::Close | Kind::Orphan),
        Op::Cancel { .. } => matches!(
            kind,
            Kind::CancelRecv
                | Kind::CancelSend
                | Kind::CancelAccept
                | Kind::CancelConnect
                | Kind::CancelUdpRecv
                | Kind::CancelUdpSend
                | Kind::CancelChild
        ),
        Op::RecvDatagrams { .. } => matches!(kind, Kind::UdpRecv | Kind::RecvStamped),
        Op::SendDatagram { .. } => kind == Kind::UdpSend,
        Op::Poll { .. } => kind == Kind::Child,
    }
}
