//! io_uring as a backend.
//!
//! One `io_uring_enter` a turn submits, waits and carries the timeout. Staged sends are lowered so
//! that they complete during submission and post a completion only if they did not go out whole;
//! silence, once the kernel has consumed their entries, is their success (`staged`).

mod buf_ring;
mod datagrams;
mod descriptors;
mod error;
mod in_flight;
mod lift;
mod lower;
#[cfg(test)]
mod option_tests;
mod parcels;
#[cfg(test)]
mod peek_tests;
mod probe;
mod ring;
mod staged;

pub use error::RingError;
pub use probe::Capabilities;

use super::{Backend, Full, Wait};
use crate::buf::{Lease, Span, Stage};
use crate::config::Config;
use crate::net::{BindUdp, Dial, KernelSockets};
use crate::op::{Completion, Fd, Kind, Op, Tag, UserData};
use crate::sys::{Anchor, EventFd};
use buf_ring::BufRing;
use datagrams::Datagrams;
use descriptors::Descriptors;
use in_flight::InFlight;
use parcels::Parcels;
use ring::{Cqe, Ring};
use staged::StagedSends;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Descriptors beyond the connections themselves: accepted sockets on their way to being refused.
const SPARE_FILES: u32 = 64;
/// How long the teardown waits for operations to come home before it leaks their memory instead.
const TEARDOWN: Duration = Duration::from_secs(2);

const TEARDOWN_STEP: Duration = Duration::from_millis(10);

/// What a ring is built for.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Entries of the submission queue; the completion queue has four times as many.
    pub(crate) entries: u32,
    /// Rows of the table of descriptors.
    pub(crate) files: u32,
    pub(crate) buffers: u16,
    pub(crate) buffer_bytes: u32,
    /// How many buffers there are for datagrams, and the longest datagram that one holds.
    pub(crate) datagram_buffers: u16,
    pub(crate) datagram_bytes: u32,
    /// Use buffers that the kernel fills bit by bit, if it can.
    pub(crate) incremental: bool,
    /// Use descriptors of the ring's own, if closing them works as it should.
    pub(crate) direct: bool,
}

impl Setup {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            entries: config.ring_entries(),
            files: config.connections_per_worker() + SPARE_FILES,
            buffers: config.receive_buffers(),
            buffer_bytes: config.receive_buffer_bytes(),
            datagram_buffers: config.datagram_buffers(),
            datagram_bytes: config.datagram_bytes(),
            incremental: true,
            direct: true,
        }
    }

    /// What kernels before 6.12 have.
    pub(crate) fn as_on_old_kernels(config: &Config) -> Self {
        Self { incremental: false, direct: false, ..Self::new(config) }
    }
}

/// A ring with its receive buffers and what is in flight on it.
#[derive(Debug)]
pub(crate) struct Uring {
    ring: Ring,
    buffers: BufRing,
    descriptors: Descriptors,
    in_flight: InFlight,
    parcels: Parcels,
    datagrams: Datagrams,
    staged: StagedSends,
    /// Completions of the last enter, and how many of them were handed out.
    batch: Vec<Cqe>,
    taken: usize,
    wake: Arc<EventFd>,
    is_wake_armed: bool,
    /// Keeps the memory in place that staged sends name.
    stage: Option<Anchor>,
    overflows: u64,
    capabilities: Capabilities,
}

impl Uring {
    /// Sets a ring up on the thread that will use it. Signals on `wake` interrupt waiting.
    pub(crate) fn new(setup: &Setup, wake: Arc<EventFd>) -> Result<Self, RingError> {
        let (mut ring, no_sqarray) = Ring::new(setup.entries)?;
        // A filter may allow setting a ring up and refuse using it: better to hear of it now.
        ring.enter(Wait::No).map_err(|error| RingError::from_enter(&error))?;
        let descriptors = Descriptors::new(&mut ring, setup.files, setup.direct)?;
        let buffers = BufRing::new(&mut ring, setup)?;
        let capabilities = Capabilities {
            incremental_buffers: buffers.is_incremental(),
            direct_descriptors: descriptors.is_direct(),
            direct_submission: no_sqarray,
            zero_copy_reports: probe::zero_copy_reports(&mut ring),
        };
        let parcels = Parcels::new(capabilities.zero_copy_reports);
        Ok(Self {
            ring,
            buffers,
            descriptors,
            in_flight: InFlight::default(),
            parcels,
            datagrams: Datagrams::new(setup.datagram_buffers, setup.datagram_bytes),
            staged: StagedSends::default(),
            batch: Vec::new(),
            taken: 0,
            wake,
            is_wake_armed: false,
            stage: None,
            overflows: 0,
            capabilities,
        })
    }

    /// What this kernel offers and the ring uses.
    pub(crate) fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// Takes over what the completion queue holds, setting complaints of staged sends apart.
    fn reap(&mut self) {
        // Usually all of it; what is left was interrupted by a panic and comes first.
        self.batch.drain(..self.taken);
        self.taken = 0;
        let staged = &mut self.staged;
        let batch = &mut self.batch;
        self.ring.drain(|cqe| {
            if !staged.complain(cqe) {
                batch.push(cqe);
            }
        });
        if self.ring.has_overflowed() {
            // A complaint may be among what did not fit, so silence proves nothing yet.
            self.overflows += 1;
        } else {
            self.staged.settle(self.ring.consumed());
        }
        self.parcels.consumed(self.ring.consumed());
    }

