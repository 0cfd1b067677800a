//! The client's side of one connection.

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
    SupportedProtocolVersion,
};
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

/// What a connection that broke off has to say.
#[derive(Debug)]
pub struct Broken;

#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    tls: ClientConnection,
    /// Encrypted and not taken by the socket yet.
    wire: Vec<u8>,
}

impl Client {
    pub fn connect(to: SocketAddr, config: &Arc<ClientConfig>, registry: &Registry, token: usize) -> Self {
        let mut stream = TcpStream::connect(to).expect("a socket");
        stream.set_nodelay(true).expect("an option");
        registry
            .register(&mut stream, Token(token), Interest::READABLE | Interest::WRITABLE)
            .expect("a watch");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(config), name).expect("a client");
        tls.set_buffer_limit(None);
        Self { stream, tls, wire: Vec::new() }
    }

    pub fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Encrypts; [`flush`](Self::flush) sends it.
    pub fn send(&mut self, bytes: &[u8]) {
        self.tls.writer().write_all(bytes).expect("there is no limit");
    }

    /// Sends what there is, as far as the socket takes it.
    pub fn flush(&mut self) -> Result<(), Broken> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.wire).expect("memory takes everything");
        }
        while !self.wire.is_empty() {
            match self.stream.write(&self.wire) {
                Ok(bytes) => drop(self.wire.drain(..bytes)),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    break;
                }
                Err(_) => return Err(Broken),
            }
        }
        Ok(())
    }

    /// Takes what has arrived, through `wire`, and hands plain bytes to `take`.
    pub fn receive(&mut self, wire: &mut [u8], mut take: impl FnMut(&[u8])) -> Result<(), Broken> {
        loop {
            let arrived = match self.stream.read(wire) {
                Ok(0) => return Err(Broken),
                Ok(bytes) => bytes,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return Ok(());
                }
                Err(_) => return Err(Broken),
            };
            let mut rest = &wire[..arrived];
            while !rest.is_empty() {
                self.tls.read_tls(&mut rest).map_err(|_| Broken)?;
                let state = self.tls.process_new_packets().map_err(|_| Broken)?;
                if state.plaintext_bytes_to_read() > 0 {
                    let mut plain = vec![0; state.plaintext_bytes_to_read()];
                    self.tls.reader().read_exact(&mut plain).expect("it is there");
                    take(&plain);
                }
            }
            if arrived < wire.len() {
                return Ok(());
            }
        }
    }

    /// Has the kernel forget the connection at once: no state of it stays behind.
    pub fn reset(self) {
        reset(&self.stream);
    }
}

/// The next close of the socket resets the connection.
pub fn reset(stream: &TcpStream) {
    use std::os::fd::AsRawFd;
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option is as long as it says, and the descriptor is open.
    unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of_val(&linger) as u32,
        );
    }
}

/// Offers one cipher suite, so that all servers use the same; nothing is resumed.
pub fn config(suite: &str) -> Arc<ClientConfig> {
    let (suite, version): (_, &[&SupportedProtocolVersion]) = match suite {
        "aes128" => (CipherSuite::TLS13_AES_128_GCM_SHA256, &[&rustls::version::TLS13]),
        "aes256" => (CipherSuite::TLS13_AES_256_GCM_SHA384, &[&rustls::version::TLS13]),
        "chacha" => (CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, &[&rustls::version::TLS13]),
        "tls12" => (CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, &[&rustls::version::TLS12]),
        suite => panic!("no suite is called {suite}; there are aes128, aes256, chacha and tls12"),
    };
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|offered| offered.suite() == suite);
    let provider = Arc::new(provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(version)
        .expect("there is a suite for it")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Arc::new(config)
}

/// Takes everybody's certificate: who serves is known.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
