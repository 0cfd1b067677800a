//! What a simulated kernel does to a server, and how often.
//!
//! Every fault here is something that a real kernel, or a real network, does. None of them excuses a
//! server that loses bytes, forgets a callback or leaks; those that break a connection say so.

use super::random::Random;
use std::fmt;

/// Something unpleasant that a kernel may do at any time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// A send takes only the first part of its bytes at once.
    ShortSend,
    /// A send that does not wait takes nothing (`EAGAIN`, now and then `ENOBUFS`), although there is
    /// room.
    RefusedSend,
    /// A send that waits for room fails with `EPIPE`, `ECONNRESET` or `ETIMEDOUT`, and the connection
    /// is lost; or with `ENOBUFS`, and it is not. Breaks the connection.
    FailedSend,
    /// A send that waits for room comes back when part of it has left.
    ShortWaitingSend,
    /// A receive brings fewer bytes than have arrived: at most
    /// [`short_receive_bytes`](Faults::short_receive_bytes).
    ShortReceive,
    /// A receive ends with `ENOBUFS` although there are buffers.
    NoBuffers,
    /// The rest of a receive buffer serves the next receive, of whichever connection, instead of
    /// being left unused.
    SharedBuffer,
    /// A receive that stays armed ends behind some bytes for no reason.
    ArmEnds,
    /// A receive ends with `ECANCELED` although nobody cancelled it.
    ReceiveCancelled,
    /// A receive that ends with `ECANCELED` claims to live on.
    CancelledWithMore,
    /// A receive forgets a reset, or the end of a Unix socket, that is there when it has for the first time
    /// brought everything that has come.
    EndForgotten,
    /// The network loses a connection: both sides see a reset. Drawn once per turn. Breaks the
    /// connection.
    ConnectionReset,
    /// A reset also discards what had arrived before it and was not received yet.
    ResetDiscards,
    /// The submission queue is full before its time.
    QueueFull,
    /// The kernel leaves the newest operations in the submission queue for another turn.
    LeftInQueue,
    /// An operation or its completion is held back for up to
    /// [`late_turns_max`](Faults::late_turns_max) turns.
    Late,
    /// A completion overtakes those of other operations.
    Overtaking,
    /// No completion at all is reported this turn; they come together later.
    HeldBatch,
    /// Waiting ends early, with nothing to report.
    EarlyReturn,
    /// A cancel fails with `ENOENT` or `EALREADY`, and its target ends in its own way a little later.
    CancelMisses,
    /// A cancel completes before its target.
    CancelFirst,
    /// An accept fails with `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, `EINTR`, `ECONNABORTED` or
    /// `ECANCELED`. The client stays in the backlog unless it has reset its connection.
    AcceptFails,
    /// An accepted connection has no address that could be understood. Breaks the connection.
    NoAddress,
    /// Ending the sending direction fails with `ENOTCONN`, and nothing was ended. Breaks the
    /// connection.
    ShutdownFails,
    /// A close reports `EIO`; the descriptor is gone all the same.
    CloseFails,
    /// A close takes ten times as long as other operations that are held back.
    LateClose,
    /// A zero-copy send fails with `EOPNOTSUPP`, `ENOBUFS` or `ENOMEM` and has sent nothing.
    NoZeroCopy,
    /// A zero-copy send needs no notification: its memory comes back with its result.
    NoNotice,
    /// The notification of a zero-copy send is held back for some turns although the peer has read
    /// everything. It always comes when the connection is dead.
    LateNotice,
    /// A notification says that the bytes had to be copied after all.
    CopiedAnyway,
    /// A socket cannot be made (`EMFILE`). Breaks the connection, as do the next three.
    NoSocket,
    /// Nobody listens where a connect goes to (`ECONNREFUSED`).
    ConnectRefused,
    /// There is no way to where a connect goes to (`EHOSTUNREACH`).
    ConnectUnreachable,
    /// A connect is not answered; after two minutes it fails with `ETIMEDOUT`.
    ConnectUnanswered,
    /// The local address of a connection is in use or not there (`EADDRINUSE`, `EADDRNOTAVAIL`). Breaks the
    /// connection.
    BindFails,
    /// An option is refused (`EPERM`, `ENOPROTOOPT`, `ENOBUFS`). One of a connection that is yet to be made
    /// breaks it.
    OptionRefused,
    /// The network loses a datagram.
    DatagramLost,
    /// The network delivers a datagram twice.
    DatagramDoubled,
    /// A datagram arrives before others that were sent earlier.
    DatagramOvertakes,
    /// Sending a datagram fails with `EPERM`, `ENETUNREACH`, `EMSGSIZE`, `ENOBUFS` or `ENOMEM`.
    DatagramFails,
    /// The kernel cannot cut a run of datagrams apart for the device (`EIO`).
    RunRefused,
    /// Watching a descriptor fails, with `ENOMEM`, or with `ECANCELED` although nobody cancelled it.
    PollFails,
    /// A descriptor is reported although there is nothing to be had from it.
    PollEarly,
}

