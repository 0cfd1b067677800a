//! Loadgen against servers that are good, bad, and not there: its numbers have to be those of what was
//! done, and its exit status the truth.

use super::process::{Outcome, Process};
use serde_json::Value;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const LOADGEN: &str = env!("CARGO_BIN_EXE_loadgen");
const ECHO: &str = env!("CARGO_BIN_EXE_echo");

fn echo() -> (Process, SocketAddr) {
    Process::serve(ECHO, &["--listen", "127.0.0.1:0", "--workers", "1", "--no-pin"])
}

fn start(addr: SocketAddr, arguments: &[&str]) -> Process {
    let addr = addr.to_string();
    let common = [&addr, "--json", "--no-progress", "--no-pin", "--workers", "2"];
    Process::start(LOADGEN, &[&common, arguments].concat())
}

/// Runs it to its end; what it reports has to agree with its exit status.
fn run(addr: SocketAddr, arguments: &[&str]) -> (Outcome, Value) {
    judge(start(addr, arguments))
}

fn judge(process: Process) -> (Outcome, Value) {
    let outcome = process.wait();
    let report: Value = serde_json::from_str(&outcome.output).expect("one JSON object");
    let is_well = outcome.status.success();
    assert_eq!(report["ok"], is_well, "{outcome:?}");
    assert_eq!(outcome.status.code(), Some(i32::from(!is_well)), "{outcome:?}");
    assert_eq!(outcome.errors.is_empty(), is_well, "a failure is explained: {outcome:?}");
    (outcome, report)
}

fn count(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {report}"))
}

/// A server that treats each connection with `serve`, in threads of this process.
fn serving(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            thread::spawn(move || serve(stream));
        }
    });
    addr
}

#[test]
fn a_closed_loop_sends_what_was_asked_for_and_counts_it() {
    let (echo, addr) = echo();
    for (connections, depth, size) in [("1", "1", 1), ("7", "1", 100), ("3", "16", 3000), ("2", "4", 3 << 20)]
    {
        let requests = if size > 1 << 20 { 20 } else { 5000 };
        let (requests_text, size_text) = (requests.to_string(), size.to_string());
        let (outcome, report) = run(
            addr,
            &["-n", &requests_text, "--connections", connections, "--depth", depth, "--size", &size_text],
        );
        assert!(outcome.status.success(), "{outcome:?}");
        for path in ["/requests/sent", "/requests/answered"] {
            assert_eq!(count(&report, path), requests, "{path}: {report}");
        }
        for path in ["/bytes/sent", "/bytes/received"] {
            assert_eq!(count(&report, path), requests * size, "{path}: {report}");
        }
        assert_eq!(report["opened_connections"].to_string(), connections);
        let quantile = |name: &str| report["latency_us"][name].as_f64().expect("a number");
        let times = ["p50", "p90", "p99", "p99.9", "max"].map(quantile);
        assert!(times[0] > 0.0 && times.is_sorted(), "{times:?}");
    }
    echo.terminate();
}

#[test]
fn a_closed_loop_lasts_as_long_as_was_asked_for() {
    let (_echo, addr) = echo();
    let (outcome, report) = run(addr, &["--duration", "0.5", "--connections", "4"]);
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(count(&report, "/requests/sent"), count(&report, "/requests/answered"));
    let seconds = report["seconds"].as_f64().expect("a number");
    assert!((0.5..2.0).contains(&seconds), "{seconds} s");
}

#[test]
fn a_rate_is_kept() {
    let (_echo, addr) = echo();
    let (outcome, report) = run(addr, &["--rate", "1500", "--duration", "1", "--connections", "4"]);
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(count(&report, "/requests/sent"), 1500, "{report}");
    let seconds = report["seconds"].as_f64().expect("a number");
    assert!((0.95..2.0).contains(&seconds), "{seconds} s");
    let (_, report) = run(addr, &["--rate", "2000", "-n", "1000"]);
    let seconds = report["seconds"].as_f64().expect("a number");
    assert!((0.45..1.5).contains(&seconds), "{seconds} s");
}

