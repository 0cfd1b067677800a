//! The contract between the core and a kernel.
//!
//! A backend promises: an operation that was taken completes, once or (with `more`) several times; the
//! last completion hands back everything the operation owned; nothing completes after its last
//! completion. The core promises: one send in flight for a socket, one live receive, no operation on a
//! socket after its close, and no close before everything else of that socket has completed, but for
//! the memory of zero-copy sends, which a reset makes the kernel let go of; a cancel names the exact
//! tag of its target, and nothing starts under that tag before the cancel has completed; every lease
//! comes back exactly once; staged bytes are left alone until their send has completed. A descriptor's
//! number is handed out by an accept again only behind the completion of the close that freed it. The
//! simulated kernel asserts the core's half.

pub(crate) mod sim;
pub(crate) mod uring;

use crate::buf::{Lease, Span, Stage};
use crate::net::{BindUdp, Dial};
use crate::op::{Completion, Fd, Op, Tag, UserData};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// How long [`Backend::enter`] may stay away when there is nothing to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Come back at once.
    No,
    /// Come back for the first completion, or after this long.
    For(Duration),
    /// Come back for the first completion.
    Forever,
}

/// The submission queue is full; the operation comes back untouched.
#[derive(Debug)]
pub(crate) struct Full(pub(crate) Op);

/// A kernel: takes operations, gives completions.
pub(crate) trait Backend {
    /// Makes a socket that can be connected as `dial` says, with its options and bound to its local
    /// address, or says why not, with a positive errno.
    fn socket(&mut self, dial: &Dial) -> Result<Fd, i32>;

    /// Takes a connected socket that was made elsewhere.
    fn adopt(&mut self, socket: OwnedFd) -> Fd;

    /// Queues an operation. Nothing happens before [`Backend::enter`].
    fn push(&mut self, user_data: UserData, op: Op, stage: &Stage) -> Result<(), Full>;

    /// Queues an [`Op::SendNow`]; false if there is no room. A shorter way than [`Backend::push`] for what
    /// is by far the most frequent.
    #[inline]
    fn push_send_now(&mut self, user_data: UserData, fd: Fd, span: Span, stage: &Stage) -> bool {
        self.push(user_data, Op::SendNow { fd, span }, stage).is_ok()
    }

    /// Submits what is queued and waits for a completion as `wait` says. Comes back early, with
    /// success, for signals, for a completion backlog and for passing lack of memory.
    ///
    /// `Wait::For` and `Wait::Forever` do not count completions of sends that do not wait as something
    /// to come back for: they may be reported only with the next other completion.
    fn enter(&mut self, stage: &Stage, wait: Wait) -> io::Result<()>;

    /// The next completion that `enter` brought back, if it is that of an [`Op::SendNow`] without an
    /// error: its tag, and how many bytes left. A shorter way than [`Backend::next`] for what is by far
    /// the most frequent.
    fn next_sent(&mut self) -> Option<(Tag, usize)>;

    /// The next completion that `enter` brought back, if it is that of a receive which has brought bytes
    /// and goes on. As short a way as [`Backend::next_sent`]; what it misses comes with [`Backend::next`].
    fn next_received(&mut self) -> Option<(Tag, Lease)>;

    /// The next completion that `enter` brought back; those of staged sends come first.
    fn next(&mut self) -> Option<Completion>;

    /// The bytes of a lease.
    fn received(&self, lease: &Lease) -> &[u8];

    /// The bytes of a lease, to be changed in place. No part of it may have been [shared](Self::share).
    fn received_mut(&mut self, lease: &mut Lease) -> &mut [u8];

    /// Takes note of another lease of bytes that are on loan.
    fn share(&mut self, part: &Lease);

    /// Whether there are so many receive buffers left that some can be kept for a while.
    fn has_spare_buffers(&self) -> bool;

    /// How many receive buffers are used up and not all released.
    fn buffers_held(&self) -> usize;

    /// Whether a send that does not wait has not been reported.
    fn has_silent(&self) -> bool;

    /// Takes a lease back, so that the kernel may fill its memory again.
    fn release(&mut self, lease: Lease);

    /// The time in milliseconds since the start, from a backend that keeps its own clock; `None`
    /// means the clock of the system.
    fn time_ms(&self) -> Option<u64> {
        None
    }

    /// How often a completion queue overflow was seen, since the start.
    fn overflows(&self) -> u64;

    /// What makes datagram sockets for this backend's operations to name.
    fn udp_maker(&self) -> Box<dyn BindUdp>;

    /// Has buffers for datagrams ready, or says why not, with a positive errno. Comes before the first
    /// receive of datagrams.
    fn prepare_datagrams(&mut self) -> Result<(), i32>;

    /// A datagram as `net::arrival` reads it.
    fn datagram(&self, lease: &Lease) -> &[u8];

    /// Takes the lease of a datagram back.
    fn release_datagram(&mut self, lease: Lease);
}
