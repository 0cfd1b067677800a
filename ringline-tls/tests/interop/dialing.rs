//! The client's side, with OpenSSL's server.

use crate::certificates::Folder;
use crate::tools::Tool;
use ringline_core::net::{Addr, UnixAddr};
use ringline_core::testing::World;
use ringline_core::{Admit, CloseReason, Config, ConnId, ConnectOptions, Consumed, Ctx, EventHandler, Peer};
use ringline_tls::{TlsConnector, TlsFault, TlsInfo, TlsVersions};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

/// Says hello when it is open, and again if asked to, and keeps what comes back.
#[derive(Default)]
pub(crate) struct Client {
    pub(crate) opened: Vec<String>,
    input: Vec<u8>,
    pub(crate) closed: Vec<CloseReason>,
}

impl EventHandler for Client {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Refuse
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut ()) {
        self.opened.push(format!("{:?}", cx.tls(id)));
        cx.send(id, b"hello\n").expect("it is open");
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        self.input.extend_from_slice(data);
        if self.input == b"again\n" {
            cx.send(id, b"hello again\n").expect("it is open");
        } else if self.input.ends_with(b"\n") {
            cx.close(id);
        }
        Consumed::all(data)
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): (), reason: CloseReason) {
        self.closed.push(reason);
    }
}

/// A server of OpenSSL's for one certificate, and its address.
fn s_server(identity: &(String, String), more: &[&str]) -> (Tool, SocketAddr) {
    // It prints some lines without having them written at once.
    let base =
        ["-oL", "openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", &identity.0, "-key", &identity.1];
    let mut server = Tool::start("stdbuf", &[&base, more].concat());
    server.wait_for("\nACCEPT 127.0.0.1:");
    let said = server.wait_for("\n");
    let port = said.rsplit(':').next().unwrap_or_default().trim();
    let addr = format!("127.0.0.1:{port}").parse().expect("an address");
    (server, addr)
}

fn connect(tls: &TlsConnector, name: &str, addr: impl Into<Addr>) -> World<Client> {
    let config = Config::builder().build().expect("a configuration");
    let mut world = World::loopback(&config, Client::default()).expect("a ring");
    let layer = tls.layer(name).expect("a name");
    world.act(|_, cx| cx.connect_layered(addr, &ConnectOptions::new(), layer, ())).expect("room");
    world
}

/// Connects once, to the end.
pub(crate) fn dial(tls: &TlsConnector, name: &str, addr: impl Into<Addr>) -> Client {
    let mut world = connect(tls, name, addr);
    assert!(world.run_until(|world| !world.handler().closed.is_empty()), "it comes to an end");
    world.finish()
}

#[test]
fn a_connection_of_ours_speaks_with_openssl_in_both_versions() {
    let folder = Folder::new();
    let identity = folder.issue("server", &["server.test"]);
    for (versions, expected) in [(TlsVersions::Tls13, "TLSv1_3"), (TlsVersions::Tls12, "TLSv1_2")] {
        let (_server, addr) = s_server(&identity, &["-rev"]);
        let tls =
            TlsConnector::builder().roots(folder.file("ca.pem")).versions(versions).build().expect("files");
        for is_resumed in [false, true] {
            let client = dial(&tls, "server.test", addr);
            assert_eq!(client.input, b"olleh\n");
            assert_eq!(client.closed, [CloseReason::Closed]);
            let facts = &client.opened[0];
            assert!(facts.contains(expected) && facts.contains("server.test"), "{facts}");
            assert!(facts.contains(&format!("is_resumed: {is_resumed}")), "{facts}");
        }
    }
}

#[test]
fn a_server_that_cannot_prove_who_it_is_is_not_spoken_to() {
    let folder = Folder::new();
    let tls = TlsConnector::builder().roots(folder.file("ca.pem")).build().expect("files");
    for (identity, fault) in [
        (folder.issue("other", &["other.test"]), TlsFault::WrongName),
        (folder.issue_for("old", &["server.test"], (2001, 2002)), TlsFault::CertificateExpired),
        (folder.issue_for("young", &["server.test"], (2089, 2090)), TlsFault::CertificateNotYetValid),
        (folder.self_sign("self", &["server.test"]), TlsFault::UnknownIssuer),
    ] {
        let (_server, addr) = s_server(&identity, &["-rev"]);
        let client = dial(&tls, "server.test", addr);
        assert!(client.opened.is_empty() && client.input.is_empty());
        assert_eq!(TlsFault::of(client.closed[0]), Some(fault), "{}", client.closed[0]);
    }
    assert!(tls.layer("not a name").is_err());
}

#[test]
fn a_server_that_wants_a_certificate_gets_it() {
    let folder = Folder::new();
    let (server, ca) = (folder.issue("server", &["server.test"]), folder.file("ca.pem"));
    let (certificate, key) = folder.issue("client", &["client.test"]);
    let (_server, addr) =
        s_server(&server, &["-rev", "-Verify", "2", "-verify_return_error", "-CAfile", &ca]);
    let known = TlsConnector::builder().roots(&ca).certificate(certificate, key).build().expect("files");
    assert_eq!(dial(&known, "server.test", addr).input, b"olleh\n");
    // Version 1.3 lets a client begin before the server has seen its certificate.
    for (versions, alert, opened) in [(TlsVersions::Tls12, 40, 0), (TlsVersions::Tls13, 116, 1)] {
        let unknown = TlsConnector::builder().roots(&ca).versions(versions).build().expect("files");
        let client = dial(&unknown, "server.test", addr);
        assert_eq!(
            (TlsFault::of(client.closed[0]), client.opened.len()),
            (Some(TlsFault::Alert(alert)), opened)
        );
        assert!(client.input.is_empty());
    }
}

