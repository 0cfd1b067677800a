//! Setting a configuration up, and the only place that says whether it is valid.
//!
//! A setter takes any value. `build` checks each knob and every relation between knobs, so what it
//! hands out as a [`Config`] keeps all the limits that the setters document. Nothing is adjusted in
//! silence: a knob has the value that was set, or else its default.

use super::{Config, ConfigError, PanicPolicy, handshakes, mail, udp};
use crate::conn::{Deadline, Deadlines};
use std::time::Duration;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const GIB: u64 = 1024 * MIB;
const MILLISECOND: Duration = Duration::from_millis(1);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How much memory the receive buffers of one worker may have together.
pub(super) const RECEIVE_MEMORY_MAX: u64 = GIB;
/// What the kernel sends with the links that a chain may have, and with room to spare.
const SEND_BYTES_MAX: u64 = GIB;
/// As many connections as the most workers may have.
const CONNECTIONS_MAX: u64 = 1024 * 1_000_000;

/// Sets up a [`Config`]. Every knob has a default that suits a server of many small messages.
///
/// Sizes are in bytes, and what is said of a worker holds for each worker of the server. Limits
/// cost nothing before they are used: memory is taken when connections and bytes come.
///
/// # Examples
///
/// Few connections that carry large messages:
///
/// ```
/// use ringline_core::{Config, ConfigError};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), ConfigError> {
/// let config = Config::builder()
///     .workers(2)
///     .connections_per_worker(256)
///     .inbox_bytes(64 << 20)
///     .outbox_bytes(64 << 20)
///     .outbox_high_bytes(8 << 20)
///     .outbox_low_bytes(1 << 20)
///     .close_timeout(Duration::from_secs(5))
///     .build()?;
/// # let _ = config;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing before `build`"]
pub struct ConfigBuilder {
    /// Not checked yet; leaves the builder by way of `build` alone.
    pub(super) draft: Config,
}

impl ConfigBuilder {
    /// Checks every knob and every relation between knobs.
    ///
    /// # Errors
    ///
    /// The first fault found, with the knobs that it is about.
    pub fn build(self) -> Result<Config, ConfigError> {
        check_workers(&self.draft)?;
        check_outboxes(&self.draft)?;
        check_receiving(&self.draft)?;
        check_ring(&self.draft)?;
        check_times(&self.draft)?;
        check_caps(&self.draft)?;
        mail::check(&self.draft)?;
        udp::check(&self.draft)?;
        handshakes::check(&self.draft)?;
        Ok(self.draft)
    }

    /// How many workers there are, each with a thread, a ring and connections of its own: 1 to
    /// 1024. By default one for each physical core that the process may run on, counted at launch.
    ///
    /// An idle worker costs a few MiB of memory. Workers beyond the number of cores compete with
    /// one another and rarely help.
    pub fn workers(mut self, workers: usize) -> Self {
        self.draft.workers = Some(workers);
        self
    }

    /// Whether each worker's thread stays on one CPU. True by default.
    ///
    /// Pinned workers keep their caches warm, get a physical core each as long as there are
    /// enough, and share CPUs only if there are more workers than CPUs. The price is that a worker
    /// cannot move away from whatever else runs on its CPU, so turn this off on a machine that
    /// other busy programs or another pinned server use.
    pub fn pin(mut self, pin: bool) -> Self {
        self.draft.pin = pin;
        self
    }

    /// How many connections a worker serves at a time: 1 to `1_000_000`, by default `16_384`.
    ///
    /// A connection beyond that is closed as soon as it is accepted and counted as refused. The
    /// memory for a connection is taken when the first one comes that needs it and then kept for
    /// the next. The kernel sets a table of eight bytes for each possible connection aside, and
    /// allows no more of them than the process may have open files; see
    /// [`raise_open_files`](Self::raise_open_files).
    pub fn connections_per_worker(mut self, connections: u32) -> Self {
        self.draft.connections_per_worker = connections;
        self
    }

