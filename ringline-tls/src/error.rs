//! What is wrong with the files and choices that a TLS configuration is made of.

use std::io;
use std::path::PathBuf;

/// Why a TLS configuration could not be made, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsConfigError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}; check the path and that the process may read it")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not well-formed PEM.
    #[error(
        "{path} is not valid PEM: {reason}; it should consist of -----BEGIN …----- and -----END …----- blocks"
    )]
    BadPem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file has no certificate in it.
    #[error("{path} has no certificate in it; give a file with a -----BEGIN CERTIFICATE----- block")]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file has no private key in it.
    #[error(
        "{path} has no private key in it; give a file with a -----BEGIN PRIVATE KEY----- block that is \
         not encrypted"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The key is of a kind that cannot be used.
    #[error(
        "the key in {path} cannot be used: {reason}; use ECDSA (P-256 or P-384), Ed25519 or RSA from 2048 bits"
    )]
    UnusableKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The key is not that of the first certificate.
    #[error(
        "the key in {key} is not the one of the first certificate in {certificate}; give the key that the \
         certificate was requested with, and put the server's own certificate first"
    )]
    KeyMismatch {
        /// The file with the certificates.
        certificate: PathBuf,
        /// The file with the key.
        key: PathBuf,
    },
    /// A certificate can no longer be used.
    #[error("the certificate in {path} expired {days_ago} days ago; renew it")]
    Expired {
        /// The file.
        path: PathBuf,
        /// How long ago, in whole days.
        days_ago: u64,
    },
    /// A certificate cannot be used yet.
    #[error(
        "the certificate in {path} is not valid for another {days} days; wait, or check the system's clock"
    )]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// How long from now, in days, rounded up.
        days: u64,
    },
    /// A certificate cannot be read.
    #[error("the certificate in {path} cannot be used: {reason}; have it issued again")]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate was given for a name that is none, or not one of the certificate's.
    #[error("{name} cannot be served with the certificate in {path}: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// The file with the certificate.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A server's name is neither a host name nor an IP address.
    #[error(
        "{name} is neither a host name nor an IP address; give the name that the server's certificate is for"
    )]
    BadServerName {
        /// The name.
        name: String,
    },
    /// There is no certificate to show.
    #[error("a server needs a certificate; call `certificate` or `certificate_for`")]
    NothingToShow,
    /// There is nobody to trust.
    #[error(
        "there is nobody to trust: none of the usual files with the system's root certificates exists; \
         install ca-certificates, or call `roots`"
    )]
    NobodyToTrust,
    /// A protocol name cannot be sent.
    #[error("an application protocol has {bytes} bytes; choose a name of 1 to 255")]
    BadProtocol {
        /// Its length.
        bytes: usize,
    },
    /// The configuration was made by the program, so there are no files to read again.
    #[error("the configuration does not come from files; call `replace` with another one")]
    NotFromFiles,
    /// rustls refused for another reason.
    #[error("TLS cannot be set up: {0}")]
    Other(#[from] rustls::Error),
}
