//! How connections end: in order, cut off, refused, and by peers that do not speak TLS.

use crate::certificates::Folder;
use crate::echo::Service;
use crate::tools::run;
use ringline_core::{CloseReason, Config, Limit};
use ringline_tls::rustls::pki_types::pem::PemObject;
use ringline_tls::rustls::pki_types::{CertificateDer, ServerName};
use ringline_tls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use ringline_tls::{TlsConfig, TlsFault};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

fn service_with(config: ringline_core::ConfigBuilder) -> (Folder, Service) {
    let folder = Folder::new();
    let (certificate, key) = folder.issue("server", &["localhost"]);
    let tls = TlsConfig::from_pem_files(certificate, key).expect("good files");
    (folder, Service::start_with(&tls, config))
}

fn service() -> (Folder, Service) {
    service_with(Config::builder())
}

fn plain(service: &Service) -> TcpStream {
    let stream = TcpStream::connect(service.addr()).expect("the server listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket option");
    stream
}

/// A client of rustls with buffers of its own.
fn client(folder: &Folder, service: &Service) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.file("ca.pem")).expect("a certificate")).expect("a root");
    let provider = Arc::new(ringline_tls::rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").expect("a name");
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).expect("a client"), plain(service))
}

#[test]
fn who_does_not_speak_tls_gets_an_alert_and_a_name_and_disturbs_nobody() {
    let (folder, service) = service();
    let mut good = client(&folder, &service);
    good.write_all(b"before").expect("it is open");
    let oversized = [0x17, 3, 3, 0xFF, 0xFF, 0];
    let garbled = [0x16, 3, 1, 0, 5, 1, 0, 0, 1, 7];
    let out_of_place = [0x16, 3, 1, 0, 5, 99, 0, 0, 1, 7];
    for (said, fault) in [
        (&b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"[..], TlsFault::NotTls),
        (&oversized, TlsFault::Oversized),
        (&garbled, TlsFault::Malformed),
        (&out_of_place, TlsFault::Misbehaved),
    ] {
        let mut stream = plain(&service);
        stream.write_all(said).expect("it is open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer and an end");
        assert_eq!(answer.first(), Some(&0x15), "an alert for {fault:?}: {answer:?}");
        drop(stream);
        let reason = service.closed();
        assert_eq!(TlsFault::of(reason), Some(fault), "{reason}");
    }
    let mut echoed = [0; 6];
    good.read_exact(&mut echoed).expect("it is undisturbed");
    assert_eq!(&echoed, b"before");
    assert_eq!(service.metrics().handshakes_failed, 4);
}

#[test]
fn a_hello_that_drips_is_given_up_at_the_deadline() {
    let (_folder, service) = service_with(Config::builder().handshake_timeout(Duration::from_millis(300)));
    let mut stream = plain(&service);
    let began = Instant::now();
    let mut hello = [0x16, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3].into_iter().chain(std::iter::repeat(0));
    while began.elapsed() < Duration::from_secs(30) {
        if stream.write_all(&[hello.next().expect("it never ends")]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert!(began.elapsed() < Duration::from_secs(20), "it was given up");
    assert_eq!(service.closed(), CloseReason::LimitExceeded(Limit::Handshake));
    assert_eq!(service.metrics().closed_handshake, 1);
}

#[test]
fn a_stream_that_is_cut_off_is_not_taken_for_an_end() {
    let (folder, service) = service();
    let mut stream = client(&folder, &service);
    stream.write_all(b"half a mess").expect("it is open");
    let mut echoed = [0; 11];
    stream.read_exact(&mut echoed).expect("an echo");
    stream.sock.shutdown(Shutdown::Write).expect("an end");
    assert_eq!(service.closed(), CloseReason::Truncated { unread: 0 });
    let script = "
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
plain = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
tls = context.wrap_socket(plain, server_hostname='localhost')
tls.sendall(b'x')
tls.recv(1)
tls.close()
";
    run("python3", &["-c", script, &service.port().to_string(), &folder.file("ca.pem")], b"");
    assert_eq!(service.closed(), CloseReason::Truncated { unread: 0 });
    assert!(service.metrics().closed_truncated >= 1);
}

#[test]
fn a_client_that_ends_in_order_sees_an_end_in_order() {
    let (folder, service) = service();
    let mut stream = client(&folder, &service);
    stream.write_all(b"hello").expect("it is open");
    stream.conn.send_close_notify();
    stream.flush().expect("it is open");
    let mut echoed = Vec::new();
    // rustls makes an error of an end without a mark.
    stream.read_to_end(&mut echoed).expect("an end in order");
    assert_eq!(echoed, b"hello");
    drop(stream);
    assert_eq!(service.closed(), CloseReason::PeerClosed { unread: 0 });
}

#[test]
fn transfers_of_all_sizes_come_back_byte_by_byte() {
    let (folder, service) = service();
    for len in [1usize, 100, 16_384, 16_385, 1 << 20, 64 << 20] {
        let mut stream = client(&folder, &service);
        stream.write_all(b"!").expect("it is open");
        stream.read_exact(&mut [0]).expect("an echo");
        let byte = |at: usize| (at.wrapping_mul(0x9E37_79B9) >> 16) as u8;
        let (mut written, mut read, mut step) = (0, 0, 1usize);
        let mut piece = vec![0; 1 << 18];
        while read < len {
            // Pieces of changing lengths; no more ahead than both sides' buffers take without anybody waiting.
            step = (step * 7 + 13) % 65_537;
            let end = (written + step).min(len).min(read + (64 << 10));
            let bytes: Vec<u8> = (written..end).map(byte).collect();
            stream.write_all(&bytes).expect("it is open");
            written = end;
            let count = stream.read(&mut piece).expect("bytes come back");
            assert!(count > 0, "the server goes on");
            let differs = piece[..count].iter().enumerate().find(|(at, got)| **got != byte(read + at));
            assert_eq!(differs, None, "of {len} after {read}");
            read += count;
        }
        stream.conn.send_close_notify();
        stream.flush().expect("it is open");
        drop(stream);
        assert_eq!(service.closed(), CloseReason::PeerClosed { unread: 0 });
    }
}
