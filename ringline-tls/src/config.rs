//! What a server shows and asks for, and how that is changed while it runs.
//!
//! Every connection is made with the configuration of the moment at which it is accepted; what was made
//! before keeps its own.

use crate::error::TlsConfigError;
use crate::layer::TlsLayer;
use crate::pem::{self, Identity};
use crate::{TlsFault, provider, sni};
use ringline_core::layer::{Layer, LayerError, LayerFactory};
use rustls::pki_types::ServerName;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ResolvesServerCert, ServerConfig, ServerSessionMemoryCache,
    UnbufferedServerConnection, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ALL_VERSIONS, SupportedProtocolVersion, version};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

/// How many sessions of clients that take no tickets are kept.
const SESSIONS: usize = 1024;

/// The TLS of a listener: certificates, whom to serve, and what to offer.
///
/// A clone is a handle to the same configuration: keep one to [reload](Self::reload) the certificates
/// while the server runs.
///
/// By default versions 1.2 and 1.3 are spoken, sessions can be resumed with tickets, no data is taken
/// before a handshake is over (no early data), and clients need no certificate.
#[derive(Clone)]
pub struct TlsConfig {
    shared: Arc<Shared>,
}

struct Shared {
    current: RwLock<Arc<ServerConfig>>,
    recipe: Option<TlsConfigBuilder>,
}

impl TlsConfig {
    /// A server with one certificate. The first file has the server's own certificate and then those of
    /// its issuers, up to one that clients know; the second has its key.
    ///
    /// # Errors
    ///
    /// What is wrong with the files.
    pub fn from_pem_files(
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Result<Self, TlsConfigError> {
        Self::builder().certificate(certificate, key).build()
    }

    /// Begins with the defaults and no certificate.
    pub fn builder() -> TlsConfigBuilder {
        TlsConfigBuilder::default()
    }

    /// Whatever rustls can be configured to do, except for early data, which is never taken.
    pub fn from_rustls(config: Arc<ServerConfig>) -> Self {
        Self::new(adapt(&config), None)
    }

    /// Reads the files again. Connections that are accepted from now on get what is in them; tickets of
    /// earlier ones are not honoured. If something is wrong, everything stays as it was.
    ///
    /// # Errors
    ///
    /// What is wrong with the files, or [`TlsConfigError::NotFromFiles`].
    pub fn reload(&self) -> Result<(), TlsConfigError> {
        let recipe = self.shared.recipe.as_ref().ok_or(TlsConfigError::NotFromFiles)?;
        self.set(recipe.cook()?);
        Ok(())
    }

    /// Goes over to another configuration for connections that are accepted from now on.
    pub fn replace(&self, config: &ServerConfig) {
        self.set(adapt(config));
    }

    /// The server's side of one connection, for [`Ctx::secure`](ringline_core::Ctx::secure).
    ///
    /// # Errors
    ///
    /// rustls has no use for its configuration.
    pub fn layer(&self) -> Result<Box<dyn Layer>, LayerError> {
        self.accept()
    }

    fn new(config: Arc<ServerConfig>, recipe: Option<TlsConfigBuilder>) -> Self {
        Self { shared: Arc::new(Shared { current: RwLock::new(config), recipe }) }
    }

    fn set(&self, config: Arc<ServerConfig>) {
        *self.shared.current.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LayerFactory for TlsConfig {
    fn accept(&self) -> Result<Box<dyn Layer>, LayerError> {
        let config = self.current();
        let fragment = config.max_fragment_size;
        match UnbufferedServerConnection::new(config) {
            Ok(connection) => Ok(Box::new(TlsLayer::server(connection, fragment))),
            Err(error) => {
                log::error!("a TLS connection cannot be made: {error}");
                Err(TlsFault::Internal.layer_error())
            }
        }
    }
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig").field("recipe", &self.shared.recipe).finish_non_exhaustive()
    }
}

/// Which versions of TLS are spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    All,
    /// 1.2 alone.
    Tls12,
    /// 1.3 alone.
    Tls13,
}

static TLS12: &[&SupportedProtocolVersion] = &[&version::TLS12];
static TLS13: &[&SupportedProtocolVersion] = &[&version::TLS13];

impl TlsVersions {
    pub(crate) fn list(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::All => ALL_VERSIONS,
            Self::Tls12 => TLS12,
            Self::Tls13 => TLS13,
        }
    }
}

/// Whether clients have to say who they are (mutual TLS).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    None,
    /// They are asked and may decline. What they show must come from an issuer in this file.
    Optional(PathBuf),
    /// They must show a certificate that comes from an issuer in this file.
    Required(PathBuf),
}

/// Sets up a [`TlsConfig`].
///
/// # Examples
///
/// Two names, HTTP/2 and HTTP/1.1, and clients that have to show a certificate:
///
/// ```no_run
/// use ringline_tls::{ClientCertificates, TlsConfig};
///
/// # fn main() -> Result<(), ringline_tls::TlsConfigError> {
/// let tls = TlsConfig::builder()
///     .certificate("www.pem", "www.key")
///     .certificate_for("api.example.org", "api.pem", "api.key")
///     .alpn(["h2", "http/1.1"])
///     .client_certificates(ClientCertificates::Required("clients-ca.pem".into()))
///     .build()?;
/// # drop(tls);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing before `build`"]
pub struct TlsConfigBuilder {
    default: Option<Identity>,
    named: Vec<(String, Identity)>,
    alpn: Vec<Vec<u8>>,
    versions: TlsVersions,
    client_certificates: ClientCertificates,
    forgets: bool,
}

