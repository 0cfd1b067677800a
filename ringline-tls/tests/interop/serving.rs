//! The server's side, with clients of other makes.

use crate::certificates::Folder;
use crate::echo::{Event, Service};
use crate::tools::{Tool, has, run};
use ringline_core::CloseReason;
use ringline_tls::{TlsConfig, TlsVersions};

/// A server for `localhost` and its certificates.
fn service() -> (Folder, Service) {
    let folder = Folder::new();
    let (certificate, key) = folder.issue("server", &["localhost", "127.0.0.1"]);
    let tls = TlsConfig::from_pem_files(certificate, key).expect("good files");
    (folder, Service::start(&tls))
}

/// `openssl s_client` that trusts the folder's authority.
fn s_client(folder: &Folder, service: &Service, more: &[&str]) -> Tool {
    let connect = format!("127.0.0.1:{}", service.port());
    let ca = folder.file("ca.pem");
    let base = [
        "s_client",
        "-connect",
        &connect,
        "-CAfile",
        &ca,
        "-verify_return_error",
        "-servername",
        "localhost",
    ];
    Tool::start("openssl", &[&base, more].concat())
}

#[test]
fn openssl_speaks_with_the_server_in_both_versions() {
    if !has("openssl") {
        return;
    }
    for (flag, version) in [("-tls1_3", "TLSv1_3"), ("-tls1_2", "TLSv1_2")] {
        let (folder, service) = service();
        let mut client = s_client(&folder, &service, &[flag, "-quiet", "-no_ign_eof"]);
        client.write(b"hello over there\n");
        client.wait_for("hello over there");
        let Event::Open { facts, name, certificates, .. } = service.next() else { panic!("it opens first") };
        assert!(facts.contains(version), "{facts}");
        assert_eq!((name.as_deref(), certificates), (Some("localhost"), 0));
        client.end();
        client.finish();
        assert_eq!(service.closed(), CloseReason::PeerClosed { unread: 0 });
        assert_eq!(service.metrics().handshakes, 1);
    }
}

#[test]
fn a_server_of_one_version_turns_the_other_away() {
    if !has("openssl") {
        return;
    }
    let folder = Folder::new();
    let (certificate, key) = folder.issue("server", &["localhost"]);
    for (versions, good, bad) in
        [(TlsVersions::Tls12, "-tls1_2", "-tls1_3"), (TlsVersions::Tls13, "-tls1_3", "-tls1_2")]
    {
        let tls = TlsConfig::builder()
            .certificate(&certificate, &key)
            .versions(versions)
            .build()
            .expect("good files");
        let service = Service::start(&tls);
        let mut client = s_client(&folder, &service, &[bad]);
        let output = client.finish();
        assert!(output.contains("alert protocol version"), "{output}");
        let reason = service.closed();
        assert_eq!(ringline_tls::TlsFault::of(reason), Some(ringline_tls::TlsFault::Incompatible));
        let mut client = s_client(&folder, &service, &[good, "-quiet"]);
        client.write(b"this one\n");
        client.wait_for("this one");
    }
}

#[test]
fn a_session_is_resumed_and_keys_are_updated() {
    if !has("openssl") {
        return;
    }
    for flag in ["-tls1_3", "-tls1_2"] {
        let (folder, service) = service();
        let session = folder.file("session.pem");
        let mut client = s_client(&folder, &service, &[flag, "-sess_out", &session]);
        client.write(b"first\n");
        client.wait_for("first\n");
        if flag == "-tls1_3" {
            // `K` asks for new keys in both directions.
            client.write(b"K\n");
            client.wait_for("KEYUPDATE");
            client.write(b"after the update\n");
            client.wait_for("after the update\n");
        }
        client.write(b"Q\n");
        client.finish();
        assert_eq!(service.closed(), CloseReason::PeerClosed { unread: 0 });
        let mut client = s_client(&folder, &service, &[flag, "-sess_in", &session]);
        client.write(b"second\n");
        let output = client.wait_for("second\n");
        assert!(output.contains("Reused, TLSv1"), "{output}");
        let Event::Open { resumed, .. } = service.next() else { panic!("it opens first") };
        assert!(resumed);
        assert_eq!(service.metrics().handshakes_resumed, 1);
    }
}

#[test]
fn curl_and_python_get_their_bytes_back() {
    let (folder, service) = service();
    if has("python3") {
        let script = "
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as plain:
    with context.wrap_socket(plain, server_hostname='localhost') as tls:
        whole = bytes(range(256)) * 4096
        sent = received = b''
        import threading
        threading.Thread(target=tls.sendall, args=(whole,)).start()
        received = bytearray()
        while len(received) < len(whole):
            received += tls.recv(65536)
        print('same' if received == whole else 'different', tls.version())
        tls.unwrap()
";
        let port = service.port().to_string();
        let output = run("python3", &["-c", script, &port, &folder.file("ca.pem")], b"");
        assert!(output.contains("same TLSv1.3"), "{output}");
        assert_eq!(service.closed(), CloseReason::PeerClosed { unread: 0 });
    }
    if has("curl") {
        // An echo server answers a request with the request, which curl takes for HTTP/0.9.
        let url = format!("https://localhost:{}/echo", service.port());
        let resolve = format!("localhost:{}:127.0.0.1", service.port());
        let ca = folder.file("ca.pem");
        let args = ["-sS", "--http0.9", "--max-time", "2", "--cacert", &ca, "--resolve", &resolve, &url];
        let output = run("curl", &args, b"");
        assert!(output.contains("GET /echo HTTP/1.1"), "{output}");
    }
}
