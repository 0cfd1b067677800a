//! Bytes accepted for sending and not yet with the kernel, in order.
//!
//! At most one send is in flight. What a turn's callbacks send lies staged and leaves as one
//! operation; whatever a socket does not take at once, the stage has no room for, or is not to be
//! copied waits in a queue of pieces, of which one operation gathers as many as it can. A chain waits
//! there whole and leaves as an operation of its own. Staged bytes are always the newest, so staged
//! bytes and a queue exclude one another.
//!
//! A send is over when the kernel has its bytes. The memory of a zero-copy send comes back later, and
//! the next send need not wait for that, unless a part of it has to be sent again.

mod fill;

use super::queue::Queue;
use super::receipts::Receipts;
use super::{CloseReason, Limits, Pressure, SendFailure, Sent};
use crate::buf::{Body, ChainRules, Guard, Lease, OnBreak, Parcel, Piece, Pool, Span, Stage};

/// What is on its way to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    None,
    /// A staged span that completes within the turn.
    Now(Span),
    /// A parcel with this serial number.
    Parcel(u32),
    /// The same, over already: this many of its bytes have left, and the rest can be sent again when
    /// the kernel has given the memory back.
    Short {
        serial: u32,
        bytes: usize,
        is_break: bool,
    },
}

/// What became of a send.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Landed {
    /// How often the allocator had to be asked for a block.
    pub(crate) fresh: u32,
    /// The socket took all of it.
    pub(crate) is_whole: bool,
    /// A chain broke that was to end its connection.
    pub(crate) broken: Option<CloseReason>,
}

