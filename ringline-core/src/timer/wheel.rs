//! A hierarchical timer wheel with a resolution of one millisecond.
//!
//! A time is read as eleven digits of six bits. A pending timer lies on the level of the highest
//! digit in which its deadline differs from the present, in the slot that this digit of its
//! deadline names; a timer for the present itself lies on the lowest level. The module keeps this
//! true for every timer whenever the present moves, and the rest follows:
//!
//! - Everything on a level is due before anything on the level above, and a level is due in the
//!   order of its slots. The earliest timer is in the first occupied slot of the first occupied
//!   level, and two bit scans find it.
//! - Timers of one millisecond always share a list, so they fire in the order in which they were
//!   armed.
//! - When the present enters a slot of a higher level, its timers move down at least one level. A
//!   timer is moved at most once per level, and no time that passes without a timer costs anything.
//! - Eleven digits hold every `u64`. There is no horizon, and no deadline needs to be clamped to
//!   one.
//!
//! Expired timers go to a list of their own, from which they are popped. What is armed meanwhile
//! never joins that list before the next [`Wheel::expire`], so a callback that arms a timer for now
//! cannot keep a turn from ending.

use std::fmt;

use super::TimerId;

/// Timers with a value each, ordered by deadline.
///
/// [`arm`](Self::arm) and [`cancel`](Self::cancel) take constant time. Memory grows to the largest
/// number of timers armed at once and is then used again, so a steady load allocates nothing.
pub(crate) struct Wheel<T> {
    nodes: Vec<Node<T>>,
    /// The first unused row, linked through `next`.
    free: u32,
    /// Timers that are armed or expired and not yet popped.
    len: usize,
    /// The slots of all levels, lowest level first, and then the list of expired timers.
    lists: Box<[List]>,
    /// One bit for each slot that has a timer in it.
    occupied: [u64; LEVELS],
    /// The present, as of the last `expire`.
    now_ms: u64,
    /// How many nodes the calls so far touched.
    #[cfg(test)]
    pub(super) visits: u64,
}

impl<T> Wheel<T> {
    /// Makes an empty wheel whose present is zero.
    pub(crate) fn new() -> Self {
        Self {
            nodes: Vec::new(),
            free: NIL,
            len: 0,
            lists: vec![List::EMPTY; LISTS].into_boxed_slice(),
            occupied: [0; LEVELS],
            now_ms: 0,
            #[cfg(test)]
            visits: 0,
        }
    }

    /// Arms a timer. A deadline that has passed counts as the present and fires in the next turn.
    pub(crate) fn arm(&mut self, deadline_ms: u64, value: T) -> TimerId {
        let deadline_ms = deadline_ms.max(self.now_ms);
        let id = self.claim(deadline_ms, value);
        self.link(id.row, slot_of(deadline_ms, self.now_ms));
        id
    }

    /// Takes a timer out and returns its value, or nothing if it was popped or cancelled before. A
    /// timer that expired but was not popped yet can still be cancelled.
    pub(crate) fn cancel(&mut self, id: TimerId) -> Option<T> {
        self.get(id)?;
        self.unlink(id.row);
        self.release(id.row)
    }