    /// How many received bytes of one connection the handler may leave unread: 1 byte to 1 GiB, by
    /// default 1 MiB.
    ///
    /// This is also the longest message that a handler can count on seeing in one piece. A
    /// connection of which more is left unread after
    /// [`on_data`](crate::EventHandler::on_data), or whose handler asks for more with
    /// [`need`](crate::Consumed::need), is ended with
    /// [`LimitExceeded`](crate::CloseReason::LimitExceeded). In the worst case every peer sends that
    /// much of an unfinished message, and a worker holds as much for each of its connections.
    pub fn inbox_bytes(mut self, bytes: usize) -> Self {
        self.draft.inbox_bytes = bytes;
        self
    }

    /// How many sent bytes of one connection may wait for the kernel to take them: 1 byte to
    /// 1 GiB, by default 4 MiB.
    ///
    /// A send that would exceed it is rejected with [`SendError::Full`](crate::SendError::Full), so
    /// this is also the largest single send. It must not exceed
    /// [`worker_outbox_bytes`](Self::worker_outbox_bytes). A peer that reads slowly can hold this
    /// much memory.
    pub fn outbox_bytes(mut self, bytes: usize) -> Self {
        self.draft.outbox_bytes = bytes;
        self
    }

    /// From how many waiting bytes on a connection's outbox counts as high: above
    /// [`outbox_low_bytes`](Self::outbox_low_bytes) and up to [`outbox_bytes`](Self::outbox_bytes),
    /// by default 256 KiB.
    ///
    /// Sends then report [`Pressure::High`](crate::Pressure::High), and reading may pause; see
    /// [`hold_reads`](Self::hold_reads). A higher mark costs memory for peers that read slowly; a
    /// lower one makes peers on long, fast paths wait for the handler.
    pub fn outbox_high_bytes(mut self, bytes: usize) -> Self {
        self.draft.outbox_high_bytes = bytes;
        self
    }

    /// Down to how many waiting bytes an outbox that was high has to fall before the handler is
    /// told with [`on_writable`](crate::EventHandler::on_writable): from 0 and below
    /// [`outbox_high_bytes`](Self::outbox_high_bytes), by default 64 KiB.
    ///
    /// Close to the high mark, a connection alternates between the two states for few bytes each;
    /// at 0, the outbox runs dry before the handler can go on.
    pub fn outbox_low_bytes(mut self, bytes: usize) -> Self {
        self.draft.outbox_low_bytes = bytes;
        self
    }

    /// How many bytes may wait in all outboxes of a worker together: from
    /// [`outbox_bytes`](Self::outbox_bytes) up without a bound, by default 256 MiB.
    ///
    /// A send that would exceed it is rejected with
    /// [`SendError::WorkerFull`](crate::SendError::WorkerFull), on whichever connection it is. This
    /// is what bounds the memory that many slow peers together can hold.
    pub fn worker_outbox_bytes(mut self, bytes: usize) -> Self {
        self.draft.worker_outbox_bytes = bytes;
        self
    }

    /// Whether reading from a connection pauses while its own outbox is high. True by default.
    ///
    /// A peer that asks without reading the answers is thus made to wait, and a handler that never
    /// looks at the pressure stays within bounds. Without it, such a handler runs into
    /// [`SendError::Full`](crate::SendError::Full) sooner or later. Turn it off for protocols in
    /// which the peer must be heard before it goes on reading.
    pub fn hold_reads(mut self, hold_reads: bool) -> Self {
        self.draft.hold_reads = hold_reads;
        self
    }

    /// How many receive buffers the connections of a worker share: a power of two from 2 to
    /// `32_768`, by default 32. See [`receive_buffer_bytes`](Self::receive_buffer_bytes).
    pub fn receive_buffers(mut self, buffers: u16) -> Self {
        self.draft.receive_buffers = buffers;
        self
    }

