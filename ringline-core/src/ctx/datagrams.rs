//! Datagram sockets, as a callback sees them.

use super::{Ctx, Io};
use crate::buf::{Guard, Outgoing, SendGuard};
use crate::handler::EventHandler;
use crate::net::{BindError, BoundUdp, Datagram, ReplyTo, UdpOptions, any_for};
use crate::udp::{Row, UdpClosed, UdpId, UdpSendError, Undelivered};
use std::io;
use std::net::{IpAddr, SocketAddr};

impl<H: EventHandler> Ctx<'_, H> {
    /// Binds a datagram socket on this worker. Port 0 lets the kernel choose: see
    /// [`udp_local_addr`](Self::udp_local_addr). What it receives comes to
    /// [`on_datagram`](EventHandler::on_datagram), from the next turn on, and it lives until
    /// [`on_udp_close`](EventHandler::on_udp_close).
    ///
    /// Unlike other calls this one asks the kernel at once, which takes some microseconds. A worker
    /// may have 1024 datagram sockets. Each counts towards the process's limit of open files.
    ///
    /// # Errors
    ///
    /// [`BindError`] says what is wrong and what to do.
    pub fn bind_udp(&mut self, addr: SocketAddr, options: &UdpOptions) -> Result<UdpId, BindError> {
        self.io.bind_udp(addr, options)
    }

    /// Binds a datagram socket that is connected to `peer`, on an address and port that the kernel
    /// chooses. The same as [`bind_udp`](Self::bind_udp) with [`UdpOptions::connect`].
    ///
    /// # Errors
    ///
    /// As [`bind_udp`](Self::bind_udp).
    pub fn connect_udp(&mut self, peer: SocketAddr, options: &UdpOptions) -> Result<UdpId, BindError> {
        self.io.bind_udp(any_for(peer), &options.clone().connect(peer))
    }

    /// Closes a datagram socket: nothing more is received, what is queued goes out, and
    /// [`on_udp_close`](EventHandler::on_udp_close) follows. Does nothing if it is closing or gone.
    pub fn close_udp(&mut self, socket: UdpId) {
        self.io.close_udp(socket, UdpClosed::Closed);
    }

    /// Sends a copy of `bytes` as one datagram. What one turn's callbacks send leaves together, at the
    /// end of the turn.
    ///
    /// That it was accepted says that the kernel will be given it; whether it arrives nobody can say.
    /// If the kernel refuses it, [`on_udp_error`](EventHandler::on_udp_error) is told. Datagrams may
    /// overtake one another when the socket is full.
    ///
    /// # Errors
    ///
    /// [`UdpSendError`]; nothing was sent.
    pub fn send_to(&mut self, socket: UdpId, to: SocketAddr, bytes: &[u8]) -> Result<(), UdpSendError> {
        self.io.send_datagram(socket, Route::to(to), 0, bytes)
    }

    /// Sends a copy of `bytes` to the peer that the socket is connected to.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    pub fn send_datagram(&mut self, socket: UdpId, bytes: &[u8]) -> Result<(), UdpSendError> {
        self.io.send_datagram(socket, Route::default(), 0, bytes)
    }

    /// Answers a datagram that came to this socket: sends to where it came from, and from the address
    /// that it was sent to. `to` is the datagram, or what is left of one that is gone:
    /// [`Datagram::reply_to`].
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to).
    #[inline]
    pub fn reply(&mut self, socket: UdpId, to: impl Into<ReplyTo>, bytes: &[u8]) -> Result<(), UdpSendError> {
        self.io.send_datagram(socket, Route::from(to.into()), 0, bytes)
    }

    /// Sends a copy of `bytes` as a run of datagrams of `segment_bytes` each, the last of which may be
    /// shorter. The kernel cuts them apart (`UDP_SEGMENT`), which is much faster than as many sends. A
    /// run has 64 datagrams at most, and no more bytes than one datagram can have. Where the kernel
    /// cannot (before Linux 6.11 through devices that compute no checksums, and through `IPsec`), the
    /// datagrams are sent one by one.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to), and [`UdpSendError::BadSegments`].
    pub fn send_segments(
        &mut self,
        socket: UdpId,
        to: Option<SocketAddr>,
        segment_bytes: u16,
        bytes: &[u8],
    ) -> Result<(), UdpSendError> {
        self.io.send_run(socket, Route { to, answers: None }, segment_bytes, bytes)
    }

    /// Answers a datagram, or several that the kernel has put together, with a run of datagrams: as
    /// [`reply`](Self::reply), and in segments as [`send_segments`](Self::send_segments).
    ///
    /// # Errors
    ///
    /// As [`send_segments`](Self::send_segments).
    pub fn reply_segments(
        &mut self,
        socket: UdpId,
        to: impl Into<ReplyTo>,
        segment_bytes: u16,
        bytes: &[u8],
    ) -> Result<(), UdpSendError> {
        self.io.send_run(socket, Route::from(to.into()), segment_bytes, bytes)
    }

    /// Sends bytes as one datagram without copying them here; the kernel still does. The guard is
    /// dropped when it has. For a connected socket, `to` is `None`.
    ///
    /// # Errors
    ///
    /// As [`send_to`](Self::send_to). The guard comes back.
    pub fn send_guard_to<G: SendGuard>(
        &mut self,
        socket: UdpId,
        to: Option<SocketAddr>,
        guard: G,
    ) -> Result<(), Undelivered<G>> {
        match self.io.admit_datagram(socket, to, guard.bytes().len(), 1) {
            Ok(to) => {
                let mut datagram = self.io.udp.take_spare();
                datagram.to = to;
                datagram.lend(Guard::new(guard));
                self.io.enqueue_datagram(socket, datagram);
                Ok(())
            }
            Err(error) => Err(Undelivered { error, guard }),
        }
    }

    /// Stops presenting datagrams of this socket, and in time receiving them. What arrives before the
    /// kernel has been told is kept; then the kernel keeps what its buffer for the socket holds, and
    /// drops and counts the rest.
    pub fn pause_udp(&mut self, socket: UdpId) {
        self.io.pause_udp(socket, true);
    }

    /// Undoes [`pause_udp`](Self::pause_udp). What was kept is presented first.
    pub fn resume_udp(&mut self, socket: UdpId) {
        self.io.pause_udp(socket, false);
    }

    /// Makes a socket a member of a multicast group, on the network interface with this number, or on
    /// one that the kernel chooses if it is 0.
    ///
    /// # Errors
    ///
    /// What the kernel said; `NotFound` for a socket that is gone.
    pub fn join_multicast(&mut self, socket: UdpId, group: IpAddr, interface: u32) -> io::Result<()> {
        self.io.set_member(socket, group, interface, true)
    }

    /// Undoes [`join_multicast`](Self::join_multicast). Closing the socket does as well.
    ///
    /// # Errors
    ///
    /// What the kernel said; `NotFound` for a socket that is gone.
    pub fn leave_multicast(&mut self, socket: UdpId, group: IpAddr, interface: u32) -> io::Result<()> {
        self.io.set_member(socket, group, interface, false)
    }

    /// The address that a socket is bound to; `None` if it is gone.
    pub fn udp_local_addr(&self, socket: UdpId) -> Option<SocketAddr> {
        self.io.udp.get(socket).map(|row| row.socket.local_addr())
    }

    /// How many datagrams of a socket wait to be sent, and their bytes; `None` if it is gone.
    pub fn udp_pending(&self, socket: UdpId) -> Option<(usize, usize)> {
        self.io.udp.get(socket).map(Row::waiting)
    }

    /// The datagram sockets of this worker: first those of
    /// [`Server::bind_udp`](crate::Server::bind_udp), in their order.
    pub fn udp_sockets(&self) -> impl Iterator<Item = UdpId> {
        self.io.udp.ids()
    }
}

