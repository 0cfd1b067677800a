//! TLS from the middle of a connection on, in both roles, with OpenSSL and Python on the other side.

use crate::certificates::Folder;
use crate::tools::{Tool, run};
use ringline_core::testing::World;
use ringline_core::{Admit, CloseReason, Config, ConnId, Consumed, Ctx, EventHandler, Peer, Running, Server};
use ringline_tls::{TlsConfig, TlsConnector, TlsFault, TlsInfo};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// What has happened to a server's connection.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    Said { command: String, is_encrypted: bool },
    Closed(CloseReason),
}

/// As much of a mail server as it takes to begin TLS.
struct Mail {
    tls: TlsConfig,
    events: mpsc::Sender<Event>,
}

impl EventHandler for Mail {
    /// Whether the connection is encrypted.
    type Conn = bool;
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<bool> {
        Admit::Accept(false)
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, _: &mut bool) {
        cx.send(id, b"220 mail.test ESMTP\r\n").expect("it is open");
    }

    fn on_secured(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, is_encrypted: &mut bool) {
        assert!(cx.tls(id).expect("it has TLS").version().is_some());
        *is_encrypted = true;
    }

    fn on_data(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        id: ConnId,
        is_encrypted: &mut bool,
        data: &[u8],
    ) -> Consumed {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return Consumed::none() };
        let command = String::from_utf8_lossy(&data[..end]).trim().to_ascii_uppercase();
        let answer: &[u8] = match command.split(' ').next() {
            Some("EHLO") if *is_encrypted => b"250-mail.test\r\n250 HELP\r\n",
            Some("EHLO") => b"250-mail.test\r\n250 STARTTLS\r\n",
            Some("STARTTLS") => b"220 go ahead\r\n",
            Some("QUIT") => b"221 farewell\r\n",
            _ => b"250 very well\r\n",
        };
        cx.send(id, answer).expect("it is open");
        match command.as_str() {
            "STARTTLS" => cx.secure(id, self.tls.layer().expect("a layer")).expect("it is open and plain"),
            "QUIT" => cx.close(id),
            _ => {}
        }
        let _ = self.events.send(Event::Said { command, is_encrypted: *is_encrypted });
        Consumed::bytes(end + 1)
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: bool, reason: CloseReason) {
        let _ = self.events.send(Event::Closed(reason));
    }
}

/// A mail server with a certificate for `localhost`.
fn serve(folder: &Folder) -> (Running, Receiver<Event>) {
    let (certificate, key) = folder.issue("server", &["localhost"]);
    let tls = TlsConfig::from_pem_files(certificate, key).expect("good files");
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let config = Config::builder().workers(1).pin(false).linger(Duration::from_millis(200)).build();
    let server = Server::new(config.expect("a configuration")).listen("127.0.0.1:0").expect("a listener");
    let make = move |_| Mail { tls: tls.clone(), events: sender.lock().expect("no panic holds it").clone() };
    (server.launch(make).expect("a server"), events)
}

fn next(events: &Receiver<Event>) -> Event {
    events.recv_timeout(PATIENCE).expect("something happens")
}

fn said(command: &str, is_encrypted: bool) -> Event {
    Event::Said { command: command.into(), is_encrypted }
}

#[test]
fn openssl_goes_over_to_tls_in_the_middle() {
    for version in ["-tls1_3", "-tls1_2"] {
        let folder = Folder::new();
        let (running, events) = serve(&folder);
        let (connect, ca) = (running.local_addrs()[0].to_string(), folder.file("ca.pem"));
        let flags = [
            "s_client",
            "-starttls",
            "smtp",
            "-connect",
            &connect,
            "-CAfile",
            &ca,
            "-servername",
            "localhost",
        ];
        let more = ["-verify_return_error", "-quiet", "-crlf", version];
        let mut client = Tool::start("openssl", &[&flags[..], &more].concat());
        client.write(b"NOOP\n");
        client.wait_for("250 very well");
        client.write(b"QUIT\n");
        client.wait_for("221 farewell");
        assert!(
            matches!(next(&events), Event::Said { command, is_encrypted: false } if command.starts_with("EHLO"))
        );
        assert_eq!(next(&events), said("STARTTLS", false));
        assert_eq!(next(&events), said("NOOP", true));
        assert_eq!(next(&events), said("QUIT", true));
        assert_eq!(next(&events), Event::Closed(CloseReason::Closed));
        running.shutdown(Duration::from_secs(10)).expect("the server ends in order");
    }
}