#[test]
fn keys_are_changed_when_openssl_asks_for_it() {
    let folder = Folder::new();
    let (mut server, addr) = s_server(&folder.issue("server", &["server.test"]), &[]);
    let tls = TlsConnector::builder().roots(folder.file("ca.pem")).versions(TlsVersions::Tls13);
    let mut world = connect(&tls.build().expect("files"), "server.test", addr);
    assert!(world.run_until(|world| !world.handler().opened.is_empty()), "it opens");
    world.turn();
    server.wait_for("hello\n");
    // `K` changes the keys of the server's direction and asks for those of the other one.
    server.write(b"K\n");
    server.wait_for("SSL_do_handshake -> 1");
    server.write(b"again\n");
    assert!(world.run_until(|world| world.handler().input == b"again\n"), "new keys are understood");
    world.turn();
    server.wait_for("hello again\n");
    // `k` changes those of the server's direction alone.
    server.write(b"k\n");
    server.wait_for("SSL_do_handshake -> 1");
    server.write(b"enough\n");
    assert!(world.run_until(|world| !world.handler().closed.is_empty()), "newer keys are understood");
    let client = world.finish();
    assert_eq!(
        (&client.input[..], &client.closed[..]),
        (&b"again\nenough\n"[..], &[CloseReason::Closed][..])
    );
}

#[test]
fn protocols_and_versions_are_agreed_on_with_openssl_or_not_at_all() {
    let folder = Folder::new();
    let identity = folder.issue("server", &["server.test"]);
    let tls = || TlsConnector::builder().roots(folder.file("ca.pem"));
    let (_server, addr) = s_server(&identity, &["-rev", "-alpn", "http/1.1"]);
    let client = dial(&tls().alpn(["h2", "http/1.1"]).build().expect("files"), "server.test", addr);
    assert!(client.opened[0].contains(r#"alpn: Some("http/1.1")"#), "{}", client.opened[0]);
    let client = dial(&tls().alpn(["h2"]).build().expect("files"), "server.test", addr);
    assert_eq!((TlsFault::of(client.closed[0]), client.opened.len()), (Some(TlsFault::Alert(120)), 0));
    for (flag, ours, others) in [
        ("-tls1_2", TlsVersions::Tls12, TlsVersions::Tls13),
        ("-tls1_3", TlsVersions::Tls13, TlsVersions::Tls12),
    ] {
        let (_server, addr) = s_server(&identity, &["-rev", flag]);
        for versions in [ours, TlsVersions::All] {
            let client = dial(&tls().versions(versions).build().expect("files"), "server.test", addr);
            assert_eq!(client.input, b"olleh\n");
        }
        let client = dial(&tls().versions(others).build().expect("files"), "server.test", addr);
        assert_eq!((TlsFault::of(client.closed[0]), client.opened.len()), (Some(TlsFault::Alert(70)), 0));
    }
}

/// Reverses one line, ends in order and says which version was spoken.
const PYTHON_SERVER: &str = "
import socket, ssl, sys
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[1], sys.argv[2])
context.minimum_version = context.maximum_version = ssl.TLSVersion[sys.argv[3]]
listener = socket.create_server(('127.0.0.1', 0))
print('port', listener.getsockname()[1], flush=True)
plain, _ = listener.accept()
with context.wrap_socket(plain, server_side=True) as tls:
    line = b''
    while not line.endswith(b'\\n'):
        line += tls.recv(100)
    tls.sendall(line[-2::-1] + b'\\n')
    print('spoke', tls.version(), flush=True)
    print('then', tls.recv(100), flush=True)
";

#[test]
fn a_connection_of_ours_speaks_with_python() {
    let folder = Folder::new();
    let (certificate, key) = folder.issue("server", &["127.0.0.1"]);
    let tls = TlsConnector::builder().roots(folder.file("ca.pem")).build().expect("files");
    for version in ["TLSv1_2", "TLSv1_3"] {
        let mut server = Tool::start("python3", &["-c", PYTHON_SERVER, &certificate, &key, version]);
        server.wait_for("port ");
        let said = server.wait_for("\n");
        let addr: SocketAddr = said.replace("port ", "127.0.0.1:").trim().parse().expect("an address");
        let client = dial(&tls, "127.0.0.1", addr);
        assert_eq!((&client.input[..], &client.closed[..]), (&b"olleh\n"[..], &[CloseReason::Closed][..]));
        let said = server.finish();
        assert!(said.contains(&version.replace('_', ".")) && said.contains("then b''"), "{said}");
    }
}

#[test]
fn unix_sockets_are_encrypted_as_well() {
    let folder = Folder::new();
    let (certificate, key) = folder.issue("server", &["server.test"]);
    let path = folder.file("socket");
    // It cannot do with a path of more than 31 bytes, so it is told one that begins in the folder.
    let (here, unix) = (folder.file(""), ["openssl", "s_server", "-unix", "socket", "-rev"]);
    let flags = ["-cert", &certificate, "-key", &key];
    let _server = Tool::start("env", &[&["-C", &here], &unix[..], &flags].concat());
    let tls = TlsConnector::builder().roots(folder.file("ca.pem")).build().expect("files");
    let began = Instant::now();
    let client = loop {
        // It says that it accepts before it listens.
        let client = dial(&tls, "server.test", UnixAddr::path(&path).expect("a path"));
        if !matches!(client.closed[0], CloseReason::ConnectFailed { .. }) {
            break client;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{}", client.closed[0]);
        thread::sleep(Duration::from_millis(10));
    };
    assert_eq!((&client.input[..], &client.closed[..]), (&b"olleh\n"[..], &[CloseReason::Closed][..]));
}
