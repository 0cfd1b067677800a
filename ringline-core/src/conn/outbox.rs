//! Bytes accepted for sending and not yet with the kernel, in order.
//!
//! At most one send is in flight. What a turn's callbacks send lies staged and leaves as one
//! operation; whatever a socket does not take at once, or the stage has no room for, waits in blocks.
//! Staged bytes are always the newest, so staged bytes and waiting blocks exclude one another.

use super::CloseReason;
use crate::buf::{Block, Pool, Span, Stage};
use crate::op::{Fd, Op};
use std::collections::VecDeque;

/// What a send was accepted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The number of this send: sends of one connection are numbered from 1. [`Sent::through`]
    /// reaches it when the send has completed.
    pub sequence: u64,
    /// Whether the connection's outbox is above its high mark.
    pub pressure: Pressure,
}

/// How full a connection's outbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pressure {
    /// Below the high mark: carry on.
    Low,
    /// At or above [`outbox_high_bytes`](crate::ConfigBuilder::outbox_high_bytes): better stop until
    /// [`on_writable`](crate::EventHandler::on_writable) says that it is down to the low mark.
    High,
}

/// Sends that have completed, all up to one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// Every send up to this number is covered by this or an earlier completion.
    pub through: u64,
    /// How many bytes went to the kernel since the last completion.
    pub bytes: u64,
    /// Whether the covered sends went out whole. An error says why the connection ended first;
    /// then some or all of their bytes were dropped.
    pub result: Result<(), CloseReason>,
}

/// Why a send was not accepted. Nothing of it was queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The connection does not exist any more.
    #[error("the connection is gone")]
    Gone,
    /// The connection is not open yet, is closing, or its sending direction has ended.
    #[error("the connection does not take sends any more")]
    Closing,
    /// The connection's outbox would grow beyond its limit. Wait for `on_writable`, or raise
    /// `outbox_bytes`.
    #[error(
        "{pending} bytes are waiting already and {limit} is the limit; wait for on_writable or raise outbox_bytes"
    )]
    Full {
        /// Bytes waiting in this connection's outbox.
        pending: usize,
        /// The limit in force.
        limit: usize,
    },
    /// All outboxes of the worker together would grow beyond their limit. Slow peers hold the
    /// memory; close some, or raise `worker_outbox_bytes`.
    #[error("{pending} bytes are waiting on this worker and {limit} is the limit; raise worker_outbox_bytes")]
    WorkerFull {
        /// Bytes waiting in all outboxes of the worker.
        pending: usize,
        /// The limit in force.
        limit: usize,
    },
}

/// The outbox limits of one connection, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) full: usize,
}

/// What is on its way to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    None,
    /// A staged span that completes within the turn.
    Now(Span),
    /// A block that waits for room.
    Waiting,
}

