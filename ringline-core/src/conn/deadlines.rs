//! How long the stages of a connection may take.

use std::time::Duration;

/// How long the stages of a connection may take before it ends with
/// [`LimitExceeded`](crate::CloseReason::LimitExceeded).
///
/// By default, an unfinished message has 60 s to be finished ([`read`](Self::read)) and a peer 60 s to
/// take something of what waits for it ([`write_stall`](Self::write_stall)); nothing else is bounded.
/// A deadline that is not running costs nothing, and one that is costs neither a timer nor a reading
/// of the clock for each message. Deadlines have a resolution of a millisecond and are never early.
///
/// [`ConfigBuilder::deadlines`](crate::ConfigBuilder::deadlines) sets those of every connection, and
/// [`Ctx::set_deadlines`](crate::Ctx::set_deadlines) those of one. Each is 1 ms to 24 days, or `None`.
///
/// # Examples
///
/// ```
/// use ringline_core::Deadlines;
/// use std::time::Duration;
///
/// let deadlines = Deadlines::default()
///     .first_byte(Duration::from_secs(10))
///     .idle(Duration::from_secs(300))
///     .write_stall(None);
/// assert_ne!(deadlines, Deadlines::none());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    first_byte: Option<Duration>,
    idle: Option<Duration>,
    read: Option<Duration>,
    write_stall: Option<Duration>,
    drain: Option<Duration>,
}

impl Default for Deadlines {
    /// 60 s for `read` and for `write_stall`, and no other.
    fn default() -> Self {
        Self::none().read(DEFAULT).write_stall(DEFAULT)
    }
}

impl Deadlines {
    /// No deadline at all.
    #[must_use]
    pub const fn none() -> Self {
        Self { first_byte: None, idle: None, read: None, write_stall: None, drain: None }
    }

    /// From [`on_open`](crate::EventHandler::on_open) to the first received byte. It also runs while
    /// the handler has paused reading.
    #[must_use]
    pub fn first_byte(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.first_byte = after.into();
        self
    }

    /// For which no byte was received and none taken by the kernel, be reading paused or not.
    #[must_use]
    pub fn idle(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.idle = after.into();
        self
    }

    /// From the first unread byte of a message until the handler has consumed it: what a peer has
    /// that sends a message byte by byte.
    ///
    /// The time begins when bytes are left unread, begins anew when the handler consumes some and
    /// leaves others, because those belong to the next message, and ends when nothing is unread. It
    /// does not run while reading is paused or held back by the outbox, and not after the end of the
    /// peer's direction. A handler that is itself not ready for a message should pause reading.
    #[must_use]
    pub fn read(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.read = after.into();
        self
    }

    /// For which bytes wait in the outbox and the kernel takes none of them, because the peer does
    /// not read. While the connection closes,
    /// [`close_timeout`](crate::ConfigBuilder::close_timeout) takes its place.
    #[must_use]
    pub fn write_stall(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.write_stall = after.into();
        self
    }

    /// From the call of [`close`](crate::Ctx::close), or whatever else closes the connection in order,
    /// until everything sent is with the kernel, however steadily the peer reads.
    #[must_use]
    pub fn drain(mut self, after: impl Into<Option<Duration>>) -> Self {
        self.drain = after.into();
        self
    }

    /// Every deadline with the name of its setter, in the order of [`Deadline`].
    pub(crate) fn named(&self) -> [(&'static str, Option<Duration>); Deadline::COUNT] {
        [
            ("deadlines.first_byte", self.first_byte),
            ("deadlines.idle", self.idle),
            ("deadlines.read", self.read),
            ("deadlines.write_stall", self.write_stall),
            ("deadlines.drain", self.drain),
        ]
    }
}

/// Names one deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deadline {
    FirstByte,
    Idle,
    Read,
    WriteStall,
    Drain,
}

impl Deadline {
    pub(crate) const COUNT: usize = 5;
    pub(crate) const ALL: [Self; Self::COUNT] =
        [Self::FirstByte, Self::Idle, Self::Read, Self::WriteStall, Self::Drain];
    /// The bounds of each.
    pub(crate) const SHORTEST: Duration = Duration::from_millis(1);
    pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 24 * 60 * 60);
}

const DEFAULT: Duration = Duration::from_secs(60);
