//! The server's side: echo byte by byte as it comes, or message by message once it is whole.

use crate::message::HEAD_BYTES;
use ringline_core::{Admit, CloseReason, ConnId, Consumed, Ctx, EventHandler, Peer};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many connections ended how.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    clean: AtomicU64,
    reset: AtomicU64,
    other: AtomicU64,
}

impl Ends {
    pub(crate) fn clean(&self) -> u64 {
        self.clean.load(Ordering::Acquire)
    }

    pub(crate) fn reset(&self) -> u64 {
        self.reset.load(Ordering::Acquire)
    }

    pub(crate) fn other(&self) -> u64 {
        self.other.load(Ordering::Acquire)
    }
}

/// How a connection is echoed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Style {
    Stream,
    Messages,
}

/// Echoes in the style of the listener that a connection came through.
pub(crate) struct Service {
    ends: Arc<Ends>,
}

impl Service {
    pub(crate) fn new(ends: Arc<Ends>) -> Self {
        Self { ends }
    }
}

impl EventHandler for Service {
    type Conn = Style;
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, peer: &Peer) -> Admit<Style> {
        Admit::Accept(if peer.listener().index() == 0 { Style::Stream } else { Style::Messages })
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, style: &mut Style, data: &[u8]) -> Consumed {
        if let Style::Stream = style {
            if cx.send(id, data).is_err() {
                cx.abort(id);
            }
            return Consumed::all(data);
        }
        let mut done = 0;
        while let Some(head) = data[done..].first_chunk::<HEAD_BYTES>() {
            let end = HEAD_BYTES + u32::from_be_bytes(*head) as usize;
            let Some(message) = data[done..].get(..end) else {
                return Consumed::bytes(done).need(end);
            };
            if cx.send(id, message).is_err() {
                cx.abort(id);
            }
            done += end;
        }
        Consumed::bytes(done).need(HEAD_BYTES)
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: Style, reason: CloseReason) {
        let count = match reason {
            CloseReason::PeerClosed { unread: 0 } => &self.ends.clean,
            CloseReason::PeerReset => &self.ends.reset,
            _ => {
                eprintln!("a connection ended with {reason:?}");
                &self.ends.other
            }
        };
        count.fetch_add(1, Ordering::Release);
    }
}