    /// Asks everything to end and waits, for a bounded time, until it has.
    fn bring_home(&mut self) -> bool {
        let until = Instant::now() + TEARDOWN;
        let mut cancelled: Option<Instant> = None;
        while self.is_busy() && Instant::now() < until {
            // What was on its way somewhere else is found another time.
            if cancelled.is_none_or(|at| at.elapsed() >= TEARDOWN_STEP) {
                self.ring.cancel_all();
                cancelled = Some(Instant::now());
            }
            if self.ring.enter(Wait::For(TEARDOWN_STEP)).is_err() {
                return false;
            }
            self.reap();
            while self.next().is_some() {}
        }
        !self.is_busy()
    }

    /// Whether the kernel has, or is about to be given, anything of ours.
    fn is_busy(&self) -> bool {
        self.in_flight.live() > 0 || !self.staged.is_empty()
    }
}

impl Backend for Uring {
    fn socket(&mut self, dial: &Dial) -> Result<Fd, i32> {
        self.descriptors.dial(dial).map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    }

    fn adopt(&mut self, socket: OwnedFd) -> Fd {
        self.descriptors.adopt(socket)
    }

    #[inline]
    fn push(&mut self, user_data: UserData, op: Op, stage: &Stage) -> Result<(), Full> {
        // A chain goes in whole: its links must not be told apart.
        let has_room = match &op {
            Op::Send { parcel, waits: true, .. } => self.ring.room() >= parcel.links().len(),
            _ => !self.ring.is_full(),
        };
        if !has_room {
            return Err(Full(op));
        }
        self.lower(user_data, op, stage);
        Ok(())
    }

    #[inline]
    fn push_send_now(&mut self, user_data: UserData, fd: Fd, span: Span, stage: &Stage) -> bool {
        let has_room = !self.ring.is_full();
        if has_room {
            self.lower_send_now(user_data, fd, span, stage);
        }
        has_room
    }

    #[inline]
    fn enter(&mut self, _: &Stage, wait: Wait) -> io::Result<()> {
        self.arm_wake();
        self.buffers.publish();
        // What the queue had no room for, and what overflowed, must not wait for something else.
        let wait = if self.staged.is_unsettled(self.ring.consumed()) { Wait::No } else { wait };
        self.ring.enter(wait)?;
        self.reap();
        Ok(())
    }

    #[inline]
    fn next_sent(&mut self) -> Option<(Tag, usize)> {
        self.staged.next_whole()
    }

    #[inline]
    fn next_received(&mut self) -> Option<(Tag, Lease)> {
        if self.staged.has_settled() {
            return None;
        }
        let cqe = *self.batch.get(self.taken)?;
        // Taken before it is looked at: should that panic, it is not looked at again.
        self.taken += 1;
        let received = self.lift_received(cqe);
        if received.is_none() {
            self.taken -= 1;
        }
        received
    }

    #[inline]
    fn next(&mut self) -> Option<Completion> {
        if let Some(completion) = self.lift_settled() {
            return Some(completion);
        }
        while let Some(&cqe) = self.batch.get(self.taken) {
            self.taken += 1;
            if let Some(completion) = self.lift(cqe) {
                return Some(completion);
            }
        }
        None
    }

    #[inline]
    fn received(&self, lease: &Lease) -> &[u8] {
        self.buffers.bytes(lease)
    }

    #[inline]
    fn received_mut(&mut self, lease: &mut Lease) -> &mut [u8] {
        self.buffers.bytes_mut(lease)
    }

    fn share(&mut self, part: &Lease) {
        self.buffers.share(part);
    }

    #[inline]
    fn has_spare_buffers(&self) -> bool {
        self.buffers.has_spare()
    }

    #[inline]
    fn buffers_held(&self) -> usize {
        self.buffers.held()
    }

    #[inline]
    fn has_silent(&self) -> bool {
        !self.staged.is_empty()
    }

    #[inline]
    fn release(&mut self, lease: Lease) {
        self.buffers.release(lease);
    }

    #[inline]
    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn udp_maker(&self) -> Box<dyn BindUdp> {
        Box::new(KernelSockets)
    }

    fn prepare_datagrams(&mut self) -> Result<(), i32> {
        self.make_datagram_buffers()
    }

    #[inline]
    fn datagram(&self, lease: &Lease) -> &[u8] {
        self.datagrams.bytes(lease)
    }

    #[inline]
    fn release_datagram(&mut self, lease: Lease) {
        self.datagrams.release(lease);
    }
}

impl Uring {
    /// Without this the worker would be deaf to other threads, so it is tried again every turn.
    #[inline]
    fn arm_wake(&mut self) {
        if !self.is_wake_armed && !self.ring.is_full() {
            self.lower_wake();
            self.is_wake_armed = true;
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // Join, take the buffers from the kernel, free them: the kernel never finds freed memory. What
        // does not come home is not freed at all, so the order of what follows does not matter.
        if self.bring_home() {
            self.buffers.unregister(&self.ring);
            self.datagrams.unregister(&self.ring);
        } else {
            log::error!("{} operations did not end in time; their memory is leaked", self.in_flight.live());
        }
    }
}

impl Kind {
    /// The bits under which the backend watches its wake-up.
    const WAKE: UserData = UserData::new(Self::Wake, 0, 0);
}
