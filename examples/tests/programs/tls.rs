//! A client that speaks TLS with the examples, and certificates that are exchanged while one runs.

use super::certificates::Folder;
use super::process::{Process, SOON, connect};
use ringline_tls::rustls::pki_types::{CertificateDer, ServerName};
use ringline_tls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::ring};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// A connection to a server that has to prove to be `localhost`.
pub(crate) fn connect_tls(folder: &Folder, addr: SocketAddr, protocols: &[&str]) -> Stream {
    let mut roots = RootCertStore::empty();
    roots.add(folder.der("ca.pem")).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), connect(addr))
}

/// Sends something, wants it back, and says which certificate the server has shown.
fn echo(stream: &mut Stream) -> CertificateDer<'static> {
    stream.write_all(b"hello").expect("it is open");
    let mut echoed = [0; 5];
    stream.read_exact(&mut echoed).expect("an echo");
    assert_eq!(&echoed, b"hello");
    stream.conn.peer_certificates().expect("the server's")[0].clone()
}

#[test]
fn certificates_are_read_again_on_sighup() {
    let folder = Folder::new();
    let (certificate, key) = folder.issue("first", &["localhost"]);
    let (second, second_key) = folder.issue("second", &["localhost"]);
    let (first_der, second_der) = (folder.der("first.pem"), folder.der("second.pem"));
    let common = ["--listen", "127.0.0.1:0", "--workers", "1", "--no-pin", "--stats", "--tls"];
    let (server, addr) =
        Process::serve(env!("CARGO_BIN_EXE_echo"), &[&common[..], &[&certificate, &key]].concat());
    let mut old = connect_tls(&folder, addr, &[]);
    assert_eq!(echo(&mut old), first_der);
    // A key without its certificate changes nothing.
    fs::copy(&second_key, &key).expect("a file");
    server.signal("HUP");
    thread::sleep(Duration::from_millis(500));
    assert_eq!(echo(&mut connect_tls(&folder, addr, &[])), first_der);
    fs::copy(&second, &certificate).expect("a file");
    server.signal("HUP");
    let until = Instant::now() + SOON;
    while echo(&mut connect_tls(&folder, addr, &[])) != second_der {
        assert!(Instant::now() < until, "the new certificate is shown");
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(echo(&mut old), first_der, "who was there before keeps what it has");
    drop(old);
    let outcome = server.terminate();
    assert!(outcome.errors.contains("certificates stay as they are"), "{}", outcome.errors);
    assert!(outcome.errors.contains("give the key that"), "{}", outcome.errors);
    assert!(outcome.output.contains("ringline/handshakes/failed 0"), "{}", outcome.output);
}

#[test]
fn a_server_does_not_start_with_files_that_it_cannot_use() {
    let folder = Folder::new();
    let (certificate, key) = folder.issue("server", &["localhost"]);
    let (old, old_key) = folder.issue_for("old", &["localhost"], (2001, 2002));
    let (_, other_key) = folder.issue("other", &["localhost"]);
    let none = folder.file("none.pem");
    for (certificate, key, reason) in [
        (&none, &key, "cannot read"),
        (&key, &key, "has no certificate in it"),
        (&certificate, &other_key, "is not the one of the first certificate"),
        (&old, &old_key, "renew it"),
    ] {
        let arguments = ["--listen", "127.0.0.1:0", "--workers", "1", "--tls", certificate, key];
        let outcome = Process::start(env!("CARGO_BIN_EXE_https"), &arguments).wait();
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        assert!(outcome.errors.starts_with("error: ") && outcome.errors.contains(reason), "{outcome:?}");
        assert_eq!(outcome.output, "");
    }
}
