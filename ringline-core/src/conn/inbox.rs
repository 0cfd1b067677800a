//! Bytes received and not yet consumed, contiguous.
//!
//! Empty in the common case: the handler then reads the backend's buffer in place and nothing is
//! copied. What it leaves over is kept here, and only then.

/// Capacity that an emptied inbox may keep.
const SPARE_BYTES_MAX: usize = 4 * 1024;

/// The unread bytes of one connection.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    /// How many of the first bytes are consumed already.
    consumed: usize,
    /// The handler is not called before this many bytes are unread.
    need: usize,
    /// The memory is the worker's.
    is_lent: bool,
}

impl Inbox {
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.consumed
    }

    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.consumed..]
    }

    /// Whether there is as much as the handler asked for.
    pub(crate) fn is_ready(&self) -> bool {
        !self.is_empty() && self.len() >= self.need
    }

    /// How many bytes the handler waits for.
    pub(crate) fn need(&self) -> usize {
        self.need
    }

    /// Says how many bytes the handler waits for.
    pub(crate) fn set_need(&mut self, bytes: usize) {
        self.need = bytes;
    }

    /// Adds received bytes, moving the unread ones to the front first if that avoids growing.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        if self.bytes.len() + bytes.len() > self.bytes.capacity() && self.consumed > 0 {
            self.bytes.drain(..self.consumed);
            self.consumed = 0;
        }
        let missing = self.need.saturating_sub(self.bytes.len());
        self.bytes.reserve(bytes.len().max(missing));
        self.bytes.extend_from_slice(bytes);
    }

    /// An empty inbox takes the worker's spare memory for a while, because its handler is expected to
    /// leave nothing: [`give_back`](Self::give_back) must follow.
    pub(crate) fn lend(&mut self, spare: &mut Vec<u8>) {
        if self.is_empty() {
            std::mem::swap(&mut self.bytes, spare);
            self.is_lent = true;
        }
    }

    /// The worker gets its memory back. What is still unread moves to the inbox's own.
    pub(crate) fn give_back(&mut self, spare: &mut Vec<u8>) {
        if !std::mem::take(&mut self.is_lent) {
            return;
        }
        std::mem::swap(&mut self.bytes, spare);
        let rest = &spare[std::mem::take(&mut self.consumed)..];
        if !rest.is_empty() {
            self.bytes.reserve(rest.len().max(self.need));
            self.bytes.extend_from_slice(rest);
        }
        spare.clear();
    }

    /// Where a layer appends what has arrived.
    pub(crate) fn tail(&mut self) -> &mut Vec<u8> {
        // Moving bytes to the front costs no more than receiving them did.
        if self.consumed > self.bytes.len() / 2 {
            self.bytes.drain(..self.consumed);
            self.consumed = 0;
        }
        let missing = self.need.saturating_sub(self.bytes.len());
        if !self.is_lent {
            self.bytes.reserve(missing);
        }
        &mut self.bytes
    }

    /// Takes the first `bytes` unread bytes away; there are that many.
    pub(crate) fn consume(&mut self, bytes: usize) {
        self.consumed += bytes;
        debug_assert!(self.consumed <= self.bytes.len());
        if self.consumed == self.bytes.len() {
            self.clear();
        }
    }

    /// Forgets everything and gives large memory back.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        if !self.is_lent {
            self.bytes.shrink_to(SPARE_BYTES_MAX);
        }
        self.consumed = 0;
    }

    /// As new, for the next occupant of the row.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_stay_contiguous_and_in_order() {
        let mut inbox = Inbox::default();
        inbox.extend(b"hello ");
        inbox.consume(3);
        inbox.extend(b"world");
        assert_eq!(inbox.unread(), b"lo world");
        inbox.consume(8);
        assert!(inbox.is_empty());
    }

    #[test]
    fn it_is_ready_only_with_what_was_asked_for() {
        let mut inbox = Inbox::default();
        assert!(!inbox.is_ready());
        inbox.set_need(4);
        inbox.extend(b"abc");
        assert!(!inbox.is_ready());
        inbox.extend(b"d");
        assert!(inbox.is_ready());
    }

    #[test]
    fn lent_memory_goes_back_and_what_is_left_stays() {
        let (mut inbox, mut spare) = (Inbox::default(), Vec::with_capacity(100_000));
        inbox.lend(&mut spare);
        inbox.tail().extend_from_slice(b"0123456789");
        inbox.consume(10);
        inbox.give_back(&mut spare);
        assert!(spare.capacity() >= 100_000 && inbox.bytes.capacity() == 0, "nothing is left of it");
        inbox.lend(&mut spare);
        inbox.tail().extend_from_slice(b"0123456789");
        inbox.consume(4);
        inbox.give_back(&mut spare);
        assert!(spare.capacity() >= 100_000 && inbox.bytes.capacity() < 1000);
        assert_eq!(inbox.unread(), b"456789");
        inbox.lend(&mut spare);
        inbox.tail().extend_from_slice(b"ab");
        inbox.give_back(&mut spare);
        assert_eq!(
            (inbox.unread(), spare.is_empty()),
            (&b"456789ab"[..], true),
            "an inbox that holds bytes keeps them"
        );
    }

    #[test]
    fn an_announced_message_is_made_room_for_once() {
        let mut inbox = Inbox::default();
        inbox.set_need(1 << 20);
        inbox.extend(&[1; 100]);
        let capacity = inbox.bytes.capacity();
        assert!(capacity >= 1 << 20);
        inbox.extend(&[2; 1000]);
        assert_eq!(inbox.bytes.capacity(), capacity);
        inbox.consume(1100);
        assert!(inbox.bytes.capacity() <= SPARE_BYTES_MAX, "large memory goes back");
    }
}
