//! What a server is allowed to use and how it behaves.
//!
//! A [`Config`] that has left this module was checked: each knob lies in its range, and low mark <
//! high mark <= outbox <= all outboxes of the worker. Everything built from one relies on that and
//! checks nothing again; it cannot change afterwards.

mod builder;
mod caps;
mod error;
mod handshakes;
mod mail;
mod udp;

pub use builder::ConfigBuilder;
pub use error::ConfigError;

use crate::conn::{Deadlines, Limits};
use std::fmt::{self, Display};
use std::time::Duration;

/// A checked configuration. [`Config::default`] is one; [`Config::builder`] makes others, and its
/// setters say what each knob means, costs and allows.
///
/// The text of a configuration is one line for a log, with each knob called by its setter's name.
///
/// # Examples
///
/// ```
/// use ringline_core::{Config, ConfigError};
///
/// # fn main() -> Result<(), ConfigError> {
/// let config = Config::builder().workers(4).connections_per_worker(1000).build()?;
/// assert!(config.to_string().starts_with("workers=4 pin=true connections_per_worker=1000 "));
///
/// let error = Config::builder().workers(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "workers is 0: choose a value from 1 to 1024");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    workers: Option<usize>,
    pin: bool,
    connections_per_worker: u32,
    inbox_bytes: usize,
    outbox_bytes: usize,
    outbox_high_bytes: usize,
    outbox_low_bytes: usize,
    worker_outbox_bytes: usize,
    hold_reads: bool,
    receive_buffers: u16,
    receive_buffer_bytes: u32,
    ring_entries: u32,
    stage_bytes: u32,
    zero_copy_threshold: usize,
    forward_hold_bytes: usize,
    accept_batch: u32,
    connect_timeout: Duration,
    close_timeout: Duration,
    linger: Duration,
    deadlines: Deadlines,
    tick_interval: Option<Duration>,
    panic_policy: PanicPolicy,
    raise_open_files: bool,
    connections_max: Option<usize>,
    connections_per_address: Option<u32>,
    mailbox_messages: usize,
    datagram_buffers: u16,
    datagram_bytes: u32,
    children_per_worker: u32,
    blocking_threads: usize,
    blocking_queue: usize,
    resolve_threads: usize,
    resolve_queue: usize,
    handshake_timeout: Duration,
    handshakes_per_worker: u32,
}

/// What a panic in a callback ends, besides the callback.
///
/// Either way the panic is counted and goes no further than its worker. A panic in
/// [`on_start`](crate::EventHandler::on_start) always keeps the server from starting, and a program
/// that is compiled with `panic = "abort"` always ends as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PanicPolicy {
    /// The connection that the callback was for, with
    /// [`HandlerPanicked`](crate::CloseReason::HandlerPanicked). A panic in a callback that is for
    /// no connection ends nothing more. The handler goes on with whatever state the panic left.
    #[default]
    CloseConnection,
    /// The worker: its connections are aborted, and the server's end is an error that names it.
    /// Other workers go on. For a handler whose connections share a state that a panic may leave
    /// half changed.
    StopWorker,
}

impl Default for Config {
    /// Every knob at the default that its setter documents.
    fn default() -> Self {
        Self {
            workers: None,
            pin: true,
            connections_per_worker: 16_384,
            inbox_bytes: 1 << 20,
            outbox_bytes: 4 << 20,
            outbox_high_bytes: 256 << 10,
            outbox_low_bytes: 64 << 10,
            worker_outbox_bytes: 256 << 20,
            hold_reads: true,
            receive_buffers: 32,
            receive_buffer_bytes: 64 << 10,
            ring_entries: 2048,
            stage_bytes: 128 << 10,
            zero_copy_threshold: 16 << 10,
            forward_hold_bytes: 256 << 10,
            accept_batch: 32,
            connect_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(30),
            linger: Duration::from_secs(2),
            deadlines: Deadlines::default(),
            tick_interval: None,
            panic_policy: PanicPolicy::CloseConnection,
            raise_open_files: true,
            connections_max: None,
            connections_per_address: None,
            mailbox_messages: 4096,
            datagram_buffers: 256,
            datagram_bytes: 65_535,
            children_per_worker: 256,
            blocking_threads: 4,
            blocking_queue: 1024,
            resolve_threads: 2,
            resolve_queue: 256,
            handshake_timeout: Duration::from_secs(10),
            handshakes_per_worker: 1024,
        }
    }
}

