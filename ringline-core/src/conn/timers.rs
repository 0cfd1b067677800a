//! Timers of the worker and of its connections, on one wheel.
//!
//! A connection's timers form a list through their entries, so that they end with it: nothing of a
//! closed connection is left on the wheel.

use super::{Conn, ConnId, Table};
use crate::timer::{TimerId, Wheel};
use crate::udp::UdpId;
use std::time::Duration;

/// What a timer means, in the words of whoever set it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerKey(pub u64);

/// What an expired timer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fired {
    /// Set by the handler for itself.
    Worker(TimerKey),
    /// Set by the handler for a connection.
    Conn(ConnId, TimerKey),
    /// Closing this connection has taken too long without progress.
    CloseTimeout(ConnId),
    /// A deadline of this connection may have passed.
    Deadline(ConnId),
    /// A peer was to answer by now.
    ConnectTimeout(ConnId),
    /// The next address of a connection may be tried.
    NextAttempt(ConnId),
    /// The layers of both sides were to agree by now.
    HandshakeTimeout(ConnId),
    /// A socket that was full may have room again.
    SendAgain(ConnId),
    /// A listener may accept again.
    AcceptAgain { listener: u32 },
    /// The tick interval has passed.
    Tick,
    /// The server's time to drain is over.
    ShutdownDeadline,
    /// A datagram socket may be asked again.
    UdpAgain(UdpId),
    /// A child that could not be watched is to be looked after.
    ChildRested(ConnId),
    /// Children that were killed have not ended.
    ChildrenOverdue,
    /// The handler has asked for the end of the worker, with this much time.
    ShutDownAsked { within: Duration },
}

#[derive(Debug)]
struct Entry {
    fired: Fired,
    previous: Option<TimerId>,
    next: Option<TimerId>,
}

/// All timers of one worker; times are milliseconds since the worker's start.
#[derive(Debug)]
pub(crate) struct Timers {
    wheel: Wheel<Entry>,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { wheel: Wheel::new() }
    }

    /// Arms a timer that belongs to nobody but the worker.
    pub(crate) fn arm(&mut self, deadline_ms: u64, fired: Fired) -> TimerId {
        self.wheel.arm(deadline_ms, Entry { fired, previous: None, next: None })
    }

    /// Arms a timer of a connection, whose list begins at `first`.
    pub(crate) fn arm_conn(
        &mut self,
        first: &mut Option<TimerId>,
        deadline_ms: u64,
        owner: ConnId,
        key: TimerKey,
    ) -> TimerId {
        let entry = Entry { fired: Fired::Conn(owner, key), previous: None, next: *first };
        let id = self.wheel.arm(deadline_ms, entry);
        let next = first.replace(id);
        if let Some(entry) = next.and_then(|next| self.wheel.get_mut(next)) {
            entry.previous = Some(id);
        }
        id
    }

    /// What this timer is about, if it has not fired.
    pub(crate) fn peek(&self, id: TimerId) -> Option<Fired> {
        self.wheel.get(id).map(|entry| entry.fired)
    }

    /// Cancels a timer; `conns` is where its owner's list is, if it has an owner.
    pub(crate) fn cancel(&mut self, id: TimerId, conns: &mut Table<Conn>) -> bool {
        let Some(entry) = self.wheel.cancel(id) else { return false };
        self.unlink(id, &entry, conns);
        true
    }

    /// Cancels all timers of a connection, whose list begins at `first`.
    pub(crate) fn cancel_all(&mut self, first: &mut Option<TimerId>) {
        let mut at = first.take();
        while let Some(entry) = at.and_then(|id| self.wheel.cancel(id)) {
            at = entry.next;
        }
    }

    /// Begins a round of [`Timers::pop`]: what is armed from now on fires in a later round.
    pub(crate) fn begin_round(&mut self, now_ms: u64) {
        self.wheel.expire(now_ms);
    }

    /// Takes the next timer of this round.
    pub(crate) fn pop(&mut self, conns: &mut Table<Conn>) -> Option<Fired> {
        let (id, entry) = self.wheel.pop_expired()?;
        self.unlink(id, &entry, conns);
        Some(entry.fired)
    }

    /// A time by which the worker must look again; `None` if no timer is armed.
    #[inline]
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        self.wheel.next_deadline_ms()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.wheel.is_empty()
    }

    fn unlink(&mut self, id: TimerId, entry: &Entry, conns: &mut Table<Conn>) {
        if let Some(next) = entry.next.and_then(|next| self.wheel.get_mut(next)) {
            next.previous = entry.previous;
        }
        if let Some(previous) = entry.previous.and_then(|previous| self.wheel.get_mut(previous)) {
            previous.next = entry.next;
        } else if let Fired::Conn(owner, _) = entry.fired
            && let Some(conn) = conns.get_mut(owner)
            && conn.timers == Some(id)
        {
            conn.timers = entry.next;
        }
    }
}
