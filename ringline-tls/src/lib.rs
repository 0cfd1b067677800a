//! TLS for ringline servers and clients, by configuration: the same handler, encrypted.
//!
//! A [`TlsConfig`] says who a server is and whom it talks to; [`ListenTls`] puts it on a listener. A
//! [`TlsConnector`] does the same for connections that a handler asks for. What was agreed with the peer
//! is in [`TlsFacts`], from [`on_open`](ringline_core::EventHandler::on_open) on.
//!
//! The protocol is that of rustls, version 1.2 and 1.3, with cryptography from `ring` or, with the
//! feature of that name, `aws-lc-rs`. Nothing here does I/O: ringline drives it.
//!
//! # Examples
//!
//! A server that serves the same handler in the clear and encrypted:
//!
//! ```no_run
//! use ringline_core::{Admit, Config, ConnId, Consumed, Ctx, EventHandler, Peer, Server};
//! use ringline_tls::{ListenTls, TlsConfig, TlsInfo};
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
//!     fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut ()) {
//!         if let Some(tls) = cx.tls(id) {
//!             println!("{:?} for {:?}", tls.version(), tls.server_name());
//!         }
//!     }
//!
//!     fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
//!         if cx.send(id, data).is_err() {
//!             cx.abort(id);
//!         }
//!         Consumed::all(data)
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tls = TlsConfig::from_pem_files("cert.pem", "key.pem")?;
//! let server = Server::new(Config::default()).listen("0.0.0.0:7000")?.listen_tls("0.0.0.0:7443", &tls)?;
//! let running = server.launch(|_seat| Echo)?;
//! # drop(running);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod client;
mod config;
mod error;
mod facts;
mod fault;
mod layer;
mod listen;
mod machine;
mod pem;
mod provider;
mod sni;
mod validity;

pub use client::{TlsConnector, TlsConnectorBuilder};
pub use config::{ClientCertificates, TlsConfig, TlsConfigBuilder, TlsVersions};
pub use error::TlsConfigError;
pub use facts::{TlsFacts, TlsInfo};
pub use fault::TlsFault;
pub use layer::TlsLayer;
pub use listen::ListenTls;
pub use rustls;