    /// The size of a receive buffer: 1 KiB to 16 MiB, by default 64 KiB.
    /// [`receive_buffers`](Self::receive_buffers) of this size may be 1 GiB together at most.
    ///
    /// From kernel 6.12 on, the kernel fills one buffer after the other with what arrives on any
    /// connection, so that only their total counts for much: it is what can arrive in one turn.
    /// Older kernels use up a buffer for each receive, however short; there the same total is cut
    /// into buffers of 16 KiB at most, of which there can be `32_768`.
    ///
    /// A handler that leaves nothing unread reads these buffers in place. When all are in use,
    /// connections wait for the next turn and `ringline/buffers/empty` counts it. Memory is taken
    /// as the kernel first fills it and then kept; more than the processor's cache holds makes
    /// reading it slower.
    pub fn receive_buffer_bytes(mut self, bytes: u32) -> Self {
        self.draft.receive_buffer_bytes = bytes;
        self
    }

    /// How many operations a worker may submit at once: a power of two from 64 to `32_768`, by
    /// default 2048. The queue of completions has room for four times as many, `65_536` at most.
    ///
    /// What does not fit waits for the next turn. Both queues together take 128 bytes for each
    /// entry, 256 KiB by default, which newer kernels count towards the memory that the user may
    /// lock (`RLIMIT_MEMLOCK`).
    pub fn ring_entries(mut self, entries: u32) -> Self {
        self.draft.ring_entries = entries;
        self
    }

    /// How many bytes of sends one turn may stage: 4 KiB to 64 MiB, by default 128 KiB.
    ///
    /// Staged sends of one connection leave as one operation, from memory that is used again in
    /// the next turn. What exceeds it is sent from blocks of at most 64 KiB, one operation for
    /// each. A worker has two stages of this size; a large stage that is really filled pushes
    /// other things out of the processor's cache.
    pub fn stage_bytes(mut self, bytes: u32) -> Self {
        self.draft.stage_bytes = bytes;
        self
    }

    /// From how many bytes on the bytes of a guard are sent from where they are, instead of being
    /// copied like any others: 1 byte to 1 GiB, by default 16 KiB.
    ///
    /// Sending without copying costs a second completion and keeps the memory until the peer has
    /// acknowledged it, so for few bytes the copy is cheaper. `bench/README.md` has figures.
    pub fn zero_copy_threshold(mut self, bytes: usize) -> Self {
        self.draft.zero_copy_threshold = bytes;
        self
    }

    /// How many bytes that were [forwarded](crate::Ctx::forward) may wait in receive buffers for one
    /// connection: 0 to 1 GiB, by default 256 KiB. What is beyond it is copied; with 0, everything is.
    ///
    /// All connections of a worker share the receive buffers. When fewer than half of them are left,
    /// everything is copied, whatever this knob says.
    pub fn forward_hold_bytes(mut self, bytes: usize) -> Self {
        self.draft.forward_hold_bytes = bytes;
        self
    }

    /// How many accepts a worker may have in flight for each listener: 1 to 1024, by default 32.
    ///
    /// A quiet listener has one. A burst of connections raises the number up to this, which takes
    /// fewer turns for the burst, and lets one worker take more of it before the others do.
    pub fn accept_batch(mut self, accepts: u32) -> Self {
        self.draft.accept_batch = accepts;
        self
    }

