//! How a send gets into an outbox: admitted as a whole or not at all.

use super::chain::{Chain, Then};
use super::io::Io;
use super::parts::{Part, Parts};
use crate::buf::{Body, Guard, Lease, Parcel, Piece, Pool, SendGuard};
use crate::conn::{Accepted, CloseReason, ConnId, Deadline, Obstacle, Pressure, Rejected, SendError};

/// Received bytes that a callback is looking at where the backend has them, so that they can be
/// forwarded.
#[derive(Debug, Default)]
pub(crate) struct Presented {
    /// Whose bytes they are. Set also while the callback looks at a copy of them.
    source: Option<ConnId>,
    /// The address of the first byte, and how many there are.
    start: usize,
    len: usize,
    buffer: u16,
    offset: u32,
    /// Receive buffers are so plentiful that some can be held.
    may_hold: bool,
}

impl Presented {
    #[inline]
    pub(crate) fn in_place(source: ConnId, data: &[u8], lease: &Lease, may_hold: bool) -> Self {
        let Lease { buffer, offset, .. } = *lease;
        Self { source: Some(source), start: data.as_ptr().addr(), len: data.len(), buffer, offset, may_hold }
    }

    pub(crate) fn copied(source: ConnId) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    /// The callback has returned.
    #[inline]
    pub(crate) fn end(&mut self) {
        self.source = None;
    }

    /// Where `data` begins, if all of it is here and can be held.
    fn find(&self, data: &[u8]) -> Option<u32> {
        let at = data.as_ptr().addr().wrapping_sub(self.start);
        let is_here = at <= self.len && data.len() <= self.len - at;
        (self.may_hold && self.source.is_some() && is_here).then_some(self.offset + at as u32)
    }
}

impl Io {
    #[inline]
    pub(crate) fn send(&mut self, id: ConnId, bytes: &[u8]) -> Result<Accepted, SendError> {
        let Some(conn) = self.conns.get_mut(id) else { return Err(SendError::Gone) };
        // A layer's own bytes may have taken both beyond their limits.
        let has_room = bytes.len() + conn.outbox.pending() <= self.limits.full
            && bytes.len() + self.queued <= self.queued_limit;
        if !conn.takes_plain_sends() || !has_room {
            return self.send_otherwise(id, bytes);
        }
        self.queued += bytes.len();
        let sequence = conn.outbox.begin();
        let fresh = conn.outbox.push(bytes, &mut self.stage, &mut self.pool);
        self.shard.pool_waits.add(fresh.into());
        if !conn.is_dirty {
            conn.is_dirty = true;
            self.dirty.push(id);
        }
        // Nothing follows from a send that leaves the outbox low and is not over yet.
        if conn.outbox.pending() < self.limits.high && !conn.outbox.owes_report() {
            return Ok(Accepted { sequence, pressure: conn.outbox.pressure() });
        }
        Ok(self.accepted(id, sequence, 0))
    }

    pub(crate) fn send_guard<G: SendGuard>(&mut self, id: ConnId, guard: G) -> Result<Accepted, Rejected<G>> {
        let len = guard.bytes().len();
        if len == 0 {
            return Err(Rejected::new(SendError::EmptyGuard, guard));
        }
        if len < self.zero_copy_threshold || self.is_layered(id) {
            let sent = self.send(id, guard.bytes());
            return match sent {
                Err(error) => Err(Rejected::new(error, guard)),
                Ok(accepted) => {
                    // A panic in its drop goes no further, wherever it is dropped.
                    drop(Guard::new(guard));
                    Ok(accepted)
                }
            };
        }
        match self.admit(id, len) {
            Err(error) => Err(Rejected::new(error, guard)),
            Ok(sequence) => {
                let fresh = self.queue(id, Part::Guard(Guard::new(guard)));
                Ok(self.accepted(id, sequence, fresh))
            }
        }
    }

