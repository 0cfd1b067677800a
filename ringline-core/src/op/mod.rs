//! The language between the core and a backend: owned operations down, completions up.
//!
//! Memory an operation needs moves into the [`Op`] and comes back with its final completion, so a
//! forgotten completion can leak but never free what the kernel still uses.

mod user_data;

pub(crate) use user_data::{Kind, Tag, UserData};

use crate::buf::{Lease, Outgoing, Parcel, Span};
use crate::net::connect_options::Dial;
use crate::net::peer::Remote;
use crate::net::socket_options::Setting;
use std::os::fd::RawFd;

/// A socket in a backend's own table of descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fd(pub(crate) u32);

impl Fd {
    /// Stands for a socket that has not been made. No operation names it.
    pub(crate) const NONE: Self = Self(u32::MAX);
    /// This bit says that the rest is the number of a descriptor of the process, whatever kind of
    /// descriptor the backend's other sockets have.
    const PLAIN: u32 = 1 << 31;

    /// A descriptor of the process; numbers of such descriptors leave the highest bits free.
    pub(crate) const fn plain(number: u32) -> Self {
        Self(number | Self::PLAIN)
    }

    #[inline]
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & Self::PLAIN != 0
    }

    /// The number without the bit.
    #[inline]
    pub(crate) const fn number(self) -> u32 {
        self.0 & !Self::PLAIN
    }
}

/// One request to a backend with everything it needs.
#[derive(Debug)]
pub(crate) enum Op {
    /// Accepts one connection of a listening socket. Completes with `Accepted` or `Failed`. Peers of a
    /// Unix socket have credentials.
    Accept { listener: RawFd, is_unix: bool },
    /// Connects a socket that `Backend::socket` has made, which
    /// happens once and before anything else on it. Completes with `Done`, or with `Failed`, after which
    /// the socket is good for nothing but its close.
    Connect { fd: Fd, dial: Box<Dial> },
    /// Receives until told otherwise, into buffers of the backend. Completes many times with
    /// `Received`; `EndOfStream`, `Failed` and a completion without `more` end it.
    Recv { fd: Fd },
    /// Looks, without waiting and without taking a byte, what a receive would find. Completes with `Done` if
    /// that is bytes, with `EndOfStream`, or with `Failed`, which is `EAGAIN` if there is nothing.
    Peek { fd: Fd },
    /// Sends as much of a staged span as the socket takes at once. Completes with `Sent` (and
    /// `EAGAIN` when the socket took nothing), at the latest when `Backend::enter` has returned and
    /// the operation was not left in the submission queue.
    SendNow { fd: Fd, span: Span },
    /// Sends the unsent bytes of a parcel, link by link, none after one that fell short. Waits for
    /// room until all of it is out; or takes what the socket takes at once and completes like
    /// `SendNow`. Completes with `Sent`; the parcel comes back with it or, if there is more to come,
    /// with `Returned`, when the kernel no longer needs the bytes of zero-copy links.
    Send { fd: Fd, parcel: Box<Parcel>, waits: bool },
    /// Ends the sending direction. Completes with `Done` or `Failed`.
    ShutdownWrite { fd: Fd },
    /// Has the close that follows drop what the peer has not acknowledged, and tell it so. Completes
    /// with `Done` or `Failed`.
    Reset { fd: Fd },
    /// Gives the socket back. The last operation a descriptor ever sees. Completes with `Done` or
    /// `Failed`; the descriptor is gone either way.
    Close { fd: Fd },
    /// Asks for the operation with this exact tag to end early. Completes with `Done` or `Failed`;
    /// the target completes by itself, too.
    Cancel { target: UserData },
    /// Sets an option. Completes with `Done` or `Failed`.
    SetOption { fd: Fd, setting: Box<Setting> },
    /// Receives datagrams until told otherwise, into buffers of the backend's own for datagrams.
    /// Completes many times with `Datagram`; `Failed` and a completion without `more` end it.
    RecvDatagrams { fd: Fd },
    /// Sends one datagram, or a run of equal ones. Waits for room. Completes with `DatagramSent`.
    SendDatagram { fd: Fd, datagram: Box<Outgoing> },
    /// Waits until a descriptor of the process is readable. Completes with `Done` or `Failed`.
    Poll { descriptor: RawFd },
}

/// What became of an operation.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A connection and who is at the other end, which is missing if the kernel gave an address of
    /// another family than those of listeners, or no credentials.
    Accepted { fd: Fd, peer: Option<Box<Remote>> },
    /// Bytes of a stream, on loan from the backend.
    Received(Lease),
    /// The peer has ended its sending direction.
    EndOfStream,
    /// A send is over and this many bytes left. Short of all, `errno` may say why; it is zero if
    /// there was no error.
    Sent { bytes: usize, errno: i32, parcel: Option<Box<Parcel>> },
    /// The memory of a send that was over before.
    Returned(Box<Parcel>),
    /// Nothing to report but the end.
    Done,
    /// The kernel refused, with a positive errno.
    Failed { errno: i32 },
    /// A datagram with what is known about it, in the form of `net::arrival`; on loan from the
    /// buffers for datagrams.
    Datagram(Lease),
    /// The kernel has taken a datagram, or says with an errno why it did not.
    DatagramSent { errno: i32, datagram: Box<Outgoing> },
}

/// One completion of one operation.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) tag: Tag,
    pub(crate) outcome: Outcome,
    /// The operation lives on and will complete again.
    pub(crate) more: bool,
}