impl Fault {
    /// Every fault there is.
    pub const ALL: &'static [Self] = &[
        Self::ShortSend,
        Self::RefusedSend,
        Self::FailedSend,
        Self::ShortWaitingSend,
        Self::ShortReceive,
        Self::NoBuffers,
        Self::SharedBuffer,
        Self::ArmEnds,
        Self::ReceiveCancelled,
        Self::CancelledWithMore,
        Self::EndForgotten,
        Self::ConnectionReset,
        Self::ResetDiscards,
        Self::QueueFull,
        Self::LeftInQueue,
        Self::Late,
        Self::Overtaking,
        Self::HeldBatch,
        Self::EarlyReturn,
        Self::CancelMisses,
        Self::CancelFirst,
        Self::AcceptFails,
        Self::NoAddress,
        Self::ShutdownFails,
        Self::CloseFails,
        Self::LateClose,
        Self::NoZeroCopy,
        Self::NoNotice,
        Self::LateNotice,
        Self::CopiedAnyway,
        Self::NoSocket,
        Self::ConnectRefused,
        Self::ConnectUnreachable,
        Self::ConnectUnanswered,
        Self::BindFails,
        Self::OptionRefused,
        Self::DatagramLost,
        Self::DatagramDoubled,
        Self::DatagramOvertakes,
        Self::DatagramFails,
        Self::RunRefused,
        Self::PollFails,
        Self::PollEarly,
    ];

    /// Whether this fault may cost a connection, so that a test cannot expect all of its bytes.
    #[must_use]
    pub const fn breaks_connections(self) -> bool {
        matches!(
            self,
            Self::FailedSend
                | Self::ConnectionReset
                | Self::NoAddress
                | Self::ShutdownFails
                | Self::NoSocket
                | Self::ConnectRefused
                | Self::ConnectUnreachable
                | Self::ConnectUnanswered
                | Self::BindFails
        )
    }
}

/// How often each [`Fault`] strikes, and how small the simulated kernel is.
///
/// # Examples
///
/// ```
/// use ringline_core::testing::{Fault, Faults};
///
/// let mut faults = Faults::none().with(Fault::ShortSend, 300).with(Fault::Late, 50);
/// faults.send_buffer_bytes = 512;
/// assert_eq!(faults.per_mille(Fault::ShortSend), 300);
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    per_mille: [u16; Fault::ALL.len()],
    /// What a socket takes from the server before its peer has to read.
    pub send_buffer_bytes: u32,
    /// What a socket takes from its peer before the server has to receive.
    pub receive_window_bytes: u32,
    /// How many receive buffers all connections share.
    pub receive_buffers: u16,
    /// The size of each of them.
    pub receive_buffer_bytes: u32,
    /// The longest datagram that a buffer holds.
    pub datagram_bytes: u32,
    /// The most that a receive brings when [`Fault::ShortReceive`] strikes.
    pub short_receive_bytes: u32,
    /// The size of the submission queue.
    pub submission_entries: u32,
    /// The size of the completion queue. A completion that finds it full is an overflow, and a
    /// receive whose completion it is ends.
    pub completion_entries: u32,
    /// How many sockets can be open; one more is an accept that fails with `EMFILE`.
    pub descriptors: u32,
    /// For how many turns something late is held back at most.
    pub late_turns_max: u32,
    /// How much of the simulated time a turn takes at most, besides waiting.
    pub turn_us_max: u32,
}

impl Faults {
    /// A kernel with ample memory that does everything at once and in order.
    #[must_use]
    pub const fn none() -> Self {
        Self {
            per_mille: [0; Fault::ALL.len()],
            send_buffer_bytes: 64 * 1024,
            receive_window_bytes: 64 * 1024,
            receive_buffers: 64,
            receive_buffer_bytes: 4096,
            datagram_bytes: 65_535,
            short_receive_bytes: 16,
            submission_entries: 256,
            completion_entries: 4096,
            descriptors: 1 << 16,
            late_turns_max: 4,
            turn_us_max: 0,
        }
    }

    /// Every fault at once, often, on a kernel that is short of everything.
    #[must_use]
    pub fn hostile() -> Self {
        let mut faults = Self::none();
        for &fault in Fault::ALL {
            faults = faults.with(fault, if fault.breaks_connections() { 5 } else { 150 });
        }
        Self {
            send_buffer_bytes: 700,
            receive_window_bytes: 900,
            receive_buffers: 3,
            receive_buffer_bytes: 256,
            short_receive_bytes: 7,
            submission_entries: 4,
            completion_entries: 6,
            descriptors: 8,
            late_turns_max: 6,
            turn_us_max: 300,
            ..faults.with(Fault::SharedBuffer, 700).with(Fault::Overtaking, 500)
        }
    }

