//! The DNS forwarder in front of servers that follow a script: they lose questions, come too late, answer
//! twice, or lie.

use super::process::{Outcome, Process, SOON, connect};
use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

const DNS: &str = env!("CARGO_BIN_EXE_dns");
const GOOD: [u8; 4] = [192, 0, 2, 1];
const FORGED: [u8; 4] = [192, 0, 2, 66];
const NOERROR: u8 = 0;
const FORMERR: u8 = 1;
const SERVFAIL: u8 = 2;
const NOTIMP: u8 = 4;

/// Starts the forwarder; the addresses are those of UDP and of TCP.
fn dns(upstreams: &[SocketAddr], arguments: &[&str]) -> (Process, SocketAddr, SocketAddr) {
    let upstreams: Vec<_> = upstreams.iter().map(SocketAddr::to_string).collect();
    let upstreams: Vec<_> = upstreams.iter().flat_map(|addr| ["--upstream", addr]).collect();
    let common = ["--listen", "127.0.0.1:0", "--no-pin", "--stats"];
    let (process, udp) = Process::serve(DNS, &[&common, &upstreams[..], arguments].concat());
    let tcp = process.next_addr();
    (process, udp, tcp)
}

/// Ends the forwarder and says what it has counted.
fn counts(process: Process) -> HashMap<String, u64> {
    let Outcome { output, .. } = process.terminate();
    let counted = output.lines().filter_map(|line| line.strip_prefix("dns/")?.split_once(' '));
    counted.map(|(name, count)| (name.to_owned(), count.parse().expect("a number"))).collect()
}

fn query(id: u16, name: &str) -> Vec<u8> {
    let mut bytes = [&id.to_be_bytes()[..], &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        bytes.push(label.len() as u8);
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// An answer with one address, or none if it is refused with a code.
fn answer(query: &[u8], code: u8, address: [u8; 4]) -> Vec<u8> {
    let mut answer = query.to_vec();
    answer[2] |= 0x80;
    answer[3] = 0x80 | code;
    if code == NOERROR {
        answer[7] = 1;
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address);
    }
    answer
}

/// The first label of the name that is asked for.
fn label(query: &[u8]) -> String {
    let length = usize::from(query[12]);
    String::from_utf8(query[13..13 + length].to_vec()).expect("tests ask for text")
}

fn bind() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(SOON)).expect("a socket option");
    socket
}

/// A server that does what the first label of a name says; the second one is just a name. Tells of every
/// question: where it came from, and its id.
fn scripted() -> (SocketAddr, Receiver<(u16, u16)>) {
    let socket = bind();
    socket.set_read_timeout(None).expect("a socket option");
    let addr = socket.local_addr().expect("it is bound");
    let (send, asked) = mpsc::channel();
    let other = bind();
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        let mut times = HashMap::new();
        while let Ok((length, from)) = socket.recv_from(&mut bytes) {
            let query = &bytes[..length];
            let label = label(query);
            let time = times.entry(query[12..].to_vec()).and_modify(|time| *time += 1).or_insert(1);
            let _ = send.send((from.port(), u16::from_be_bytes([query[0], query[1]])));
            let good = answer(query, NOERROR, GOOD);
            let forged = answer(query, NOERROR, FORGED);
            let say = |bytes: &[u8]| socket.send_to(bytes, from).expect("it is on this host");
            match (label.as_str(), *time) {
                ("lose", 1) | ("never", _) => continue,
                ("late", 1) => {
                    let (socket, query) = (socket.try_clone().expect("a clone"), query.to_vec());
                    thread::spawn(move || {
                        thread::sleep(Duration::from_millis(500));
                        socket.send_to(&answer(&query, NOERROR, FORGED), from)
                    });
                    continue;
                }
                ("fail", _) => {
                    say(&answer(query, SERVFAIL, GOOD));
                    continue;
                }
                ("twice", _) => {
                    say(&good);
                }
                ("id", _) => {
                    for step in 1..=100 {
                        let mut forged = forged.clone();
                        forged[1] = forged[1].wrapping_add(step);
                        say(&forged);
                    }
                }
                ("question", _) => {
                    let mut forged = forged.clone();
                    forged[14] ^= 2;
                    say(&forged);
                }
                ("source", _) => {
                    other.send_to(&forged, from).expect("it is on this host");
                    // Nothing overtakes anything on this host, but this one is to be first for sure.
                    thread::sleep(Duration::from_millis(50));
                }
                ("query", _) => {
                    say(query);
                }
                ("garbage", _) => {
                    say(&[7; 5]);
                    say(&[]);
                }
                _ => {}
            }
            say(&good);
        }
    });
    (addr, asked)
}

