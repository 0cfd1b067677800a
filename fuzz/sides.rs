//! Both sides of a TLS connection that trust one another.

use crate::certificates::Folder;
use ringline_core::layer::Layer;
use ringline_tls::{TlsConfig, TlsConnector, TlsVersions};
use std::sync::LazyLock;

/// The configurations of both sides for one version.
pub(crate) struct Sides {
    server: TlsConfig,
    client: TlsConnector,
}

/// The sides that speak 1.3, or 1.2.
pub(crate) fn sides(is_new: bool) -> &'static Sides {
    static SIDES: LazyLock<[Sides; 2]> = LazyLock::new(|| {
        let folder = Folder::new();
        let (certificate, key) = folder.issue("server", &["server.test"]);
        let server = TlsConfig::from_pem_files(certificate, key).expect("good files");
        [TlsVersions::Tls13, TlsVersions::Tls12].map(|versions| {
            let client = TlsConnector::builder().roots(folder.file("ca.pem")).versions(versions);
            // Every input begins anew.
            let client = client.resumption(false).build().expect("good files");
            Sides { server: server.clone(), client }
        })
    });
    &SIDES[usize::from(!is_new)]
}

impl Sides {
    /// A client that has begun, a server, and what the client says first.
    pub(crate) fn begin(&self) -> (Box<dyn Layer>, Box<dyn Layer>, Vec<u8>) {
        let mut client = self.client.layer("server.test").expect("a name");
        let server = self.server.layer().expect("a server");
        let mut hello = Vec::new();
        client.begin(&mut hello).expect("a hello");
        (client, server, hello)
    }
}

/// Has both agree; `there` is what the client has said and is empty afterwards.
#[allow(dead_code)]
pub(crate) fn shake_hands(client: &mut dyn Layer, server: &mut dyn Layer, there: &mut Vec<u8>) {
    let (mut back, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        server.read(there, &mut plain, &mut back).expect("a handshake");
        there.clear();
        client.read(&mut back, &mut plain, there).expect("a handshake");
        back.clear();
    }
    assert!(!client.is_handshaking() && !server.is_handshaking() && plain.is_empty());
}
