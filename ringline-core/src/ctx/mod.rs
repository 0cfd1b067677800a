//! What a callback may ask for.
//!
//! Every method edits plain data and returns at once. Nothing here touches the kernel: what was
//! asked for becomes operations when the turn's callbacks have run. The exceptions are starting and
//! signalling children, and looking at a socket that is to be adopted.

mod adopting;
mod chain;
mod children;
mod clock;
mod datagrams;
mod deadlines;
mod desk;
mod dialing;
mod ending;
mod feeding;
mod io;
mod layering;
mod parts;
mod posting;
mod racing;
mod sealing;
mod sending;
mod stamps;
mod starting;
mod tuning;
mod working;

pub use chain::Chain;
pub use parts::Parts;

pub(crate) use clock::Clock;
pub(crate) use deadlines::begin;
pub(crate) use desk::Desk;
pub(crate) use ending::Others;
pub(crate) use io::Io;
pub(crate) use sending::Presented;
pub(crate) use starting::Unstarted;

use crate::buf::SendGuard;
use crate::conn::{Accepted, CloseReason, ConnId, Deadlines, Rejected, SendError, TimerKey};
use crate::handler::EventHandler;
use crate::timer::TimerId;
use std::fmt;
use std::time::{Duration, Instant};

/// Where a handler runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seat {
    /// Which worker this is, from 0.
    pub worker: usize,
    /// How many workers the server has.
    pub workers: usize,
    /// The CPU that the worker's thread is pinned to, if it is.
    pub cpu: Option<usize>,
}

/// The worker, as a callback sees it.
pub struct Ctx<'a, H: EventHandler> {
    io: &'a mut Io,
    desk: &'a mut Desk<H>,
}

impl<'a, H: EventHandler> Ctx<'a, H> {
    pub(crate) fn new(io: &'a mut Io, desk: &'a mut Desk<H>) -> Self {
        Self { io, desk }
    }

    /// Queues a copy of `bytes` for a connection, behind everything sent before. All of it is
    /// accepted or none.
    ///
    /// What one turn's callbacks send on a connection leaves together. Sending nothing is
    /// legal; such a send completes in its turn, like any other.
    ///
    /// # Errors
    ///
    /// [`SendError::Gone`] for a connection that has closed, [`SendError::Closing`] for one that
    /// is not open, [`SendError::Full`] and [`SendError::WorkerFull`] at a limit. At a limit, unread
    /// data is presented again when there is room, unless
    /// [`hold_reads`](crate::ConfigBuilder::hold_reads) is off: an answer of
    /// [`Consumed::none`](crate::Consumed::none) is all it takes.
    #[inline]
    pub fn send(&mut self, id: ConnId, bytes: &[u8]) -> Result<Accepted, SendError> {
        self.io.send(id, bytes)
    }

    /// Queues bytes without copying them: the kernel reads them where they are, and the guard that
    /// keeps them there is dropped when it has no more use for them, at the latest before
    /// [`on_close`](EventHandler::on_close).
    ///
    /// Fewer bytes than [`zero_copy_threshold`](crate::ConfigBuilder::zero_copy_threshold) are copied
    /// all the same, because that is faster, and the guard is dropped at once. Where the kernel cannot
    /// do without copying, as on loopback, the connection goes over to ordinary sends from the guard's
    /// memory; nothing else changes.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send), and [`SendError::EmptyGuard`]. The guard comes back.
    pub fn send_guard<G: SendGuard>(&mut self, id: ConnId, guard: G) -> Result<Accepted, Rejected<G>> {
        self.io.send_guard(id, guard)
    }

