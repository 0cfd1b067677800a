//! The far end: rustls over a peer of a world, fed and drained as a test sees fit.

use super::certificates::Folder;
use ringline_core::layer::{CHUNK_BYTES, Layer, LayerError};
use ringline_core::testing::{PeerId, World};
use ringline_core::{CloseReason, EventHandler};
use ringline_tls::{TlsConfig, TlsConnector, TlsVersions};
use rustls::crypto::CryptoProvider;
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as chosen;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as chosen;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::time::Duration;

/// Deterministic randomness (`SplitMix64`).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Below `end`, which is above zero.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    /// True this many times in a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// `len` bytes of an endless stream, from `at` on, that look different at every place.
pub(crate) fn pattern(salt: u64, at: usize, len: usize) -> Vec<u8> {
    let byte = |at: usize| ((at as u64 + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8;
    (at..at + len).map(byte).collect()
}

/// Where the cryptography comes from.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(chosen::default_provider())
}

/// A server's configuration and one of a client that trusts it.
pub(crate) struct Sides {
    pub(crate) server: TlsConfig,
    pub(crate) client: TlsConnector,
}

impl Sides {
    /// `fragment` bounds the server's records.
    pub(crate) fn new(folder: &Folder, versions: TlsVersions, fragment: Option<usize>) -> Self {
        let (certificate, key) = folder.issue("server", &["server.test"]);
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificate)
            .expect("a file")
            .map(|certificate| certificate.expect("a certificate"))
            .collect();
        let key = PrivateKeyDer::from_pem_file(key).expect("a key");
        let mut server = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the usual versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a certificate with its key");
        server.max_fragment_size = fragment;
        let client = TlsConnector::builder().roots(folder.file("ca.pem")).versions(versions);
        Self { server: TlsConfig::from_rustls(Arc::new(server)), client: client.build().expect("good files") }
    }
}

/// The far end of one connection.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) layer: Box<dyn Layer>,
    /// Wire bytes that were not taken yet.
    pub(crate) out: Vec<u8>,
    tail: Vec<u8>,
    /// Plain bytes that have come and were not looked at yet.
    pub(crate) plain: Vec<u8>,
    pub(crate) failed: Option<LayerError>,
}

impl Peer {
    pub(crate) fn connect<H: EventHandler>(world: &mut World<H>, sides: &Sides) -> Self {
        let mut layer = sides.client.layer("server.test").expect("a name");
        let mut out = Vec::new();
        layer.begin(&mut out).expect("a hello");
        Self { id: world.connect(), layer, out, tail: Vec::new(), plain: Vec::new(), failed: None }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let at = self.out.len();
            self.out.resize(at + self.layer.wire_len(chunk.len()), 0);
            let len = self.layer.write(chunk, &mut self.out[at..]).expect("both sides agree");
            self.out.truncate(at + len);
        }
    }

    /// Turns, a millisecond at a time, until something has happened.
    pub(crate) fn until<H: EventHandler>(
        &mut self,
        world: &mut World<H>,
        done: impl Fn(&Self, &World<H>) -> bool,
    ) {
        for _ in 0..10_000 {
            self.pump(world, usize::MAX, usize::MAX);
            if done(self, world) {
                return;
            }
            world.sleep(Duration::from_millis(1));
        }
        panic!("it never happens");
    }

    /// Writes and reads at most so much.
    pub(crate) fn pump<H: EventHandler>(&mut self, world: &mut World<H>, write: usize, read: usize) {
        let written = world.write(self.id, &self.out[..write.min(self.out.len())]);
        self.out.drain(..written);
        self.tail.extend(world.read(self.id, read));
        if self.failed.is_none() {
            match self.layer.read(&mut self.tail, &mut self.plain, &mut self.out) {
                Ok(through) => drop(self.tail.drain(..through)),
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

/// What handlers of this program note at the end of a connection.
pub(crate) trait Notes: EventHandler {
    fn closed(&self) -> &[CloseReason];
}
