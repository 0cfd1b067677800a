//! Completion entries into completions. The only maker of [`Final`].

use super::Uring;
use super::parcels::Note;
use super::ring::Cqe;
use super::staged::Settled;
use crate::buf::Lease;
use crate::net::{Credentials, Remote};
use crate::op::{Completion, Fd, Kind, Outcome, Tag, UserData};
use io_uring::cqueue;

/// Proof that an operation has completed for the last time, so that its memory is free.
#[derive(Debug)]
pub(super) struct Final(());

impl Uring {
    /// `None` for what concerns nobody but the backend.
    #[inline]
    pub(super) fn lift(&mut self, cqe: Cqe) -> Option<Completion> {
        let tag = UserData::from_bits(cqe.user_data).decode()?;
        let more = cqueue::more(cqe.flags);
        if tag.kind == Kind::Parcel {
            return self.lift_parcel(tag, cqe);
        }
        let proof = (!more).then_some(Final(()));
        if proof.is_some() {
            self.in_flight.end();
        }
        let outcome = match tag.kind {
            Kind::Recv => self.lift_recv(cqe),
            Kind::Peek if cqe.result == 0 => Outcome::EndOfStream,
            Kind::Accept => self.lift_accept(tag, cqe.result, proof?),
            Kind::Connect => {
                self.in_flight.drop_target(tag.row, proof?);
                done_or_failed(cqe.result)
            }
            Kind::SetOption => match self.in_flight.end_setting(tag.row, proof?) {
                Some(errno) => Outcome::Failed { errno },
                None => done_or_failed(cqe.result),
            },
            Kind::Wake => {
                self.is_wake_armed = more;
                Outcome::Done
            }
            Kind::Staged | Kind::Send | Kind::Parcel => unreachable!("these were set apart before"),
            Kind::UdpRecv | Kind::RecvStamped => self.lift_datagram(cqe),
            Kind::UdpSend => self.lift_datagram_sent(tag.row, cqe.result, proof?)?,
            Kind::Shutdown
            | Kind::Close
            | Kind::Reset
            | Kind::CancelRecv
            | Kind::CancelSend
            | Kind::CancelAccept
            | Kind::CancelConnect
            | Kind::CancelUdpRecv
            | Kind::CancelUdpSend
            | Kind::Orphan
            | Kind::Peek
            | Kind::Child
            | Kind::CancelChild => done_or_failed(cqe.result),
        };
        Some(Completion { tag, outcome, more })
    }

    /// What a receive that goes on has brought, if a completion is about that. One that ends, whatever it
    /// brings, has more to it.
    #[inline]
    pub(super) fn lift_received(&mut self, cqe: Cqe) -> Option<(Tag, Lease)> {
        let tag = UserData::from_bits(cqe.user_data).decode_as(Kind::Recv)?;
        let buffer = cqueue::buffer_select(cqe.flags)?;
        if !cqueue::more(cqe.flags) || cqe.result <= 0 {
            return None;
        }
        let is_done = !cqueue::buffer_more(cqe.flags);
        Some((tag, self.buffers.lease(buffer, cqe.result as u32, is_done)))
    }

    /// An entry of a send that waits.
    fn lift_parcel(&mut self, tag: Tag, cqe: Cqe) -> Option<Completion> {
        let Note { slot, tag, is_done, over, is_free } = self.parcels.note(tag, cqe)?;
        if is_done {
            self.in_flight.end();
        }
        let proof = is_free.then_some(Final(()));
        let parcel = proof.and_then(|proof| self.parcels.land(slot, proof));
        match (over, parcel) {
            (Some((bytes, errno)), parcel) => {
                let more = parcel.is_none();
                Some(Completion { tag, outcome: Outcome::Sent { bytes, errno, parcel }, more })
            }
            (None, Some(parcel)) => Some(Completion { tag, outcome: Outcome::Returned(parcel), more: false }),
            (None, None) => None,
        }
    }

