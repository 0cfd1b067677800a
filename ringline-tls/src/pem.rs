//! Certificates and keys in files.

use crate::error::TlsConfigError;
use crate::validity;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, RootCertStore};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Two files that say who one is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Identity {
    pub(crate) fn new(certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { certificate: certificate.into(), key: key.into() }
    }

    /// Reads both files and checks that they belong together and can be used now.
    pub(crate) fn load(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsConfigError> {
        let chain = certificates(&self.certificate)?;
        let key = private_key(&self.key)?;
        check_validity(&self.certificate, &chain[0])?;
        let path = self.key.clone();
        let key = provider.key_provider.load_private_key(key);
        let key = key.map_err(|error| TlsConfigError::UnusableKey { path, reason: error.to_string() })?;
        let identity = CertifiedKey::new(chain, key);
        match identity.keys_match() {
            // Some keys cannot be compared; then the handshake will tell.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(identity),
            Err(Error::InconsistentKeys(_)) => Err(TlsConfigError::KeyMismatch {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
            }),
            Err(error) => Err(bad_certificate(&self.certificate, &error)),
        }
    }
}

/// Those whom the certificates in a file make trusted.
pub(crate) fn roots(path: &Path) -> Result<Arc<RootCertStore>, TlsConfigError> {
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        let reason = "none of them can be trusted".to_string();
        return Err(TlsConfigError::BadCertificate { path: path.into(), reason });
    }
    Ok(Arc::new(roots))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsConfigError> {
    let text = read(path)?;
    let found = CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>();
    let found = found.map_err(|error| bad_pem(path, &error))?;
    if found.is_empty() {
        return Err(TlsConfigError::NoCertificate { path: path.into() });
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsConfigError> {
    match PrivateKeyDer::from_pem_slice(&read(path)?) {
        Ok(key) => Ok(key),
        Err(pem::Error::NoItemsFound) => Err(TlsConfigError::NoKey { path: path.into() }),
        Err(error) => Err(bad_pem(path, &error)),
    }
}

fn check_validity(path: &Path, certificate: &CertificateDer<'_>) -> Result<(), TlsConfigError> {
    const DAY: u64 = 24 * 60 * 60;
    let Some(validity) = validity::read(certificate) else {
        let reason = "its dates cannot be read".to_string();
        return Err(TlsConfigError::BadCertificate { path: path.into(), reason });
    };
    let now =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
    if now > validity.not_after {
        let days_ago = now.abs_diff(validity.not_after) / DAY;
        return Err(TlsConfigError::Expired { path: path.into(), days_ago });
    }
    if now < validity.not_before {
        let days = now.abs_diff(validity.not_before).div_ceil(DAY);
        return Err(TlsConfigError::NotYetValid { path: path.into(), days });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, TlsConfigError> {
    fs::read(path).map_err(|source| TlsConfigError::Unreadable { path: path.into(), source })
}

fn bad_pem(path: &Path, error: &pem::Error) -> TlsConfigError {
    TlsConfigError::BadPem { path: path.into(), reason: error.to_string() }
}

pub(crate) fn bad_certificate(path: &Path, error: &Error) -> TlsConfigError {
    TlsConfigError::BadCertificate { path: path.into(), reason: error.to_string() }
}
