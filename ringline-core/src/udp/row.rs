//! One datagram socket: its queue, its operations and its phase.

use super::{UdpClosed, UdpId, UdpSendError};
use crate::buf::Outgoing;
use crate::net::{BoundUdp, UdpOptions};
use crate::op::Fd;
use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// The longest datagrams: what is left of 65,535 bytes behind the headers.
const BYTES_MAX_V4: usize = 65_507;
const BYTES_MAX_V6: usize = 65_527;

/// A datagram that the kernel has, or a cancel of it.
#[derive(Debug)]
pub(crate) struct Sending {
    pub(crate) socket: UdpId,
    /// It has come home.
    pub(crate) is_over: bool,
    /// A cancel was submitted.
    pub(crate) is_cancelled: bool,
    /// A cancel is under way.
    pub(crate) cancels: bool,
}

/// One datagram socket.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) socket: Box<dyn BoundUdp>,
    pub(crate) fd: Fd,
    pub(crate) peer: Option<SocketAddr>,
    is_v6: bool,
    /// Bound to all addresses, so that answers have to say which one they come from.
    is_wildcard: bool,
    coalesces: bool,
    /// The kernel cannot cut runs apart for the device that this socket sends through.
    pub(crate) cuts_runs: bool,
    queue_datagrams: usize,
    queue_bytes: usize,
    /// What has not gone to the kernel.
    pub(crate) queue: VecDeque<Box<Outgoing>>,
    /// How many datagrams and bytes have been accepted and are not over.
    waiting: usize,
    waiting_bytes: usize,
    /// Sends and cancels of sends under way.
    pub(crate) in_flight: u32,
    /// What arrived while the handler wanted nothing, as the kernel wrote it.
    pub(crate) held: VecDeque<Vec<u8>>,
    /// A receive, or a cancel of it, is under way.
    pub(crate) receives: bool,
    pub(crate) cancels_receive: bool,
    pub(crate) is_paused: bool,
    /// An error has to pass before the next receive.
    pub(crate) rests: bool,
    /// It is closing, for this reason.
    pub(crate) closing: Option<UdpClosed>,
    /// Nothing more is sent.
    pub(crate) is_cut: bool,
    pub(crate) is_marked: bool,
    /// How many datagrams the kernel had dropped when it last said so.
    drops: u32,
}

impl Row {
    pub(crate) fn new(socket: Box<dyn BoundUdp>, options: &UdpOptions) -> Self {
        let local = socket.local_addr();
        Self {
            fd: socket.fd(),
            drops: socket.drops(),
            socket,
            peer: options.peer,
            is_v6: local.is_ipv6(),
            is_wildcard: local.ip().is_unspecified(),
            coalesces: options.coalesce,
            cuts_runs: false,
            queue_datagrams: options.queue_datagrams,
            queue_bytes: options.queue_bytes,
            queue: VecDeque::new(),
            waiting: 0,
            waiting_bytes: 0,
            in_flight: 0,
            held: VecDeque::new(),
            receives: false,
            cancels_receive: false,
            is_paused: false,
            rests: false,
            closing: None,
            is_cut: false,
            is_marked: false,
        }
    }

    /// Whether `bytes` more in `datagrams` can be queued for `to`, and where that is in the words of
    /// the socket's family.
    pub(crate) fn admit(
        &self,
        to: Option<SocketAddr>,
        bytes: usize,
        datagrams: usize,
    ) -> Result<Option<SocketAddr>, UdpSendError> {
        if self.closing.is_some() {
            return Err(UdpSendError::Closing);
        }
        let limit = if self.is_v6 { BYTES_MAX_V6 } else { BYTES_MAX_V4 };
        if bytes > limit {
            return Err(UdpSendError::TooLong { bytes, limit });
        }
        let to = match to {
            None if self.peer.is_none() => return Err(UdpSendError::NotConnected),
            None => None,
            Some(to) => Some(self.in_family(to)?),
        };
        let is_full =
            self.waiting + datagrams > self.queue_datagrams || self.waiting_bytes + bytes > self.queue_bytes;
        if is_full {
            return Err(UdpSendError::Full { datagrams: self.waiting, bytes: self.waiting_bytes });
        }
        Ok(to)
    }

    /// Queues a datagram that was admitted.
    pub(crate) fn enqueue(&mut self, datagram: Box<Outgoing>) {
        self.waiting += datagram.count();
        self.waiting_bytes += datagram.len();
        self.queue.push_back(datagram);
    }

    /// Queues a datagram that was admitted together with the last one, if the two make a run.
    #[inline]
    pub(crate) fn coalesce(&mut self, to: Option<SocketAddr>, source: Option<IpAddr>, bytes: &[u8]) -> bool {
        if !self.coalesces || self.cuts_runs {
            return false;
        }
        let Some(last) = self.queue.back_mut() else { return false };
        if (last.to, last.source) != (to, source) || !last.append(bytes) {
            return false;
        }
        self.waiting += 1;
        self.waiting_bytes += bytes.len();
        true
    }

    /// A datagram is over, or was dropped.
    pub(crate) fn settle(&mut self, datagram: &Outgoing) {
        self.waiting -= datagram.count();
        self.waiting_bytes -= datagram.len();
    }

    /// Which address of ours to send from, for an answer to what came to `source`.
    pub(crate) fn answer_from(&self, source: Option<IpAddr>) -> Option<IpAddr> {
        source.filter(|_| self.is_wildcard)
    }

    /// How many more datagrams the kernel has dropped than when it last said so.
    pub(crate) fn newly_dropped(&mut self, drops: u32) -> u32 {
        // A count that was read earlier may be seen later.
        let more = drops.wrapping_sub(self.drops);
        if more as i32 <= 0 {
            return 0;
        }
        self.drops = drops;
        more
    }

    pub(crate) fn wants_receive(&self) -> bool {
        self.closing.is_none() && !self.is_paused && !self.rests
    }

    /// Whether everything is home, and everything was said.
    pub(crate) fn is_finished(&self) -> bool {
        self.closing.is_some()
            && self.queue.is_empty()
            && self.in_flight == 0
            && !self.receives
            && !self.cancels_receive
    }

    pub(crate) fn waiting(&self) -> (usize, usize) {
        (self.waiting, self.waiting_bytes)
    }

    fn in_family(&self, to: SocketAddr) -> Result<SocketAddr, UdpSendError> {
        match (to, self.is_v6) {
            (SocketAddr::V4(v4), true) => {
                Ok(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into())
            }
            (SocketAddr::V6(v6), false) => match v6.ip().to_ipv4_mapped() {
                Some(ip) => Ok((ip, v6.port()).into()),
                None => Err(UdpSendError::WrongFamily { to }),
            },
            _ => Ok(to),
        }
    }
}
