//! The certificate that all servers show: ECDSA with P-256, made by nobody but itself.

use std::path::Path;

/// Writes `certificate.pem` and `key.pem`.
pub fn write(dir: &str) -> String {
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a certificate");
    let dir = Path::new(dir);
    std::fs::write(dir.join("certificate.pem"), certified.cert.pem()).expect("a file");
    std::fs::write(dir.join("key.pem"), certified.signing_key.serialize_pem()).expect("a file");
    format!("\"dir\":\"{}\"", dir.display())
}