impl TlsConfigBuilder {
    /// The files with the certificate and the key for clients that ask for no name, or for one that has
    /// no certificate of its own.
    pub fn certificate(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.default = Some(Identity::new(certificate, key));
        self
    }

    /// The files for clients that ask for this name (SNI). `*.example.org` stands for all names with one
    /// more label in front. Without a [`certificate`](Self::certificate), clients that ask for another
    /// name are turned away.
    pub fn certificate_for(
        mut self,
        name: impl Into<String>,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.named.push((name.into(), Identity::new(certificate, key)));
        self
    }

    /// The application protocols that are spoken, the preferred one first. A client that offers some, but
    /// none of these, is turned away; one that offers none is served. By default there are none, and
    /// nobody is turned away.
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Which versions of TLS are spoken. By default 1.2 and 1.3.
    pub fn versions(mut self, versions: TlsVersions) -> Self {
        self.versions = versions;
        self
    }

    /// Whether clients have to say who they are. By default they are not asked.
    pub fn client_certificates(mut self, wanted: ClientCertificates) -> Self {
        self.client_certificates = wanted;
        self
    }

    /// Whether clients may resume a session, which saves both sides most of the work of a handshake. True
    /// by default.
    ///
    /// The keys that tickets are encrypted with are made anew every few hours and kept in memory alone.
    pub fn resumption(mut self, on: bool) -> Self {
        self.forgets = !on;
        self
    }

    /// Reads the files and checks that they can be used.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with them.
    pub fn build(self) -> Result<TlsConfig, TlsConfigError> {
        let config = self.cook()?;
        Ok(TlsConfig::new(config, Some(self)))
    }

    fn cook(&self) -> Result<Arc<ServerConfig>, TlsConfigError> {
        let provider = provider::provider();
        check_alpn(&self.alpn)?;
        let mut names = Names { default: None, named: HashMap::new() };
        if let Some(identity) = &self.default {
            names.default = Some(Arc::new(identity.load(&provider)?));
        }
        for (name, identity) in &self.named {
            let key = identity.load(&provider)?;
            names.add(name, key, identity)?;
        }
        if names.default.is_none() && names.named.is_empty() {
            return Err(TlsConfigError::NothingToShow);
        }
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_protocol_versions(self.versions.list())?;
        let builder = match &self.client_certificates {
            ClientCertificates::None => builder.with_no_client_auth(),
            ClientCertificates::Optional(path) | ClientCertificates::Required(path) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(pem::roots(path)?, provider);
                let is_optional = matches!(self.client_certificates, ClientCertificates::Optional(_));
                let verifier = if is_optional { verifier.allow_unauthenticated() } else { verifier };
                let verifier = verifier.build().map_err(|error| TlsConfigError::BadCertificate {
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(Arc::new(sni::Noting(Arc::new(names))));
        config.alpn_protocols.clone_from(&self.alpn);
        if self.forgets {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        } else {
            config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
            config.ticketer = provider::ticketer()?;
        }
        Ok(Arc::new(config))
    }
}

/// A configuration made elsewhere, with what this crate needs.
fn adapt(config: &ServerConfig) -> Arc<ServerConfig> {
    let mut config = config.clone();
    config.max_early_data_size = 0;
    config.cert_resolver = Arc::new(sni::Noting(config.cert_resolver));
    Arc::new(config)
}

pub(crate) fn check_alpn(protocols: &[Vec<u8>]) -> Result<(), TlsConfigError> {
    let bad = protocols.iter().find(|name| !(1..=255).contains(&name.len()));
    bad.map_or(Ok(()), |name| Err(TlsConfigError::BadProtocol { bytes: name.len() }))
}

/// Certificates by the name that clients ask for.
#[derive(Debug)]
struct Names {
    default: Option<Arc<CertifiedKey>>,
    /// In lower case; a wildcard as it was given.
    named: HashMap<String, Arc<CertifiedKey>>,
}

impl Names {
    fn add(&mut self, name: &str, key: CertifiedKey, identity: &Identity) -> Result<(), TlsConfigError> {
        let bad = |reason: &str| TlsConfigError::BadName {
            name: name.into(),
            path: identity.certificate.clone(),
            reason: reason.into(),
        };
        // A wildcard is asked for with something in its place.
        let example = name.strip_prefix("*.").map_or_else(|| name.to_string(), |rest| format!("any.{rest}"));
        let Ok(asked @ ServerName::DnsName(_)) = ServerName::try_from(example) else {
            return Err(bad("it is no host name; give one such as www.example.org or *.example.org"));
        };
        let own = key.end_entity_cert()?;
        let own = rustls::server::ParsedCertificate::try_from(own)
            .map_err(|error| pem::bad_certificate(&identity.certificate, &error))?;
        rustls::client::verify_server_name(&own, &asked)
            .map_err(|_| bad("the certificate is for other names; have one issued that includes it"))?;
        self.named.insert(name.to_ascii_lowercase(), Arc::new(key));
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wildcard = || name.split_once('.').and_then(|(_, rest)| self.named.get(&format!("*.{rest}")));
        self.named.get(&name).or_else(wildcard)
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let named = hello.server_name().and_then(|name| self.find(name));
        named.or(self.default.as_ref()).cloned()
    }
}