/// Where a datagram goes, and what it answers.
#[derive(Clone, Copy, Debug, Default)]
struct Route {
    to: Option<SocketAddr>,
    /// The address of ours that the question came to.
    answers: Option<IpAddr>,
}

impl From<ReplyTo> for Route {
    fn from(to: ReplyTo) -> Self {
        Self { to: Some(to.peer()), answers: to.source() }
    }
}

impl Route {
    fn to(to: SocketAddr) -> Self {
        Self { to: Some(to), answers: None }
    }
}

impl Io {
    fn bind_udp(&mut self, addr: SocketAddr, options: &UdpOptions) -> Result<UdpId, BindError> {
        if self.is_ending {
            return Err(BindError::ShuttingDown { addr });
        }
        let socket = self.udp.bind(addr, options)?;
        self.adopt_udp(socket, options)
    }

    /// Takes a socket over that was bound before.
    pub(crate) fn adopt_udp(
        &mut self,
        socket: Box<dyn BoundUdp>,
        options: &UdpOptions,
    ) -> Result<UdpId, BindError> {
        let id = self.udp.adopt(socket, options)?;
        self.shard.udp_sockets.add(1);
        Ok(id)
    }

    pub(crate) fn close_udp(&mut self, socket: UdpId, reason: UdpClosed) {
        if let Some(row) = self.udp.get_mut(socket)
            && row.closing.is_none()
        {
            row.closing = Some(reason);
            self.udp.mark(socket);
        }
    }

