//! Where connections come from: listening sockets, the peers they bring, and the CPUs that serve
//! them.
//!
//! A listening socket is made once and shared by all workers; what is in here makes sockets and
//! reads facts, and no data ever passes through it.

mod admission;
mod listener;
mod peer;
pub(crate) mod topology;

pub(crate) use admission::{Admission, Refusal, Tickets};
pub use listener::{ListenError, ListenOptions};
pub(crate) use listener::{Listener, bind_first, resolve};
pub use peer::{ListenerId, Peer};