impl Config {
    /// Begins with every knob at its default.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// `None` stands for one for each physical core.
    pub(crate) fn workers(&self) -> Option<usize> {
        self.workers
    }

    pub(crate) fn pins(&self) -> bool {
        self.pin
    }

    pub(crate) fn connections_per_worker(&self) -> u32 {
        self.connections_per_worker
    }

    pub(crate) fn inbox_bytes(&self) -> usize {
        self.inbox_bytes
    }

    pub(crate) fn outbox_limits(&self) -> Limits {
        Limits { low: self.outbox_low_bytes, high: self.outbox_high_bytes, full: self.outbox_bytes }
    }

    pub(crate) fn worker_outbox_bytes(&self) -> usize {
        self.worker_outbox_bytes
    }

    pub(crate) fn holds_reads(&self) -> bool {
        self.hold_reads
    }

    pub(crate) fn receive_buffers(&self) -> u16 {
        self.receive_buffers
    }

    pub(crate) fn receive_buffer_bytes(&self) -> u32 {
        self.receive_buffer_bytes
    }

    pub(crate) fn ring_entries(&self) -> u32 {
        self.ring_entries
    }

    pub(crate) fn stage_bytes(&self) -> u32 {
        self.stage_bytes
    }

    pub(crate) fn zero_copy_threshold(&self) -> usize {
        self.zero_copy_threshold
    }

    pub(crate) fn forward_hold_bytes(&self) -> usize {
        self.forward_hold_bytes
    }