    /// Closes a socket without waiting for what is queued.
    pub(crate) fn cut_udp(&mut self, socket: UdpId, reason: UdpClosed) {
        let Some(row) = self.udp.get_mut(socket) else { return };
        if !std::mem::replace(&mut row.is_cut, true) {
            let (waiting, _) = row.waiting();
            if row.closing.is_none() || waiting > 0 {
                row.closing = Some(reason);
            }
            let dropped = self.udp.discard(socket, &mut self.pool);
            self.shard.udp_sends_dropped.add(dropped as u64);
            self.udp.mark(socket);
        }
    }

    #[inline]
    fn send_datagram(
        &mut self,
        socket: UdpId,
        route: Route,
        segment_bytes: u16,
        bytes: &[u8],
    ) -> Result<(), UdpSendError> {
        let count = if segment_bytes == 0 { 1 } else { bytes.len().div_ceil(segment_bytes.into()) };
        let to = self.admit_datagram(socket, route.to, bytes.len(), count)?;
        let Some(row) = self.udp.get_mut(socket) else { return Err(UdpSendError::Gone) };
        let source = row.answer_from(route.answers);
        if segment_bytes == 0 && row.coalesce(to, source, bytes) {
            return Ok(());
        }
        let mut datagram = self.udp.take_spare();
        datagram.to = to;
        datagram.source = source;
        datagram.segment_bytes = segment_bytes;
        let is_fresh = datagram.fill(bytes, &mut self.pool);
        self.shard.pool_waits.add(is_fresh.into());
        self.enqueue_datagram(socket, datagram);
        Ok(())
    }

    fn send_run(
        &mut self,
        socket: UdpId,
        route: Route,
        segment_bytes: u16,
        bytes: &[u8],
    ) -> Result<(), UdpSendError> {
        let segments = match segment_bytes {
            0 => 0,
            size => bytes.len().div_ceil(size.into()),
        };
        if !(1..=UdpSendError::SEGMENTS_MAX).contains(&segments) {
            return Err(UdpSendError::BadSegments { bytes: bytes.len(), segment_bytes, segments });
        }
        let segment_bytes = if segments == 1 { 0 } else { segment_bytes };
        self.send_datagram(socket, route, segment_bytes, bytes)
    }

    fn admit_datagram(
        &mut self,
        socket: UdpId,
        to: Option<SocketAddr>,
        bytes: usize,
        count: usize,
    ) -> Result<Option<SocketAddr>, UdpSendError> {
        let row = self.udp.get(socket).ok_or(UdpSendError::Gone)?;
        let admitted = row.admit(to, bytes, count);
        if let Err(UdpSendError::Full { .. }) = admitted {
            self.shard.udp_sends_dropped.add(count as u64);
        }
        admitted
    }

    fn enqueue_datagram(&mut self, socket: UdpId, datagram: Box<Outgoing>) {
        if let Some(row) = self.udp.get_mut(socket) {
            row.enqueue(datagram);
            self.udp.mark(socket);
        }
    }

    fn pause_udp(&mut self, socket: UdpId, is_paused: bool) {
        if let Some(row) = self.udp.get_mut(socket)
            && row.is_paused != is_paused
        {
            row.is_paused = is_paused;
            self.shard.udp_pauses.add(is_paused.into());
            self.udp.mark(socket);
        }
    }

    fn set_member(
        &mut self,
        socket: UdpId,
        group: IpAddr,
        interface: u32,
        is_member: bool,
    ) -> io::Result<()> {
        let row = self.udp.get(socket).ok_or(io::ErrorKind::NotFound)?;
        row.socket.set_member(group, interface, is_member)
    }
}

impl Io {
    /// Counts a datagram that is about to be presented, and what the kernel says it has dropped.
    #[inline]
    pub(crate) fn count_datagram<'a>(
        &mut self,
        socket: UdpId,
        datagram: Option<Datagram<'a>>,
    ) -> Option<Datagram<'a>> {
        let Some(datagram) = datagram else {
            self.shard.udp_discarded.increment();
            return None;
        };
        let shard = &self.shard;
        shard.udp_received.add(datagram.segments().count() as u64);
        shard.udp_bytes_received.add(datagram.data().len() as u64);
        shard.udp_truncated.add(datagram.is_truncated().into());
        if let Some(drops) = datagram.drops()
            && let Some(row) = self.udp.get_mut(socket)
        {
            shard.udp_dropped_by_kernel.add(row.newly_dropped(drops).into());
        }
        Some(datagram)
    }
}
