//! TLS on the listeners of a server.

use crate::config::TlsConfig;
use ringline_core::{ListenError, ListenOptions, Server};
use std::fmt::Debug;
use std::net::ToSocketAddrs;
use std::sync::Arc;

/// Adds TLS to a [`Server`] that is being put together.
pub trait ListenTls: Sized {
    /// Listens on a TCP address, with TLS on every connection: as [`Server::listen`].
    ///
    /// # Errors
    ///
    /// As [`Server::listen`].
    fn listen_tls(self, addr: impl ToSocketAddrs + Debug, tls: &TlsConfig) -> Result<Self, ListenError>;

    /// The same with options of the listener: as [`Server::listen_with`].
    ///
    /// # Errors
    ///
    /// As [`Server::listen`].
    fn listen_tls_with(
        self,
        addr: impl ToSocketAddrs + Debug,
        options: &ListenOptions,
        tls: &TlsConfig,
    ) -> Result<Self, ListenError>;

    /// Puts TLS on the listener that was added last, of whatever kind it is.
    ///
    /// # Panics
    ///
    /// If there is no listener yet.
    #[must_use]
    fn with_tls(self, tls: &TlsConfig) -> Self;
}

impl ListenTls for Server {
    fn listen_tls(self, addr: impl ToSocketAddrs + Debug, tls: &TlsConfig) -> Result<Self, ListenError> {
        Ok(self.listen(addr)?.with_tls(tls))
    }

    fn listen_tls_with(
        self,
        addr: impl ToSocketAddrs + Debug,
        options: &ListenOptions,
        tls: &TlsConfig,
    ) -> Result<Self, ListenError> {
        Ok(self.listen_with(addr, options)?.with_tls(tls))
    }

    fn with_tls(self, tls: &TlsConfig) -> Self {
        self.layered(Arc::new(tls.clone()))
    }
}