#[test]
fn the_mail_client_of_python_goes_over_to_tls_in_the_middle() {
    let folder = Folder::new();
    let (running, events) = serve(&folder);
    let script = "
import smtplib, ssl, sys
context = ssl.create_default_context(cafile=sys.argv[2])
with smtplib.SMTP('localhost', int(sys.argv[1])) as mail:
    mail.starttls(context=context)
    print(mail.noop(), mail.has_extn('starttls'), mail.sock.version())
";
    let port = running.local_addrs()[0].port().to_string();
    let output = run("python3", &["-c", script, &port, &folder.file("ca.pem")], b"");
    assert!(output.contains("(250, b'very well') False TLSv1.3"), "{output}");
    loop {
        match next(&events) {
            Event::Said { command, is_encrypted } => {
                assert_eq!(is_encrypted, command == "NOOP" || command == "QUIT", "{command}");
            }
            Event::Closed(reason) => break assert_eq!(reason, CloseReason::Closed),
        }
    }
    running.shutdown(Duration::from_secs(10)).expect("the server ends in order");
}

#[test]
fn what_is_slipped_in_before_the_handshake_is_never_taken_for_protected() {
    let folder = Folder::new();
    let (running, events) = serve(&folder);
    let mut stream = TcpStream::connect(running.local_addrs()[0]).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
    stream.write_all(b"STARTTLS\r\nNOOP of somebody on the way\r\n").expect("it is open");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer and an end");
    assert!(answer.starts_with(b"220 mail.test ESMTP\r\n220 go ahead\r\n\x15"), "{answer:?}");
    assert_eq!(next(&events), said("STARTTLS", false));
    let Event::Closed(reason) = next(&events) else { panic!("nothing else was said") };
    assert_eq!(TlsFault::of(reason), Some(TlsFault::NotTls));
    running.shutdown(Duration::from_secs(10)).expect("the server ends in order");
}

/// Goes over to TLS as soon as it is offered, and then ends.
struct Sender {
    tls: TlsConnector,
    answers: Vec<String>,
    is_secured: bool,
    closed: Vec<CloseReason>,
}

impl EventHandler for Sender {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Refuse
    }

    fn on_secured(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut ()) {
        self.is_secured = true;
        cx.send(id, b"QUIT\r\n").expect("it is open");
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        let Some(end) = data.iter().position(|byte| *byte == b'\n') else { return Consumed::none() };
        self.answers.push(String::from_utf8_lossy(&data[..end]).trim().to_string());
        match self.answers.len() {
            1 => drop(cx.send(id, b"STARTTLS\r\n").expect("it is open")),
            2 => cx.secure(id, self.tls.layer("server.test").expect("a name")).expect("it is open and plain"),
            _ => cx.close(id),
        }
        Consumed::bytes(end + 1)
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, (): (), reason: CloseReason) {
        self.closed.push(reason);
    }
}

/// A mail server that says everything from the handshake on encrypted.
const PYTHON_MAIL: &str = "
import socket, ssl, sys
context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
context.load_cert_chain(sys.argv[1], sys.argv[2])
listener = socket.create_server(('127.0.0.1', 0))
print('port', listener.getsockname()[1], flush=True)
plain, _ = listener.accept()
plain.sendall(b'220 hello\\r\\n')
print('asked', plain.recv(100), flush=True)
plain.sendall(b'220 go ahead\\r\\n')
try:
    with context.wrap_socket(plain, server_side=True) as tls:
        print('asked', tls.recv(100), tls.version(), flush=True)
        tls.sendall(b'221 farewell\\r\\n')
        print('then', tls.recv(100), flush=True)
except ssl.SSLError as error:
    print('refused', error.reason, flush=True)
";

fn send(folder: &Folder, names: &[&str]) -> (Sender, String) {
    let (certificate, key) = folder.issue("mail", names);
    let mut server = Tool::start("python3", &["-c", PYTHON_MAIL, &certificate, &key]);
    server.wait_for("port ");
    let said = server.wait_for("\n");
    let addr: SocketAddr = said.replace("port ", "127.0.0.1:").trim().parse().expect("an address");
    let tls = TlsConnector::builder().roots(folder.file("ca.pem")).build().expect("files");
    let sender = Sender { tls, answers: Vec::new(), is_secured: false, closed: Vec::new() };
    let config = Config::builder().build().expect("a configuration");
    let mut world = World::loopback(&config, sender).expect("a ring");
    world.act(|_, cx| cx.connect(addr, ())).expect("room");
    assert!(world.run_until(|world| !world.handler().closed.is_empty()), "it comes to an end");
    let sender = world.finish();
    (sender, server.finish())
}

#[test]
fn a_client_of_ours_goes_over_to_tls_in_the_middle() {
    let folder = Folder::new();
    let (sender, said) = send(&folder, &["server.test"]);
    assert!(sender.is_secured);
    assert_eq!(sender.answers, ["220 hello", "220 go ahead", "221 farewell"]);
    assert_eq!(sender.closed, [CloseReason::Closed]);
    assert!(said.contains(r"asked b'QUIT\r\n' TLSv1.3") && said.contains("then b''"), "{said}");
    let (sender, said) = send(&folder, &["other.test"]);
    assert!(!sender.is_secured);
    assert_eq!(TlsFault::of(sender.closed[0]), Some(TlsFault::WrongName));
    assert!(said.contains("refused") && !said.contains("QUIT"), "{said}");
}