    /// Moves the present to `now_ms` and makes every timer with a deadline up to it ready for
    /// [`pop_expired`](Self::pop_expired).
    ///
    /// This opens a turn. A timer armed after it is not popped before the next call, even if its
    /// deadline is now. Timers that the last turn left unpopped stay at the front. A `now_ms`
    /// before the present counts as the present.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let now_ms = now_ms.max(self.now_ms);
        while let Some(slot) = self.first_slot() {
            let earliest_ms = self.lists[slot].earliest_ms;
            // A slot that the present enters is emptied even if nothing in it is due, because its
            // timers now agree with the present in the digit of this level and belong further down.
            let shift = DIGIT_BITS * (slot / SLOTS) as u32;
            if earliest_ms >> shift > now_ms >> shift {
                break;
            }
            // Stopping at each slot's earliest deadline, not only at `now_ms`, is what sorts the
            // timers of a long jump.
            self.now_ms = earliest_ms.min(now_ms);
            self.spill(slot);
        }
        self.now_ms = now_ms;
    }

    /// Pops the first of the expired timers: by deadline, and by order of arming within a
    /// millisecond.
    pub(crate) fn pop_expired(&mut self) -> Option<(TimerId, T)> {
        let row = self.lists[EXPIRED].head;
        let generation = self.nodes.get(row as usize)?.generation;
        let id = TimerId { row, generation };
        self.cancel(id).map(|value| (id, value))
    }

    /// The value of a timer that neither was popped nor cancelled.
    pub(crate) fn get(&self, id: TimerId) -> Option<&T> {
        let node = self.nodes.get(id.row as usize)?;
        node.value.as_ref().filter(|_| node.generation == id.generation)
    }

    /// The value of a timer that neither was popped nor cancelled, to be changed.
    pub(crate) fn get_mut(&mut self, id: TimerId) -> Option<&mut T> {
        let node = self.nodes.get_mut(id.row as usize)?;
        if node.generation == id.generation { node.value.as_mut() } else { None }
    }

    /// The time until which nothing needs to be done; the present if a timer waits to be popped or
    /// is due already.
    ///
    /// It is never later than the earliest deadline. Each slot remembers the earliest deadline it
    /// was given, so the time is exact until that very timer is cancelled while others share its
    /// slot: finding the next one would mean a scan. Waking up for a cancelled timer moves the
    /// others of its slot down, and the slots of the lowest level are always exact, so a timer
    /// causes at most one wake-up for each level, and just one if no such cancel happens.
    #[inline]
    pub(crate) fn next_deadline_ms(&self) -> Option<u64> {
        if self.is_empty() { None } else { self.earliest_ms() }
    }

    fn earliest_ms(&self) -> Option<u64> {
        if self.lists[EXPIRED].head != NIL {
            return Some(self.now_ms);
        }
        self.first_slot().map(|slot| self.lists[slot].earliest_ms)
    }

    /// The number of timers that are armed, including those that expired and were not popped.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether no timer is armed and none waits to be popped.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Finds the slot with the earliest timer. Slots behind the present are empty, so the lowest
    /// bit is the first in time.
    fn first_slot(&self) -> Option<usize> {
        let level = self.occupied.iter().position(|&bits| bits != 0)?;
        Some(level * SLOTS + self.occupied[level].trailing_zeros() as usize)
    }

    /// Moves all timers of a slot to where they belong now, in their order. Those for the present
    /// have expired.
    fn spill(&mut self, slot: usize) {
        let mut row = self.lists[slot].head;
        self.lists[slot] = List::EMPTY;
        self.mark(slot, false);
        while row != NIL {
            let node = self.node_mut(row);
            let (deadline_ms, next) = (node.deadline_ms, node.next);
            let list = if deadline_ms == self.now_ms { EXPIRED } else { slot_of(deadline_ms, self.now_ms) };
            self.link(row, list);
            row = next;
        }
    }

    /// Appends a row to a list.
    fn link(&mut self, row: u32, list: usize) {
        let prev = self.lists[list].tail;
        let node = self.node_mut(row);
        (node.prev, node.next, node.list) = (prev, NIL, list as u16);
        let deadline_ms = node.deadline_ms;
        if prev == NIL {
            self.lists[list] = List { head: row, tail: row, earliest_ms: deadline_ms };
            self.mark(list, true);
        } else {
            self.node_mut(prev).next = row;
            let list = &mut self.lists[list];
            list.tail = row;
            list.earliest_ms = list.earliest_ms.min(deadline_ms);
        }
    }

    /// Takes a row out of its list.
    fn unlink(&mut self, row: u32) {
        let node = self.node_mut(row);
        let (prev, next, list) = (node.prev, node.next, usize::from(node.list));
        match prev {
            NIL => self.lists[list].head = next,
            _ => self.node_mut(prev).next = next,
        }
        match next {
            NIL => self.lists[list].tail = prev,
            _ => self.node_mut(next).prev = prev,
        }
        if prev == NIL && next == NIL {
            self.mark(list, false);
        }
    }

    /// Notes whether a slot is occupied. The list of expired timers has no bit, for it is no slot.
    fn mark(&mut self, list: usize, occupied: bool) {
        if let Some(bits) = self.occupied.get_mut(list / SLOTS) {
            let bit = 1 << (list % SLOTS);
            *bits = if occupied { *bits | bit } else { *bits & !bit };
        }
    }

    /// Takes an unused row for a timer, and adds one if there is none.
    fn claim(&mut self, deadline_ms: u64, value: T) -> TimerId {
        if self.free == NIL {
            self.add_row();
        }
        let row = self.free;
        let node = self.node_mut(row);
        node.deadline_ms = deadline_ms;
        node.value = Some(value);
        let (generation, next) = (node.generation, node.next);
        self.free = next;
        self.len += 1;
        TimerId { row, generation }
    }

    /// Adds a row to the unused ones, of which there are none.
    fn add_row(&mut self) {
        let row = u32::try_from(self.nodes.len()).unwrap_or(NIL);
        assert_ne!(row, NIL, "a row number names every timer of a wheel");
        self.nodes.push(Node { deadline_ms: 0, prev: NIL, next: NIL, generation: 0, list: 0, value: None });
        self.free = row;
    }

    /// Gives a row back. Its next user gets the next generation; after the last one the row stays
    /// unused for good.
    fn release(&mut self, row: u32) -> Option<T> {
        self.len -= 1;
        let free = self.free;
        let node = self.node_mut(row);
        let value = node.value.take();
        if let Some(generation) = node.generation.checked_add(1) {
            (node.generation, node.next) = (generation, free);
            self.free = row;
        }
        value
    }

    /// The node of a row, counted in tests to show that no call walks the timers.
    fn node_mut(&mut self, row: u32) -> &mut Node<T> {
        #[cfg(test)]
        {
            self.visits += 1;
        }
        &mut self.nodes[row as usize]
    }
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("len", &self.len)
            .field("now_ms", &self.now_ms)
            .field("next_deadline_ms", &self.next_deadline_ms())
            .finish_non_exhaustive()
    }
}