    pub(crate) fn send_parts<'a>(
        &mut self,
        id: ConnId,
        parts: Parts<'a>,
    ) -> Result<Accepted, Rejected<Parts<'a>>> {
        if self.is_layered(id) {
            return self.seal_parts(id, parts);
        }
        let len = parts.bytes();
        match self.admit(id, len) {
            Err(error) => Err(Rejected::new(error, parts)),
            Ok(sequence) => {
                let mut fresh = 0;
                if len == 0 {
                    fresh += self.queue(id, Part::Copy(&[]));
                }
                let mut parts = parts.into_parts().filter(|part| part.len() > 0).peekable();
                while let Some(part) = parts.next() {
                    // The send is over when its last part is.
                    self.expect_more(id, parts.peek().is_some());
                    fresh += self.queue(id, part);
                }
                Ok(self.accepted(id, sequence, fresh))
            }
        }
    }

    pub(crate) fn send_chain<'a>(
        &mut self,
        id: ConnId,
        chain: Chain<'a>,
    ) -> Result<Accepted, Rejected<Chain<'a>>> {
        if self.is_layered(id) {
            return self.seal_chain(id, chain);
        }
        let len = chain.bytes();
        let (on_break, then) = (chain.on_break, chain.then);
        let sequence = match self.admit(id, len) {
            Err(error) => return Err(Rejected::new(error, chain)),
            Ok(sequence) => sequence,
        };
        let mut fresh = 0;
        if len == 0 {
            fresh += self.queue(id, Part::Copy(&[]));
        } else {
            let mut parcel = self.pool.take_parcel();
            self.shard.chains.increment();
            for link in chain.into_links() {
                for part in link.filter(|part| part.len() > 0) {
                    fresh += add(&mut parcel, part, self.zero_copy_threshold, &mut self.pool);
                }
                parcel.end_link();
            }
            if let Some(conn) = self.conns.get_mut(id) {
                fresh += conn.outbox.push_chain(parcel, on_break, &mut self.stage, &mut self.pool);
            }
        }
        let accepted = self.accepted(id, sequence, fresh);
        match then {
            Then::Nothing => {}
            Then::ShutdownWrite => self.shutdown_write(id),
            Then::Close => self.close(id, CloseReason::Closed),
        }
        Ok(accepted)
    }

    /// Sends received bytes on. They stay where they are if they are what the callback was given.
    pub(crate) fn forward(&mut self, to: ConnId, data: &[u8]) -> Result<Accepted, SendError> {
        let offset = if data.len() < FORWARD_BYTES_MIN { None } else { self.presented.find(data) };
        let sent = match offset {
            Some(offset) => self.hold(to, offset, data),
            None => self.send(to, data),
        };
        // The source waits if the outbox is high, and all the more if it has no room at all.
        if self.holds_reads
            && let Some(source) = self.presented.source
            && self.conns.get(to).is_some_and(|conn| conn.outbox.pressure() == Pressure::High)
        {
            self.feed(source, to);
        }
        sent
    }

    /// Lets everybody read on who waits for this connection's outbox.
    pub(crate) fn release_feeders(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        let mut feeders = std::mem::take(&mut conn.fed_by);
        for source in feeders.drain(..) {
            self.release_feeder(source);
        }
        if let Some(conn) = self.conns.get_mut(id) {
            // The list is kept for its memory.
            conn.fed_by = feeders;
        }
    }

    /// One outbox less to wait for.
    pub(crate) fn release_feeder(&mut self, source: ConnId) {
        if let Some(conn) = self.conns.get_mut(source) {
            conn.feeds -= 1;
            if conn.feeds == 0 {
                conn.obstacles.remove(Obstacle::Feeding);
                conn.redeliver = true;
                self.mark(source);
                self.note(source);
            }
        }
    }

    /// Presents unread data again to those whose sends found no room on this worker, if there is
    /// some now.
    #[inline]
    pub(crate) fn feed_starved(&mut self) {
        if !self.starved.is_empty() && self.queued <= self.queued_limit / 4 * 3 {
            self.feed_those_that_fit();
        }
    }

    #[cold]
    fn feed_those_that_fit(&mut self) {
        let room = self.queued_limit.saturating_sub(self.queued);
        for (id, len) in std::mem::take(&mut self.starved) {
            if len > room {
                self.starved.push((id, len));
            } else if let Some(conn) = self.conns.get_mut(id) {
                conn.obstacles.remove(Obstacle::Starved);
                conn.redeliver = true;
                self.mark(id);
                self.note(id);
            }
        }
    }

    /// The number of a send of `len` bytes, if they can be sent; then they count as queued.
    pub(super) fn admit(&mut self, id: ConnId, len: usize) -> Result<u64, SendError> {
        self.has_room(id, len)?;
        let conn = self.conns.get_mut(id).ok_or(SendError::Gone)?;
        self.queued += len;
        Ok(conn.outbox.begin())
    }

    /// Whether `len` bytes can be sent; if they cannot yet, somebody waits for it from now on.
    pub(super) fn has_room(&mut self, id: ConnId, len: usize) -> Result<(), SendError> {
        let conn = self.conns.get_mut(id).ok_or(SendError::Gone)?;
        if !conn.takes_sends() {
            return Err(SendError::Closing);
        }
        let pending = conn.outbox.pending();
        if len > self.limits.full.saturating_sub(pending) {
            self.await_outbox(id);
            return Err(SendError::Full { pending, limit: self.limits.full });
        }
        if len > self.queued_limit.saturating_sub(self.queued) {
            self.await_worker(id, len);
            return Err(SendError::WorkerFull { pending: self.queued, limit: self.queued_limit });
        }
        Ok(())
    }

    /// An outbox has no room for a send. It counts as high from now on, and who is being read waits
    /// until it is down.
    #[cold]
    fn await_outbox(&mut self, id: ConnId) {
        self.shard.outbox_full.increment();
        let Some(conn) = self.conns.get_mut(id) else { return };
        // One that is empty will never have more room.
        if conn.outbox.pending() == 0 {
            return;
        }
        if conn.outbox.raise() {
            if self.holds_reads && !conn.reads_on {
                conn.obstacles.add(Obstacle::Held);
                conn.watch.stop(Deadline::Read);
            }
            self.shard.outbox_high.increment();
        }
        self.mark(id);
        if self.holds_reads
            && let Some(source) = self.presented.source
        {
            self.feed(source, id);
        }
    }

    /// All outboxes together have no room for a send. Who is being read waits until there is some.
    #[cold]
    fn await_worker(&mut self, id: ConnId, len: usize) {
        self.shard.outbox_full.increment();
        let id = self.presented.source.unwrap_or(id);
        if self.holds_reads
            && let Some(conn) = self.conns.get_mut(id)
            && conn.obstacles.add(Obstacle::Starved)
        {
            conn.watch.stop(Deadline::Read);
            self.starved.push((id, len));
            self.mark(id);
        }
    }

    /// Notes what follows from a send that was admitted and queued.
    #[inline]
    pub(super) fn accepted(&mut self, id: ConnId, sequence: u64, fresh: u32) -> Accepted {
        self.shard.pool_waits.add(fresh.into());
        let Some(conn) = self.conns.get_mut(id) else { unreachable!("it was admitted") };
        if conn.outbox.has_risen(&self.limits) {
            if self.holds_reads && !conn.reads_on {
                conn.obstacles.add(Obstacle::Held);
                conn.watch.stop(Deadline::Read);
            }
            self.shard.outbox_high.increment();
        }
        let pressure = conn.outbox.pressure();
        if !conn.is_dirty {
            conn.is_dirty = true;
            self.dirty.push(id);
        }
        if conn.outbox.owes_report() {
            self.note(id);
        }
        Accepted { sequence, pressure }
    }

    fn expect_more(&mut self, id: ConnId, more: bool) {
        if let Some(conn) = self.conns.get_mut(id) {
            conn.outbox.expect_more(more);
        }
    }

    /// Queues a part of a send that was admitted.
    fn queue(&mut self, id: ConnId, part: Part<'_>) -> u32 {
        let Some(conn) = self.conns.get_mut(id) else { unreachable!("it was admitted") };
        match part {
            Part::Copy(bytes) => conn.outbox.push(bytes, &mut self.stage, &mut self.pool),
            Part::Guard(guard) if guard.len() < self.zero_copy_threshold => {
                conn.outbox.push(guard.bytes(), &mut self.stage, &mut self.pool)
            }
            Part::Guard(guard) => {
                self.shard.guards.increment();
                conn.outbox.push_guard(guard, &mut self.stage, &mut self.pool)
            }
        }
    }

    /// Forwards bytes where they are.
    fn hold(&mut self, to: ConnId, offset: u32, data: &[u8]) -> Result<Accepted, SendError> {
        let hold_limit = self.hold_limit;
        let conn = self.conns.get_mut(to).ok_or(SendError::Gone)?;
        if conn.outbox.held() + data.len() > hold_limit || !conn.takes_plain_sends() {
            return self.send(to, data);
        }
        let sequence = self.admit(to, data.len())?;
        let Self { conns, stage, pool, presented, shared, .. } = self;
        let Some(conn) = conns.get_mut(to) else { unreachable!("it was admitted") };
        let lease = || Lease { buffer: presented.buffer, offset, len: data.len() as u32 };
        shared.push(lease());
        let fresh = conn.outbox.push_lease(lease(), stage, pool);
        self.shard.forwards_held.increment();
        Ok(self.accepted(to, sequence, fresh))
    }
}

