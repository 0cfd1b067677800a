//! Chat with clients that talk, fall silent, vanish and do not read: who stays gets every line once.

use super::process::{Process, connect};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

const CHAT: &str = env!("CARGO_BIN_EXE_chat");

fn chat(arguments: &[&str]) -> (Process, SocketAddr) {
    Process::serve(CHAT, &[&["--listen", "127.0.0.1:0", "--workers", "4", "--no-pin"], arguments].concat())
}

struct Client {
    stream: BufReader<TcpStream>,
    /// Who serves it.
    worker: String,
}

impl Client {
    fn new(addr: SocketAddr) -> Self {
        let mut client = Self { stream: BufReader::new(connect(addr)), worker: String::new() };
        let greeting = client.line();
        let worker = greeting.strip_prefix("* you are guest-").and_then(|rest| rest.split('-').next());
        worker.unwrap_or_else(|| panic!("no greeting: {greeting}")).clone_into(&mut client.worker);
        client
    }

    /// As many as are wanted, and more if it takes more for two workers to have some.
    fn crowd(addr: SocketAddr, count: usize) -> Vec<Self> {
        let mut clients: Vec<Self> = Vec::new();
        let workers = |clients: &[Self]| {
            clients.iter().map(|client| client.worker.clone()).collect::<BTreeSet<_>>().len()
        };
        while clients.len() < count || workers(&clients) < 2 {
            assert!(clients.len() < 20 * count, "one worker serves everybody");
            clients.push(Self::new(addr));
        }
        clients
    }

    fn say(&mut self, line: &str) {
        self.stream.get_mut().write_all(format!("{line}\n").as_bytes()).expect("the server reads");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).expect("the server says something");
        assert_eq!(line.pop(), Some('\n'), "a whole line: {line}");
        line
    }

    /// Says something and wants this answer.
    fn ask(&mut self, line: &str, answer: &str) {
        self.say(line);
        assert_eq!(self.line(), answer, "to {line}");
    }

    fn join(&mut self, nick: &str, room: &str) {
        self.ask(&format!("/nick {nick}"), &format!("* you are {nick}"));
        self.ask(&format!("/join {room}"), &format!("* you are in {room}"));
    }

    fn assert_end(mut self) {
        let mut rest = String::new();
        self.stream.read_to_string(&mut rest).expect("an end, no reset");
        assert_eq!(rest, "");
    }
}

#[test]
fn every_member_gets_every_line_once_and_in_the_order_of_its_speaker() {
    let (server, addr) = chat(&["--backlog-bytes", "1048576"]);
    hold_conversation(addr);
    server.terminate();
}

#[test]
fn a_full_mailbox_makes_speakers_wait_and_loses_nothing() {
    let arguments = ["--backlog-bytes", "1048576", "--mailbox-messages", "1", "--stats"];
    let (server, addr) = chat(&arguments);
    hold_conversation(addr);
    let outcome = server.terminate();
    let full = outcome.output.lines().find_map(|line| line.strip_prefix("ringline/mailbox/full "));
    assert_ne!(full.expect("it is counted"), "0", "some mailbox was full");
}

/// Everybody talks at once, and checks what all of them have said.
fn hold_conversation(addr: SocketAddr) {
    const LINES: usize = 60;
    let mut clients = Client::crowd(addr, 24);
    let mut outsider = Client::new(addr);
    outsider.join("out", "rum");
    for (at, client) in clients.iter_mut().enumerate() {
        client.join(&format!("c{at}"), "tea");
    }
    let count = clients.len();
    let talk = |(at, mut client): (usize, Client)| {
        thread::spawn(move || {
            for number in 0..LINES {
                client.say(&format!("{number}"));
            }
            let mut next = BTreeMap::new();
            for _ in 0..count * LINES {
                let line = client.line();
                let said = line.strip_prefix("[tea] c").and_then(|said| said.split_once(": "));
                let (speaker, number) = said.unwrap_or_else(|| panic!("c{at}: what is {line}?"));
                let next = next.entry(speaker.to_owned()).or_insert(0);
                assert_eq!(number, next.to_string(), "c{at} of c{speaker}");
                *next += 1;
            }
            assert_eq!(next.len(), count);
            client
        })
    };
    let threads: Vec<_> = clients.into_iter().enumerate().map(talk).collect();
    for thread in threads {
        let mut client = thread.join().expect("it has got everything");
        // Nothing comes twice: the next line is the answer to this one.
        client.ask("/leave", "* you have left tea");
    }
    outsider.ask("/leave", "* you have left rum");
}