    /// Queues several parts, copied ones and guards, as one send.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send). The parts come back.
    pub fn send_parts<'p>(&mut self, id: ConnId, parts: Parts<'p>) -> Result<Accepted, Rejected<Parts<'p>>> {
        self.io.send_parts(id, parts)
    }

    /// Queues a chain: links that leave one after the other and complete as one send.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send). The chain comes back.
    pub fn send_chain<'p>(&mut self, id: ConnId, chain: Chain<'p>) -> Result<Accepted, Rejected<Chain<'p>>> {
        self.io.send_chain(id, chain)
    }

    /// Sends received bytes on, to the same or to another connection of this worker.
    ///
    /// If `data` is what [`on_data`](EventHandler::on_data) was given, or a part of it, and still lies
    /// where the kernel has put it, it is not copied: its buffer goes into the outbox of `to`. Few
    /// bytes are copied, because that is faster; and so are all when the outbox of `to` keeps
    /// [`forward_hold_bytes`](crate::ConfigBuilder::forward_hold_bytes) already, or when receive
    /// buffers are short. In every other respect this is a [`send`](Self::send).
    ///
    /// Say in the answer of `on_data` that the bytes are consumed. While the pressure of `to` is high,
    /// the connection that `data` comes from is not read, unless
    /// [`hold_reads`](crate::ConfigBuilder::hold_reads) is off.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    #[inline]
    pub fn forward(&mut self, to: ConnId, data: &[u8]) -> Result<Accepted, SendError> {
        self.io.forward(to, data)
    }

    /// Closes a connection in order: everything sent goes out, then our direction ends, then the
    /// peer gets [`linger`](crate::ConfigBuilder::linger) to end its own. Data that still arrives
    /// is dropped. Gives up a connection that is not made yet. Does nothing if the connection is
    /// closing or gone; in [`on_accept`](EventHandler::on_accept) the answer is
    /// [`Admit::Refuse`](crate::Admit::Refuse).
    pub fn close(&mut self, id: ConnId) {
        self.io.close(id, CloseReason::Closed);
    }

    /// Ends our direction once everything sent has gone out; receiving goes on. No more sends are
    /// accepted. Does nothing if the connection is closing or gone.
    pub fn shutdown_write(&mut self, id: ConnId) {
        self.io.shutdown_write(id);
    }

    /// Closes a connection now and drops what has not gone out. Does nothing if it is gone or
    /// not open yet.
    pub fn abort(&mut self, id: ConnId) {
        self.io.terminate(id, CloseReason::Aborted);
    }

    /// Stops presenting data, and in time receiving it, so that the peer has to wait. What arrives
    /// before the kernel has been told is kept.
    pub fn pause_reads(&mut self, id: ConnId) {
        self.io.pause_reads(id);
    }

    /// Undoes [`pause_reads`](Self::pause_reads). What was kept is presented this turn, without
    /// waiting for more; that also holds for data that the handler left unconsumed while reading
    /// was not paused.
    pub fn resume_reads(&mut self, id: ConnId) {
        self.io.resume_reads(id);
    }

    /// Stops accepting connections on this worker, from all listeners, until
    /// [`resume_accepts`](Self::resume_accepts). Other workers go on. Peers that connect wait in the
    /// backlog of the kernel, and when that is full, the kernel makes them try again.
    ///
    /// A connection that the kernel has accepted before it was told still comes, and is served. Does
    /// nothing if accepting is paused already.
    pub fn pause_accepts(&mut self) {
        self.io.pause_accepts();
    }

    /// Undoes [`pause_accepts`](Self::pause_accepts), whoever called it. Who waits in the backlog is
    /// served first. Does nothing if accepting is not paused; a worker that is being shut down does not
    /// accept any more.
    pub fn resume_accepts(&mut self) {
        self.io.resume_accepts();
    }

    /// Whether accepting is paused on this worker.
    pub fn accepts_are_paused(&self) -> bool {
        self.io.accepts_paused
    }

    /// How many accepted bytes the kernel has not taken yet; `None` if the connection is gone.
    pub fn pending_bytes(&self, id: ConnId) -> Option<usize> {
        self.io.conns.get(id).map(|conn| conn.outbox.pending())
    }

    /// Whether the connection is open: it exists, was admitted, and is not closing.
    pub fn is_open(&self, id: ConnId) -> bool {
        self.io.is_open(id)
    }

    /// How many connections this worker has, closing ones included.
    pub fn connections(&self) -> usize {
        self.io.conns.live()
    }

    /// Calls [`on_timer`](EventHandler::on_timer) with `key` after at least `after`, once, with a
    /// resolution of a millisecond. The shortest time is the next turn.
    pub fn set_timer(&mut self, after: Duration, key: TimerKey) -> TimerId {
        self.io.set_timer(after, key)
    }

    /// Calls [`on_conn_timer`](EventHandler::on_conn_timer) with `key` after at least `after`,
    /// once, unless the connection closes first. `None` if it is closing or gone.
    pub fn set_conn_timer(&mut self, id: ConnId, after: Duration, key: TimerKey) -> Option<TimerId> {
        self.io.set_conn_timer(id, after, key)
    }

    /// Cancels a timer of either kind. False if it has fired, was cancelled, or ended with its
    /// connection.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        self.io.cancel_timer(timer)
    }

    /// Replaces the [`Deadlines`] of one connection, which are at first those of
    /// [`ConfigBuilder::deadlines`](crate::ConfigBuilder::deadlines). False if it is closing or gone.
    ///
    /// What runs already and has a deadline afterwards runs on since it began. A time below 1 ms
    /// counts as 1 ms, and one above 24 days as 24 days.
    pub fn set_deadlines(&mut self, id: ConnId, deadlines: Deadlines) -> bool {
        self.io.set_deadlines(id, &deadlines)
    }

    /// The time as of this turn: read from the system's monotonic clock once, when first asked for.
    pub fn now(&mut self) -> Instant {
        self.io.clock.now()
    }

    /// Which worker this is.
    pub fn seat(&self) -> Seat {
        self.io.seat
    }

    /// The handler does not look at completed sends.
    pub(crate) fn ignore_completed_sends(&mut self) {
        self.io.observes_sends = false;
    }
}

impl<H: EventHandler> fmt::Debug for Ctx<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ctx").field("seat", &self.io.seat).finish_non_exhaustive()
    }
}
