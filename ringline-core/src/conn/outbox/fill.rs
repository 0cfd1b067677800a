//! Bytes that come into being where they are sent from, and bytes that are no send of the handler's.

use super::{Flight, Outbox};
use crate::buf::{Pool, Stage};

impl Outbox {
    /// Queues what `fill` writes into `room` bytes, behind everything else; it says how much that is.
    /// Returns how often the allocator had to be asked for a block. Nothing is queued if it fails.
    pub(crate) fn push_with<E>(
        &mut self,
        room: usize,
        stage: &mut Stage,
        pool: &mut Pool,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<u32, E> {
        let ends = self.ends();
        let is_staging =
            self.queue.is_empty() && !matches!(self.flight, Flight::Parcel(_) | Flight::Short { .. });
        if is_staging && let Some(wire) = stage.room(self.staged, room) {
            let bytes = fill(wire)?;
            self.pending += bytes;
            self.staged = stage.commit(self.staged, bytes);
            self.staged_ends = ends;
            return Ok(0);
        }
        let mut fresh = self.unstage(stage, pool);
        let (bytes, is_new) = self.queue.append_with(room, ends, pool, fill)?;
        self.pending += bytes;
        fresh += u32::from(is_new);
        Ok(fresh)
    }

    /// Queues bytes that belong to no send. They leave in their place, and nobody is told.
    pub(crate) fn push_internal(&mut self, bytes: &[u8], stage: &mut Stage, pool: &mut Pool) -> u32 {
        if bytes.is_empty() { 0 } else { self.push(bytes, stage, pool) }
    }
}

#[cfg(test)]
mod tests {
    use crate::buf::{Pool, Stage};
    use crate::conn::Outbox;

    /// Whether the next operation carries these bytes, which then all leave.
    fn leaves(outbox: &mut Outbox, stage: &mut Stage) -> Vec<u8> {
        let span = outbox.next_staged().expect("it is staged");
        let bytes = stage.bytes(span).to_vec();
        assert!(outbox.complete_whole(bytes.len(), stage));
        bytes
    }

    #[test]
    fn what_is_written_in_place_leaves_with_what_was_sent_before() {
        let (mut stage, mut pool) = (Stage::new(4096).unwrap(), Pool::default());
        let mut outbox = Outbox::new();
        assert_eq!(outbox.begin(), 1);
        outbox.push(b"one ", &mut stage, &mut pool);
        let wrote = outbox.push_with(100, &mut stage, &mut pool, |wire| {
            assert_eq!(wire.len(), 100);
            wire[..3].copy_from_slice(b"two");
            Ok::<_, ()>(3)
        });
        assert_eq!((wrote, outbox.pending()), (Ok(0), 7));
        assert_eq!(outbox.push_with(10, &mut stage, &mut pool, |_| Err("no")), Err("no"));
        assert_eq!(leaves(&mut outbox, &mut stage), b"one two");
        assert_eq!(outbox.take_report().map(|sent| (sent.through, sent.bytes)), Some((1, 7)));
        assert!(stage.is_empty() && outbox.is_idle() && outbox.pending() == 0);
    }

    #[test]
    fn what_finds_no_room_in_the_stage_waits_in_order() {
        let (mut stage, mut pool) = (Stage::new(16).unwrap(), Pool::default());
        let mut outbox = Outbox::new();
        outbox.begin();
        outbox.push(b"0123456789", &mut stage, &mut pool);
        for byte in [b'a', b'b'] {
            outbox.begin();
            let wrote = outbox.push_with(8, &mut stage, &mut pool, |wire| {
                wire[..4].fill(byte);
                Ok::<_, ()>(4)
            });
            assert!(wrote.is_ok());
        }
        assert_eq!(outbox.push_with(8, &mut stage, &mut pool, |_| Err("no")), Err("no"));
        assert!(stage.is_empty(), "staged bytes came before and went along");
        let (parcel, _) = outbox.next_parcel(true, &mut pool).expect("a parcel");
        assert_eq!((parcel.len(), parcel.pieces().len(), outbox.pending()), (18, 1, 18));
        let landed = outbox.complete(18, Some(parcel), false, &mut stage, &mut pool);
        assert!(landed.is_whole);
        assert_eq!(outbox.take_report().map(|sent| sent.through), Some(3));
        assert_eq!(pool.lent(), 0);
    }

    #[test]
    fn a_failed_fill_leaves_nothing_behind() {
        let (mut stage, mut pool) = (Stage::new(16).unwrap(), Pool::default());
        let mut outbox = Outbox::new();
        for room in [8, 100] {
            assert_eq!(outbox.push_with(room, &mut stage, &mut pool, |_| Err("no")), Err("no"));
            assert_eq!(outbox.push_with(room, &mut stage, &mut pool, |_| Ok::<_, ()>(0)), Ok(0));
        }
        assert!(stage.is_empty() && outbox.is_idle() && pool.lent() == 0);
    }

    #[test]
    fn internal_bytes_are_reported_to_nobody() {
        let (mut stage, mut pool) = (Stage::new(64).unwrap(), Pool::default());
        let mut outbox = Outbox::new();
        outbox.push_internal(b"", &mut stage, &mut pool);
        assert!(outbox.is_idle());
        outbox.push_internal(b"ticket", &mut stage, &mut pool);
        assert_eq!(leaves(&mut outbox, &mut stage), b"ticket");
        assert_eq!(outbox.take_report(), None);
        assert!(!outbox.is_unfinished());
    }
}
