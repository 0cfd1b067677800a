//! Memory on its way in and out: received buffers on loan, bytes staged for this turn's sends, and
//! blocks for what has to wait.

mod block;
mod lease;
mod pool;
mod stage;

pub(crate) use block::Block;
pub(crate) use lease::Lease;
pub(crate) use pool::Pool;
pub(crate) use stage::{Span, Stage};