/// Asks and wants an answer to exactly this question; says its code and its address.
fn ask(server: SocketAddr, id: u16, name: &str) -> (u8, Option<[u8; 4]>) {
    let socket = bind();
    let query = query(id, name);
    socket.send_to(&query, server).expect("it is on this host");
    let mut bytes = [0; 4096];
    let (length, from) = socket.recv_from(&mut bytes).expect("an answer");
    assert_eq!(from, server);
    let result = read(&bytes[..length], &query);
    // Whatever comes to this port now is too much.
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket option");
    assert!(socket.recv_from(&mut bytes).is_err(), "{name} is answered twice");
    result
}

/// Checks what an answer has to have of its question.
fn read(answer: &[u8], query: &[u8]) -> (u8, Option<[u8; 4]>) {
    assert_eq!(answer[..2], query[..2], "the id");
    assert!(answer[2] & 0x80 != 0, "it is an answer");
    if answer.len() > 12 {
        assert_eq!(answer[12..query.len()], query[12..], "the question");
    }
    (answer[3] & 15, (answer[7] == 1).then(|| *answer.last_chunk().expect("an address is at the end")))
}

#[test]
fn whatever_comes_the_right_answer_is_passed_on_once() {
    let (upstream, _asked) = scripted();
    let (process, dns, _) = dns(&[upstream], &["--timeout", "300", "--workers", "2"]);
    let names =
        ["ok.a", "lose.a", "late.a", "twice.a", "id.a", "question.a", "source.a", "query.a", "garbage.a"];
    for (id, name) in (1000..).zip(names) {
        assert_eq!(ask(dns, id, name), (NOERROR, Some(GOOD)), "{name}");
    }
    // The late answer has come and gone by then.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(ask(dns, 1, "fail.a"), (SERVFAIL, None));
    assert_eq!(ask(dns, 2, "OK.a"), (NOERROR, Some(GOOD)), "case is kept");
    let counts = counts(process);
    assert_eq!(counts["queries"], names.len() as u64 + 2, "{counts:?}");
    assert_eq!(counts["answered"], counts["queries"], "{counts:?}");
    // One each for what was lost and late, and two for what failed.
    assert_eq!(counts["retries"], 4, "{counts:?}");
    assert_eq!(counts["strays_question"], 2, "another question, and no answer: {counts:?}");
    assert!(counts["strays"] >= 103, "ids, the second answer, garbage: {counts:?}");
}

#[test]
fn who_gets_no_answer_is_told_so() {
    let (upstream, asked) = scripted();
    let (process, dns, _) = dns(&[upstream], &["--timeout", "100", "--tries", "4"]);
    let began = Instant::now();
    assert_eq!(ask(dns, 5, "never.a"), (SERVFAIL, None));
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(asked.try_iter().count(), 4, "it was asked as often as was said");
    assert_eq!(counts(process)["refused_unanswered"], 1);
}

#[test]
fn another_server_is_asked_if_one_does_not_answer() {
    // A port that was free a moment ago.
    let closed = bind().local_addr().expect("it is bound");
    let (silent, silently_asked) = scripted();
    let (good, asked) = scripted();
    let arguments = ["--timeout", "4000", "--workers", "1"];
    let (process, dns, _) = dns(&[closed, silent, good], &arguments);
    let began = Instant::now();
    assert_eq!(ask(dns, 1, "fail.a"), (SERVFAIL, None), "all that were asked say so");
    assert_eq!(ask(dns, 2, "ok.a"), (NOERROR, Some(GOOD)));
    assert_eq!(ask(dns, 3, "ok.b"), (NOERROR, Some(GOOD)));
    // That nobody is there is known at once.
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert!(silently_asked.try_iter().count() + asked.try_iter().count() >= 4);
    process.terminate();
    let (process, dns, _) = self::dns(&[closed, closed], &arguments);
    assert_eq!(ask(dns, 1, "ok.a"), (SERVFAIL, None));
    process.terminate();
}

