//! A proxy: passes bytes and ends on between its clients and a server.

use crate::book::Outcome;
use crate::config;
use crate::namespace::Namespace;
use crate::station::Site;
use crate::watch::{Token, Watch};
use ringline_core::{Admit, CloseReason, ConnId, Consumed, Ctx, Eof, EventHandler, Peer, SendError, Sent};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

/// One end of a pair.
#[derive(Debug)]
pub(crate) struct End {
    other: Option<ConnId>,
    has_opened: bool,
    peer_has_ended: bool,
    began: Instant,
    token: Token,
}

/// The handler.
pub(crate) struct Relay {
    watch: Watch,
    upstream: SocketAddr,
    /// Connections whose peer has ended its direction.
    ended: BTreeSet<ConnId>,
}

impl Relay {
    /// A proxy for one server.
    pub(crate) fn launch(side: &Namespace, upstream: SocketAddr) -> Site {
        Site::launch("the proxy", side, Some(side.address()), config(), move |book| Self {
            watch: Watch::new(book, true),
            upstream,
            ended: BTreeSet::new(),
        })
    }

    fn end(&self, cx: &mut Ctx<'_, Self>, other: Option<ConnId>) -> End {
        End { other, has_opened: false, peer_has_ended: false, began: cx.now(), token: self.watch.token() }
    }
}

impl EventHandler for Relay {
    type Conn = End;
    type Message = ();

    fn on_accept(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, _: &Peer) -> Admit<End> {
        self.watch.audit.accepted(id);
        Admit::Accept(self.end(cx, None))
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, end: &mut End) {
        self.watch.audit.opened(id);
        end.has_opened = true;
        if let Some(client) = end.other {
            cx.resume_reads(client);
            return self.watch.audit.paused(client, false);
        }
        let upstream = self.end(cx, Some(id));
        end.other = self.watch.connect(cx, self.upstream, upstream);
        cx.pause_reads(id);
        self.watch.audit.paused(id, true);
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, end: &mut End, data: &[u8]) -> Consumed {
        self.watch.audit.data(id, data);
        if let Some(other) = end.other {
            let answer = self.watch.sending(cx, other, data.len(), |cx| cx.forward(other, data));
            // One that has ended takes nothing any more, and `on_close` may come a little later.
            if let Err(error) = answer
                && error != SendError::Closing
            {
                self.watch.complain(format!("{other} takes nothing from {id}: {error}"));
            }
        }
        self.watch.audit.consumed(id, data, data.len(), 0);
        Consumed::all(data)
    }

    fn on_send_complete(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, _: &mut End, sent: Sent) {
        self.watch.audit.completed(id, sent);
    }

    fn on_writable(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, _: &mut End) {
        self.watch.audit.writable(id);
    }

    fn on_eof(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, end: &mut End, unread: &[u8]) -> Eof {
        self.watch.audit.ended(id, unread);
        end.peer_has_ended = true;
        self.ended.insert(id);
        match end.other {
            Some(other) if self.ended.contains(&other) => {
                self.watch.close(cx, other);
                Eof::Close
            }
            Some(other) => {
                cx.shutdown_write(other);
                Eof::KeepWriting
            }
            None => Eof::Close,
        }
    }

    fn on_close(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, end: End, reason: CloseReason) {
        self.watch.book.ended(Outcome {
            salt: None,
            reason,
            has_opened: end.has_opened,
            is_complete: end.peer_has_ended,
            lasted: cx.now() - end.began,
        });
        self.ended.remove(&id);
        if let Some(other) = end.other {
            if reason.is_clean() {
                self.watch.close(cx, other);
            } else {
                self.watch.abort(cx, other);
            }
        }
        self.watch.closed(id, end.token, reason);
    }
}