/// A row of the table: a timer in exactly one list, or unused and without a value.
struct Node<T> {
    deadline_ms: u64,
    prev: u32,
    next: u32,
    generation: u32,
    list: u16,
    value: Option<T>,
}

/// A doubly linked list of rows.
#[derive(Clone, Copy)]
struct List {
    head: u32,
    tail: u32,
    /// No timer in the list has a deadline before this; meaningless while the list is empty.
    earliest_ms: u64,
}

impl List {
    const EMPTY: Self = Self { head: NIL, tail: NIL, earliest_ms: 0 };
}

/// The slot of a deadline that is not before the present.
fn slot_of(deadline_ms: u64, now_ms: u64) -> usize {
    let level = (deadline_ms ^ now_ms).checked_ilog2().unwrap_or(0) / DIGIT_BITS;
    let digit = (deadline_ms >> (DIGIT_BITS * level)) as usize % SLOTS;
    level as usize * SLOTS + digit
}

const DIGIT_BITS: u32 = 6;
const SLOTS: usize = 1 << DIGIT_BITS;
const LEVELS: usize = u64::BITS.div_ceil(DIGIT_BITS) as usize;
/// The list of expired timers, behind all slots.
const EXPIRED: usize = LEVELS * SLOTS;
const LISTS: usize = EXPIRED + 1;
/// The row number that names no row.
const NIL: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    impl<T> Wheel<T> {
        /// Asserts that every timer lies where the head of this file says and that no row is lost.
        pub(in super::super) fn check(&self) {
            let mut rows = 0;
            for (index, list) in self.lists.iter().enumerate() {
                let (mut prev, mut row) = (NIL, list.head);
                if let Some(bits) = self.occupied.get(index / SLOTS) {
                    assert_eq!(bits >> (index % SLOTS) & 1 == 1, row != NIL, "bit {index}");
                }
                while row != NIL {
                    let node = &self.nodes[row as usize];
                    assert_eq!((node.prev, usize::from(node.list)), (prev, index));
                    assert!(node.value.is_some() && node.deadline_ms >= list.earliest_ms);
                    match index {
                        EXPIRED => assert!(node.deadline_ms <= self.now_ms),
                        slot => assert_eq!(slot_of(node.deadline_ms, self.now_ms), slot),
                    }
                    rows += 1;
                    (prev, row) = (row, node.next);
                }
                assert_eq!(list.tail, prev);
            }
            assert_eq!(rows, self.len());
            let mut row = self.free;
            while row != NIL {
                rows += 1;
                row = self.nodes[row as usize].next;
            }
            assert_eq!(rows, self.nodes.len());
        }
    }

    fn drain<T>(wheel: &mut Wheel<T>, now_ms: u64) -> Vec<T> {
        wheel.expire(now_ms);
        std::iter::from_fn(|| wheel.pop_expired().map(|(_, value)| value)).collect()
    }

    #[test]
    fn fires_in_order_and_never_early() {
        let mut wheel = Wheel::new();
        for deadline_ms in [5_000, 70, 3, u64::MAX, 70, 64, 4_096, 3] {
            wheel.arm(deadline_ms, (deadline_ms, wheel.len()));
        }
        assert_eq!(drain(&mut wheel, 2), []);
        assert_eq!(drain(&mut wheel, 3), [(3, 2), (3, 7)]);
        assert_eq!(drain(&mut wheel, 69), [(64, 5)]);
        let jump = [(70, 1), (70, 4), (4_096, 6), (5_000, 0)];
        assert_eq!(drain(&mut wheel, 1 << 40), jump);
        assert_eq!(drain(&mut wheel, u64::MAX - 1), []);
        assert_eq!(wheel.next_deadline_ms(), Some(u64::MAX));
        assert_eq!(drain(&mut wheel, u64::MAX), [(u64::MAX, 3)]);
        assert!(wheel.is_empty());
        assert_eq!(wheel.next_deadline_ms(), None);
    }

    #[test]
    fn rearming_for_now_fires_in_the_next_turn() {
        let mut wheel = Wheel::new();
        wheel.arm(10, 0);
        for turn in 0..3 {
            wheel.expire(10);
            assert_eq!(wheel.pop_expired().map(|(_, value)| value), Some(turn));
            wheel.arm(turn, turn + 1);
            assert_eq!(wheel.pop_expired(), None);
            assert_eq!(wheel.next_deadline_ms(), Some(10));
        }
    }

    #[test]
    fn a_due_timer_can_still_be_cancelled() {
        let mut wheel = Wheel::new();
        let [first, second, third] = [1, 2, 3].map(|value| wheel.arm(100, value));
        wheel.expire(200);
        assert_eq!(wheel.pop_expired(), Some((first, 1)));
        assert_eq!(wheel.get(second), Some(&2));
        assert_eq!(wheel.cancel(second), Some(2));
        assert_eq!(wheel.next_deadline_ms(), Some(200));
        assert_eq!(wheel.pop_expired(), Some((third, 3)));
        assert_eq!(wheel.pop_expired(), None);
    }

    #[test]
    fn what_a_turn_leaves_stays_in_front() {
        let mut wheel = Wheel::new();
        wheel.arm(5, 'a');
        wheel.arm(6, 'b');
        wheel.expire(6);
        wheel.arm(0, 'c');
        wheel.arm(7, 'd');
        assert_eq!(wheel.next_deadline_ms(), Some(6));
        assert_eq!(drain(&mut wheel, 7), ['a', 'b', 'c', 'd']);
    }

    #[test]
    fn stale_ids_are_harmless() {
        let mut wheel = Wheel::new();
        let old = wheel.arm(7, "old");
        assert_eq!(wheel.cancel(old), Some("old"));
        let new = wheel.arm(7, "new");
        assert_eq!(new.row, old.row);
        assert_eq!(wheel.get(old), None);
        assert_eq!(wheel.cancel(old), None);
        wheel.expire(7);
        assert_eq!(wheel.pop_expired(), Some((new, "new")));
        assert_eq!(wheel.cancel(new), None);
    }

    #[test]
    fn a_row_without_generations_left_is_not_used_again() {
        let mut wheel = Wheel::new();
        let first = wheel.arm(1, ());
        wheel.cancel(first);
        wheel.nodes[0].generation = u32::MAX;
        let last = wheel.arm(1, ());
        assert_eq!(last.row, 0);
        assert_eq!(wheel.cancel(last), Some(()));
        assert_eq!(wheel.arm(1, ()).row, 1);
        assert_eq!(wheel.cancel(last), None);
        assert_eq!(wheel.cancel(first), None);
    }

    #[test]
    fn time_does_not_go_back() {
        let mut wheel = Wheel::new();
        wheel.expire(1_000);
        wheel.arm(500, 'a');
        wheel.arm(1_001, 'b');
        assert_eq!(drain(&mut wheel, 0), ['a']);
    }

    #[test]
    fn a_steady_load_needs_no_new_rows() {
        let mut wheel = Wheel::new();
        for turn in 0..1_000 {
            let idle = wheel.arm(turn + 30_000, turn);
            wheel.arm(turn + 10, turn);
            drain(&mut wheel, turn);
            assert_eq!(wheel.cancel(idle), Some(turn));
        }
        wheel.check();
        assert_eq!(wheel.nodes.len(), 12, "ten in flight, one just armed and the idle one");
    }

    #[test]
    fn wake_ups_of_one_timer_are_bounded_by_the_levels() {
        for (with_decoys, expected) in [(false, 1), (true, LEVELS)] {
            let mut wheel = Wheel::new();
            let far = wheel.arm(u64::MAX, ());
            let mut wake_ups = 0;
            while wheel.get(far).is_some() {
                if with_decoys {
                    // The worst case: the first millisecond of the same slot, armed and cancelled.
                    let level = usize::from(wheel.nodes[far.row as usize].list) / SLOTS;
                    let shift = DIGIT_BITS * level as u32;
                    let decoy = wheel.arm(u64::MAX >> shift << shift, ());
                    wheel.cancel(decoy);
                }
                wake_ups += 1;
                let next_ms = wheel.next_deadline_ms().expect("a timer is armed");
                drain(&mut wheel, next_ms);
                wheel.check();
            }
            assert_eq!(wake_ups, expected);
        }
    }
}
