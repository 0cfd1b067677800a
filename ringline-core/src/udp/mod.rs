//! The datagram sockets of a worker: what is queued, what is in flight, and how each of them ends.
//!
//! A socket's row lives until everything under way on it has come home; then its descriptor is
//! closed, the handler is told, and the row is free. Everything that is sent belongs to exactly one
//! of the spare list, a queue, and the kernel.

mod error;
mod id;
mod row;
mod run;

pub use error::{UdpClosed, UdpError, UdpSendError, Undelivered};
pub use id::UdpId;

pub(crate) use row::{Row, Sending};

use crate::buf::{Outgoing, Pool};
use crate::conn::{ConnId, Table};
use crate::net::{BindError, BindUdp, BoundUdp, UdpOptions};
use crate::op::Tag;
use std::net::SocketAddr;

/// How many datagram sockets a worker may have.
pub(crate) const SOCKETS_MAX: u32 = 1024;
/// How many sends of one socket may be with the kernel.
pub(crate) const IN_FLIGHT_MAX: u32 = 256;
/// How many emptied datagrams are kept for later.
const SPARE_MAX: usize = 4096;

/// All datagram sockets of one worker.
#[derive(Debug)]
pub(crate) struct Sockets {
    rows: Table<Row>,
    /// Datagrams that the kernel has.
    sends: Table<Sending>,
    /// Sockets whose state has to become operations or callbacks.
    pub(crate) work: Vec<UdpId>,
    /// A list that a turn works through, kept for its memory.
    pub(crate) spare_work: Vec<UdpId>,
    /// What makes sockets, unless this worker can have none.
    maker: Option<Box<dyn BindUdp>>,
    spare: Vec<Box<Outgoing>>,
}

impl Sockets {
    pub(crate) fn new(worker: u32) -> Self {
        Self {
            rows: Table::new(SOCKETS_MAX, worker),
            sends: Table::new(SOCKETS_MAX * IN_FLIGHT_MAX, 0),
            work: Vec::new(),
            spare_work: Vec::new(),
            maker: None,
            spare: Vec::new(),
        }
    }

    pub(crate) fn set_maker(&mut self, maker: Box<dyn BindUdp>) {
        self.maker = Some(maker);
    }

    /// Makes a socket that is to be [adopted](Self::adopt).
    pub(crate) fn bind(
        &mut self,
        addr: SocketAddr,
        options: &UdpOptions,
    ) -> Result<Box<dyn BoundUdp>, BindError> {
        if self.rows.is_full() {
            return Err(BindError::TooManySockets { addr, limit: SOCKETS_MAX });
        }
        let Some(maker) = &mut self.maker else { return Err(BindError::ShuttingDown { addr }) };
        maker.bind(addr, options)
    }

    /// Takes a socket over.
    pub(crate) fn adopt(
        &mut self,
        socket: Box<dyn BoundUdp>,
        options: &UdpOptions,
    ) -> Result<UdpId, BindError> {
        let addr = socket.local_addr();
        let full = BindError::TooManySockets { addr, limit: SOCKETS_MAX };
        let id = self.rows.insert(Row::new(socket, options)).map_err(|_| full)?;
        self.mark(UdpId::new(id));
        Ok(UdpId::new(id))
    }

    /// Has a socket served.
    pub(crate) fn mark(&mut self, id: UdpId) {
        if let Some(row) = self.rows.get_mut(id.key())
            && !std::mem::replace(&mut row.is_marked, true)
        {
            self.work.push(id);
        }
    }

    /// Whether some socket is to be served.
    #[inline]
    pub(crate) fn has_work(&self) -> bool {
        !self.work.is_empty()
    }

    pub(crate) fn get(&self, id: UdpId) -> Option<&Row> {
        self.rows.get(id.key())
    }

    pub(crate) fn get_mut(&mut self, id: UdpId) -> Option<&mut Row> {
        self.rows.get_mut(id.key())
    }

    /// The socket that a completion is for.
    pub(crate) fn find_mut(&mut self, tag: Tag) -> Option<(UdpId, &mut Row)> {
        self.rows.find_mut(tag).map(|(id, row)| (UdpId::new(id), row))
    }

    /// The datagram in flight that a completion is for.
    pub(crate) fn find_send(&mut self, tag: Tag) -> Option<(ConnId, &mut Sending)> {
        self.sends.find_mut(tag)
    }

    /// A row for a datagram that goes to the kernel.
    pub(crate) fn begin_send(&mut self, socket: UdpId) -> Option<ConnId> {
        self.sends.insert(Sending { socket, is_over: false, is_cancelled: false, cancels: false }).ok()
    }

    pub(crate) fn end_send(&mut self, send: ConnId) {
        self.sends.remove(send);
    }

    /// The sends of this socket that are with the kernel and were not cancelled.
    pub(crate) fn to_cancel(&self, socket: UdpId) -> Vec<ConnId> {
        let wants = |send: &Sending| send.socket == socket && !send.is_over && !send.is_cancelled;
        let all = (0..self.sends.height()).filter_map(|row| self.sends.at(row));
        all.filter(|&id| self.sends.get(id).is_some_and(wants)).collect()
    }

    pub(crate) fn send_mut(&mut self, send: ConnId) -> Option<&mut Sending> {
        self.sends.get_mut(send)
    }

    /// Forgets a socket, which closes its descriptor.
    pub(crate) fn remove(&mut self, id: UdpId) -> Option<Row> {
        self.rows.remove(id.key())
    }

    /// Every socket, in the order of their rows.
    pub(crate) fn ids(&self) -> impl Iterator<Item = UdpId> {
        (0..self.rows.height()).filter_map(|row| self.rows.at(row)).map(UdpId::new)
    }

    /// How many sockets there are, closing ones included.
    pub(crate) fn live(&self) -> usize {
        self.rows.live()
    }

    /// How many datagrams the kernel has.
    pub(crate) fn in_flight(&self) -> usize {
        self.sends.live()
    }

    /// An empty datagram to send.
    pub(crate) fn take_spare(&mut self) -> Box<Outgoing> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a datagram back, sent or not.
    pub(crate) fn put(&mut self, mut datagram: Box<Outgoing>, pool: &mut Pool) {
        datagram.empty(pool);
        if self.spare.len() < SPARE_MAX {
            self.spare.push(datagram);
        }
    }

    /// Drops what a socket has queued; says how many datagrams that was.
    pub(crate) fn discard(&mut self, id: UdpId, pool: &mut Pool) -> usize {
        let Some(row) = self.rows.get_mut(id.key()) else { return 0 };
        let queue = std::mem::take(&mut row.queue);
        let mut count = 0;
        for datagram in queue {
            count += datagram.count();
            if let Some(row) = self.rows.get_mut(id.key()) {
                row.settle(&datagram);
            }
            self.put(datagram, pool);
        }
        count
    }
}
