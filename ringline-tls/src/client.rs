//! The client's side: whom to trust, and what to show.

use crate::config::{TlsVersions, check_alpn};
use crate::error::TlsConfigError;
use crate::layer::TlsLayer;
use crate::pem::{self, Identity};
use crate::provider;
use ringline_core::layer::Layer;
use rustls::client::{ClientConfig, Resumption, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where systems keep the certificates of those whom they trust.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Makes the client's side of TLS connections: whom to trust, and what to show.
///
/// By default versions 1.2 and 1.3 are spoken, sessions are resumed, those whom the system trusts are
/// trusted, and no certificate is shown.
///
/// # Examples
///
/// In a callback, a connection to a server of that name:
///
/// ```no_run
/// use ringline_core::{ConnId, ConnectOptions, Ctx, EventHandler};
/// use ringline_tls::TlsConnector;
///
/// fn dial<H: EventHandler>(
///     cx: &mut Ctx<'_, H>,
///     tls: &TlsConnector,
///     addr: std::net::SocketAddr,
///     state: H::Conn,
/// ) -> Result<ConnId, Box<dyn std::error::Error>> {
///     let layer = tls.layer("api.example.org")?;
///     Ok(cx.connect_layered(addr, &ConnectOptions::new(), layer, state).map_err(|refused| refused.error)?)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct TlsConnector {
    config: Arc<ClientConfig>,
}

impl TlsConnector {
    /// Trusts whom the system trusts.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError::NobodyToTrust`], or what is wrong with the system's file.
    pub fn system() -> Result<Self, TlsConfigError> {
        Self::builder().build()
    }

    /// Begins with the defaults.
    pub fn builder() -> TlsConnectorBuilder {
        TlsConnectorBuilder::default()
    }

    /// Whatever rustls can be configured to do.
    pub fn from_rustls(config: Arc<ClientConfig>) -> Self {
        Self { config }
    }

    /// The client's side of one connection, to a server that can prove to be `server_name`: a host name
    /// or an IP address.
    ///
    /// # Errors
    ///
    /// [`TlsConfigError::BadServerName`], or rustls has no use for its configuration.
    pub fn layer(&self, server_name: &str) -> Result<Box<dyn Layer>, TlsConfigError> {
        let name = ServerName::try_from(server_name.to_string())
            .map_err(|_| TlsConfigError::BadServerName { name: server_name.into() })?;
        let connection = UnbufferedClientConnection::new(Arc::clone(&self.config), name)?;
        Ok(Box::new(TlsLayer::client(connection, self.config.max_fragment_size, server_name)))
    }
}

/// Sets up a [`TlsConnector`].
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing before `build`"]
pub struct TlsConnectorBuilder {
    roots: Option<PathBuf>,
    identity: Option<Identity>,
    alpn: Vec<Vec<u8>>,
    versions: TlsVersions,
    forgets: bool,
}

impl TlsConnectorBuilder {
    /// Trusts those whose certificates are in this file, and nobody else.
    pub fn roots(mut self, path: impl Into<PathBuf>) -> Self {
        self.roots = Some(path.into());
        self
    }

    /// The files with the certificate and the key that are shown to servers that ask.
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some(Identity::new(certificate, key));
        self
    }

    /// The application protocols to offer, the preferred one first. By default none.
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Which versions of TLS are spoken. By default 1.2 and 1.3.
    pub fn versions(mut self, versions: TlsVersions) -> Self {
        self.versions = versions;
        self
    }

    /// Whether sessions are resumed. True by default.
    pub fn resumption(mut self, on: bool) -> Self {
        self.forgets = !on;
        self
    }

    /// Reads the files and checks that they can be used.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with them.
    pub fn build(self) -> Result<TlsConnector, TlsConfigError> {
        let provider = provider::provider();
        check_alpn(&self.alpn)?;
        let system = || SYSTEM_ROOTS.into_iter().map(PathBuf::from).find(|path| Path::exists(path));
        let roots = self.roots.or_else(system).ok_or(TlsConfigError::NobodyToTrust)?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(self.versions.list())?;
        let builder = builder.with_root_certificates(pem::roots(&roots)?);
        let mut config = match &self.identity {
            Some(identity) => {
                let identity = SingleCertAndKey::from(identity.load(&provider)?);
                builder.with_client_cert_resolver(Arc::new(identity))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn;
        if self.forgets {
            config.resumption = Resumption::disabled();
        }
        Ok(TlsConnector { config: Arc::new(config) })
    }
}
