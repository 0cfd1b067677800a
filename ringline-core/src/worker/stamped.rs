//! Connections of which the kernel tells when it received their bytes.
//!
//! They are received like datagrams, into the buffers for those, because only so a control message comes
//! with the bytes; then the bytes are copied into the inbox. Other connections have no part in it.

use super::Worker;
use super::flush::OutOfRoom;
use super::layered::Arrived;
use crate::backend::Backend;
use crate::conn::{CloseReason, ConnId, Phase};
use crate::handler::EventHandler;
use crate::net::arrival;
use crate::op::{Kind, Op, Outcome, Tag};

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Arms the receive of such a connection.
    pub(super) fn receive_stamped(&mut self, id: ConnId) -> Result<(), OutOfRoom> {
        let Some(conn) = self.io.conns.get(id) else { return Ok(()) };
        let fd = conn.fd;
        if let Err(errno) = self.backend.prepare_datagrams() {
            self.io.terminate(id, CloseReason::from_errno(errno));
            return Ok(());
        }
        self.submit(Kind::RecvStamped, id, Op::RecvDatagrams { fd })?;
        if let Some(conn) = self.io.conns.get_mut(id) {
            conn.ops.recv = true;
            conn.watch.listen();
        }
        Ok(())
    }

    /// Such a receive has brought something, or has ended.
    #[cold]
    pub(super) fn complete_stamped(&mut self, tag: Tag, outcome: Outcome, more: bool) {
        let plain = Tag { kind: Kind::Recv, ..tag };
        let Outcome::Datagram(lease) = outcome else { return self.complete_conn(plain, outcome, more) };
        let (received, bytes) = arrival::parse_stream(self.backend.datagram(&lease));
        let Some((id, conn)) = self.io.conns.find_mut(tag) else {
            self.io.shard.completions_stale.increment();
            return self.backend.release_datagram(lease);
        };
        if bytes.is_empty() {
            self.backend.release_datagram(lease);
            return self.complete_conn(plain, Outcome::EndOfStream, more);
        }
        conn.ops.recv = more;
        conn.settle_doubt();
        self.io.doubt(id);
        self.io.shard.receives.increment();
        self.io.shard.bytes_received.add(bytes.len() as u64);
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        if conn.layered.is_some() {
            let (takes_layer, mut bytes) = (conn.phase.takes_layer(), bytes.to_vec());
            let is_postponed = !conn.is_for_handler();
            self.backend.release_datagram(lease);
            if !more {
                self.io.mark(id);
            }
            if takes_layer {
                self.io.stamps.note(id, received);
                if is_postponed {
                    self.postpone_handshake(id, None, &bytes);
                } else {
                    self.read_layered(id, Arrived::Copied(&mut bytes));
                }
            }
            return;
        }
        let (is_open, hears) = (conn.phase == Phase::Open, conn.watch.hears());
        if is_open {
            self.inboxes[id.row()].extend(bytes);
            self.io.stamps.note(id, received);
        }
        self.backend.release_datagram(lease);
        if !more {
            self.io.mark(id);
        }
        if is_open {
            self.deliver_inbox(id);
            self.watch_unread(id, 0);
            if hears {
                self.io.watch_received(id);
            }
        }
    }
}
