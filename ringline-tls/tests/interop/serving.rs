//! The server's side, with clients of other makes.

use crate::certificates::Folder;
use crate::echo::{Event, Service};
use crate::tools::{Tool, run};
use ringline_core::net::{UnixAddr, UnixListenOptions};
use ringline_core::{CloseReason, Config};
use ringline_tls::{ListenTls, TlsConfig, TlsVersions};

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
    for (flag, version) in [("-tls1_3", "TLSv1_3"), ("-tls1_2", "TLSv1_2")] {
        let (folder, service) = service();
        let mut client = s_client(&folder, &service, &[flag, "-quiet", "-no_ign_eof"]);
        client.write(b"hello over there\n");
        client.wait_for("hello over there");
        let Event::Open { facts, name, certificates, .. } = service.next() else { panic!("it opens first") };
        assert!(facts.contains(version), "{facts}");
        assert_eq!((name.as_deref(), certificates.len()), (Some("localhost"), 0));
        client.end();
        client.finish();
        assert_eq!(service.closed(), CloseReason::PeerClosed { unread: 0 });
        assert_eq!(service.metrics().handshakes, 1);
    }
}

#[test]
fn a_server_of_one_version_turns_the_other_away() {
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
    for flag in ["-tls1_3", "-tls1_2"] {
        let (folder, service) = service();
        let session = folder.file("session.pem");
        let mut client = s_client(&folder, &service, &[flag, "-sess_out", &session]);
        client.write(b"first\n");
        client.wait_for("first\n");
        if flag == "-tls1_3" {
            // `k` changes the keys of the client's direction, `K` asks for those of the other one as well.
            for (command, after) in
                [("k\n", "after the first update\n"), ("K\n", "after the second update\n")]
            {
                client.write(command.as_bytes());
                client.wait_for("KEYUPDATE");
                client.write(after.as_bytes());
                client.wait_for(after);
            }
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

/// Sends a megabyte and compares what comes back; with the only version that is to be spoken.
const PYTHON_CLIENT: &str = "
import socket, ssl, sys, threading
context = ssl.create_default_context(cafile=sys.argv[2])
context.minimum_version = context.maximum_version = ssl.TLSVersion[sys.argv[3]]
with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as plain:
    with context.wrap_socket(plain, server_hostname='localhost') as tls:
        whole = bytes(range(256)) * 4096
        threading.Thread(target=tls.sendall, args=(whole,)).start()
        received = bytearray()
        while len(received) < len(whole):
            received += tls.recv(65536)
        print('same' if received == whole else 'different', tls.version())
        tls.unwrap()
";

#[test]
fn python_gets_its_bytes_back() {
    let (folder, service) = service();
    for (version, name) in [("TLSv1_3", "TLSv1.3"), ("TLSv1_2", "TLSv1.2")] {
        let args = ["-c", PYTHON_CLIENT, &service.port().to_string(), &folder.file("ca.pem"), version];
        let output = run("python3", &args, b"");
        assert!(output.contains(&format!("same {name}")), "{output}");
        assert_eq!(service.closed(), CloseReason::PeerClosed { unread: 0 });
    }
}

#[test]
fn curl_gets_its_bytes_back() {
    let (folder, service) = service();
    for version in [["--tlsv1.3", "--tls-max", "1.3"], ["--tlsv1.2", "--tls-max", "1.2"]] {
        // An echo server answers a request with the request, which curl takes for HTTP/0.9.
        let url = format!("https://localhost:{}/echo", service.port());
        let resolve = format!("localhost:{}:127.0.0.1", service.port());
        let ca = folder.file("ca.pem");
        let args = ["-sS", "--http0.9", "--max-time", "2", "--cacert", &ca, "--resolve", &resolve, &url];
        let output = run("curl", &[&version[..], &args].concat(), b"");
        assert!(output.contains("GET /echo HTTP/1.1"), "{output}");
        let Event::Open { facts, .. } = service.next() else { panic!("it opens first") };
        assert!(facts.contains(&version[2].replace("1.", "TLSv1_")), "{facts}");
        service.closed();
    }
}

#[test]
fn a_unix_socket_is_encrypted_as_well() {
    let folder = Folder::new();
    let (certificate, key) = folder.issue("server", &["localhost"]);
    let tls = TlsConfig::from_pem_files(certificate, key).expect("good files");
    let path = folder.file("socket");
    let addr = UnixAddr::path(&path).expect("a path");
    let service = Service::start_on(Config::builder(), |server| {
        server.listen_unix(addr, &UnixListenOptions::default()).expect("a listener").with_tls(&tls)
    });
    let ca = folder.file("ca.pem");
    let flags = ["s_client", "-unix", &path, "-CAfile", &ca, "-verify_return_error", "-quiet", "-no_ign_eof"];
    let mut client = Tool::start("openssl", &[&flags[..], &["-servername", "localhost"]].concat());
    client.write(b"hello in here\n");
    client.wait_for("hello in here");
    client.end();
    client.finish();
    let Event::Open { facts, .. } = service.next() else { panic!("it opens first") };
    assert!(facts.contains("TLSv1_3"), "{facts}");
    assert_eq!(service.closed(), CloseReason::PeerClosed { unread: 0 });
}