#[test]
fn a_full_table_refuses_and_the_end_is_told() {
    const WAITING: u16 = 4;
    const MORE: u16 = 6;
    let (upstream, asked) = scripted();
    let waiting = WAITING.to_string();
    let arguments = ["--pending", &waiting, "--workers", "1", "--timeout", "60000"];
    let (process, dns, _) = dns(&[upstream], &arguments);
    let socket = bind();
    let mut bytes = [0; 512];
    let mut refused = |ids: std::ops::Range<u16>| {
        let mut left: BTreeSet<_> = ids.collect();
        while !left.is_empty() {
            let (length, _) = socket.recv_from(&mut bytes).expect("an answer");
            let id = u16::from_be_bytes([bytes[0], bytes[1]]);
            assert!(left.remove(&id), "{id} was not awaited, or came twice");
            assert_eq!(read(&bytes[..length], &query(id, "never.a")), (SERVFAIL, None));
        }
    };
    for id in 0..WAITING + MORE {
        socket.send_to(&query(id, "never.a"), dns).expect("it is on this host");
    }
    refused(WAITING..WAITING + MORE);
    for _ in 0..WAITING {
        asked.recv_timeout(SOON).expect("what is not refused is asked");
    }
    let counts = counts(process);
    refused(0..WAITING);
    assert_eq!(counts["refused_full"], u64::from(MORE), "{counts:?}");
    assert_eq!(counts["refused_unanswered"], u64::from(WAITING), "{counts:?}");
}

#[test]
fn ids_and_ports_cannot_be_guessed() {
    const QUERIES: usize = 300;
    let (upstream, asked) = scripted();
    let (process, dns, _) = dns(&[upstream], &["--sockets", "16", "--workers", "1"]);
    let socket = bind();
    let mut bytes = [0; 512];
    for at in 0..QUERIES {
        socket.send_to(&query(7, &format!("ok.n{at}")), dns).expect("it is on this host");
        let (length, _) = socket.recv_from(&mut bytes).expect("an answer");
        assert_eq!(read(&bytes[..length], &query(7, &format!("ok.n{at}"))), (NOERROR, Some(GOOD)));
    }
    let asked: Vec<_> = asked.try_iter().collect();
    assert_eq!(asked.len(), QUERIES);
    let ports: BTreeSet<_> = asked.iter().map(|(port, _)| port).collect();
    assert_eq!(ports.len(), 16, "with {QUERIES} queries every socket has its turn");
    let ids: BTreeSet<_> = asked.iter().map(|(_, id)| *id).collect();
    assert!(ids.len() > QUERIES - 20, "{} ids", ids.len());
    let neighbours = asked.windows(2).filter(|pair| pair[0].1.abs_diff(pair[1].1) < 64).count();
    assert!(neighbours < 20, "{neighbours} ids are close to the one before");
    let (low, high) = (ids.iter().filter(|id| **id < 0x8000).count(), ids.len() / 2);
    assert!(low.abs_diff(high) < 60, "{low} of {} are in the lower half", ids.len());
    process.terminate();
}