/// Below this many bytes, forwarding copies: that is cheaper than keeping track of a buffer.
const FORWARD_BYTES_MIN: usize = 2048;

/// Adds a part to the last link of a chain.
fn add(parcel: &mut Parcel, part: Part<'_>, zero_copy_threshold: usize, pool: &mut Pool) -> u32 {
    match part {
        Part::Guard(guard) if guard.len() >= zero_copy_threshold => {
            parcel.push(Piece::new(Body::Guard(guard), 0));
            0
        }
        Part::Guard(guard) => copy(parcel, guard.bytes(), pool),
        Part::Copy(bytes) => copy(parcel, bytes, pool),
    }
}

fn copy(parcel: &mut Parcel, mut bytes: &[u8], pool: &mut Pool) -> u32 {
    let mut fresh = 0;
    while !bytes.is_empty() {
        let (mut block, is_new) = pool.take(bytes.len());
        fresh += u32::from(is_new);
        bytes = &bytes[block.fill(bytes)..];
        parcel.push(Piece::new(Body::Block(block), 0));
    }
    fresh
}

#[cfg(test)]
mod tests {
    use crate::testing::{Faults, World};
    use crate::{Admit, Config, ConnId, Consumed, Ctx, EventHandler, Peer, SendError};

    /// Answers with more than a worker has room for twice.
    struct Greedy;

