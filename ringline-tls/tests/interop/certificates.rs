//! Certificates made for a test, in a folder of its own.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use ringline_tls::rustls::pki_types::CertificateDer;
use ringline_tls::rustls::pki_types::pem::PemObject;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// A folder with an authority in it, `ca.pem`; removed when dropped.
pub(crate) struct Folder {
    path: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self::of(&format!("test authority {}", number()))
    }

    /// With an authority of this name.
    pub(crate) fn of(authority: &str) -> Self {
        let number = number();
        let path = std::env::temp_dir().join(format!("ringline-tls-{}-{number}", std::process::id()));
        fs::create_dir(&path).expect("a folder for certificates");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, authority);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(path.join("ca.pem"), certificate.pem()).expect("a file");
        Self { path, issuer: Issuer::new(params, key) }
    }

    /// The path of a file in it, as text.
    pub(crate) fn file(&self, name: &str) -> String {
        self.path.join(name).to_str().expect("a plain path").to_string()
    }

    /// The first certificate of a file in it.
    pub(crate) fn der(&self, name: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.file(name)).expect("a certificate")
    }

    /// Makes `{name}.pem` and `{name}.key`, valid for these names and now.
    pub(crate) fn issue(&self, name: &str, names: &[&str]) -> (String, String) {
        self.issue_for(name, names, (2020, 2090))
    }

    /// The same, valid from the beginning of one year to that of another.
    pub(crate) fn issue_for(&self, name: &str, names: &[&str], years: (i32, i32)) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = leaf(name, names, years);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.write(name, &certificate.pem(), &key)
    }

    /// The same, vouched for by nobody else.
    pub(crate) fn self_sign(&self, name: &str, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf(name, names, (2020, 2090)).self_signed(&key).expect("a certificate");
        self.write(name, &certificate.pem(), &key)
    }

    fn write(&self, name: &str, certificate: &str, key: &KeyPair) -> (String, String) {
        let (certificate_file, key_file) =
            (self.file(&format!("{name}.pem")), self.file(&format!("{name}.key")));
        fs::write(&certificate_file, certificate).expect("a file");
        fs::write(&key_file, key.serialize_pem()).expect("a file");
        (certificate_file, key_file)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn number() -> u32 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

fn leaf(name: &str, names: &[&str], (from, to): (i32, i32)) -> CertificateParams {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params
}