    /// A send that did not wait and is over.
    #[inline]
    pub(super) fn lift_settled(&mut self) -> Option<Completion> {
        let Settled { user_data, bytes, errno, load } = self.staged.next()?;
        let Some(tag) = user_data.decode() else { unreachable!("the core encodes every tag") };
        // The kernel has consumed the entry, and there is nothing that such a send leaves behind.
        let parcel = load.and_then(|load| self.parcels.unload(load, Final(())));
        Some(Completion { tag, outcome: Outcome::Sent { bytes, errno, parcel }, more: false })
    }

    #[inline]
    fn lift_recv(&mut self, cqe: Cqe) -> Outcome {
        let buffer = cqueue::buffer_select(cqe.flags);
        let Ok(len) = u32::try_from(cqe.result) else {
            self.buffers.return_unused(buffer);
            return Outcome::Failed { errno: -cqe.result };
        };
        match buffer {
            Some(buffer) if len > 0 => {
                let is_done = !cqueue::buffer_more(cqe.flags);
                Outcome::Received(self.buffers.lease(buffer, len, is_done))
            }
            _ => {
                self.buffers.return_unused(buffer);
                Outcome::EndOfStream
            }
        }
    }

    fn lift_accept(&mut self, tag: Tag, result: i32, proof: Final) -> Outcome {
        let (addr, is_unix) = self.in_flight.reclaim_address(tag.row, proof).unwrap_or((None, false));
        let Ok(number) = u32::try_from(result) else { return Outcome::Failed { errno: -result } };
        let fd = if is_unix { Fd::plain(number) } else { Fd(number) };
        self.descriptors.opened(fd);
        let peer = match addr {
            Some(addr) if is_unix => self.credentials(fd).map(|who| Remote { addr, credentials: Some(who) }),
            addr => addr.map(|addr| Remote { addr, credentials: None }),
        };
        Outcome::Accepted { fd, peer: peer.map(Box::new) }
    }

    /// Who has connected to a Unix socket.
    fn credentials(&self, fd: Fd) -> Option<Credentials> {
        let (pid, uid, gid) = self.descriptors.peer_credentials(fd).ok()?;
        Some(Credentials::new(pid, uid, gid))
    }
}

fn done_or_failed(result: i32) -> Outcome {
    if result < 0 { Outcome::Failed { errno: -result } } else { Outcome::Done }
}

#[cfg(test)]
mod tests {
    use super::super::option_tests::Rig;
    use super::*;

    /// The flags of a receive into the first buffer: the kernel's `IORING_CQE_F_BUFFER`, `_MORE` and `_BUF_MORE`.
    const BUFFER: u32 = 1 << 0;
    const MORE: u32 = 1 << 1;
    const BUFFER_MORE: u32 = 1 << 4;

    #[test]
    fn only_a_receive_that_brings_bytes_and_goes_on_takes_the_short_way() {
        let mut rig = Rig::new(false);
        let mut lift = |kind, result, flags| {
            let user_data = UserData::new(kind, 3, 7).bits();
            rig.uring.lift_received(Cqe { user_data, result, flags })
        };
        let usual = BUFFER | MORE | BUFFER_MORE;
        let (tag, lease) = lift(Kind::Recv, 5, usual).expect("the usual case");
        assert_eq!((tag, lease.len), (Tag::new(Kind::Recv, 3, 7), 5));
        for (kind, result, flags) in [
            (Kind::Recv, 5, BUFFER | BUFFER_MORE),
            (Kind::Recv, 0, usual),
            (Kind::Recv, -libc::ENOBUFS, MORE),
            (Kind::Recv, -libc::ECANCELED, usual),
            (Kind::Recv, 5, MORE),
            (Kind::RecvStamped, 5, usual),
            (Kind::UdpRecv, 5, usual),
        ] {
            assert!(lift(kind, result, flags).is_none(), "{kind:?} {result} {flags:#x}");
        }
    }
}
