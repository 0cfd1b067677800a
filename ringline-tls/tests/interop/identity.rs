//! Who is who: certificates by name, of clients, from files, and exchanged while the server runs.

use crate::certificates::Folder;
use crate::echo::{Event, Service};
use crate::tools::Tool;
use ringline_tls::{ClientCertificates, TlsConfig, TlsConfigError, TlsFault};
use std::fs;

fn s_client(service: &Service, more: &[&str]) -> Tool {
    let connect = format!("127.0.0.1:{}", service.port());
    let base = ["s_client", "-connect", &connect, "-quiet", "-no_ign_eof", "-verify_return_error"];
    Tool::start("openssl", &[&base, more].concat())
}

#[test]
fn clients_say_who_they_are_if_they_have_to() {
    let (folder, strangers, impostors) = (Folder::of("authority"), Folder::new(), Folder::of("authority"));
    let (certificate, key) = folder.issue("server", &["localhost"]);
    let (client, client_key) = folder.issue("client", &["client.test"]);
    let strangers = [
        (strangers.issue("stranger", &["stranger.test"]), TlsFault::UnknownIssuer),
        (impostors.issue("client", &["client.test"]), TlsFault::BadSignature),
    ];
    let ca = folder.file("ca.pem");
    let trusting = ["-CAfile", &ca];
    for flag in ["-tls1_3", "-tls1_2"] {
        for is_required in [true, false] {
            let wanted = if is_required {
                ClientCertificates::Required(ca.clone().into())
            } else {
                ClientCertificates::Optional(ca.clone().into())
            };
            let tls = TlsConfig::builder().certificate(&certificate, &key).client_certificates(wanted);
            let service = Service::start(&tls.build().expect("good files"));

            let mut known =
                s_client(&service, &[&trusting[..], &[flag, "-cert", &client, "-key", &client_key]].concat());
            known.write(b"it is me\n");
            known.wait_for("it is me");
            let Event::Open { certificates, .. } = service.next() else { panic!("it opens first") };
            // It sends its issuer's too, which it has at hand.
            assert_eq!(certificates, [folder.der("client.pem"), folder.der("ca.pem")]);
            drop(known);
            service.closed();

            for ((stranger, stranger_key), fault) in &strangers {
                let shown = [flag, "-cert", stranger, "-key", stranger_key];
                s_client(&service, &[&trusting[..], &shown].concat()).finish();
                assert_eq!(TlsFault::of(service.closed()), Some(*fault));
            }

            let mut nameless = s_client(&service, &[&trusting[..], &[flag]].concat());
            if is_required {
                nameless.finish();
                assert_eq!(TlsFault::of(service.closed()), Some(TlsFault::NoCertificate));
            } else {
                nameless.write(b"nobody\n");
                nameless.wait_for("nobody");
                let Event::Open { certificates, .. } = service.next() else { panic!("it opens first") };
                assert_eq!(certificates, []);
            }
        }
    }
}

#[test]
fn certificates_and_protocols_are_chosen_by_what_the_client_asks_for() {
    let folder = Folder::new();
    let (certificate, key) = folder.issue("default", &["localhost"]);
    let (api, api_key) = folder.issue("api", &["api.test"]);
    let (star, star_key) = folder.issue("star", &["*.star.test"]);
    let tls = TlsConfig::builder()
        .certificate(&certificate, &key)
        .certificate_for("API.test", &api, &api_key)
        .certificate_for("*.star.test", &star, &star_key)
        .alpn(["h2", "http/1.1"])
        .build()
        .expect("good files");
    let service = Service::start(&tls);
    let ca = folder.file("ca.pem");
    for (name, shown) in [
        ("localhost", "localhost"),
        ("api.test", "api.test"),
        ("a.star.test", "a.star.test"),
        ("x.test", "localhost"),
    ] {
        let mut client = s_client(
            &service,
            &["-CAfile", &ca, "-servername", name, "-verify_hostname", shown, "-alpn", "http/1.1"],
        );
        client.write(b"hello\n");
        client.wait_for("hello");
        let Event::Open { name: asked, alpn, .. } = service.next() else { panic!("it opens first") };
        assert_eq!((asked.as_deref(), alpn.as_deref()), (Some(name), Some("http/1.1")));
        drop(client);
        service.closed();
    }
    assert_eq!(service.metrics().handshakes_failed, 0);
    let mut client = s_client(&service, &["-CAfile", &ca, "-alpn", "spdy/1"]);
    let output = client.finish();
    assert!(output.contains("no application protocol"), "{output}");
    assert_eq!(TlsFault::of(service.closed()), Some(TlsFault::NoApplicationProtocol));
}