    /// How long a connection that the handler has [asked for](crate::Ctx::connect) may take to be made:
    /// 1 ms to a day, by default 10 s. Then it is given up with
    /// [`LimitExceeded`](crate::CloseReason::LimitExceeded).
    ///
    /// The kernel repeats a connect that is not answered for some two minutes before it gives up.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.draft.connect_timeout = timeout;
        self
    }

    /// How long a closing connection may make no progress before it is aborted with
    /// [`LimitExceeded`](crate::CloseReason::LimitExceeded): 1 ms to a day, by default 30 s.
    ///
    /// Progress is that the kernel takes bytes that still wait. A peer that has stopped reading
    /// holds a connection and its outbox for this long after the handler has closed it.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.draft.close_timeout = timeout;
        self
    }

    /// How long after the end of our direction the peer gets to end its own: 0 to a day, by default
    /// 2 s.
    ///
    /// Data that arrives meanwhile is dropped, and the connection still counts towards
    /// [`connections_per_worker`](Self::connections_per_worker). Zero closes as soon as the kernel
    /// has everything that was sent. Then unread input makes the kernel reset the connection, which
    /// can destroy data that the peer has not read yet.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.draft.linger = linger;
        self
    }

    /// How long the stages of each connection may take: see [`Deadlines`], which has 60 s for an
    /// unfinished message and for a peer that takes nothing by default. Each is 1 ms to 24 days.
    ///
    /// Without them, peers that send half a message or read nothing hold a connection for ever.
    pub fn deadlines(mut self, deadlines: Deadlines) -> Self {
        self.draft.deadlines = deadlines;
        self
    }

    /// After how long a turn takes place although nothing has happened, so that
    /// [`on_tick`](crate::EventHandler::on_tick) is called with
    /// [`interval`](crate::Tick::interval) set: from 1 ms up without a bound. By default `None`:
    /// turns take place only when there is something to do.
    ///
    /// Every interval wakes every worker up; without one, an idle worker sleeps.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringline_core::Config;
    /// use std::time::Duration;
    ///
    /// let builder = Config::builder().tick_interval(Duration::from_millis(100));
    /// assert!(builder.clone().build().is_ok());
    /// assert!(builder.tick_interval(None).build().is_ok());
    /// ```
    pub fn tick_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.draft.tick_interval = interval.into();
        self
    }

    /// What a panic in a callback ends. By default
    /// [`CloseConnection`](PanicPolicy::CloseConnection).
    pub fn panic_policy(mut self, policy: PanicPolicy) -> Self {
        self.draft.panic_policy = policy;
        self
    }

    /// Whether launching raises the process's soft limit on open files (`RLIMIT_NOFILE`) to the
    /// hard one if the connections need it. True by default.
    ///
    /// The limit is one of the whole process, and programs that it starts inherit it. Turn this off
    /// if any part of the process uses `select(2)`, which fails on descriptors from 1024 on. If the
    /// limit in force is too low in the end, launching fails with
    /// [`LaunchError::OpenFiles`](crate::LaunchError::OpenFiles).
    pub fn raise_open_files(mut self, raise: bool) -> Self {
        self.draft.raise_open_files = raise;
        self
    }
}

/// A number and the name of its setter, which are the same word by construction.
macro_rules! number {
    ($config:ident.$knob:ident) => {
        Number { knob: stringify!($knob), value: $config.$knob as u64 }
    };
}

/// A time and the name of its setter.
macro_rules! time {
    ($config:ident.$knob:ident) => {
        Time { knob: stringify!($knob), value: $config.$knob }
    };
}

fn check_workers(config: &Config) -> Result<(), ConfigError> {
    if let Some(workers) = config.workers {
        Number { knob: "workers", value: workers as u64 }.within(1, 1024)?;
    }
    number!(config.connections_per_worker).within(1, 1_000_000)?;
    number!(config.accept_batch).within(1, 1024)
}

fn check_outboxes(config: &Config) -> Result<(), ConfigError> {
    let full = number!(config.outbox_bytes);
    let high = number!(config.outbox_high_bytes);
    full.within(1, SEND_BYTES_MAX)?;
    number!(config.outbox_low_bytes).below(&high)?;
    high.at_most(&full)?;
    full.at_most(&number!(config.worker_outbox_bytes))
}

fn check_receiving(config: &Config) -> Result<(), ConfigError> {
    number!(config.inbox_bytes).within(1, GIB)?;
    let buffers = number!(config.receive_buffers);
    let bytes = number!(config.receive_buffer_bytes);
    buffers.within(2, 32_768)?;
    buffers.power_of_two()?;
    bytes.within(KIB, 16 * MIB)?;
    buffers.pieces_of(&bytes, RECEIVE_MEMORY_MAX)
}

