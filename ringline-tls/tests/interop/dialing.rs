//! The client's side, with OpenSSL's server.

use crate::certificates::Folder;
use crate::tools::{Tool, has};
use ringline_core::testing::World;
use ringline_core::{
    Admit, CloseReason, Config, ConnId, ConnectOptions, Consumed, Ctx, EventHandler, Peer,
};
use ringline_tls::{TlsConnector, TlsFault, TlsInfo, TlsVersions};
use std::net::SocketAddr;

/// Says hello when it is open and keeps what comes back.
#[derive(Default)]
struct Client {
    opened: Vec<String>,
    input: Vec<u8>,
    closed: Vec<CloseReason>,
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
        if self.input.ends_with(b"\n") {
            cx.close(id);
        }
        Consumed::all(data)
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): (), reason: CloseReason) {
        self.closed.push(reason);
    }
}

/// A server of OpenSSL's that sends lines back in reverse, and its address.
fn s_server(identity: &(String, String), more: &[&str]) -> (Tool, SocketAddr) {
    let base = ["s_server", "-accept", "127.0.0.1:0", "-cert", &identity.0, "-key", &identity.1, "-rev"];
    let mut server = Tool::start("openssl", &[&base, more].concat());
    let said = server.wait_for("\nACCEPT 127.0.0.1:");
    let mut port = said.rsplit(':').next().unwrap_or_default().trim().to_string();
    while port.is_empty() {
        let said = server.wait_for("\n");
        port = said.rsplit(':').next().unwrap_or_default().trim().to_string();
    }
    let addr = format!("127.0.0.1:{port}").parse().expect("an address");
    (server, addr)
}

/// Connects once, to the end.
fn dial(tls: &TlsConnector, name: &str, addr: SocketAddr) -> Client {
    let config = Config::builder().build().expect("a configuration");
    let mut world = World::loopback(&config, Client::default()).expect("a ring");
    let layer = tls.layer(name).expect("a name");
    world.act(|_, cx| cx.connect_layered(addr, &ConnectOptions::new(), layer, ())).expect("room");
    assert!(world.run_until(|world| !world.handler().closed.is_empty()), "it comes to an end");
    world.finish()
}

#[test]
fn a_connection_of_ours_speaks_with_openssl_in_both_versions() {
    if !has("openssl") {
        return;
    }
    let folder = Folder::new();
    let identity = folder.issue("server", &["server.test"]);
    for (versions, expected) in [(TlsVersions::Tls13, "TLSv1_3"), (TlsVersions::Tls12, "TLSv1_2")] {
        let (_server, addr) = s_server(&identity, &[]);
        let tls = TlsConnector::builder().roots(folder.file("ca.pem")).versions(versions).build().expect("files");
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
    if !has("openssl") {
        return;
    }
    let folder = Folder::new();
    let tls = TlsConnector::builder().roots(folder.file("ca.pem")).build().expect("files");
    for (identity, fault) in [
        (folder.issue("other", &["other.test"]), TlsFault::WrongName),
        (folder.issue_for("old", &["server.test"], (2001, 2002)), TlsFault::CertificateExpired),
        (folder.issue_for("young", &["server.test"], (2089, 2090)), TlsFault::CertificateNotYetValid),
        (folder.self_sign("self", &["server.test"]), TlsFault::UnknownIssuer),
    ] {
        let (_server, addr) = s_server(&identity, &[]);
        let client = dial(&tls, "server.test", addr);
        assert!(client.opened.is_empty() && client.input.is_empty());
        assert_eq!(TlsFault::of(client.closed[0]), Some(fault), "{}", client.closed[0]);
    }
    assert!(tls.layer("not a name").is_err());
}

#[test]
fn a_server_that_wants_a_certificate_gets_it() {
    if !has("openssl") {
        return;
    }
    let folder = Folder::new();
    let (server, ca) = (folder.issue("server", &["server.test"]), folder.file("ca.pem"));
    let (certificate, key) = folder.issue("client", &["client.test"]);
    let (_server, addr) = s_server(&server, &["-Verify", "2", "-verify_return_error", "-CAfile", &ca]);
    let known = TlsConnector::builder().roots(&ca).certificate(certificate, key).build().expect("files");
    assert_eq!(dial(&known, "server.test", addr).input, b"olleh\n");
    let unknown = TlsConnector::builder().roots(&ca).versions(TlsVersions::Tls12).build().expect("files");
    let reason = dial(&unknown, "server.test", addr).closed[0];
    assert!(matches!(TlsFault::of(reason), Some(TlsFault::Alert(40 | 116))), "{reason}");
}