#[test]
fn who_half_closes_or_vanishes_is_missed_by_nobody() {
    let (server, addr) = chat(&[]);
    let mut clients = Client::crowd(addr, 6);
    for (at, client) in clients.iter_mut().enumerate() {
        client.join(&format!("c{at}"), "tea");
    }
    // Says something, and that it was all.
    let mut leaver = clients.pop().expect("there are some");
    let name = format!("[tea] c{}", clients.len());
    leaver.stream.get_mut().write_all(b"good\nbye\nunfinished").expect("the server reads");
    leaver.stream.get_mut().shutdown(Shutdown::Write).expect("it is open");
    for client in clients.iter_mut().chain([&mut leaver]) {
        assert_eq!([client.line(), client.line()], [format!("{name}: good"), format!("{name}: bye")]);
    }
    leaver.assert_end();
    // Goes without having read what was said, which resets the connection.
    let vanisher = clients.pop().expect("there are some");
    clients[0].say("anybody there?");
    for client in &mut clients {
        assert_eq!(client.line(), "[tea] c0: anybody there?");
    }
    let mut byte = [0];
    vanisher.stream.get_ref().peek(&mut byte).expect("it was said there, too");
    drop(vanisher);
    let mut quitter = clients.pop().expect("there are some");
    quitter.say("/quit");
    quitter.assert_end();
    for round in 0..20 {
        clients[0].say(&format!("{round}"));
        for client in &mut clients {
            assert_eq!(client.line(), format!("[tea] c0: {round}"));
        }
    }
    server.terminate();
}

#[test]
fn who_does_not_read_is_told_and_nobody_waits() {
    const LINES: usize = 1500;
    let (server, addr) = chat(&["--line-bytes", "16000"]);
    let mut speaker = Client::new(addr);
    let mut reader = Client::new(addr);
    let mut sleeper = Client::new(addr);
    for (client, nick) in [(&mut speaker, "speaker"), (&mut reader, "reader"), (&mut sleeper, "sleeper")] {
        client.join(nick, "tea");
    }
    // More than the buffers of the kernel and the backlog take.
    let filling = "x".repeat(15_900);
    for number in 0..LINES {
        let said = format!("{number} {filling}");
        speaker.say(&said);
        for client in [&mut speaker, &mut reader] {
            assert_eq!(client.line(), format!("[tea] speaker: {said}"));
        }
    }
    let mut heard = 0;
    let last_words = loop {
        let line = sleeper.line();
        match line.strip_prefix("[tea] speaker: ") {
            Some(said) => assert!(said.starts_with(&format!("{heard} ")), "{heard} is missing"),
            None => break line,
        }
        heard += 1;
    };
    assert_eq!(last_words, "! you do not read fast enough; goodbye", "after {heard} of {LINES} lines");
    assert!((1..LINES).contains(&heard));
    sleeper.assert_end();
    speaker.ask("/leave", "* you have left tea");
    server.terminate();
}

#[test]
fn limits_are_told() {
    let (server, addr) = chat(&["--rooms", "2", "--line-bytes", "100"]);
    let mut client = Client::new(addr);
    client.ask("hello", "! join a room first");
    client.ask("/join a", "* you are in a");
    client.ask("/join b", "* you are in b");
    client.ask("/join c", "! 2 rooms are the limit; leave one");
    client.ask("/nick me", "* you are me");
    client.ask("in b", "[b] me: in b");
    client.ask("/join a", "* you are in a");
    client.ask("in a", "[a] me: in a");
    client.ask("/leave", "* you have left a");
    client.ask("/leave a", "! you are not there");
    client.ask("in b again", "[b] me: in b again");
    client.ask("/join d", "* you are in d");
    client.ask("/nick x:y", "! a name has letters, digits, - and _ only, and 32 bytes at most");
    client.ask("\x1b[31m", "! this is no text; send UTF-8 without control characters");
    client.ask("/help", "! the commands are /join ROOM, /leave ROOM, /nick NAME and /quit");
    let most = "y".repeat(100);
    client.ask(&most, &format!("[d] me: {most}"));
    client.ask(&format!("{most}y"), "! a line may have 100 bytes; goodbye");
    client.assert_end();
    let mut endless = Client::new(addr);
    endless.stream.get_mut().write_all(most.repeat(2).as_bytes()).expect("the server reads");
    assert_eq!(endless.line(), "! a line may have 100 bytes; goodbye");
    endless.assert_end();
    server.terminate();
    let outcome = Process::start(CHAT, &["--line-bytes", "4096", "--backlog-bytes", "4096"]).wait();
    assert_eq!(outcome.status.code(), Some(1), "{outcome:?}");
    assert!(outcome.errors.contains("--backlog-bytes has to be 8336 or more"), "{outcome:?}");
}

#[test]
fn the_end_is_told_to_everybody() {
    let (server, addr) = chat(&[]);
    let mut clients = Client::crowd(addr, 10);
    clients[0].join("c", "tea");
    server.signal("TERM");
    for mut client in clients {
        assert_eq!(client.line(), "* the server ends; goodbye");
        client.assert_end();
    }
    let outcome = server.wait();
    assert!(outcome.status.success(), "{outcome:?}");
}
