//! What one send operation owns: pieces in order, in one or several links.
//!
//! A parcel travels with its operation and comes back when the kernel has no more use for any of its
//! bytes. The links of a chain leave one after the other; the links of a parcel cover all of its
//! pieces and none of them is empty.

use super::{Body, Piece};
use std::collections::VecDeque;

/// How many pieces are gathered for one operation at most, and how many parts a send has at most.
pub(crate) const PIECES_MAX: usize = 32;
/// How many stretches of bytes the kernel takes in one operation: `UIO_MAXIOV`.
const STRETCHES_MAX: u16 = 1024;
/// How many links a chain has at most.
pub(crate) const LINKS_MAX: usize = 16;

/// What becomes of a chain that the kernel has not sent whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnBreak {
    /// The rest is sent as soon as the socket takes it, without a hole, like the rest of any send.
    #[default]
    Resume,
    /// The rest is dropped, the chain completes with [`SendFailure::Broken`](crate::SendFailure), and
    /// the connection goes on with whatever was sent after it.
    Report,
    /// The rest is dropped and the connection aborted, with
    /// [`ChainBroken`](crate::CloseReason::ChainBroken).
    Abort,
}

/// What makes a parcel a chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChainRules {
    pub(crate) on_break: OnBreak,
    /// The number of this send.
    pub(crate) sequence: u64,
    /// How many bytes the chain had in the beginning, and how many of them have left.
    pub(crate) bytes: u64,
    pub(crate) sent: u64,
}

/// One operation of the kernel's: some pieces that leave together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) pieces: u16,
    /// The kernel is to send from where the bytes are, and to say when it no longer needs them.
    pub(crate) zero_copy: bool,
}

/// Pieces on their way to the kernel.
#[derive(Debug, Default)]
pub(crate) struct Parcel {
    pieces: VecDeque<Piece>,
    links: VecDeque<Link>,
    pub(crate) chain: Option<ChainRules>,
    /// Tells it from the other parcels of its connection.
    pub(crate) serial: u32,
    /// The kernel has copied the bytes although it was asked not to.
    pub(crate) was_copied: bool,
}

impl Parcel {
    /// Adds a piece to the last link.
    pub(crate) fn push(&mut self, piece: Piece) {
        if self.links.is_empty() {
            self.links.push_back(Link { pieces: 0, zero_copy: false });
        }
        let last = self.links.len() - 1;
        self.links[last].pieces += 1;
        self.pieces.push_back(piece);
    }

    /// Ends the last link; the next piece begins another.
    pub(crate) fn end_link(&mut self) {
        if self.links.back().is_some_and(|link| link.pieces > 0) {
            self.links.push_back(Link { pieces: 0, zero_copy: false });
        }
    }

    /// Decides how each link is sent, joins neighbours that need not be operations of their own, those
    /// whose bytes the kernel copies anyway, and divides what is too much for one operation.
    pub(crate) fn arrange(&mut self, zero_copy: bool) {
        // The usual case, a few pieces that are copied. The link of a chain that was tried before may
        // say otherwise.
        let is_plain = self.links.len() == 1 && !self.links[0].zero_copy;
        if is_plain && !zero_copy && self.pieces.len() <= usize::from(STRETCHES_MAX) {
            return;
        }
        let mut first = 0;
        let mut open: Option<Link> = None;
        for _ in 0..self.links.len() {
            let Some(Link { pieces, .. }) = self.links.pop_front() else { return };
            let end = first + usize::from(pieces);
            let lends = self.pieces.range(first..end).any(|piece| matches!(piece.body(), Body::Guard(_)));
            first = end;
            let next = Link { pieces, zero_copy: zero_copy && lends };
            open = match open {
                Some(last) if !last.zero_copy && !next.zero_copy => {
                    Some(Link { pieces: last.pieces + next.pieces, zero_copy: false })
                }
                Some(last) => {
                    self.close_link(last);
                    Some(next)
                }
                None => Some(next),
            };
        }
        if let Some(last) = open {
            self.close_link(last);
        }
    }