fn check_ring(config: &Config) -> Result<(), ConfigError> {
    let entries = number!(config.ring_entries);
    entries.within(64, 32_768)?;
    entries.power_of_two()?;
    number!(config.stage_bytes).within(4 * KIB, 64 * MIB)?;
    number!(config.zero_copy_threshold).within(1, SEND_BYTES_MAX)?;
    number!(config.forward_hold_bytes).within(0, SEND_BYTES_MAX)
}

fn check_times(config: &Config) -> Result<(), ConfigError> {
    for timeout in [time!(config.connect_timeout), time!(config.close_timeout)] {
        timeout.at_least(MILLISECOND)?;
        timeout.at_most(DAY)?;
    }
    time!(config.linger).at_most(DAY)?;
    for (knob, after) in config.deadlines.named() {
        let Some(value) = after else { continue };
        let deadline = Time { knob, value };
        deadline.at_least(Deadline::SHORTEST)?;
        deadline.at_most(Deadline::LONGEST)?;
    }
    match config.tick_interval {
        Some(value) => Time { knob: "tick_interval", value }.at_least(MILLISECOND),
        None => Ok(()),
    }
}

fn check_caps(config: &Config) -> Result<(), ConfigError> {
    number!(config.children_per_worker).within(0, 65_536)?;
    let max = config.connections_max.map(|value| Number { knob: "connections_max", value: value as u64 });
    let per_address = config
        .connections_per_address
        .map(|value| Number { knob: "connections_per_address", value: value.into() });
    for cap in [&max, &per_address].into_iter().flatten() {
        cap.within(1, CONNECTIONS_MAX)?;
    }
    match (per_address, max) {
        (Some(per_address), Some(max)) => per_address.at_most(&max),
        _ => Ok(()),
    }
}

pub(super) struct Number {
    pub(super) knob: &'static str,
    pub(super) value: u64,
}

impl Number {
    pub(super) fn within(&self, min: u64, max: u64) -> Result<(), ConfigError> {
        let Self { knob, value } = *self;
        if (min..=max).contains(&value) {
            return Ok(());
        }
        Err(ConfigError::OutOfRange { knob, value, min, max })
    }

    /// For a value whose range begins and ends with a power of two, so that both neighbours lie in
    /// it.
    pub(super) fn power_of_two(&self) -> Result<(), ConfigError> {
        let Self { knob, value } = *self;
        if value.is_power_of_two() {
            return Ok(());
        }
        let above = value.next_power_of_two();
        Err(ConfigError::NotPowerOfTwo { knob, value, below: above / 2, above })
    }

    fn below(&self, upper: &Self) -> Result<(), ConfigError> {
        if self.value < upper.value {
            return Ok(());
        }
        Err(ConfigError::NotBelow {
            lower: self.knob,
            lower_value: self.value,
            upper: upper.knob,
            upper_value: upper.value,
        })
    }

    fn at_most(&self, upper: &Self) -> Result<(), ConfigError> {
        if self.value <= upper.value {
            return Ok(());
        }
        Err(ConfigError::Exceeds {
            lower: self.knob,
            lower_value: self.value,
            upper: upper.knob,
            upper_value: upper.value,
        })
    }

    pub(super) fn pieces_of(&self, piece: &Self, limit: u64) -> Result<(), ConfigError> {
        if self.value.saturating_mul(piece.value) <= limit {
            return Ok(());
        }
        Err(ConfigError::TooMuchMemory {
            count_knob: self.knob,
            count: self.value,
            bytes_knob: piece.knob,
            bytes: piece.value,
            limit,
        })
    }
}

struct Time {
    knob: &'static str,
    value: Duration,
}

impl Time {
    fn at_least(&self, min: Duration) -> Result<(), ConfigError> {
        let Self { knob, value } = *self;
        if value < min { Err(ConfigError::TooShort { knob, value, min }) } else { Ok(()) }
    }

    fn at_most(&self, max: Duration) -> Result<(), ConfigError> {
        let Self { knob, value } = *self;
        if value > max { Err(ConfigError::TooLong { knob, value, max }) } else { Ok(()) }
    }
}
