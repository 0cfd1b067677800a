//! Where connections come from: listening sockets, the peers they bring, and the CPUs that serve
//! them.
//!
//! A listening socket is made once and shared by all workers; what is in here makes sockets and
//! reads facts, and no data ever passes through it.

pub(crate) mod addr;
mod admission;
pub(crate) mod arrival;
mod bind_error;
pub(crate) mod connect_options;
mod datagram;
mod listen_error;
mod listener;
pub(crate) mod peer;
pub(crate) mod resolve_error;
mod socket_file;
mod socket_option;
pub(crate) mod socket_options;
pub(crate) mod topology;
mod udp;
mod udp_options;
pub(crate) mod unix_addr;
mod unix_listener;

pub use addr::Addr;
pub(crate) use addr::Family;
pub(crate) use admission::{Admission, Refusal, Tickets};
pub use bind_error::BindError;
pub use connect_options::ConnectOptions;
pub(crate) use connect_options::Dial;
pub use datagram::{Datagram, ReplyTo, Segments};
pub use listen_error::ListenError;
pub use listener::ListenOptions;
pub(crate) use listener::{Listener, bind_first, resolve, set_all};
pub(crate) use peer::Remote;
pub use peer::{Credentials, ListenerId, Peer};
pub use resolve_error::ResolveError;
pub use socket_option::{OptionError, OptionRefused, SocketOption};
pub use socket_options::SocketOptions;
pub(crate) use socket_options::{Moment, Setting};
pub(crate) use udp::{BindUdp, BoundUdp, KernelSocket, KernelSockets, any_for};
pub use udp_options::UdpOptions;
pub use unix_addr::{UnixAddr, UnixAddrError};
pub(crate) use unix_listener::bind_unix;
pub use unix_listener::{UnixListenError, UnixListenOptions};
