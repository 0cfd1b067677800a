//! Sends of connections with a layer: admitted by the length that they have on the wire, as a whole or
//! not at all, and turned into wire bytes at once, where these are sent from.

use super::chain::{Chain, Then};
use super::io::Io;
use super::parts::{Part, Parts};
use crate::conn::{Accepted, CloseReason, Conn, ConnId, Rejected, SendError, WriteEnd};
use crate::layer::{CHUNK_BYTES, LayerError};

impl Io {
    /// A send that cannot simply be queued.
    #[cold]
    #[inline(never)]
    pub(super) fn send_otherwise(&mut self, id: ConnId, bytes: &[u8]) -> Result<Accepted, SendError> {
        if !self.is_layered(id) {
            return self.admit(id, bytes.len()).and(Err(SendError::Closing));
        }
        let bound = self.sealed_len(id, [bytes.len()].into_iter());
        self.seal(id, bound, bytes.len(), [Part::Copy(bytes)].into_iter())
    }

    pub(super) fn seal_parts<'a>(
        &mut self,
        id: ConnId,
        parts: Parts<'a>,
    ) -> Result<Accepted, Rejected<Parts<'a>>> {
        let bound = self.sealed_len(id, parts.lens());
        if let Err(error) = self.has_room(id, bound) {
            return Err(Rejected::new(error, parts));
        }
        let sealed = self.seal(id, bound, parts.bytes(), parts.into_parts());
        sealed.map_err(|_| unreachable!("there is room"))
    }

    /// Links leave in their order anyway, as bytes of one stream that must not have a hole.
    pub(super) fn seal_chain<'a>(
        &mut self,
        id: ConnId,
        chain: Chain<'a>,
    ) -> Result<Accepted, Rejected<Chain<'a>>> {
        let bound = self.sealed_len(id, chain.lens());
        if let Err(error) = self.has_room(id, bound) {
            return Err(Rejected::new(error, chain));
        }
        let (bytes, then) = (chain.bytes(), chain.then);
        self.shard.chains.add(u64::from(bytes > 0));
        let sealed = self.seal(id, bound, bytes, chain.into_links().flatten());
        match then {
            Then::Nothing => {}
            Then::ShutdownWrite => self.shutdown_write(id),
            Then::Close => self.close(id, CloseReason::Closed),
        }
        sealed.map_err(|_| unreachable!("there is room"))
    }

    /// Whether the connection's sends go through a layer.
    #[inline]
    pub(super) fn is_layered(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.write_end == WriteEnd::Layered)
    }

    /// The most wire bytes that a send of parts with these lengths takes.
    fn sealed_len(&mut self, id: ConnId, lens: impl Iterator<Item = usize> + Clone) -> usize {
        let Some(layered) = self.conns.get_mut(id).and_then(|conn| conn.layered.as_mut()) else { return 0 };
        let whole: usize = lens.clone().sum();
        if whole <= CHUNK_BYTES {
            return if whole == 0 { 0 } else { layered.wire_len(whole) };
        }
        let full = layered.wire_len(CHUNK_BYTES);
        let chunks = |len: usize| {
            let rest = len % CHUNK_BYTES;
            let last = if rest == 0 { 0 } else { layered.wire_len(rest) };
            (len / CHUNK_BYTES).saturating_mul(full).saturating_add(last)
        };
        lens.map(chunks).fold(0, usize::saturating_add)
    }

    /// Queues parts of `bytes` bytes together, which take no more than `bound` on the wire.
    fn seal<'a>(
        &mut self,
        id: ConnId,
        bound: usize,
        bytes: usize,
        parts: impl Iterator<Item = Part<'a>>,
    ) -> Result<Accepted, SendError> {
        let sequence = self.admit(id, bound)?;
        let Some(conn) = self.conns.get_mut(id) else { unreachable!("it was admitted") };
        let before = conn.outbox.pending();
        let mut press =
            Press { conn, fresh: 0, left: bytes, room: bound, io: (&mut self.stage, &mut self.pool) };
        let sealed =
            if bytes <= CHUNK_BYTES { press.gather(parts, &mut self.gathered) } else { press.each(parts) };
        let fresh = press.fresh;
        conn.outbox.expect_more(false);
        self.queued -= bound - (conn.outbox.pending() - before);
        let accepted = self.accepted(id, sequence, fresh);
        if let Err(error) = sealed {
            self.terminate(id, CloseReason::LayerFailed(error));
        }
        Ok(accepted)
    }
}

/// Turns the parts of one send into wire bytes.
struct Press<'a> {
    conn: &'a mut Conn,
    fresh: u32,
    /// How many bytes of the send are left.
    left: usize,
    /// How many wire bytes are left of those that it was admitted with.
    room: usize,
    io: (&'a mut crate::buf::Stage, &'a mut crate::buf::Pool),
}

impl Press<'_> {
    /// Few bytes become one unit of the layer.
    fn gather<'a>(
        &mut self,
        mut parts: impl Iterator<Item = Part<'a>>,
        gathered: &mut Vec<u8>,
    ) -> Result<(), LayerError> {
        let Some(first) = parts.next() else { return self.chunk(&[]) };
        if first.len() == self.left {
            return self.chunk(first.bytes());
        }
        gathered.clear();
        gathered.extend_from_slice(first.bytes());
        parts.for_each(|part| gathered.extend_from_slice(part.bytes()));
        self.chunk(gathered)
    }

    /// Many bytes are taken from where they are; each guard is dropped when it is through.
    fn each<'a>(&mut self, mut parts: impl Iterator<Item = Part<'a>>) -> Result<(), LayerError> {
        parts.try_for_each(|part| part.bytes().chunks(CHUNK_BYTES).try_for_each(|chunk| self.chunk(chunk)))
    }

    fn chunk(&mut self, chunk: &[u8]) -> Result<(), LayerError> {
        let Self { conn, fresh, left, room, io: (stage, pool) } = self;
        let Conn { outbox, layered, .. } = &mut **conn;
        *left -= chunk.len();
        // The send is over when its last chunk is.
        outbox.expect_more(*left > 0);
        if chunk.is_empty() {
            *fresh += outbox.push(&[], stage, pool);
            return Ok(());
        }
        let Some(layered) = layered else { unreachable!("it was looked for") };
        let before = outbox.pending();
        let most = layered.wire_len(chunk.len()).min(*room);
        *fresh += outbox.push_with(most, stage, pool, |wire| layered.write(chunk, wire))?;
        *room -= outbox.pending() - before;
        Ok(())
    }
}