/// A server that stops for a while is not spared: what was due meanwhile counts from when it was due.
#[test]
fn a_stall_is_in_the_latency_of_all_that_was_due_in_it() {
    const STALL: Duration = Duration::from_millis(400);
    let addr = serving(|mut stream| {
        let mut bytes = [0; 64];
        let mut answered = 0;
        while stream.read_exact(&mut bytes).is_ok() {
            if answered == 300 {
                thread::sleep(STALL);
            }
            answered += 1;
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    });
    let (outcome, report) = run(addr, &["--rate", "1000", "-n", "1000", "--depth", "1"]);
    assert!(outcome.status.success(), "{outcome:?}");
    let time = |path: &str| report.pointer(path).and_then(Value::as_f64).expect("a number");
    let stall_us = STALL.as_micros() as f64;
    // Four hundred of a thousand were due in it, and waited for half of it on average.
    assert!(time("/latency_us/max") > stall_us * 0.9, "{report}");
    assert!(time("/latency_us/p90") > stall_us * 0.5, "{report}");
    // With one request at a time in flight, they waited here and not there.
    assert!(time("/lateness_us/p90") > stall_us * 0.5, "{report}");
}

#[test]
fn a_server_that_dies_is_told_of() {
    let (echo, addr) = echo();
    let loadgen = start(addr, &["--duration", "20", "--connections", "4", "--retries", "2"]);
    thread::sleep(Duration::from_millis(500));
    echo.signal("KILL");
    let (outcome, report) = judge(loadgen);
    assert!(!outcome.status.success());
    assert!(count(&report, "/requests/answered") > 0, "{report}");
    let requests = &report["requests"];
    let [sent, answered, failed] = ["sent", "answered", "failed"].map(|name| requests[name].as_u64());
    assert_eq!(sent, Some(answered.unwrap() + failed.unwrap()), "{report}");
    let ends = ["peer_closed", "peer_reset"].iter().filter_map(|name| report["errors"].get(name));
    let ends: u64 = ends.map(|end| count(end, "/connections")).sum();
    assert_eq!(ends, 4, "{report}");
    // Each is tried twice more, after 100 ms and after 200 ms.
    assert_eq!(count(&report, "/errors/connect_refused/connections"), 8, "{report}");
    let seconds = report["seconds"].as_f64().expect("a number");
    assert!(seconds < 10.0, "the time ends with the last answer: {seconds} s");
}

#[test]
fn an_unreachable_port_is_told_of() {
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    drop(listener);
    let (outcome, report) = run(addr, &["-n", "10", "--connections", "2", "--retries", "1"]);
    assert!(outcome.errors.contains("10 requests and 4 connections failed"), "{outcome:?}");
    assert_eq!(count(&report, "/errors/connect_refused/connections"), 4);
    assert_eq!(count(&report, "/errors/not_sent/requests"), 10);
    assert_eq!(count(&report, "/requests/sent"), 0);
    assert_eq!(report["latency_us"], Value::Null);
}

#[test]
fn wrong_bytes_missing_answers_and_surplus_are_told_apart() {
    let spoil = serving(|mut stream| {
        let mut bytes = [0; 64];
        while stream.read_exact(&mut bytes).is_ok() {
            bytes[63] ^= 1;
            let _ = stream.write_all(&bytes);
        }
    });
    let silent = serving(|mut stream| {
        let mut bytes = [0; 64];
        while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
    });
    let talkative = serving(|mut stream| {
        let mut bytes = [0; 64];
        while stream.read_exact(&mut bytes).is_ok() {
            let _ = stream.write_all(&[bytes, [0; 64]].concat());
        }
    });
    let closing = serving(drop);
    let cases = [
        (spoil, &["mismatch"][..]),
        (silent, &["timeout"]),
        (talkative, &["surplus", "mismatch"]),
        (closing, &["peer_closed", "peer_reset"]),
    ];
    for (addr, names) in cases {
        let (_, report) = run(addr, &["-n", "3", "--timeout", "0.2", "--retries", "1"]);
        let found = names.iter().filter_map(|name| report["errors"].get(name));
        assert!(found.map(|error| count(error, "/connections")).sum::<u64>() > 0, "{names:?} in {report}");
    }
    let (outcome, report) = run(spoil, &["-n", "3", "--verify=false"]);
    assert!(outcome.status.success(), "nobody looked: {report}");
}

#[test]
fn a_signal_ends_it_with_a_report() {
    let (_echo, addr) = echo();
    for signal in ["INT", "TERM"] {
        let loadgen = start(addr, &["--duration", "60", "--connections", "3", "--depth", "5"]);
        thread::sleep(Duration::from_millis(500));
        loadgen.signal(signal);
        let (outcome, report) = judge(loadgen);
        assert!(outcome.status.success(), "{outcome:?}");
        assert_eq!(report["cut_short"], true);
        let [sent, answered, abandoned] =
            ["sent", "answered", "abandoned"].map(|name| report["requests"][name].as_u64().unwrap());
        assert_eq!(sent, answered + abandoned, "{report}");
        assert!(answered > 0 && abandoned <= 15, "{report}");
    }
}

#[test]
fn it_says_how_it_goes_and_prints_a_table() {
    let (_echo, addr) = echo();
    let outcome = Process::start(LOADGEN, &[&addr.to_string(), "--duration", "1.5", "--rate", "100"]).wait();
    assert!(outcome.status.success(), "{outcome:?}");
    assert!(outcome.errors.starts_with("1 s: ") && outcome.errors.contains(" 0 failed"), "{outcome:?}");
    for text in ["150 sent, 150 answered, 0 failed", "errors       none", "p99.9", "lateness"] {
        assert!(outcome.output.contains(text), "no `{text}` in {}", outcome.output);
    }
}

#[test]
fn http_is_asked_and_judged() {
    let (sender, asked) = mpsc::channel();
    let addr = serving(move |mut stream| {
        let mut request = Vec::new();
        let mut byte = [0];
        let mut served = 0;
        while stream.read(&mut byte).is_ok_and(|count| count == 1) {
            request.extend(byte);
            if !request.ends_with(b"\r\n\r\n") {
                continue;
            }
            served += 1;
            let text = String::from_utf8(std::mem::take(&mut request)).expect("text");
            let status = if text.contains("GET /no ") { "404 Not Found" } else { "200 OK" };
            sender.send(text).expect("the test listens");
            // Some servers count the requests of a connection.
            let close = if served == 10 { "connection: close\r\n" } else { "" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 4\r\n{close}\r\nbody");
            if stream.write_all(answer.as_bytes()).is_err() || served == 10 {
                return;
            }
        }
    });
    let (outcome, report) = run(addr, &["--http", "/yes?a=b", "-n", "35", "--connections", "1"]);
    assert!(outcome.status.success(), "{outcome:?}");
    assert_eq!(count(&report, "/requests/answered"), 35);
    assert_eq!(count(&report, "/opened_connections"), 4, "{report}");
    let request = asked.recv().expect("it was asked");
    assert!(request.starts_with(&format!("GET /yes?a=b HTTP/1.1\r\nhost: {addr}\r\n")), "{request}");
    let (_, report) = run(addr, &["--http", "/no", "-n", "5"]);
    assert_eq!(count(&report, "/errors/http_status_404/requests"), 5);
    assert_eq!(count(&report, "/requests/answered"), 0);
}
