//! Whether a peer is still there, where the kernel may have forgotten to say that it is not.
//!
//! A receive stays armed and reports bytes, the end and an error one after the other. But bytes and a
//! reset that come together while the kernel arms it are one event to the kernel, which reports the bytes
//! and waits for the next event; after a reset, there is none. The same is true of the end of a Unix
//! socket. So behind the first bytes that a receive brings the socket is looked at once, unless something is
//! sent there, which fails and tells; and once more behind the next bytes, if the look finds that some are
//! there already, and at once, if some have come before its answer.

use super::Worker;
use super::flush::OutOfRoom;
use crate::backend::Backend;
use crate::conn::ConnId;
use crate::handler::EventHandler;
use crate::op::{Kind, Op, Outcome, Tag};

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Asks wherever it is necessary. Whom there is no room to ask is asked in the next turn.
    #[cold]
    pub(super) fn flush_proofs(&mut self) {
        while let Some(&id) = self.io.unproven.last() {
            if self.prove(id).is_err() {
                self.io.shard.submissions_full.increment();
                return;
            }
            self.io.unproven.pop();
        }
    }

    fn prove(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        let Some(conn) = self.io.conns.get(id).filter(|conn| conn.is_in_the_dark()) else { return Ok(()) };
        let op = Op::Peek { fd: conn.fd };
        self.submit(Kind::Peek, id, op)?;
        if let Some(conn) = self.io.conns.get_mut(id) {
            conn.ops.peek = true;
            conn.watch.look();
        }
        Ok(())
    }

    /// A look has come home, perhaps behind bytes that it has not seen, or that were all it has seen: behind
    /// those nobody has looked.
    #[cold]
    pub(super) fn looked(&mut self, tag: Tag, outcome: Outcome, more: bool) {
        let looked = self.io.conns.find_mut(tag);
        let again = looked.and_then(|(id, conn)| (!conn.watch.take_quiet()).then_some(id));
        self.complete_conn(tag, outcome, more);
        self.io.unproven.extend(again);
    }
}
