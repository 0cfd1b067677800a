//! Certificates that do not prove anything: what others say of ours, and what we say of others'.

use crate::certificates::Folder;
use crate::echo::Service;
use crate::tools::run;
use ringline_core::CloseReason;
use ringline_tls::rustls::crypto::ring;
use ringline_tls::rustls::pki_types::PrivateKeyDer;
use ringline_tls::rustls::pki_types::pem::PemObject;
use ringline_tls::rustls::server::{ClientHello, ResolvesServerCert};
use ringline_tls::rustls::sign::CertifiedKey;
use ringline_tls::rustls::{DEFAULT_VERSIONS, ServerConfig};
use ringline_tls::{TlsConfig, TlsConnector, TlsFault};
use std::sync::Arc;

/// Shows a certificate without asking whether it makes sense, as a server of another make may.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// A server that shows this certificate and signs with this key, whatever they are.
fn server(folder: &Folder, (certificate, key): &(String, String)) -> Service {
    let provider = Arc::new(ring::default_provider());
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let key = provider.key_provider.load_private_key(key).expect("a key");
    let name = certificate.rsplit('/').next().expect("a name");
    let shows = Shows(Arc::new(CertifiedKey::new(vec![folder.der(name)], key)));
    let config = ServerConfig::builder_with_provider(provider).with_protocol_versions(DEFAULT_VERSIONS);
    let config = config.expect("versions").with_no_client_auth().with_cert_resolver(Arc::new(shows));
    Service::start(&TlsConfig::from_rustls(Arc::new(config)))
}

/// What is wrong with a server, and what others and we say of it.
struct Case {
    identity: (String, String),
    curl: &'static str,
    openssl: &'static str,
    python: &'static str,
    fault: TlsFault,
    /// What to do about it, of the fault's text.
    remedy: &'static str,
}

fn cases(folder: &Folder) -> [Case; 5] {
    let (certificate, _) = folder.issue("right", &["localhost"]);
    let (_, other_key) = folder.issue("another", &["localhost"]);
    [
        Case {
            identity: folder.issue_for("old", &["localhost"], (2001, 2002)),
            curl: "certificate has expired",
            openssl: "certificate has expired",
            python: "certificate has expired",
            fault: TlsFault::CertificateExpired,
            remedy: "renew",
        },
        Case {
            identity: folder.issue_for("young", &["localhost"], (2089, 2090)),
            curl: "certificate is not yet valid",
            openssl: "certificate is not yet valid",
            python: "certificate is not yet valid",
            fault: TlsFault::CertificateNotYetValid,
            remedy: "check the clock",
        },
        Case {
            identity: folder.issue("other", &["other.test"]),
            curl: "no alternative certificate subject name matches",
            openssl: "hostname mismatch",
            python: "Hostname mismatch",
            fault: TlsFault::WrongName,
            remedy: "a name that is in it",
        },
        Case {
            identity: folder.self_sign("self", &["localhost"]),
            curl: "self-signed certificate",
            openssl: "self-signed certificate",
            python: "self-signed certificate",
            fault: TlsFault::UnknownIssuer,
            remedy: "trust its issuer",
        },
        Case {
            identity: (certificate, other_key),
            curl: "bad signature",
            openssl: "bad signature",
            python: "BAD_SIGNATURE",
            fault: TlsFault::BadSignature,
            remedy: "key",
        },
    ]
}

const PYTHON: &str = "
import socket, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
with socket.create_connection(('127.0.0.1', int(sys.argv[1]))) as plain:
    context.wrap_socket(plain, server_hostname='localhost')
";

#[test]
fn everybody_sees_through_a_server_that_cannot_prove_who_it_is() {
    let folder = Folder::new();
    let ca = folder.file("ca.pem");
    for case in cases(&folder) {
        let service = server(&folder, &case.identity);
        let port = service.port().to_string();
        let (url, resolve) = (format!("https://localhost:{port}/"), format!("localhost:{port}:127.0.0.1"));
        let said =
            run("curl", &["-sS", "--max-time", "20", "--cacert", &ca, "--resolve", &resolve, &url], b"");
        assert!(said.contains(case.curl), "{said}");
        let is_refusal = |reason| {
            assert!(matches!(TlsFault::of(reason), Some(TlsFault::Alert(_))), "{reason}");
        };
        // It looks at names by itself, when the handshake is over, and just ends then.
        let reason = service.closed();
        if reason != (CloseReason::PeerClosed { unread: 0 }) || case.fault != TlsFault::WrongName {
            is_refusal(reason);
        }
        let connect = format!("127.0.0.1:{port}");
        let flags = ["s_client", "-connect", &connect, "-CAfile", &ca, "-verify_return_error"];
        let said = run("openssl", &[&flags[..], &["-verify_hostname", "localhost"]].concat(), b"");
        assert!(said.to_lowercase().contains(case.openssl), "{said}");
        is_refusal(service.closed());
        let said = run("python3", &["-c", PYTHON, &port, &ca], b"");
        assert!(said.contains(case.python), "{said}");
        is_refusal(service.closed());

        let tls = TlsConnector::builder().roots(&ca).build().expect("files");
        let client = crate::dialing::dial(&tls, "localhost", service.addr());
        let reason = client.closed[0];
        assert!(client.opened.is_empty());
        assert_eq!(TlsFault::of(reason), Some(case.fault), "{reason}");
        assert!(reason.to_string().contains(case.remedy), "{reason}");
        assert!(matches!(TlsFault::of(service.closed()), Some(TlsFault::Alert(_))));
    }
}