#[test]
fn many_clients_get_their_own_answers() {
    const CLIENTS: usize = 8;
    const QUERIES: u16 = 200;
    let (upstream, _asked) = scripted();
    let (process, dns, _) = dns(&[upstream], &["--workers", "2", "--timeout", "2000"]);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            thread::spawn(move || {
                let socket = bind();
                let query = |id: u16| query(id, &format!("ok.c{client}-{id}"));
                let mut left = BTreeSet::new();
                let mut bytes = [0; 512];
                for round in 0..QUERIES / 20 {
                    for id in round * 20..round * 20 + 20 {
                        socket.send_to(&query(id), dns).expect("it is on this host");
                        left.insert(id);
                    }
                    while !left.is_empty() {
                        let (length, _) = socket.recv_from(&mut bytes).expect("an answer");
                        let id = u16::from_be_bytes([bytes[0], bytes[1]]);
                        assert!(left.remove(&id), "{id} was not awaited");
                        assert_eq!(read(&bytes[..length], &query(id)), (NOERROR, Some(GOOD)));
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("it got everything");
    }
    let counts = counts(process);
    assert_eq!(counts["answered"], CLIENTS as u64 * u64::from(QUERIES), "{counts:?}");
}

#[test]
fn what_is_no_query_is_not_forwarded() {
    let (upstream, asked) = scripted();
    let (process, dns, _) = dns(&[upstream], &["--workers", "1"]);
    let socket = bind();
    let good = query(3, "ok.a");
    let mut bytes = [0; 512];
    let mut update = good.clone();
    update[2] = 0x28;
    let mut two = good.clone();
    two[5] = 2;
    for (message, code) in [(&update, NOTIMP), (&two, FORMERR)] {
        socket.send_to(message, dns).expect("it is on this host");
        let (length, _) = socket.recv_from(&mut bytes).expect("an answer");
        assert!(length >= 12);
        assert_eq!((&bytes[..2], bytes[3] & 15), (&[0, 3][..], code));
    }
    // Nobody answers these.
    for message in [&answer(&good, NOERROR, GOOD)[..], b"", b"short"] {
        socket.send_to(message, dns).expect("it is on this host");
    }
    socket.send_to(&good, dns).expect("it is on this host");
    let (length, _) = socket.recv_from(&mut bytes).expect("an answer");
    assert_eq!(read(&bytes[..length], &good), (NOERROR, Some(GOOD)));
    assert_eq!(asked.try_iter().count(), 1);
    assert_eq!(counts(process)["refused_malformed"], 5);
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes(), message].concat()
}

fn read_frame(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).ok()?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).ok()?;
    Some(message)
}

/// A server for TCP that hangs up instead of answering if the first label says so.
fn scripted_stream() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let query = read_frame(&mut stream)?;
                let answer = match label(&query).as_str() {
                    "hangup" => return None,
                    "never" => {
                        thread::sleep(SOON);
                        return None;
                    }
                    "question" => {
                        answer(&self::query(u16::from_be_bytes([query[0], query[1]]), "x.y"), NOERROR, FORGED)
                    }
                    _ => answer(&query, NOERROR, GOOD),
                };
                for piece in framed(&answer).chunks(5) {
                    stream.write_all(piece).ok()?;
                }
                Some(())
            });
        }
    });
    addr
}

#[test]
fn queries_come_over_tcp_too() {
    let upstream = scripted_stream();
    let (process, _, tcp) = dns(&[upstream], &["--timeout", "300", "--tries", "2"]);
    let mut client = connect(tcp);
    let mut bad = query(9, "ok.a");
    bad[5] = 2;
    // All at once, and the last one in two pieces.
    let messages = [
        bad,
        query(1, "ok.a"),
        query(2, "hangup.a"),
        query(3, "never.a"),
        query(4, "question.a"),
        query(5, "ok.b"),
    ];
    let bytes = messages.iter().flat_map(|message| framed(message)).collect::<Vec<_>>();
    let (most, rest) = bytes.split_at(bytes.len() - 3);
    client.write_all(most).expect("the server reads");
    let mut codes = Vec::new();
    for message in &messages[..5] {
        let answer = read_frame(&mut client).expect("an answer");
        codes.push(read(&answer, message));
    }
    let refused = (SERVFAIL, None);
    assert_eq!(codes[1..], [(NOERROR, Some(GOOD)), refused, refused, refused]);
    assert_eq!(codes[0].0, FORMERR);
    client.write_all(rest).expect("the server reads");
    let answer = read_frame(&mut client).expect("an answer");
    assert_eq!(read(&answer, &messages[5]), (NOERROR, Some(GOOD)));
    drop(client);
    let counts = counts(process);
    assert_eq!((counts["answered"], counts["refused_unanswered"]), (2, 3), "{counts:?}");
    assert_eq!(counts["retries"], 3, "{counts:?}");
}

#[test]
fn bad_arguments_are_refused() {
    for (arguments, text) in [
        (&["--upstream", "nowhere"][..], "nowhere"),
        (&["--upstream", "192.0.2.1", "--listen", "192.0.2.1:0"], "192.0.2.1:0"),
    ] {
        let outcome = Process::start(DNS, arguments).wait();
        assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
        assert!(outcome.errors.contains(text), "{outcome:?}");
    }
    let outcome = Process::start(DNS, &[]).wait();
    assert!(outcome.errors.contains("--upstream"), "{outcome:?}");
}