/// The sending side of one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    flight: Flight,
    /// The last send that ends in the flight, or zero.
    flight_ends: u64,
    /// How many bytes a parcel in flight has, and whether it waits for room.
    flight_len: usize,
    flight_waits: bool,
    staged: Span,
    /// The last send that ends in the staged bytes.
    staged_ends: u64,
    queue: Queue,
    /// Bytes accepted and not yet taken by the kernel.
    pending: usize,
    receipts: Receipts,
    serial: u32,
    /// Parcels that are over and whose memory the kernel still has.
    lending: u32,
    is_high: bool,
    /// What is pushed now does not end its send.
    is_partial: bool,
    /// The socket did not take everything last time.
    is_refused: bool,
    /// The kernel copies this connection's bytes whatever it is asked.
    copies: bool,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            flight: Flight::None,
            flight_ends: 0,
            flight_len: 0,
            flight_waits: false,
            staged: Span::default(),
            staged_ends: 0,
            queue: Queue::default(),
            pending: 0,
            receipts: Receipts::default(),
            serial: 0,
            lending: 0,
            is_high: false,
            is_partial: false,
            is_refused: false,
            copies: false,
        }
    }

    /// Begins another send: what is pushed from now on belongs to it. Returns its number.
    #[inline]
    pub(crate) fn begin(&mut self) -> u64 {
        self.receipts.accept()
    }

    /// Says whether what is pushed next is only a part of its send and more of it follows.
    pub(crate) fn expect_more(&mut self, more: bool) {
        self.is_partial = more;
    }

    /// Queues a copy of `bytes` behind everything else. Returns how often the allocator had to be
    /// asked for a block.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8], stage: &mut Stage, pool: &mut Pool) -> u32 {
        if bytes.is_empty() {
            self.push_empty();
            return 0;
        }
        self.pending += bytes.len();
        let staged =
            if !self.queue.is_empty() || matches!(self.flight, Flight::Parcel(_) | Flight::Short { .. }) {
                None
            } else if self.staged.len == 0 {
                stage.append(bytes)
            } else {
                stage.extend(self.staged, bytes)
            };
        let mut fresh = 0;
        if let Some(span) = staged {
            self.staged = span;
            self.staged_ends = self.ends();
        } else {
            let ends = self.ends();
            fresh += self.unstage(stage, pool);
            fresh += self.queue.append(bytes, ends, pool);
        }
        fresh
    }

    /// Queues a guard's bytes, of which there are some, behind everything else.
    pub(crate) fn push_guard(&mut self, guard: Guard, stage: &mut Stage, pool: &mut Pool) -> u32 {
        let fresh = self.unstage(stage, pool);
        self.pending += guard.len();
        self.queue.push(Piece::new(Body::Guard(guard), self.ends()));
        fresh
    }

    /// Queues received bytes behind everything else.
    pub(crate) fn push_lease(&mut self, lease: Lease, stage: &mut Stage, pool: &mut Pool) -> u32 {
        let fresh = self.unstage(stage, pool);
        self.pending += lease.len as usize;
        self.queue.push(Piece::new(Body::Lease(lease), self.ends()));
        fresh
    }

    /// Queues a chain, of at least one byte, behind everything else.
    pub(crate) fn push_chain(
        &mut self,
        mut parcel: Box<Parcel>,
        on_break: OnBreak,
        stage: &mut Stage,
        pool: &mut Pool,
    ) -> u32 {
        let fresh = self.unstage(stage, pool);
        let bytes = parcel.len();
        parcel.chain =
            Some(ChainRules { on_break, sequence: self.receipts.last(), bytes: bytes as u64, sent: 0 });
        parcel.set_ends(self.receipts.last());
        self.pending += bytes;
        self.queue.push_chain(parcel);
        fresh
    }

    /// The staged bytes, if there are any and no send is in flight. They are on their way from now on.
    #[inline]
    pub(crate) fn next_staged(&mut self) -> Option<Span> {
        if self.flight != Flight::None || self.staged.len == 0 {
            return None;
        }
        let span = std::mem::take(&mut self.staged);
        self.flight = Flight::Now(span);
        self.flight_waits = false;
        self.flight_ends = self.staged_ends;
        Some(span)
    }

    /// Staged bytes that the submission queue had no room for.
    pub(crate) fn put_back_staged(&mut self, span: Span) {
        self.staged = span;
        self.staged_ends = self.flight_ends;
        self.flight = Flight::None;
    }

    /// Whether there is a parcel to send, and no send is in flight.
    #[inline]
    pub(crate) fn has_next_parcel(&self) -> bool {
        self.flight == Flight::None && !self.queue.is_empty()
    }

    /// Makes a parcel of what is at the front of the queue, and says whether its send waits for room.
    /// What the socket has refused once waits, if it may, or is tried again.
    pub(crate) fn next_parcel(&mut self, may_wait: bool, pool: &mut Pool) -> Option<(Box<Parcel>, bool)> {
        if self.flight != Flight::None {
            return None;
        }
        let zero_copy = may_wait && !self.copies;
        let mut parcel = self.queue.next(zero_copy, pool)?;
        parcel.arrange(zero_copy);
        self.serial = self.serial.wrapping_add(1);
        parcel.serial = self.serial;
        self.flight = Flight::Parcel(self.serial);
        self.flight_ends = parcel.ends();
        self.flight_len = parcel.len();
        let takes_time =
            self.is_refused || parcel.links().len() > 1 || parcel.links().any(|link| link.zero_copy);
        self.flight_waits = may_wait && takes_time;
        Some((parcel, self.flight_waits))
    }

    /// A parcel that the submission queue had no room for.
    pub(crate) fn put_back_parcel(&mut self, parcel: Box<Parcel>, pool: &mut Pool) {
        self.queue.put_back(parcel, pool);
        self.flight = Flight::None;
    }

    /// The send in flight is over. True if it was staged and all of it left: then this is all there is
    /// to do about it.
    #[inline]
    pub(crate) fn complete_whole(&mut self, bytes: usize, stage: &mut Stage) -> bool {
        let Flight::Now(span) = self.flight else { return false };
        if bytes != span.len as usize {
            return false;
        }
        self.flight = Flight::None;
        self.pending -= bytes;
        self.is_refused = false;
        self.receipts.count(bytes);
        self.receipts.deliver(self.flight_ends);
        stage.retire(span);
        true
    }

    /// The send in flight is over: `bytes` of it left. What did not leave waits at the front of the
    /// queue. The parcel is missing if the kernel still has its memory. Without `is_break`, falling
    /// short was to be expected and breaks no chain.
    #[inline]
    pub(crate) fn complete(
        &mut self,
        bytes: usize,
        parcel: Option<Box<Parcel>>,
        is_break: bool,
        stage: &mut Stage,
        pool: &mut Pool,
    ) -> Landed {
        let flight = std::mem::replace(&mut self.flight, Flight::None);
        self.pending -= bytes;
        self.receipts.count(bytes);
        match (flight, parcel) {
            (Flight::Now(span), None) => {
                let mut fresh = 0;
                self.is_refused = bytes < span.len as usize;
                if self.is_refused {
                    let rest = (&stage.bytes(span)[bytes..], self.flight_ends);
                    let next = (stage.bytes(self.staged), self.staged_ends);
                    fresh = self.queue.prepend(rest, next, pool);
                    if self.staged.len > 0 {
                        stage.retire(std::mem::take(&mut self.staged));
                    }
                } else {
                    self.receipts.deliver(self.flight_ends);
                }
                stage.retire(span);
                Landed { fresh, is_whole: !self.is_refused, broken: None }
            }
            (Flight::Parcel(_), Some(parcel)) => self.land(parcel, bytes, is_break, pool),
            (Flight::Parcel(serial), None) => {
                self.lending += 1;
                self.is_refused = bytes < self.flight_len;
                if self.is_refused {
                    self.flight = Flight::Short { serial, bytes, is_break };
                } else {
                    self.receipts.deliver(self.flight_ends);
                }
                Landed { is_whole: !self.is_refused, ..Landed::default() }
            }
            (flight, parcel) => unreachable!("{flight:?} came home with {parcel:?}"),
        }
    }

    /// The kernel has given the memory of a send back that was over before.
    pub(crate) fn take_back(&mut self, parcel: Box<Parcel>, pool: &mut Pool) -> Landed {
        self.lending -= 1;
        self.copies |= parcel.was_copied;
        match self.flight {
            Flight::Short { serial, bytes, is_break } if serial == parcel.serial => {
                self.flight = Flight::None;
                self.land(parcel, bytes, is_break, pool)
            }
            _ => {
                pool.put_parcel(parcel);
                Landed::default()
            }
        }
    }

    /// From now on the kernel is not asked to send without copying. True if that is news.
    pub(crate) fn go_over_to_copying(&mut self) -> bool {
        !std::mem::replace(&mut self.copies, true)
    }

    /// What the handler has not been told yet about completed sends; to be asked until there is
    /// nothing more.
    #[inline]
    pub(crate) fn take_report(&mut self) -> Option<Sent> {
        self.receipts.take_report()
    }

    /// Nobody wants to be told about completed sends.
    #[inline]
    pub(crate) fn forget_report(&mut self) {
        self.receipts.forget();
    }

    /// The report for everything that never completed, if there is anything like that.
    pub(crate) fn take_failure(&mut self, reason: CloseReason) -> Option<Sent> {
        self.receipts.take_failure(reason)
    }

    /// Drops everything that is not with the kernel and returns how many bytes that was.
    pub(crate) fn discard(&mut self, stage: &mut Stage, pool: &mut Pool) -> usize {
        let mut dropped = self.staged.len as usize;
        if self.staged.len > 0 {
            stage.retire(std::mem::take(&mut self.staged));
        }
        dropped += self.queue.clear(pool);
        if let Flight::Short { bytes, .. } = self.flight {
            // The rest of it is not going to be sent again. Its memory comes back all the same.
            dropped += self.flight_len - bytes;
            self.flight = Flight::None;
        }
        self.pending -= dropped;
        dropped
    }

    /// Updates the state of the water marks; true when the outbox has just reached the high one.
    #[inline]
    pub(crate) fn has_risen(&mut self, limits: &Limits) -> bool {
        let risen = !self.is_high && self.pending >= limits.high;
        self.is_high |= risen;
        risen
    }

    /// Has an outbox count as high that had no room for a send. True if that is news.
    pub(crate) fn raise(&mut self) -> bool {
        !std::mem::replace(&mut self.is_high, true)
    }

    /// Updates the state of the water marks; true when the outbox has just come down to the low one.
    #[inline]
    pub(crate) fn has_fallen(&mut self, limits: &Limits) -> bool {
        let fallen = self.is_high && self.pending <= limits.low;
        self.is_high &= !fallen;
        fallen
    }

    pub(crate) fn pressure(&self) -> Pressure {
        if self.is_high { Pressure::High } else { Pressure::Low }
    }

    /// Bytes accepted and not yet taken by the kernel.
    #[inline]
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Whether a send is not over. The rest of a chain that broke is dropped and no longer pending.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.receipts.are_open()
    }

    /// Bytes that lie in receive buffers.
    #[inline]
    pub(crate) fn held(&self) -> usize {
        self.queue.held()
    }

    /// Whether a send is in flight, so that it has to be waited for.
    #[inline]
    pub(crate) fn is_flying(&self) -> bool {
        matches!(self.flight, Flight::Now(_) | Flight::Parcel(_))
    }

    /// Whether the kernel has memory of sends that are over.
    #[inline]
    pub(crate) fn is_lending(&self) -> bool {
        self.lending > 0
    }

    /// Whether nothing can be sent before the kernel has given memory back.
    pub(crate) fn waits_for_memory(&self) -> bool {
        matches!(self.flight, Flight::Short { .. })
    }

    /// Whether nothing is queued and nothing is in flight.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.flight == Flight::None && self.staged.len == 0 && self.queue.is_empty()
    }

    /// Whether the socket did not take everything at once, so that bytes wait for the peer.
    #[inline]
    pub(crate) fn is_blocked(&self) -> bool {
        let waits = self.flight_waits && self.flight != Flight::None;
        waits || self.is_refused && !self.is_idle()
    }

    /// Whether a report is due although nothing is queued: empty sends.
    #[inline]
    pub(crate) fn owes_report(&self) -> bool {
        self.receipts.is_owing()
    }

    /// The last send that ends with what is pushed now.
    #[inline]
    fn ends(&self) -> u64 {
        self.receipts.last() - u64::from(self.is_partial)
    }

    /// A parcel is back of which `bytes` have left.
    fn land(&mut self, mut parcel: Box<Parcel>, bytes: usize, is_break: bool, pool: &mut Pool) -> Landed {
        let ends = parcel.advance(bytes, |piece| self.queue.release(piece, pool));
        self.is_refused = !parcel.is_empty();
        if parcel.is_empty() {
            self.receipts.deliver(self.flight_ends);
            pool.put_parcel(parcel);
            return Landed { is_whole: true, ..Landed::default() };
        }
        parcel.set_ends(self.flight_ends);
        match parcel.chain {
            Some(rules) if is_break && rules.on_break != OnBreak::Resume => {
                return self.break_chain(parcel, rules, pool);
            }
            Some(_) => {}
            None => self.receipts.deliver(ends),
        }
        self.queue.put_back(parcel, pool);
        Landed::default()
    }

    /// Drops the rest of a chain.
    fn break_chain(&mut self, parcel: Box<Parcel>, rules: ChainRules, pool: &mut Pool) -> Landed {
        let ChainRules { on_break, sequence, bytes: of, sent } = rules;
        self.pending -= parcel.len();
        pool.put_parcel(parcel);
        if on_break == OnBreak::Abort {
            return Landed { fresh: 0, is_whole: false, broken: Some(CloseReason::ChainBroken { sent, of }) };
        }
        self.is_refused = false;
        self.receipts.break_off(sequence, SendFailure::Broken { sent, of }, self.flight_ends);
        Landed::default()
    }

    /// An empty send ends where the bytes before it end.
    fn push_empty(&mut self) {
        let last = self.receipts.last();
        if self.queue.set_ends(last) {
            return;
        }
        if self.staged.len > 0 {
            self.staged_ends = last;
        } else if self.flight != Flight::None {
            self.flight_ends = last;
        } else {
            self.receipts.deliver(last);
        }
    }

    /// Moves staged bytes into the queue, because what follows them cannot be staged.
    fn unstage(&mut self, stage: &mut Stage, pool: &mut Pool) -> u32 {
        if self.staged.len == 0 {
            return 0;
        }
        let span = std::mem::take(&mut self.staged);
        let fresh = self.queue.append(stage.bytes(span), self.staged_ends, pool);
        stage.retire(span);
        fresh
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "outbox_mixed_tests.rs"]
mod mixed_tests;
