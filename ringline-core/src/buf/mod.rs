//! Memory on its way in and out: received buffers on loan, bytes staged for this turn's sends, and
//! pieces of all kinds for what has to wait or is not to be copied.

mod block;
mod guard;
mod lease;
mod outgoing;
mod parcel;
mod piece;
mod pool;
mod stage;

pub use guard::SendGuard;
pub use parcel::OnBreak;

pub(crate) use block::Block;
pub(crate) use guard::{Guard, drop_carefully};
pub(crate) use lease::Lease;
pub(crate) use outgoing::Outgoing;
pub(crate) use parcel::{ChainRules, LINKS_MAX, Link, PIECES_MAX, Parcel};
pub(crate) use piece::{Body, Piece, Unsent};
pub(crate) use pool::Pool;
pub(crate) use stage::{Span, Stage};
