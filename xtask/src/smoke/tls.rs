//! The same servers over TLS, with OpenSSL as the other side, and a client over TLS.

use super::{Server, TALK_LIMIT, check, forward};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Instant;

/// Servers among the examples have this flag if they speak TLS.
const FLAG: &str = "--tls <CERT> <KEY>";

/// Whether an example speaks TLS if it is told to, by what it says to `--help`.
pub(super) fn is_spoken(help: &str) -> bool {
    help.contains(FLAG)
}

/// A certificate for `localhost` that vouches for itself, and its key; removed when dropped.
#[derive(Debug)]
pub(super) struct Identity {
    folder: PathBuf,
}

impl Identity {
    pub(super) fn new() -> Result<Self, String> {
        let folder = std::env::temp_dir().join(format!("ringline-smoke-tls-{}", std::process::id()));
        std::fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let identity = Self { folder };
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-days", "2"])
            .args(["-out", &identity.certificate(), "-keyout", &identity.key()])
            .output()
            .map_err(|error| format!("cannot run openssl: {error}"))?;
        if !made.status.success() {
            return Err(format!("no certificate: {}", String::from_utf8_lossy(&made.stderr)));
        }
        Ok(identity)
    }

    fn certificate(&self) -> String {
        self.folder.join("cert.pem").to_string_lossy().into_owned()
    }

    fn key(&self) -> String {
        self.folder.join("key.pem").to_string_lossy().into_owned()
    }

    /// What makes a server of a command.
    fn flags(&self) -> [String; 3] {
        ["--tls".to_owned(), self.certificate(), self.key()]
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        // It is in the folder for what may go.
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

/// Starts the command as a server that speaks TLS, and wants an answer that begins as given.
pub(super) fn check_server(
    command: &[String],
    identity: &Identity,
    (request, answer): (&str, &str),
) -> Result<(), String> {
    let command = [command, &identity.flags()].concat();
    check(&command, |address| ask(address, identity, request, answer))
        .map_err(|reason| format!("over TLS: {reason}"))
}

/// Starts the server, and has the client fetch a page from it over TLS.
pub(super) fn check_client(server: &[String], client: &str, identity: &Identity) -> Result<(), String> {
    let server = [server, &identity.flags()].concat();
    check(&server, |address| {
        let (url, address) = (format!("https://localhost:{}/", address.port()), address.to_string());
        let certificate = identity.certificate();
        let base = [client, "--from", &url, "--connect-to", &address, "--connections", "20"];
        let run = |more: &[&str]| {
            let command: Vec<String> = base.iter().chain(more).map(|&word| word.to_owned()).collect();
            let mut client = Server::start(&command)?;
            let status = client.wait(TALK_LIMIT)?;
            Ok::<_, String>((status.success(), client.output()))
        };
        match (run(&["--cacert", &certificate])?, run(&[])?) {
            ((false, said), _) => Err(format!("it does not get the page over TLS\n{said}")),
            ((true, _), (true, said)) => Err(format!("it takes a certificate from nobody it trusts\n{said}")),
            ((true, _), (false, _)) => Ok(()),
        }
    })
}

/// A child that is killed when dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Sends a request with OpenSSL's client and wants an answer that begins as given.
fn ask(address: SocketAddr, identity: &Identity, request: &str, answer: &str) -> Result<(), String> {
    let child = Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_quiet", "-verify_return_error", "-servername", "localhost"])
        .args(["-verify_hostname", "localhost", "-CAfile", &identity.certificate()])
        .args(["-connect", &address.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run openssl: {error}"))?;
    let mut client = Killed(child);
    let (sender, lines) = channel();
    forward(client.0.stdout.take(), sender.clone());
    forward(client.0.stderr.take(), sender);
    let mut input = client.0.stdin.take().ok_or("openssl has no input")?;
    input.write_all(request.as_bytes()).map_err(|error| format!("request: {error}"))?;
    let deadline = Instant::now() + TALK_LIMIT;
    // Lines come without their ends.
    let answer = &answer.replace("\r\n", "\n");
    let mut received = String::new();
    while received.len() < answer.len() {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => received.extend([line.as_str(), "\n"]),
            Err(error) => return Err(format!("the answer is {received:?}, not {answer:?}: {error}")),
        }
    }
    if received.starts_with(answer.as_str()) {
        Ok(())
    } else {
        Err(format!("the answer begins with {received:?}, not {answer:?}"))
    }
}
