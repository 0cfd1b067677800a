//! Where connections come from: listening sockets, the peers they bring, and the CPUs that serve
//! them.
//!
//! A listening socket is made once and shared by all workers; what is in here makes sockets and
//! reads facts, and no data ever passes through it.

mod admission;
pub(crate) mod arrival;
mod bind_error;
mod datagram;
mod listener;
mod peer;
pub(crate) mod topology;
mod udp;
mod udp_options;

pub(crate) use admission::{Admission, Refusal, Tickets};
pub use bind_error::BindError;
pub use datagram::{Datagram, Segments};
pub use listener::{ListenError, ListenOptions};
pub(crate) use listener::{Listener, bind_first, resolve};
pub use peer::{ListenerId, Peer};
pub(crate) use udp::{BindUdp, BoundUdp, KernelSocket, KernelSockets, any_for};
pub use udp_options::UdpOptions;