    /// Counts the first `bytes` unsent bytes as sent, hands out the pieces that are through, and says
    /// which send was the last to end in one of them (zero for none).
    pub(crate) fn advance(&mut self, mut bytes: usize, mut through: impl FnMut(Piece)) -> u64 {
        let mut ends = 0;
        if let Some(chain) = &mut self.chain {
            chain.sent += bytes as u64;
        }
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > bytes {
                piece.advance(bytes);
                return ends;
            }
            bytes -= piece.len();
            ends = ends.max(piece.ends());
            if let Some(piece) = self.pieces.pop_front() {
                through(piece);
            }
            self.shorten_first_link();
        }
        assert_eq!(bytes, 0, "no more was sent than there was");
        ends
    }

    /// Takes all pieces out, in order.
    pub(crate) fn drain(&mut self) -> impl DoubleEndedIterator<Item = Piece> {
        self.links.clear();
        self.pieces.drain(..)
    }

    /// As new, but for its memory.
    pub(crate) fn reset(&mut self) {
        self.pieces.clear();
        self.links.clear();
        self.chain = None;
        self.was_copied = false;
    }

    /// Notes the number of the last send that ends in this parcel.
    pub(crate) fn set_ends(&mut self, sequence: u64) {
        if let Some(last) = self.pieces.back_mut() {
            last.set_ends(sequence);
        }
    }

    /// How many bytes have not been sent.
    pub(crate) fn len(&self) -> usize {
        self.pieces.iter().map(Piece::len).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(crate) fn pieces(&self) -> impl ExactSizeIterator<Item = &Piece> {
        self.pieces.iter()
    }

    pub(crate) fn links(&self) -> impl ExactSizeIterator<Item = Link> {
        self.links.iter().copied()
    }

    /// The number of the last send that ends in this parcel.
    pub(crate) fn ends(&self) -> u64 {
        self.pieces.iter().map(Piece::ends).max().unwrap_or(0)
    }

    /// Adds an arranged link behind those that are not arranged yet, in parts if need be.
    fn close_link(&mut self, mut link: Link) {
        while link.pieces > STRETCHES_MAX {
            self.links.push_back(Link { pieces: STRETCHES_MAX, ..link });
            link.pieces -= STRETCHES_MAX;
        }
        if link.pieces > 0 {
            self.links.push_back(link);
        }
    }

    fn shorten_first_link(&mut self) {
        if let Some(link) = self.links.front_mut() {
            link.pieces -= 1;
            if link.pieces == 0 {
                self.links.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buf::{Block, Guard};

    fn copied(bytes: &[u8]) -> Piece {
        let mut block = Block::with_capacity(bytes.len());
        block.fill(bytes);
        Piece::new(Body::Block(block), 0)
    }

    fn lent(bytes: &'static str) -> Piece {
        Piece::new(Body::Guard(Guard::new(bytes)), 0)
    }

    fn shape(parcel: &Parcel) -> Vec<(u16, bool)> {
        parcel.links().map(|link| (link.pieces, link.zero_copy)).collect()
    }

    fn chain(links: &[&[&'static str]]) -> Parcel {
        let mut parcel = Parcel::default();
        for link in links {
            for &bytes in *link {
                parcel.push(if bytes.len() > 3 { lent(bytes) } else { copied(bytes.as_bytes()) });
            }
            parcel.end_link();
        }
        parcel
    }

    #[test]
    fn copied_neighbours_become_one_link() {
        let links: &[&[&str]] = &[&["a", "b"], &["c"], &["long guard"], &["d"], &["e", "f"]];
        let mut parcel = chain(links);
        parcel.arrange(true);
        assert_eq!(shape(&parcel), [(3, false), (1, true), (3, false)]);
        let mut parcel = chain(links);
        parcel.arrange(false);
        assert_eq!(shape(&parcel), [(7, false)]);
    }

    #[test]
    fn a_link_is_no_more_than_the_kernel_takes() {
        let mut parcel = Parcel::default();
        for _ in 0..=STRETCHES_MAX {
            parcel.push(copied(b"x"));
            parcel.end_link();
        }
        parcel.arrange(true);
        assert_eq!(shape(&parcel), [(STRETCHES_MAX, false), (1, false)]);
    }

    #[test]
    fn a_chain_that_is_tried_again_may_have_to_be_copied() {
        let mut parcel = chain(&[&["guarded"]]);
        parcel.arrange(true);
        assert_eq!(shape(&parcel), [(1, true)]);
        parcel.arrange(false);
        assert_eq!(shape(&parcel), [(1, false)]);
    }

    #[test]
    fn what_has_left_is_taken_off_link_by_link() {
        let mut parcel = chain(&[&["ab", "guarded"], &["c"], &["guarded too"]]);
        parcel.pieces[0].set_ends(1);
        parcel.pieces[2].set_ends(2);
        parcel.arrange(true);
        let mut through = 0;
        assert_eq!(parcel.advance(4, |_| through += 1), 1);
        assert_eq!((through, parcel.len()), (1, 5 + 1 + 11));
        assert_eq!(shape(&parcel), [(1, true), (1, false), (1, true)]);
        assert_eq!(parcel.advance(6, |_| through += 1), 2);
        assert_eq!(shape(&parcel), [(1, true)]);
        assert_eq!(parcel.advance(11, |_| through += 1), 0);
        assert_eq!(through, 4);
        assert!(parcel.is_empty());
    }

    #[test]
    #[should_panic(expected = "no more was sent than there was")]
    fn a_kernel_that_claims_too_much_is_not_believed() {
        chain(&[&["ab"]]).advance(3, |_| {});
    }
}
