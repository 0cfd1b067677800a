//! Staged sends on their way: who they are, and how to read the kernel's silence.
//!
//! A staged send is a non-blocking `send` with `CQE_SKIP_SUCCESS`. It is over when the kernel has
//! consumed its entry: either all of it went out, and nothing is posted, or a completion says how
//! much did (0 and an error, or a short count). So once an enter is back and the completion queue
//! has not overflowed, every consumed entry without a complaint stands for success.

use super::in_flight::Lent;
use super::parcels::Load;
use super::ring::Cqe;
use crate::op::{Kind, Tag, UserData};

#[derive(Debug)]
struct StagedSend {
    /// Its bits and not its tag: they are one word, and nothing of them is needed before it is over.
    user_data: UserData,
    len: usize,
    /// Where its entry is among all that were ever pushed.
    position: u32,
    /// What the kernel complained with.
    complaint: Option<i32>,
    /// What it was lent, unless the bytes are staged.
    load: Option<Lent<Box<Load>>>,
}

/// What became of a send that is over.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) user_data: UserData,
    pub(super) bytes: usize,
    pub(super) errno: i32,
    pub(super) load: Option<Lent<Box<Load>>>,
}

/// The staged sends of this turn, in the order of submission.
#[derive(Debug, Default)]
pub(super) struct StagedSends {
    sends: Vec<StagedSend>,
    /// How many of them are over.
    settled: usize,
    /// How many of those were reported.
    reported: usize,
}

impl StagedSends {
    /// Notes a send and gives the bits under which a complaint about it would come.
    #[inline]
    pub(super) fn add(
        &mut self,
        user_data: UserData,
        len: usize,
        position: u32,
        load: Option<Lent<Box<Load>>>,
    ) -> UserData {
        let row = self.sends.len() as u32;
        self.sends.push(StagedSend { user_data, len, position, complaint: None, load });
        UserData::new(Kind::Staged, 0, row)
    }

    /// Takes a completion that is a complaint about a staged send; false if it is not.
    #[inline]
    pub(super) fn complain(&mut self, cqe: Cqe) -> bool {
        let complaint = UserData::from_bits(cqe.user_data).decode_as(Kind::Staged);
        if let Some(Tag { row, .. }) = complaint {
            self.sends[row as usize].complaint = Some(cqe.result);
        }
        complaint.is_some()
    }

    /// Everything before position `consumed` is over.
    #[inline]
    pub(super) fn settle(&mut self, consumed: u32) {
        while let Some(send) = self.sends.get(self.settled)
            && is_before(send.position, consumed)
        {
            self.settled += 1;
        }
    }

    /// Whether a send is over by its position but could not be judged.
    #[inline]
    pub(super) fn is_unsettled(&self, consumed: u32) -> bool {
        self.sends.get(self.settled).is_some_and(|send| is_before(send.position, consumed))
    }

    /// Whether a send is over and was not reported.
    #[inline]
    pub(super) fn has_settled(&self) -> bool {
        self.reported != self.settled
    }

    /// The next send that is over.
    #[inline]
    pub(super) fn next(&mut self) -> Option<Settled> {
        if !self.has_settled() {
            return None;
        }
        let StagedSend { user_data, len, complaint, load, .. } = &mut self.sends[self.reported];
        let (bytes, errno) = match *complaint {
            None => (*len, 0),
            Some(bytes) if bytes >= 0 => (bytes as usize, 0),
            Some(error) => (0, -error),
        };
        let settled = Settled { user_data: *user_data, bytes, errno, load: load.take() };
        self.advance();
        Some(settled)
    }

    /// The next send that is over, if it is one of staged bytes and all of it went out.
    #[inline]
    pub(super) fn next_whole(&mut self) -> Option<(Tag, usize)> {
        if !self.has_settled() {
            return None;
        }
        let StagedSend { user_data, len, complaint: None, load: None, .. } = self.sends[self.reported] else {
            return None;
        };
        let tag = user_data.decode_as(Kind::Send)?;
        self.advance();
        Some((tag, len))
    }

    /// One more is reported.
    #[inline]
    fn advance(&mut self) {
        self.reported += 1;
        if self.reported == self.sends.len() {
            self.sends.clear();
            self.settled = 0;
            self.reported = 0;
        }
    }

    /// Whether no staged send is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }
}

/// Whether one position of a wrapping count comes before another.
#[inline]
fn is_before(position: u32, other: u32) -> bool {
    (other.wrapping_sub(position) as i32) > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(row: u32) -> UserData {
        UserData::new(Kind::Send, 0, row)
    }

    fn report(sends: &mut StagedSends) -> Option<(u32, Result<u32, i32>)> {
        let Settled { user_data, bytes, errno, .. } = sends.next()?;
        let tag = user_data.decode()?;
        Some((tag.row, if errno == 0 { Ok(bytes as u32) } else { Err(errno) }))
    }

    #[test]
    fn silence_is_success_and_a_complaint_is_not() {
        let mut sends = StagedSends::default();
        sends.add(send(7), 100, u32::MAX, None);
        let second = sends.add(send(8), 100, 0, None);
        let third = sends.add(send(9), 100, 1, None);
        let complaint = |bits: UserData, result| Cqe { user_data: bits.bits(), result, flags: 0 };
        assert!(sends.complain(complaint(second, 40)));
        assert!(sends.complain(complaint(third, -libc::EAGAIN)));
        assert!(!sends.complain(complaint(send(7), 1)));
        sends.settle(2);
        assert_eq!(report(&mut sends), Some((7, Ok(100))));
        assert_eq!(report(&mut sends), Some((8, Ok(40))));
        assert_eq!(report(&mut sends), Some((9, Err(libc::EAGAIN))));
        assert_eq!(report(&mut sends), None);
        assert!(sends.is_empty());
    }

    #[test]
    fn what_the_kernel_has_not_consumed_is_not_over() {
        let mut sends = StagedSends::default();
        sends.add(send(1), 10, 5, None);
        sends.add(send(2), 10, 6, None);
        sends.settle(6);
        assert_eq!(report(&mut sends), Some((1, Ok(10))));
        assert_eq!(report(&mut sends), None);
        assert!(!sends.is_empty());
        assert!(!sends.is_unsettled(6));
        assert!(sends.is_unsettled(7), "consumed but not judged");
        sends.settle(7);
        assert_eq!(report(&mut sends), Some((2, Ok(10))));
    }
}
