//! The state of one connection: plain data, no I/O and no user code.

mod adoption;
mod close;
mod connect_failure;
mod deadlines;
mod dial;
mod id;
mod inbox;
mod layered;
pub(crate) mod machine;
mod obstacles;
mod outbox;
mod phase;
mod queue;
mod race;
mod receipts;
mod row;
mod send;
mod table;
mod timers;
pub(crate) mod tuning;
mod watch;

pub use adoption::{AdoptError, NotAdopted};
pub use close::{CloseReason, Initiator, Limit};
pub use connect_failure::ConnectFailure;
pub use deadlines::Deadlines;
pub use dial::{ConnectError, NotConnected, NotSecured, SecureError};
pub use id::ConnId;
pub use send::{Accepted, Pressure, Rejected, SendError, SendFailure, Sent};
pub use timers::TimerKey;

pub(crate) use deadlines::Deadline;
pub(crate) use inbox::Inbox;
pub(crate) use layered::{Belated, Layered, Scratch};
pub(crate) use machine::Event;
pub(crate) use obstacles::{Obstacle, Obstacles};
pub(crate) use outbox::Outbox;
pub(crate) use phase::{Phase, PhaseEvent};
pub(crate) use race::{Race, Races, by_turns};
pub(crate) use row::{Conn, WriteEnd};
pub(crate) use send::Limits;
pub(crate) use table::Table;
pub(crate) use timers::{Fired, Timers};
pub(crate) use tuning::Tuning;
pub(crate) use watch::Watch;
