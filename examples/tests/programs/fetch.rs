//! The client for many connections, in front of servers that prove who they are and others.

use super::certificates::Folder;
use super::process::{Outcome, Process};
use std::fs;
use std::net::SocketAddr;

fn serve(arguments: &[&str]) -> (Process, SocketAddr) {
    let common = ["--listen", "127.0.0.1:0", "--workers", "1", "--no-pin"];
    Process::serve(env!("CARGO_BIN_EXE_https"), &[&common, arguments].concat())
}

fn serve_tls(identity: &(String, String)) -> (Process, SocketAddr) {
    serve(&["--tls", &identity.0, &identity.1])
}

/// Fetches `/` of `https://localhost` from this address.
fn fetch(addr: SocketAddr, arguments: &[&str]) -> Outcome {
    let (url, addr) = (format!("https://localhost:{}/", addr.port()), addr.to_string());
    let common = ["--from", &url, "--connect-to", &addr];
    Process::start(env!("CARGO_BIN_EXE_fetch"), &[&common, arguments].concat()).wait()
}

#[test]
fn a_page_comes_over_many_encrypted_connections() {
    let folder = Folder::new();
    let (server, addr) = serve_tls(&folder.issue("server", &["localhost"]));
    let (ca, page) = (folder.file("ca.pem"), folder.file("page"));
    let arguments = ["--cacert", &ca, "--connections", "200", "--workers", "2", "--expect", &page];
    fs::write(&page, "Hello, world!\n").expect("a file");
    let outcome = fetch(addr, &arguments);
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(outcome.output, "200 of 200 answers as expected\n");
    fs::write(&page, "Hello, world?\n").expect("a file");
    let outcome = fetch(addr, &arguments);
    assert_eq!(outcome.status.code(), Some(1));
    assert!(outcome.output.starts_with("0 of 200 answers as expected\n"), "{outcome:?}");
    server.terminate();
}

#[test]
fn a_server_that_cannot_prove_who_it_is_is_not_asked() {
    let folder = Folder::new();
    let ca = folder.file("ca.pem");
    for (identity, reason) in [
        (folder.issue("other", &["other.test"]), "the peer's certificate is for another name"),
        (folder.self_sign("self", &["localhost"]), "nobody trusted has issued the peer's certificate"),
    ] {
        let (server, addr) = serve_tls(&identity);
        let outcome = fetch(addr, &["--connections", "5", "--cacert", &ca]);
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        let expected = format!("0 of 5 answers as expected\n5 others: {reason}");
        assert!(outcome.output.starts_with(&expected), "{outcome:?}");
        assert!(outcome.errors.contains("5 connections got no right answer"), "{outcome:?}");
        // The very same server is good enough for somebody who trusts it for what it is.
        if identity.0.contains("self") {
            let outcome = fetch(addr, &["--cacert", &identity.0]);
            assert!(outcome.status.success(), "{outcome:?}");
        }
        server.terminate();
    }
}

#[test]
fn a_server_without_tls_and_bad_choices_are_told_of() {
    let folder = Folder::new();
    let ca = folder.file("ca.pem");
    let (server, addr) = serve(&[]);
    let outcome = fetch(addr, &["--connections", "5", "--cacert", &ca]);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(outcome.output.contains("5 others: the peer does not speak TLS; check that"), "{outcome:?}");
    let none = folder.file("none.pem");
    let outcome = fetch(addr, &["--cacert", &none]);
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(outcome.errors.starts_with("error: cannot read"), "{outcome:?}");
    for (arguments, reason) in [
        (["--from", "http://localhost:1/", "--cacert", &ca], "--cacert is for https:// URLs"),
        (["--from", "https://a b:1/", "--cacert", &ca], "neither a host name nor an IP address"),
        (["--from", "gopher://localhost/", "--cacert", &ca], "neither http nor https"),
    ] {
        let arguments = [&arguments[..], &["--connect-to", "127.0.0.1:1"]].concat();
        let outcome = Process::start(env!("CARGO_BIN_EXE_fetch"), &arguments).wait();
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        assert!(outcome.errors.contains(reason), "{outcome:?}");
    }
    server.terminate();
}
