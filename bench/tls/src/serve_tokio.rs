//! An echo over TLS on tokio and tokio-rustls, one thread: `serve-tokio PORT CERT KEY`.
//!
//! Reads and writes as the documentation of tokio does, with a buffer that takes a whole record.

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::error::Error;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const BUFFER_BYTES: usize = 16 * 1024;

fn main() -> Result<(), Box<dyn Error>> {
    let [port, certificate, key] = arguments()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let acceptor = acceptor.clone();
            // How a connection ends is nobody's business here.
            tokio::spawn(async move { serve(acceptor, stream).await.ok() });
        }
    })
}

async fn serve(acceptor: TlsAcceptor, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            bytes => stream.write_all(&buffer[..bytes]).await?,
        }
    }
}

fn arguments() -> Result<[String; 3], String> {
    let given: Vec<_> = std::env::args().skip(1).collect();
    given.try_into().map_err(|_| "usage: serve-tokio PORT CERT KEY".into())
}
