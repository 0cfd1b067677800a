//! Which sends were accepted, which are with the kernel, and which of them the handler knows of.
//!
//! Sends are numbered without gaps and complete in order, so three numbers say it all.

use super::{CloseReason, SendFailure, Sent};

/// A chain that broke and is to be reported: the last send that is delivered.
#[derive(Debug)]
struct Broken {
    sequence: u64,
    failure: SendFailure,
}

/// The sends of one connection.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    accepted: u64,
    /// Every send up to here is over.
    delivered: u64,
    /// Every send up to here was reported to the handler.
    reported: u64,
    unreported_bytes: u64,
    broken: Option<Broken>,
}

impl Receipts {
    /// Numbers another send.
    #[inline]
    pub(super) fn accept(&mut self) -> u64 {
        self.accepted += 1;
        self.accepted
    }

    /// The kernel has taken `bytes` more.
    #[inline]
    pub(super) fn count(&mut self, bytes: usize) {
        self.unreported_bytes += bytes as u64;
    }

    /// Every send up to `through` is over.
    #[inline]
    pub(super) fn deliver(&mut self, through: u64) {
        self.delivered = self.delivered.max(through);
    }

    /// The chain with number `sequence` broke; it and those up to `through` are over.
    pub(super) fn break_off(&mut self, sequence: u64, failure: SendFailure, through: u64) {
        self.broken = Some(Broken { sequence, failure });
        self.deliver(through);
    }

    /// What the handler has not been told yet about completed sends; to be asked until there is
    /// nothing more.
    #[inline]
    pub(super) fn take_report(&mut self) -> Option<Sent> {
        if self.delivered <= self.reported {
            return None;
        }
        let mut result = Ok(());
        self.reported = match &self.broken {
            None => self.delivered,
            // Those in front of the broken chain went out whole.
            Some(broken) if self.reported + 1 < broken.sequence => broken.sequence - 1,
            Some(broken) => {
                result = Err(broken.failure);
                self.broken = None;
                self.delivered
            }
        };
        let bytes = std::mem::take(&mut self.unreported_bytes);
        Some(Sent { through: self.reported, bytes, result })
    }

    /// Nobody wants to be told of completed sends.
    #[inline]
    pub(super) fn forget(&mut self) {
        if self.broken.is_some() {
            let _ = self.take_report();
        } else {
            self.reported = self.delivered;
            self.unreported_bytes = 0;
        }
    }

    /// The report for everything that never completed, if there is anything like that.
    pub(super) fn take_failure(&mut self, reason: CloseReason) -> Option<Sent> {
        if self.accepted <= self.reported {
            return None;
        }
        self.reported = self.accepted;
        let bytes = std::mem::take(&mut self.unreported_bytes);
        Some(Sent { through: self.reported, bytes, result: Err(SendFailure::Ended(reason)) })
    }

    /// The number of the last send.
    #[inline]
    pub(super) fn last(&self) -> u64 {
        self.accepted
    }

    /// Whether a send is not over.
    pub(super) fn are_open(&self) -> bool {
        self.accepted > self.delivered
    }

    /// Whether the handler has to be told something.
    #[inline]
    pub(super) fn is_owing(&self) -> bool {
        self.delivered > self.reported
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_out_before_a_broken_chain_is_reported_apart() {
        let mut receipts = Receipts::default();
        for sequence in 1..=4 {
            assert_eq!(receipts.accept(), sequence);
        }
        receipts.count(10);
        receipts.deliver(2);
        let failure = SendFailure::Broken { sent: 3, of: 8 };
        receipts.count(3);
        receipts.break_off(3, failure, 4);
        let sent = |through, bytes, result| Some(Sent { through, bytes, result });
        assert_eq!(receipts.take_report(), sent(2, 13, Ok(())));
        assert_eq!(receipts.take_report(), sent(4, 0, Err(failure)));
        assert_eq!(receipts.take_report(), None);
        assert_eq!(receipts.take_failure(CloseReason::Aborted), None);
    }
}
