//! What was agreed with the peer of a TLS connection.

use crate::layer::TlsLayer;
use ringline_core::{ConnId, Ctx, EventHandler};
use rustls::pki_types::CertificateDer;
use rustls::{CommonState, HandshakeKind, ProtocolVersion, SupportedCipherSuite};
use std::fmt;

/// What was agreed with the peer of a TLS connection. Complete from
/// [`on_open`](EventHandler::on_open) on, or from [`on_secured`](EventHandler::on_secured) on.
#[derive(Clone, Copy)]
pub struct TlsFacts<'a> {
    state: &'a CommonState,
    server_name: Option<&'a str>,
}

impl<'a> TlsFacts<'a> {
    pub(crate) fn new(state: &'a CommonState, server_name: Option<&'a str>) -> Self {
        Self { state, server_name }
    }

    /// The version of TLS.
    pub fn version(&self) -> Option<ProtocolVersion> {
        self.state.protocol_version()
    }

    /// The cipher suite.
    pub fn cipher_suite(&self) -> Option<SupportedCipherSuite> {
        self.state.negotiated_cipher_suite()
    }

    /// The application protocol that was agreed on (ALPN), such as `b"h2"`.
    pub fn alpn(&self) -> Option<&'a [u8]> {
        self.state.alpn_protocol()
    }

    /// The name that the client asked for (SNI); on the client's side, the name that the server's
    /// certificate was checked for.
    pub fn server_name(&self) -> Option<&'a str> {
        self.server_name
    }

    /// The certificates that the peer has shown, its own first. They were checked: see
    /// [`TlsConfigBuilder::client_certificates`](crate::TlsConfigBuilder::client_certificates). None from
    /// a client that was not asked, or had none and needed none.
    pub fn peer_certificates(&self) -> &'a [CertificateDer<'static>] {
        self.state.peer_certificates().unwrap_or_default()
    }

    /// Whether an earlier session was resumed, so that no certificate was exchanged.
    pub fn is_resumed(&self) -> bool {
        self.state.handshake_kind() == Some(HandshakeKind::Resumed)
    }
}

impl fmt::Debug for TlsFacts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsFacts")
            .field("version", &self.version())
            .field("cipher_suite", &self.cipher_suite())
            .field("alpn", &self.alpn().map(String::from_utf8_lossy))
            .field("server_name", &self.server_name)
            .field("peer_certificates", &self.peer_certificates().len())
            .field("is_resumed", &self.is_resumed())
            .finish()
    }
}

/// Lets a callback look at a connection's TLS.
pub trait TlsInfo {
    /// What was agreed with the peer; `None` if the connection is plain, or gone.
    fn tls(&self, id: ConnId) -> Option<TlsFacts<'_>>;
}

impl<H: EventHandler> TlsInfo for Ctx<'_, H> {
    fn tls(&self, id: ConnId) -> Option<TlsFacts<'_>> {
        self.layer::<TlsLayer>(id).map(TlsLayer::facts)
    }
}