    impl EventHandler for Greedy {
        type Conn = ();
        type Message = ();

        fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
            Admit::Accept(())
        }

        fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
            match cx.send(id, &[7; 6000]) {
                Ok(_) => Consumed::all(data),
                Err(SendError::WorkerFull { .. }) => Consumed::none(),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn who_waits_for_room_and_goes_is_forgotten() {
        let mut faults = Faults::none();
        faults.send_buffer_bytes = 100;
        let builder = Config::builder().outbox_low_bytes(1000).outbox_high_bytes(5000);
        let config = builder.outbox_bytes(8000).worker_outbox_bytes(8000).build().unwrap();
        let mut world = World::simulated(&config, 1, faults, Greedy);
        let deaf = world.connect();
        world.write_all(deaf, b"x");
        assert!(world.run_until(|world| world.metrics().outbox_high == 1));
        for round in 1..=20 {
            let peer = world.connect();
            world.write_all(peer, b"x");
            assert!(world.run_until(|world| world.metrics().outbox_full == round), "it finds no room");
            world.act(|_, cx| assert_eq!(cx.io.starved.len(), 1, "round {round}"));
            world.reset(peer);
            let id = world.act(|_, cx| cx.io.starved[0].0);
            world.act(|_, cx| cx.abort(id));
            assert!(world.run_until(|world| world.metrics().connections_closed == round));
        }
        world.act(|_, cx| assert!(cx.io.starved.is_empty(), "nobody is left who could be waiting"));
    }
}
