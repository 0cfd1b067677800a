//! What every handler of these tests has: the audit of all promises, and a book to write into.
//!
//! The last thing a handler does is to have the audit checked, when it is dropped.

use crate::audit::Audit;
use crate::book::Book;
use ringline_core::{Accepted, CloseReason, ConnId, Ctx, EventHandler, SendError};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// An auditor.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) audit: Audit,
    pub(crate) book: Arc<Book>,
    states: Rc<()>,
}

/// Part of the state of each connection, which has to come back.
#[derive(Debug)]
pub(crate) struct Token(Rc<()>);

impl Watch {
    pub(crate) fn new(book: Arc<Book>, holds_reads: bool) -> Self {
        let mut audit = Audit::default();
        audit.holds_reads = holds_reads;
        Self { audit, book, states: Rc::new(()) }
    }

    pub(crate) fn token(&self) -> Token {
        Token(Rc::clone(&self.states))
    }

    /// Sends in whatever way, and notes what was accepted and what was not.
    pub(crate) fn sending<H: EventHandler>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        id: ConnId,
        len: usize,
        send: impl FnOnce(&mut Ctx<'_, H>) -> Result<Accepted, SendError>,
    ) -> Result<Accepted, SendError> {
        let before = cx.pending_bytes(id);
        let answer = send(cx);
        let after = cx.pending_bytes(id);
        self.audit.sent(id, len, answer, before, after);
        answer
    }

    pub(crate) fn send<H: EventHandler>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        id: ConnId,
        bytes: &[u8],
    ) -> Result<Accepted, SendError> {
        self.sending(cx, id, bytes.len(), |cx| cx.send(id, bytes))
    }

    /// Connects; there is room for it.
    pub(crate) fn connect<H: EventHandler>(
        &mut self,
        cx: &mut Ctx<'_, H>,
        addr: SocketAddr,
        state: H::Conn,
    ) -> Option<ConnId> {
        match cx.connect(addr, state) {
            Ok(id) => {
                self.audit.dialing(id);
                Some(id)
            }
            Err(refused) => {
                self.complain(format!("no connection to {addr}: {}", refused.error));
                None
            }
        }
    }

    pub(crate) fn close<H: EventHandler>(&mut self, cx: &mut Ctx<'_, H>, id: ConnId) {
        cx.close(id);
        self.audit.closing(id);
    }

    pub(crate) fn abort<H: EventHandler>(&mut self, cx: &mut Ctx<'_, H>, id: ConnId) {
        cx.abort(id);
        self.audit.closing(id);
    }

    /// A connection is over and its state is back.
    pub(crate) fn closed(&mut self, id: ConnId, token: Token, reason: CloseReason) {
        self.audit.closed(id, reason);
        if !Rc::ptr_eq(&token.0, &self.states) {
            self.complain(format!("{id}: the state of another handler came back"));
        }
    }

    pub(crate) fn complain(&self, what: String) {
        self.book.complain(what);
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.audit.check_ended();
        let broken = self.audit.complaints();
        if !broken.is_empty() {
            self.complain(broken);
        }
        let left = Rc::strong_count(&self.states) - 1;
        if left > 0 {
            self.complain(format!("{left} states of connections have not come back"));
        }
    }
}