    pub(crate) fn accept_batch(&self) -> u32 {
        self.accept_batch
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    pub(crate) fn close_timeout(&self) -> Duration {
        self.close_timeout
    }

    pub(crate) fn linger(&self) -> Duration {
        self.linger
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    pub(crate) fn tick_interval(&self) -> Option<Duration> {
        self.tick_interval
    }

    pub(crate) fn panic_policy(&self) -> PanicPolicy {
        self.panic_policy
    }

    pub(crate) fn raises_open_files(&self) -> bool {
        self.raise_open_files
    }

    pub(crate) fn connections_max(&self) -> Option<usize> {
        self.connections_max
    }

    pub(crate) fn connections_per_address(&self) -> Option<u32> {
        self.connections_per_address
    }

    pub(crate) fn mailbox_messages(&self) -> usize {
        self.mailbox_messages
    }

    pub(crate) fn children_per_worker(&self) -> u32 {
        self.children_per_worker
    }

    pub(crate) fn blocking_threads(&self) -> usize {
        self.blocking_threads
    }

    pub(crate) fn blocking_queue(&self) -> usize {
        self.blocking_queue
    }

    pub(crate) fn resolve_threads(&self) -> usize {
        self.resolve_threads
    }

    pub(crate) fn resolve_queue(&self) -> usize {
        self.resolve_queue
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        self.handshake_timeout
    }

    pub(crate) fn handshakes_per_worker(&self) -> u32 {
        self.handshakes_per_worker
    }
}

impl Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Naming every field makes the compiler ask for one that is added later.
        let Self {
            workers,
            pin,
            connections_per_worker,
            inbox_bytes,
            outbox_bytes,
            outbox_high_bytes,
            outbox_low_bytes,
            worker_outbox_bytes,
            hold_reads,
            receive_buffers,
            receive_buffer_bytes,
            ring_entries,
            stage_bytes,
            zero_copy_threshold,
            forward_hold_bytes,
            accept_batch,
            connect_timeout,
            close_timeout,
            linger,
            deadlines,
            tick_interval,
            panic_policy,
            raise_open_files,
            connections_max,
            connections_per_address,
            mailbox_messages,
            datagram_buffers,
            datagram_bytes,
            children_per_worker,
            blocking_threads,
            blocking_queue,
            resolve_threads,
            resolve_queue,
            handshake_timeout,
            handshakes_per_worker,
        } = self;
        match workers {
            Some(workers) => write!(f, "workers={workers}"),
            None => write!(f, "workers=auto"),
        }?;
        write!(f, " pin={pin} connections_per_worker={connections_per_worker}")?;
        write!(f, " inbox_bytes={inbox_bytes} outbox_bytes={outbox_bytes}")?;
        write!(f, " outbox_high_bytes={outbox_high_bytes} outbox_low_bytes={outbox_low_bytes}")?;
        write!(f, " worker_outbox_bytes={worker_outbox_bytes} hold_reads={hold_reads}")?;
        write!(f, " receive_buffers={receive_buffers}")?;
        write!(f, " receive_buffer_bytes={receive_buffer_bytes} ring_entries={ring_entries}")?;
        write!(f, " stage_bytes={stage_bytes} zero_copy_threshold={zero_copy_threshold}")?;
        write!(f, " forward_hold_bytes={forward_hold_bytes} accept_batch={accept_batch}")?;
        write!(f, " connect_timeout={connect_timeout:?} close_timeout={close_timeout:?} linger={linger:?}")?;
        for (knob, after) in deadlines.named() {
            match after {
                Some(after) => write!(f, " {knob}={after:?}"),
                None => write!(f, " {knob}=none"),
            }?;
        }
        match tick_interval {
            Some(interval) => write!(f, " tick_interval={interval:?}"),
            None => write!(f, " tick_interval=none"),
        }?;
        write!(f, " panic_policy={panic_policy:?} raise_open_files={raise_open_files}")?;
        match connections_max {
            Some(connections) => write!(f, " connections_max={connections}"),
            None => write!(f, " connections_max=none"),
        }?;
        match connections_per_address {
            Some(connections) => write!(f, " connections_per_address={connections}"),
            None => write!(f, " connections_per_address=none"),
        }?;
        write!(f, " mailbox_messages={mailbox_messages}")?;
        write!(f, " datagram_buffers={datagram_buffers} datagram_bytes={datagram_bytes}")?;
        write!(f, " children_per_worker={children_per_worker} blocking_threads={blocking_threads}")?;
        write!(f, " blocking_queue={blocking_queue} resolve_threads={resolve_threads}")?;
        write!(f, " resolve_queue={resolve_queue}")?;
        write!(f, " handshake_timeout={handshake_timeout:?} handshakes_per_worker={handshakes_per_worker}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_is_what_it_is_documented_to_be() {
        let config = Config::builder().build().unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
        assert_eq!(
            config.to_string(),
            "workers=auto pin=true connections_per_worker=16384 inbox_bytes=1048576 \
             outbox_bytes=4194304 outbox_high_bytes=262144 outbox_low_bytes=65536 \
             worker_outbox_bytes=268435456 hold_reads=true receive_buffers=32 \
             receive_buffer_bytes=65536 ring_entries=2048 stage_bytes=131072 \
             zero_copy_threshold=16384 forward_hold_bytes=262144 accept_batch=32 \
             connect_timeout=10s close_timeout=30s linger=2s \
             deadlines.first_byte=none deadlines.idle=none \
             deadlines.read=60s deadlines.write_stall=60s deadlines.drain=none \
             tick_interval=none panic_policy=CloseConnection raise_open_files=true \
             connections_max=none connections_per_address=none mailbox_messages=4096 \
             datagram_buffers=256 datagram_bytes=65535 children_per_worker=256 \
             blocking_threads=4 blocking_queue=1024 resolve_threads=2 resolve_queue=256 \
             handshake_timeout=10s handshakes_per_worker=1024"
        );
    }

    #[test]
    fn every_setter_reaches_its_getter_and_the_text() {
        let config = Config::builder()
            .workers(3)
            .pin(false)
            .connections_per_worker(5)
            .inbox_bytes(6)
            .outbox_bytes(900)
            .outbox_high_bytes(800)
            .outbox_low_bytes(700)
            .worker_outbox_bytes(1000)
            .hold_reads(false)
            .receive_buffers(8)
            .receive_buffer_bytes(2048)
            .ring_entries(64)
            .stage_bytes(5000)
            .zero_copy_threshold(5001)
            .forward_hold_bytes(5002)
            .accept_batch(9)
            .connect_timeout(Duration::from_millis(10))
            .close_timeout(Duration::from_millis(11))
            .linger(Duration::from_nanos(12))
            .deadlines(Deadlines::none().idle(Duration::from_millis(14)))
            .tick_interval(Duration::from_millis(13))
            .panic_policy(PanicPolicy::StopWorker)
            .raise_open_files(false)
            .connections_max(15)
            .connections_per_address(14)
            .mailbox_messages(16)
            .children_per_worker(17)
            .blocking_threads(17)
            .blocking_queue(18)
            .resolve_threads(19)
            .resolve_queue(20)
            .handshake_timeout(Duration::from_millis(17))
            .handshakes_per_worker(18)
            .build()
            .unwrap();
        assert_eq!(
            config.to_string(),
            "workers=3 pin=false connections_per_worker=5 inbox_bytes=6 outbox_bytes=900 \
             outbox_high_bytes=800 outbox_low_bytes=700 worker_outbox_bytes=1000 \
             hold_reads=false receive_buffers=8 receive_buffer_bytes=2048 ring_entries=64 \
             stage_bytes=5000 zero_copy_threshold=5001 forward_hold_bytes=5002 accept_batch=9 \
             connect_timeout=10ms close_timeout=11ms linger=12ns deadlines.first_byte=none deadlines.idle=14ms \
             deadlines.read=none deadlines.write_stall=none deadlines.drain=none tick_interval=13ms \
             panic_policy=StopWorker raise_open_files=false connections_max=15 \
             connections_per_address=14 mailbox_messages=16 datagram_buffers=256 datagram_bytes=65535 \
             children_per_worker=17 blocking_threads=17 blocking_queue=18 resolve_threads=19 resolve_queue=20 \
             handshake_timeout=17ms handshakes_per_worker=18"
        );
        assert_eq!(config.workers(), Some(3));
        assert!(!config.pins() && !config.holds_reads() && !config.raises_open_files());
        assert_eq!((config.connections_per_worker(), config.accept_batch()), (5, 9));
        let Limits { low, high, full } = config.outbox_limits();
        assert_eq!((config.inbox_bytes(), low, high, full), (6, 700, 800, 900));
        assert_eq!(config.worker_outbox_bytes(), 1000);
        assert_eq!((config.receive_buffers(), config.receive_buffer_bytes()), (8, 2048));
        assert_eq!((config.ring_entries(), config.stage_bytes()), (64, 5000));
        assert_eq!((config.zero_copy_threshold(), config.forward_hold_bytes()), (5001, 5002));
        assert_eq!(
            (config.close_timeout(), config.linger()),
            (Duration::from_millis(11), Duration::from_nanos(12))
        );
        assert_eq!(config.tick_interval(), Some(Duration::from_millis(13)));
        assert_eq!(config.panic_policy(), PanicPolicy::StopWorker);
        assert_eq!((config.connections_max(), config.connections_per_address()), (Some(15), Some(14)));
        assert_eq!(config.children_per_worker(), 17);
    }
}
