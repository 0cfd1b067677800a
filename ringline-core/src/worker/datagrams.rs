//! Datagram sockets: what callbacks asked for becomes operations, and completions become callbacks.
//!
//! A socket has one live receive. It is armed again only in a turn of its own, when the buffers of the
//! last one are home, so that a kernel which has nothing to receive into is never asked in circles.

use super::Worker;
use crate::backend::{Backend, Full};
use crate::buf::{Lease, Outgoing};
use crate::conn::Fired;
use crate::handler::EventHandler;
use crate::op::{Kind, Op, Outcome, Tag, UserData};
use crate::udp::{IN_FLIGHT_MAX, UdpClosed, UdpError, UdpId};
use std::time::Duration;

/// How long a socket is left alone after an error that asking at once would only repeat.
const REST: Duration = Duration::from_millis(10);

/// The submission queue has no room.
struct OutOfRoom;

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Serves every socket that has something to be done.
    #[cold]
    pub(super) fn serve_udp(&mut self) {
        let empty = std::mem::take(&mut self.io.udp.spare_work);
        let mut work = std::mem::replace(&mut self.io.udp.work, empty);
        let mut done = 0;
        for &id in &work {
            if let Some(row) = self.io.udp.get_mut(id) {
                row.is_marked = false;
            }
            if self.serve_socket(id).is_err() {
                self.io.shard.submissions_full.increment();
                break;
            }
            done += 1;
        }
        if let Some((&failed, rest)) = work[done..].split_first() {
            self.io.udp.mark(failed);
            // Those that were not reached are still marked.
            self.io.udp.work.extend_from_slice(rest);
        }
        work.clear();
        self.io.udp.spare_work = work;
    }

    /// A completion for a datagram socket.
    pub(super) fn complete_udp(&mut self, tag: Tag, outcome: Outcome, more: bool) {
        match tag.kind {
            Kind::UdpRecv => self.udp_received(tag, outcome, more),
            Kind::UdpSend => self.udp_sent(tag, outcome),
            Kind::CancelUdpSend => self.udp_send_cancelled(tag, &outcome),
            _ => {
                if let Some((id, row)) = self.io.udp.find_mut(tag) {
                    row.cancels_receive = false;
                    self.io.udp.mark(id);
                }
            }
        }
    }

    /// A socket may be asked again.
    pub(super) fn udp_again(&mut self, id: UdpId) {
        if let Some(row) = self.io.udp.get_mut(id) {
            row.rests = false;
            self.io.udp.mark(id);
        }
    }

    /// Closes every socket; what is queued goes out.
    pub(super) fn close_all_udp(&mut self) {
        let all: Vec<_> = self.io.udp.ids().collect();
        for id in all {
            self.io.close_udp(id, UdpClosed::Shutdown);
        }
    }

    /// The time for that is over.
    pub(super) fn cut_all_udp(&mut self) {
        let all: Vec<_> = self.io.udp.ids().collect();
        for id in all {
            self.io.cut_udp(id, UdpClosed::ShutdownDeadline);
        }
    }

    fn serve_socket(&mut self, id: UdpId) -> Result<(), OutOfRoom> {
        self.deliver_held(id);
        self.flush_datagrams(id)?;
        self.flush_receive(id)?;
        if self.io.udp.get(id).is_some_and(|row| row.is_cut && row.in_flight > 0) {
            self.cancel_datagrams(id)?;
        }
        self.finish_socket(id);
        Ok(())
    }

    /// Presents what arrived while the handler wanted nothing.
    fn deliver_held(&mut self, id: UdpId) {
        loop {
            let Some(row) = self.io.udp.get_mut(id) else { return };
            if row.is_paused && row.closing.is_none() {
                return;
            }
            let Some(held) = row.held.pop_front() else { return };
            if row.closing.is_some() {
                self.io.shard.udp_discarded.increment();
                continue;
            }
            self.held_datagram_handler(id, &held);
        }
    }

    fn flush_datagrams(&mut self, id: UdpId) -> Result<(), OutOfRoom> {
        loop {
            let Some(row) = self.io.udp.get_mut(id) else { return Ok(()) };
            if row.in_flight >= IN_FLIGHT_MAX {
                // The first that comes home comes back here.
                return Ok(());
            }
            let fd = row.fd;
            let Some(datagram) = row.queue.pop_front() else { return Ok(()) };
            if row.cuts_runs && datagram.segment_bytes > 0 {
                self.cut_run(id, datagram);
                continue;
            }
            let Some(send) = self.io.udp.begin_send(id) else {
                unreachable!("there are rows for all that may be in flight");
            };
            let user_data = UserData::new(Kind::UdpSend, send.generation, send.row);
            let pushed = self.backend.push(user_data, Op::SendDatagram { fd, datagram }, &self.io.stage);
            let Some(row) = self.io.udp.get_mut(id) else { return Ok(()) };
            match pushed {
                Ok(()) => row.in_flight += 1,
                Err(Full(op)) => {
                    if let Op::SendDatagram { datagram, .. } = op {
                        row.queue.push_front(datagram);
                    }
                    self.io.udp.end_send(send);
                    return Err(OutOfRoom);
                }
            }
        }
    }

    fn cut_run(&mut self, id: UdpId, run: Box<Outgoing>) {
        let fresh = self.io.udp.cut_run(id, run, &mut self.io.pool);
        self.io.shard.pool_waits.add(fresh.into());
        self.io.shard.udp_runs_cut.increment();
        self.io.udp.mark(id);
    }

    fn flush_receive(&mut self, id: UdpId) -> Result<(), OutOfRoom> {
        let Some(row) = self.io.udp.get_mut(id) else { return Ok(()) };
        if row.cancels_receive || row.wants_receive() == row.receives {
            return Ok(());
        }
        let key = id.key();
        let target = UserData::new(Kind::UdpRecv, key.generation, key.row);
        if row.receives {
            let user_data = UserData::new(Kind::CancelUdpRecv, key.generation, key.row);
            let pushed = self.backend.push(user_data, Op::Cancel { target }, &self.io.stage);
            row.cancels_receive = pushed.is_ok();
            return pushed.map_err(|Full(_)| OutOfRoom);
        }
        if let Err(errno) = self.backend.prepare_datagrams() {
            self.io.cut_udp(id, UdpClosed::Failed { errno });
            return Ok(());
        }
        let pushed = self.backend.push(target, Op::RecvDatagrams { fd: row.fd }, &self.io.stage);
        row.receives = pushed.is_ok();
        pushed.map_err(|Full(_)| OutOfRoom)
    }

    /// Asks the kernel to let go of what it has not sent.
    fn cancel_datagrams(&mut self, id: UdpId) -> Result<(), OutOfRoom> {
        for send in self.io.udp.to_cancel(id) {
            let target = UserData::new(Kind::UdpSend, send.generation, send.row);
            let user_data = UserData::new(Kind::CancelUdpSend, send.generation, send.row);
            if self.backend.push(user_data, Op::Cancel { target }, &self.io.stage).is_err() {
                return Err(OutOfRoom);
            }
            if let Some(sending) = self.io.udp.send_mut(send) {
                sending.is_cancelled = true;
                sending.cancels = true;
            }
            if let Some(row) = self.io.udp.get_mut(id) {
                row.in_flight += 1;
            }
        }
        Ok(())
    }

    /// Ends a socket on which nothing is under way any more.
    fn finish_socket(&mut self, id: UdpId) {
        let Some(row) = self.io.udp.get_mut(id) else { return };
        let Some(reason) = row.closing.filter(|_| row.is_finished()) else { return };
        // The last datagrams to be dropped are followed by none that could say so.
        let drops = row.socket.drops();
        let dropped = row.newly_dropped(drops);
        self.io.shard.udp_dropped_by_kernel.add(dropped.into());
        drop(self.io.udp.remove(id));
        self.io.shard.udp_sockets.sub(1);
        self.udp_close_handler(id, reason);
    }

    fn udp_received(&mut self, tag: Tag, outcome: Outcome, more: bool) {
        let Some((id, row)) = self.io.udp.find_mut(tag) else {
            self.io.shard.completions_stale.increment();
            if let Outcome::Datagram(lease) = outcome {
                self.backend.release_datagram(lease);
            }
            return;
        };
        let is_failure = !matches!(outcome, Outcome::Datagram(_));
        if !more || is_failure {
            row.receives = false;
            self.io.udp.mark(id);
        }
        match outcome {
            Outcome::Datagram(lease) => self.take_datagram(id, lease),
            Outcome::Failed { errno } => self.receive_failed(id, errno),
            outcome => unreachable!("a receive of datagrams does not complete with {outcome:?}"),
        }
    }

    #[inline]
    fn take_datagram(&mut self, id: UdpId, lease: Lease) {
        let Some(row) = self.io.udp.get_mut(id) else { return self.backend.release_datagram(lease) };
        if row.closing.is_some() {
            self.io.shard.udp_discarded.increment();
        } else if row.is_paused || !row.held.is_empty() {
            row.held.push_back(self.backend.datagram(&lease).to_vec());
            self.io.udp.mark(id);
        } else {
            self.datagram_handler(id, &lease);
        }
        self.backend.release_datagram(lease);
    }

    #[cold]
    fn receive_failed(&mut self, id: UdpId, errno: i32) {
        match errno {
            libc::ENOBUFS => self.io.shard.udp_buffers_empty.increment(),
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
            // A socket that is none, or a kernel that cannot do this.
            libc::EBADF | libc::ENOTSOCK | libc::EINVAL | libc::EIO => {
                self.io.cut_udp(id, UdpClosed::Failed { errno });
            }
            // Each of them is taken from the socket by being reported.
            libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EHOSTDOWN
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EMSGSIZE => self.report_receive_error(id, errno),
            errno => {
                if let Some(row) = self.io.udp.get_mut(id) {
                    row.rests = true;
                    let deadline_ms = self.io.clock.deadline_ms(REST);
                    self.io.timers.arm(deadline_ms, Fired::UdpAgain(id));
                }
                self.report_receive_error(id, errno);
            }
        }
    }

    fn report_receive_error(&mut self, id: UdpId, errno: i32) {
        if self.io.udp.get(id).is_some_and(|row| row.closing.is_none()) {
            self.io.shard.udp_errors.increment();
            self.udp_error_handler(id, UdpError::Receive { errno });
        }
    }

    fn udp_sent(&mut self, tag: Tag, outcome: Outcome) {
        let Outcome::DatagramSent { errno, datagram } = outcome else {
            unreachable!("a send of a datagram does not complete with {outcome:?}");
        };
        let Some((send, sending)) = self.io.udp.find_send(tag) else {
            unreachable!("the row of a send is free only when it is over");
        };
        let socket = sending.socket;
        sending.is_over = true;
        if !sending.cancels {
            self.io.udp.end_send(send);
        }
        let (to, count, bytes) = (datagram.to, datagram.count(), datagram.len());
        if let Some(row) = self.io.udp.get_mut(socket) {
            row.in_flight -= 1;
            if errno == libc::EIO && datagram.segment_bytes > 0 && !row.is_cut {
                return self.cut_run(socket, datagram);
            }
            row.settle(&datagram);
            if row.closing.is_some() || !row.queue.is_empty() {
                self.io.udp.mark(socket);
            }
        }
        self.io.udp.put(datagram, &mut self.io.pool);
        let shard = &self.io.shard;
        if errno == 0 {
            shard.udp_sent.add(count as u64);
            shard.udp_bytes_sent.add(bytes as u64);
        } else if errno == libc::ECANCELED {
            shard.udp_sends_dropped.add(count as u64);
        } else {
            shard.udp_sends_failed.add(count as u64);
            self.udp_error_handler(socket, UdpError::Send { errno, to, datagrams: count });
        }
    }

    fn udp_send_cancelled(&mut self, tag: Tag, outcome: &Outcome) {
        let Some((send, sending)) = self.io.udp.find_send(tag) else {
            unreachable!("the row of a send is free only when its cancel is over, too");
        };
        let socket = sending.socket;
        sending.cancels = false;
        if sending.is_over {
            self.io.udp.end_send(send);
        } else if matches!(outcome, Outcome::Failed { errno: libc::ENOENT }) {
            // What was not found may be there all the same.
            sending.is_cancelled = false;
        }
        if let Some(row) = self.io.udp.get_mut(socket) {
            row.in_flight -= 1;
            self.io.udp.mark(socket);
        }
    }
}