/// The sending side of one connection.
#[derive(Debug)]
pub(crate) struct Outbox {
    flight: Flight,
    /// The last send that ends in the flight, or zero.
    flight_ends: u64,
    staged: Span,
    /// The last send that ends in the staged bytes.
    staged_ends: u64,
    blocks: VecDeque<Block>,
    /// Bytes accepted and not yet taken by the kernel.
    pending: usize,
    accepted: u64,
    /// Every send up to here is with the kernel.
    delivered: u64,
    /// Every send up to here was reported to the handler.
    reported: u64,
    unreported_bytes: u64,
    is_high: bool,
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            flight: Flight::None,
            flight_ends: 0,
            staged: Span::default(),
            staged_ends: 0,
            blocks: VecDeque::new(),
            pending: 0,
            accepted: 0,
            delivered: 0,
            reported: 0,
            unreported_bytes: 0,
            is_high: false,
        }
    }

    /// Queues `bytes` behind everything else. The second value tells how often the allocator had
    /// to be asked for a block.
    #[inline]
    pub(crate) fn push(&mut self, bytes: &[u8], stage: &mut Stage, pool: &mut Pool) -> (u64, u32) {
        self.accepted += 1;
        if bytes.is_empty() {
            self.push_empty();
            return (self.accepted, 0);
        }
        self.pending += bytes.len();
        let staged = if !self.blocks.is_empty() || self.flight == Flight::Waiting {
            None
        } else if self.staged.len == 0 {
            stage.append(bytes)
        } else {
            stage.extend(self.staged, bytes)
        };
        let mut fresh = 0;
        if let Some(span) = staged {
            self.staged = span;
            self.staged_ends = self.accepted;
        } else {
            fresh += self.unstage(stage, pool);
            fresh += append(&mut self.blocks, bytes, self.accepted, pool);
        }
        (self.accepted, fresh)
    }

    /// The next operation, if none is in flight and something is queued. What the socket has refused
    /// once `waits` for room, or is tried again.
    #[inline]
    pub(crate) fn next_op(&mut self, fd: Fd, waits: bool) -> Option<Op> {
        if self.flight != Flight::None {
            return None;
        }
        if self.staged.len > 0 {
            let span = std::mem::take(&mut self.staged);
            self.flight = Flight::Now(span);
            self.flight_ends = self.staged_ends;
            return Some(Op::SendNow { fd, span });
        }
        let block = self.blocks.pop_front()?;
        self.flight = Flight::Waiting;
        self.flight_ends = block.ends();
        Some(Op::Send { fd, block, waits })
    }

    /// An operation from [`Outbox::next_op`] that the submission queue had no room for.
    pub(crate) fn put_back(&mut self, op: Op) {
        match op {
            Op::SendNow { span, .. } => {
                self.staged = span;
                self.staged_ends = self.flight_ends;
            }
            Op::Send { block, .. } => self.blocks.push_front(block),
            _ => unreachable!("only sends come from an outbox"),
        }
        self.flight = Flight::None;
    }

    /// The send in flight has come home: `bytes` of it left. What did not leave waits at the front
    /// of the queue. Returns how often the allocator had to be asked for a block.
    #[inline]
    pub(crate) fn complete(
        &mut self,
        bytes: usize,
        block: Option<Block>,
        stage: &mut Stage,
        pool: &mut Pool,
    ) -> u32 {
        let flight = std::mem::replace(&mut self.flight, Flight::None);
        self.pending -= bytes;
        self.unreported_bytes += bytes as u64;
        let mut fresh = 0;
        match (flight, block) {
            (Flight::Now(span), None) => {
                if bytes < span.len as usize {
                    fresh = self.requeue(&stage.bytes(span)[bytes..], stage.bytes(self.staged), pool);
                    if self.staged.len > 0 {
                        stage.retire(std::mem::take(&mut self.staged));
                    }
                } else {
                    self.delivered = self.delivered.max(self.flight_ends);
                }
                stage.retire(span);
            }
            (Flight::Waiting, Some(mut block)) => {
                block.advance(bytes);
                if block.unsent().is_empty() {
                    self.delivered = self.delivered.max(self.flight_ends);
                    pool.put(block);
                } else {
                    block.set_ends(self.flight_ends);
                    self.blocks.push_front(block);
                }
            }
            (flight, block) => unreachable!("{flight:?} came home with {block:?}"),
        }
        fresh
    }

    /// What the handler has not been told yet about completed sends.
    #[inline]
    pub(crate) fn take_report(&mut self) -> Option<Sent> {
        if self.delivered <= self.reported {
            return None;
        }
        self.reported = self.delivered;
        let bytes = std::mem::take(&mut self.unreported_bytes);
        Some(Sent { through: self.reported, bytes, result: Ok(()) })
    }

    /// The report for everything that never completed, if there is anything like that.
    pub(crate) fn take_failure(&mut self, reason: CloseReason) -> Option<Sent> {
        if self.accepted <= self.reported {
            return None;
        }
        self.reported = self.accepted;
        let bytes = std::mem::take(&mut self.unreported_bytes);
        Some(Sent { through: self.reported, bytes, result: Err(reason) })
    }

    /// Drops everything that is not in flight and returns how many bytes that was.
    pub(crate) fn discard(&mut self, stage: &mut Stage, pool: &mut Pool) -> usize {
        let mut dropped = self.staged.len as usize;
        if self.staged.len > 0 {
            stage.retire(std::mem::take(&mut self.staged));
        }
        for block in self.blocks.drain(..) {
            dropped += block.unsent().len();
            pool.put(block);
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

    /// Whether a send is in flight.
    #[inline]
    pub(crate) fn is_flying(&self) -> bool {
        self.flight != Flight::None
    }

    /// Whether nothing is queued and nothing is in flight.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.flight == Flight::None && self.staged.len == 0 && self.blocks.is_empty()
    }

    /// Whether the socket did not take everything at once, so that bytes wait for the peer.
    #[inline]
    pub(crate) fn is_blocked(&self) -> bool {
        self.flight == Flight::Waiting || !self.blocks.is_empty()
    }

    /// Whether a report is due although nothing is queued: empty sends.
    #[inline]
    pub(crate) fn owes_report(&self) -> bool {
        self.delivered > self.reported
    }

    /// An empty send ends where the bytes before it end.
    fn push_empty(&mut self) {
        if let Some(last) = self.blocks.back_mut() {
            last.set_ends(self.accepted);
        } else if self.staged.len > 0 {
            self.staged_ends = self.accepted;
        } else if self.flight != Flight::None {
            self.flight_ends = self.accepted;
        } else {
            self.delivered = self.accepted;
        }
    }

    /// Moves staged bytes into blocks, because what follows them cannot be staged.
    fn unstage(&mut self, stage: &mut Stage, pool: &mut Pool) -> u32 {
        if self.staged.len == 0 {
            return 0;
        }
        let span = std::mem::take(&mut self.staged);
        let fresh = append(&mut self.blocks, stage.bytes(span), self.staged_ends, pool);
        stage.retire(span);
        fresh
    }

    /// Queues the unsent rest of a staged flight before everything that came after it.
    fn requeue(&mut self, rest: &[u8], staged: &[u8], pool: &mut Pool) -> u32 {
        let mut later = std::mem::take(&mut self.blocks);
        let mut fresh = append(&mut self.blocks, rest, self.flight_ends, pool);
        if !staged.is_empty() {
            fresh += append(&mut self.blocks, staged, self.staged_ends, pool);
        }
        self.blocks.append(&mut later);
        fresh
    }
}

/// Adds the bytes of a send that ends with them; returns how many blocks were new.
fn append(blocks: &mut VecDeque<Block>, mut bytes: &[u8], ends: u64, pool: &mut Pool) -> u32 {
    let mut fresh = 0;
    if let Some(last) = blocks.back_mut() {
        bytes = &bytes[last.fill(bytes)..];
    }
    while !bytes.is_empty() {
        let (mut block, is_new) = pool.take(bytes.len());
        fresh += u32::from(is_new);
        bytes = &bytes[block.fill(bytes)..];
        blocks.push_back(block);
    }
    if let Some(last) = blocks.back_mut() {
        last.set_ends(ends);
    }
    fresh
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