    /// A mix that `seed` decides: about half of the faults are off, the others strike rarely or
    /// often, and every size is drawn anew. One seed in sixteen has no faults at all, only sizes.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut random = Random::new(seed ^ MIX_SALT);
        let mut faults = Self::none();
        let is_calm = random.below(16) == 0;
        for &fault in Fault::ALL {
            let often: &[u16] = match fault {
                Fault::SharedBuffer | Fault::Overtaking => &[0, 300, 1000],
                _ if is_calm => &[0],
                // Few connections have a local address that was asked for.
                Fault::BindFails => &[0, 0, 0, 20, 100],
                fault if fault.breaks_connections() => &[0, 0, 1, 5, 20],
                _ => &[0, 0, 0, 0, 3, 20, 100, 300],
            };
            faults = faults.with(fault, random.pick(often));
        }
        Self {
            send_buffer_bytes: random.pick(&[128, 700, 4096, 16 * 1024, 64 * 1024]),
            receive_window_bytes: random.pick(&[128, 900, 4096, 64 * 1024]),
            receive_buffers: random.pick(&[1, 2, 3, 8, 32]),
            receive_buffer_bytes: random.pick(&[64, 256, 1000, 4096, 16 * 1024]),
            short_receive_bytes: random.pick(&[1, 7, 64, 1000]),
            submission_entries: random.pick(&[2, 4, 16, 64, 256]),
            completion_entries: random.pick(&[4, 8, 32, 4096]),
            descriptors: random.pick(&[4, 16, 1 << 16]),
            late_turns_max: random.pick(&[1, 2, 6, 20]),
            turn_us_max: random.pick(&[0, 0, 100, 3000]),
            datagram_bytes: random.pick(&[2048, 65_535]),
            ..faults
        }
    }

    /// The same with `fault` striking `per_mille` times in a thousand. A thousand means always, and
    /// a kernel that always refuses gets nowhere.
    ///
    /// # Panics
    ///
    /// If `per_mille` is above a thousand.
    #[must_use]
    pub const fn with(mut self, fault: Fault, per_mille: u16) -> Self {
        assert!(per_mille <= 1000, "nothing happens more than a thousand times in a thousand");
        self.per_mille[fault as usize] = per_mille;
        self
    }

    /// How many times in a thousand `fault` strikes.
    #[must_use]
    pub const fn per_mille(&self, fault: Fault) -> u16 {
        self.per_mille[fault as usize]
    }
}

/// Keeps the mix of a seed apart from what a kernel with the same seed does with it.
const MIX_SALT: u64 = 0x5EED_0F00_F411_7500;

impl fmt::Debug for Faults {
    /// Names the faults that are on, so that a failing seed explains itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = f.debug_struct("Faults");
        for (fault, per_mille) in Fault::ALL.iter().zip(self.per_mille) {
            if per_mille > 0 {
                fields.field(&format!("{fault:?}"), &per_mille);
            }
        }
        fields
            .field("send_buffer_bytes", &self.send_buffer_bytes)
            .field("receive_window_bytes", &self.receive_window_bytes)
            .field("receive_buffers", &self.receive_buffers)
            .field("receive_buffer_bytes", &self.receive_buffer_bytes)
            .field("datagram_bytes", &self.datagram_bytes)
            .field("short_receive_bytes", &self.short_receive_bytes)
            .field("submission_entries", &self.submission_entries)
            .field("completion_entries", &self.completion_entries)
            .field("descriptors", &self.descriptors)
            .field("late_turns_max", &self.late_turns_max)
            .field("turn_us_max", &self.turn_us_max)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_numbered_as_listed() {
        for (at, &fault) in Fault::ALL.iter().enumerate() {
            assert_eq!(fault as usize, at);
        }
    }

    #[test]
    fn the_three_mixes_are_what_they_say() {
        assert!(Fault::ALL.iter().all(|&fault| Faults::none().per_mille(fault) == 0));
        assert!(Fault::ALL.iter().all(|&fault| Faults::hostile().per_mille(fault) > 0));
        assert_eq!(Faults::random(3), Faults::random(3));
        for &fault in Fault::ALL {
            let on = (0..200).filter(|&seed| Faults::random(seed).per_mille(fault) > 0).count();
            assert!((20..190).contains(&on), "{fault:?} is on for {on} of 200 seeds");
        }
    }

    #[test]
    fn what_is_off_is_not_printed() {
        let printed = format!("{:?}", Faults::none().with(Fault::Late, 12));
        assert!(printed.starts_with("Faults { Late: 12, send_buffer_bytes: "), "{printed}");
    }

    #[test]
    #[should_panic(expected = "more than a thousand times in a thousand")]
    fn a_chance_above_certainty_is_refused() {
        let _ = Faults::none().with(Fault::Late, 1001);
    }
}
