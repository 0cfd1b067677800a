//! The server that says hello, asked in order, all at once, byte by byte, and wrongly; with and without TLS.

use super::certificates::Folder;
use super::process::{Process, connect};
use super::tls::connect_tls;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::thread;

const HTTPS: &str = env!("CARGO_BIN_EXE_https");
const BODY: &str = "Hello, world!\n";

fn serve(arguments: &[&str]) -> (Process, SocketAddr) {
    let common = ["--listen", "127.0.0.1:0", "--workers", "1", "--no-pin", "--stats"];
    Process::serve(HTTPS, &[&common, arguments].concat())
}

fn serve_tls(folder: &Folder, arguments: &[&str]) -> (Process, SocketAddr) {
    let (certificate, key) = folder.issue("server", &["localhost"]);
    serve(&[&["--tls", &certificate, &key], arguments].concat())
}

/// An answer.
#[derive(Debug)]
struct Answer {
    status: String,
    head: String,
    body: String,
}

/// Reads one answer; one to `HEAD` has no body, whatever its length is said to be.
fn read(stream: &mut impl Read, is_head: bool) -> Answer {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).expect("text");
    let status = head.strip_prefix("HTTP/1.1 ").expect("a status")[..3].to_string();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; if is_head { 0 } else { length.parse().expect("a number") }];
    stream.read_exact(&mut body).expect("a body");
    assert!(head.contains("\r\ndate: "), "{head}");
    Answer { status, head, body: String::from_utf8(body).expect("text") }
}

fn assert_end(stream: &mut impl Read) {
    let mut rest = Vec::new();
    // With TLS, an end without a mark is an error.
    stream.read_to_end(&mut rest).expect("an end in order");
    assert_eq!(rest, b"");
}

/// Everything that leaves the connection open, one after the other and then all at once.
fn converse(stream: &mut (impl Read + Write)) {
    let requests = [
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "200", BODY),
        ("GET /?a=b HTTP/1.0\r\nconnection: keep-alive\r\n\r\n", "200", BODY),
        ("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n", "200", ""),
        ("GET http://x/none HTTP/1.1\r\nhost: x\r\n\r\n", "404", "there is nothing but /\n"),
        ("DELETE / HTTP/1.1\r\nhost: x\r\n\r\n", "405", "this server knows GET and HEAD\n"),
        ("GET / HTTP/1.1\r\nhost: x\r\n\r\n", "200", BODY),
    ];
    let check = |stream: &mut dyn Read, (request, status, body): (&str, &str, &str)| {
        let answer = read(&mut { stream }, request.starts_with("HEAD"));
        assert_eq!((&*answer.status, &*answer.body), (status, body), "{request}");
        assert_eq!(answer.head.contains("\r\nallow: GET, HEAD\r\n"), status == "405");
        assert!(!answer.head.contains("connection: close"), "{request}");
        if request.starts_with("HEAD") {
            assert!(answer.head.contains(&format!("content-length: {}\r\n", BODY.len())));
        }
    };
    for request in requests {
        stream.write_all(request.0.as_bytes()).expect("it is open");
        check(stream, request);
    }
    let all: String = requests.iter().map(|request| request.0).collect();
    stream.write_all(all.as_bytes()).expect("it is open");
    for request in requests {
        check(stream, request);
    }
    for byte in all.bytes() {
        stream.write_all(&[byte]).expect("it is open");
    }
    for request in requests {
        check(stream, request);
    }
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("it is open");
    let answer = read(stream, false);
    assert!(answer.status == "200" && answer.head.contains("\r\nconnection: close\r\n"), "{answer:?}");
    assert_end(stream);
}

#[test]
fn a_connection_stays_open_for_all_that_is_asked() {
    let (server, addr) = serve(&[]);
    converse(&mut connect(addr));
    server.terminate();
}

#[test]
fn a_connection_stays_open_for_all_that_is_asked_over_tls() {
    let folder = Folder::new();
    let (server, addr) = serve_tls(&folder, &[]);
    let mut stream = connect_tls(&folder, addr, &["h2", "http/1.1"]);
    converse(&mut stream);
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut stream = connect_tls(&folder, addr, &["h2"]);
    let error = stream.write_all(b"PRI").expect_err("it is turned away");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    let outcome = server.terminate();
    for counted in ["ringline/handshakes 1", "ringline/handshakes/failed 1"] {
        assert!(outcome.output.lines().any(|line| line == counted), "{}", outcome.output);
    }
}

#[test]
fn what_is_refused_is_the_last_of_its_connection() {
    let (server, addr) = serve(&["--head-bytes", "200"]);
    let long = format!("GET / HTTP/1.1\r\nhost: {}", "x".repeat(300));
    let crowded = format!("GET / HTTP/1.0\r\n{}\r\n", "a:\r\n".repeat(65));
    for (request, status) in [
        ("hello there\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", "400"),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03", "400"),
        (&long, "431"),
        (&crowded, "431"),
        ("GET / HTTP/3.0\r\n\r\n", "505"),
        (
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 34\r\n\r\nGET / HTTP/1.1\r\nhost: smuggled\r\n\r\n",
            "405",
        ),
        ("GET / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "413"),
        ("GET / HTTP/1.0\r\n\r\n", "200"),
    ] {
        let mut stream = connect(addr);
        stream.write_all(request.as_bytes()).expect("it is open");
        let answer = read(&mut stream, false);
        assert_eq!(answer.status, status, "{request}");
        assert!(answer.head.contains("\r\nconnection: close\r\n"), "{request}");
        assert_end(&mut stream);
    }
    server.terminate();
}

#[test]
fn a_client_that_asks_without_reading_waits_and_gets_every_answer() {
    const COUNT: usize = 100_000;
    let (server, addr) = serve(&[]);
    let mut stream = connect(addr);
    let mut writer = stream.try_clone().expect("a clone");
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    let writing = thread::spawn(move || {
        for _ in 0..COUNT / 100 {
            writer.write_all(&request.repeat(100)).expect("it is open");
        }
        writer.write_all(b"GET /end HTTP/1.0\r\n\r\n").expect("it is open");
    });
    let mut answers = Vec::new();
    stream.read_to_end(&mut answers).expect("an end in order");
    writing.join().expect("everything was sent");
    let answers = String::from_utf8(answers).expect("text");
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), COUNT);
    assert_eq!(answers.matches(BODY).count(), COUNT);
    assert_eq!(answers.matches("HTTP/1.1 404").count(), 1);
    server.terminate();
}

#[test]
fn an_idle_connection_is_closed() {
    let (server, addr) = serve(&["--idle", "1"]);
    let mut stream = connect(addr);
    let mut rest = Vec::new();
    // However it ends, it does.
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    let outcome = server.terminate();
    assert!(outcome.output.contains("ringline/closed/idle 1"), "{}", outcome.output);
}
