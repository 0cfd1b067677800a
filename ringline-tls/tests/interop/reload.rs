//! Certificates that are exchanged while clients come and go.

use crate::certificates::Folder;
use crate::echo::{Event, Service};
use crate::tools::Tool;
use ringline_core::CloseReason;
use ringline_tls::TlsConfig;
use ringline_tls::rustls::pki_types::{CertificateDer, ServerName};
use ringline_tls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A client that knows no earlier session, so that every server has to show its certificate.
fn client(folder: &Folder, addr: SocketAddr) -> Stream {
    let mut roots = RootCertStore::empty();
    roots.add(folder.der("ca.pem")).expect("a root");
    let provider = Arc::new(ringline_tls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TcpStream::connect(addr).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket option");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), stream)
}

fn talk(stream: &mut Stream) -> CertificateDer<'static> {
    stream.write_all(b"hello").expect("it is open");
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).expect("an echo");
    assert_eq!(&echoed, b"hello");
    stream.conn.peer_certificates().expect("the server's")[0].clone()
}

#[test]
fn certificates_are_exchanged_under_load_without_losing_anybody() {
    let folder = Folder::new();
    let both = [folder.issue("first", &["localhost"]), folder.issue("second", &["localhost"])];
    let (certificate, key) = (folder.file("current.pem"), folder.file("current.key"));
    let install = |(new_certificate, new_key): &(String, String)| {
        fs::copy(new_certificate, &certificate).expect("a file");
        fs::copy(new_key, &key).expect("a file");
    };
    install(&both[0]);
    let tls = TlsConfig::from_pem_files(&certificate, &key).expect("good files");
    let service = Service::start(&tls);
    let addr = service.addr();
    let mut old = client(&folder, addr);
    assert_eq!(talk(&mut old), folder.der("first.pem"));
    let is_over = AtomicBool::new(false);
    let shown = thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut shown = HashMap::new();
                    while !is_over.load(Ordering::Relaxed) {
                        *shown.entry(talk(&mut client(&folder, addr))).or_insert(0u32) += 1;
                    }
                    shown
                })
            })
            .collect();
        let began = Instant::now();
        let mut reloads = 0;
        while began.elapsed() < Duration::from_secs(1) {
            reloads += 1;
            install(&both[reloads % 2]);
            tls.reload().expect("good files");
            assert_eq!(
                talk(&mut client(&folder, addr)),
                folder.der(["first.pem", "second.pem"][reloads % 2])
            );
            assert_eq!(talk(&mut old), folder.der("first.pem"), "it keeps what it was made with");
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(reloads > 3);
        clients.into_iter().flat_map(|client| client.join().expect("nobody is lost")).collect::<Vec<_>>()
    });
    for name in ["first.pem", "second.pem"] {
        assert!(shown.iter().any(|(certificate, _)| *certificate == folder.der(name)), "{name} was shown");
    }
    let metrics = service.metrics();
    assert_eq!(metrics.handshakes_failed, 0);
    assert!(metrics.handshakes > shown.iter().map(|(_, count)| u64::from(*count)).sum());
}

#[test]
fn tickets_from_before_a_reload_are_not_honoured() {
    let folder = Folder::new();
    let (certificate, key) = folder.issue("server", &["localhost"]);
    let tls = TlsConfig::from_pem_files(certificate, key).expect("good files");
    let service = Service::start(&tls);
    let (connect, ca) = (format!("127.0.0.1:{}", service.port()), folder.file("ca.pem"));
    let session = folder.file("session.pem");
    let visit = |flag: &str| {
        let flags =
            ["s_client", "-connect", &connect, "-CAfile", &ca, "-verify_return_error", flag, &session];
        let mut client = Tool::start("openssl", &flags);
        client.write(b"hello\n");
        client.wait_for("hello\n");
        let Event::Open { resumed, .. } = service.next() else { panic!("it opens first") };
        client.write(b"Q\n");
        client.finish();
        assert_eq!(service.closed(), CloseReason::PeerClosed { unread: 0 });
        resumed
    };
    assert!(!visit("-sess_out"));
    assert!(visit("-sess_in"));
    tls.reload().expect("good files");
    assert!(!visit("-sess_in"));
}
