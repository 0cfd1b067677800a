//! Callback-driven event handlers on io_uring.
//!
//! A program implements [`EventHandler`]: what to do when a peer connects, when bytes arrive, when
//! sends have completed. [`Server`] runs one worker thread per core; each has its own ring, its own
//! handler value and its own connections, and turns completions straight into callbacks. There are
//! no futures and no executor.
//!
//! # Examples
//!
//! An echo server that stops again:
//!
//! ```
//! use ringline_core::{Admit, Config, ConnId, Consumed, Ctx, EventHandler, Peer, Server};
//! use std::io::{Read, Write};
//! use std::time::Duration;
//!
//! struct Echo;
//!
//! impl EventHandler for Echo {
//!     type Conn = ();
//!     type Message = ();
//!
//!     fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
//!         Admit::Accept(())
//!     }
//!
//!     fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
//!         match cx.send(id, data) {
//!             Ok(_) => Consumed::all(data),
//!             Err(_) => {
//!                 cx.abort(id);
//!                 Consumed::none()
//!             }
//!         }
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config::builder().workers(1).build()?;
//! let running = Server::new(config).listen("127.0.0.1:0")?.launch(|_seat| Echo)?;
//!
//! let mut client = std::net::TcpStream::connect(running.local_addrs()[0])?;
//! client.write_all(b"hello")?;
//! let mut reply = [0; 5];
//! client.read_exact(&mut reply)?;
//! assert_eq!(&reply, b"hello");
//! drop(client);
//!
//! running.shutdown(Duration::from_secs(5))?;
//! # Ok(())
//! # }
//! ```

mod backend;
mod buf;
mod child;
mod config;
mod conn;
mod consumed;
mod ctx;
mod handler;
mod job;
pub mod layer;
mod mail;
pub mod metrics;
pub mod net;
mod op;
mod server;
pub mod signal;
mod sys;
pub mod testing;
mod timer;
mod udp;
mod worker;

pub use backend::uring::{Capabilities, RingError};
pub use buf::{OnBreak, SendGuard};
pub use child::{
    AtShutdown, ChildCommand, ChildExit, ChildId, ChildKey, ChildStdio, KillError, NotSpawned, SpawnError,
    Spawned,
};
pub use config::{Config, ConfigBuilder, ConfigError, PanicPolicy};
pub use conn::{
    Accepted, AdoptError, CloseReason, ConnId, ConnectError, ConnectFailure, Deadlines, Initiator, Limit,
    NotAdopted, NotConnected, NotSecured, Pressure, Rejected, SecureError, SendError, SendFailure, Sent,
    TimerKey,
};
pub use consumed::Consumed;
pub use ctx::{Chain, Ctx, Parts, Seat};
pub use handler::{Admit, Eof, EventHandler, Tick};
pub use job::{JobError, JobFailed, JobId, JobKey, JobRejected, ResolveError};
pub use mail::{BroadcastError, Mailbox, PostError};
pub use net::{BindError, Datagram, ReplyTo, UdpOptions};
pub use net::{ConnectOptions, OptionError, OptionRefused, SocketOptions};
pub use net::{ListenError, ListenOptions, ListenerId, Peer};
pub use server::{LaunchError, RunError, Running, Server};
pub use timer::TimerId;
pub use udp::{UdpClosed, UdpError, UdpId, UdpSendError, Undelivered};