#[test]
fn a_name_without_a_certificate_is_turned_away_by_name() {
    let folder = Folder::new();
    let (api, api_key) = folder.issue("api", &["api.test"]);
    let tls = TlsConfig::builder().certificate_for("api.test", &api, &api_key).build().expect("good files");
    let service = Service::start(&tls);
    let ca = folder.file("ca.pem");
    for asked in [&["-servername", "www.test"][..], &["-noservername"]] {
        let output = s_client(&service, &[&["-CAfile", &ca], asked].concat()).finish();
        assert!(output.contains("alert access denied"), "{output}");
        assert_eq!(TlsFault::of(service.closed()), Some(TlsFault::UnknownName));
    }
    let mut client = s_client(&service, &["-CAfile", &ca, "-servername", "api.test"]);
    client.write(b"hello\n");
    client.wait_for("hello");
}

#[test]
fn certificates_are_exchanged_while_the_server_runs() {
    let folder = Folder::new();
    let (certificate, key) = folder.issue("first", &["first.test"]);
    let tls = TlsConfig::from_pem_files(&certificate, &key).expect("good files");
    let service = Service::start(&tls);
    let ca = folder.file("ca.pem");
    let mut old = s_client(&service, &["-CAfile", &ca, "-verify_hostname", "first.test"]);
    old.write(b"one\n");
    old.wait_for("one");
    // Half of an exchange is an error, and nothing changes.
    let (second, second_key) = folder.issue("second", &["second.test"]);
    fs::copy(&second, &certificate).expect("a file");
    assert!(matches!(tls.reload(), Err(TlsConfigError::KeyMismatch { .. })));
    let mut client = s_client(&service, &["-CAfile", &ca, "-verify_hostname", "first.test"]);
    client.write(b"still\n");
    client.wait_for("still");
    fs::copy(&second_key, &key).expect("a file");
    tls.reload().expect("good files");
    let mut client = s_client(&service, &["-CAfile", &ca, "-verify_hostname", "second.test"]);
    client.write(b"new\n");
    client.wait_for("new");
    old.write(b"two\n");
    old.wait_for("two");
}

#[test]
fn what_is_wrong_with_files_is_said_when_they_are_loaded() {
    let folder = Folder::new();
    let (certificate, key) = folder.issue("good", &["localhost"]);
    let (other, other_key) = folder.issue("other", &["localhost"]);
    let load =
        |certificate: &str, key: &str| TlsConfig::from_pem_files(certificate, key).expect_err("it is bad");
    assert!(matches!(load(&folder.file("none.pem"), &key), TlsConfigError::Unreadable { .. }));
    let error = load(&certificate, &other_key);
    assert!(matches!(error, TlsConfigError::KeyMismatch { .. }));
    assert!(error.to_string().contains("give the key that the certificate was requested with"), "{error}");
    assert!(matches!(load(&certificate, &other), TlsConfigError::NoKey { .. }));
    assert!(matches!(load(&key, &key), TlsConfigError::NoCertificate { .. }));
    let broken = folder.file("broken.pem");
    fs::write(&broken, "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n").expect("a file");
    assert!(matches!(load(&broken, &key), TlsConfigError::BadPem { .. }));
    let (old, old_key) = folder.issue_for("old", &["localhost"], (2001, 2002));
    let error = load(&old, &old_key);
    assert!(matches!(error, TlsConfigError::Expired { days_ago: 5000.., .. }), "{error}");
    assert!(error.to_string().contains("renew it"), "{error}");
    let (young, young_key) = folder.issue_for("young", &["localhost"], (2089, 2090));
    assert!(matches!(load(&young, &young_key), TlsConfigError::NotYetValid { .. }));
    let named = TlsConfig::builder().certificate_for("www.test", &certificate, &key).build();
    assert!(matches!(named, Err(TlsConfigError::BadName { .. })));
    assert!(matches!(TlsConfig::builder().build(), Err(TlsConfigError::NothingToShow)));
    let long = TlsConfig::builder().certificate(&certificate, &key).alpn([vec![b'x'; 256]]).build();
    assert!(matches!(long, Err(TlsConfigError::BadProtocol { bytes: 256 })));
}
