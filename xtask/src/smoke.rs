//! Runs servers the way a user does: start, wait for the line `listening on`, talk, SIGTERM, exit status 0.
//!
//! Every wait has an end, and a server that was started never outlives the check.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::artifacts::{self, Program};
use crate::inherited;

mod clients;
mod tls;
mod unix;

const START_LIMIT: Duration = Duration::from_secs(30);
const TALK_LIMIT: Duration = Duration::from_secs(10);
const STOP_LIMIT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

const READY: &str = "listening on";
const ADDRESS_PLACE: &str = "{addr}";
const ECHO_BYTES: usize = 64 * 1024;
const ECHO_LINE: &str = "one line\n";

/// An example that needs more than an address, or that does not echo.
#[derive(Debug)]
struct Special {
    example: &'static str,
    arguments: &'static [&'static str],
    /// What to send, and what the answer begins with, if not the same.
    dialogue: Option<(&'static str, &'static str)>,
}

/// Stands for the address of a server that echoes, for examples that need one behind them.
const UPSTREAM_PLACE: &str = "{upstream}";

const SPECIALS: &[Special] = &[
    Special {
        example: "blob",
        arguments: &["--make", "greeting=3"],
        dialogue: Some((
            "GET /greeting HTTP/1.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc",
        )),
    },
    Special {
        example: "chat",
        arguments: &[],
        dialogue: Some(("/nick smoke\n/join tea\nhello\n/quit\n", "* you are guest-")),
    },
    Special {
        example: "dns",
        arguments: &["--upstream", UPSTREAM_PLACE],
        // A question over TCP. What the server behind it says is no answer, so that the forwarder says
        // that there is none: the length and the id of a message with the same question.
        dialogue: Some(("\0\x13\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01", "\0\x13\0\x07")),
    },
    Special {
        example: "https",
        arguments: &[],
        dialogue: Some((
            "GET /none HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 23\r\n",
        )),
    },
    Special { example: "proxy", arguments: &["--upstream", UPSTREAM_PLACE], dialogue: None },
];

/// Runs one server by its command line and wants an echo of it.
pub(crate) fn one(command: &[String]) -> Result<(), String> {
    check(command, echo)?;
    println!("smoke: ok");
    Ok(())
}

/// Builds all examples and runs each.
pub(crate) fn examples(root: &Path, release: bool) -> Result<(), String> {
    let programs = build_examples(root, release)?;
    let identity = tls::Identity::new()?;
    let hello =
        programs.iter().find(|program| program.name == "https").ok_or("there is no server for pages")?;
    for Program { name, path, .. } in &programs {
        let fault = |reason: String| format!("example {name}: {reason}");
        let help = wants_help(path).map_err(fault)?;
        let special = SPECIALS.iter().find(|special| special.example == name);
        let upstream = serve_echo().map_err(|error| fault(format!("no server behind it: {error}")))?;
        if let Some(arguments) = clients::arguments(name) {
            clients::run(path, arguments, upstream).map_err(fault)?;
            if name == "fetch" {
                tls::check_client(&server_of(&hello.path), path, &identity).map_err(fault)?;
            }
            println!("example {name}: ok");
            continue;
        }
        let mut command = server_of(path);
        for argument in special.map_or(&[][..], |special| special.arguments) {
            command.push(argument.replace(UPSTREAM_PLACE, &upstream.to_string()));
        }
        let has_datagrams = name.starts_with("udp");
        match special.and_then(|special| special.dialogue) {
            None if has_datagrams => check(&command, echo_datagrams),
            Some((request, answer)) => check(&command, |address| ask(address, request, answer)),
            None => check(&command, echo),
        }
        .map_err(fault)?;
        if !has_datagrams && special.is_none_or(|special| special.dialogue.is_none()) {
            unix::check(&command).map_err(fault)?;
        }
        if tls::is_spoken(&help) {
            let dialogue = special.and_then(|special| special.dialogue).unwrap_or((ECHO_LINE, ECHO_LINE));
            tls::check_server(&command, &identity, dialogue).map_err(fault)?;
        }
        println!("example {name}: ok");
    }
    Ok(())
}

fn build_examples(root: &Path, release: bool) -> Result<Vec<Program>, String> {
    let mut cargo = inherited::command("cargo");
    cargo.args([
        "build",
        "--package",
        "ringline-examples",
        "--bins",
        "--message-format=json-render-diagnostics",
    ]);
    if release {
        cargo.arg("--release");
    }
    let built = cargo
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !built.status.success() {
        return Err(format!("the examples do not build: {}", built.status));
    }
    let programs = artifacts::programs(&String::from_utf8_lossy(&built.stdout))?;
    if programs.is_empty() {
        return Err("cargo built no example".to_owned());
    }
    Ok(programs)
}

/// What an example says to `--help`.
fn wants_help(path: &str) -> Result<String, String> {
    let mut server = Server::start(&[path.to_owned(), "--help".to_owned()])?;
    let status = server.wait(STOP_LIMIT)?;
    while let Ok(line) = server.lines.recv_timeout(STOP_LIMIT) {
        server.seen.push(line);
    }
    if status.success() { Ok(server.output()) } else { Err(format!("--help ends with {status}")) }
}

/// The command that makes a server of an example.
fn server_of(path: &str) -> Vec<String> {
    [path, "--listen", ADDRESS_PLACE, "--workers", "2"].map(str::to_owned).to_vec()
}

/// Starts the command on a free address, lets `talk` use it, and stops it.
fn check(command: &[String], talk: impl FnOnce(SocketAddr) -> Result<(), String>) -> Result<(), String> {
    let address = free_address().map_err(|error| format!("no free address: {error}"))?;
    let command: Vec<String> =
        command.iter().map(|word| word.replace(ADDRESS_PLACE, &address.to_string())).collect();
    let mut server = Server::start(&command)?;
    server.wait_ready()?;
    talk(address).map_err(|reason| format!("{reason}\n{}", server.output()))?;
    server.terminate()?;
    let status = server.wait(STOP_LIMIT)?;
    if status.success() { Ok(()) } else { Err(format!("after SIGTERM: {status}\n{}", server.output())) }
}

/// A server in threads of this process that sends back what it gets. It ends with the process.
fn serve_echo() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || std::io::copy(&mut &stream, &mut &stream));
        }
    });
    Ok(address)
}

/// An address that nobody listens on. Should another program take it meanwhile, the server says so and the check fails.
fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// A server that runs as a child and is killed when dropped.
#[derive(Debug)]
struct Server {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl Server {
    fn start(command: &[String]) -> Result<Self, String> {
        let (program, arguments) = command.split_first().ok_or("no command to run")?;
        let mut child = inherited::command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot run {program}: {error}"))?;
        let (sender, lines) = channel();
        forward(child.stdout.take(), sender.clone());
        forward(child.stderr.take(), sender);
        Ok(Self { child, lines, seen: Vec::new() })
    }

    /// Waits for the line that says the server accepts connections.
    fn wait_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let is_ready = line.contains(READY);
                    self.seen.push(line);
                    if is_ready {
                        return Ok(());
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("no line `{READY}` within {START_LIMIT:?}\n{}", self.output()));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self.wait(STOP_LIMIT)?;
                    return Err(format!("ended with {status} before the line `{READY}`\n{}", self.output()));
                }
            }
        }
    }

    /// Asks the server to end, which must still be running. The shell's own `kill` is there wherever a shell is.
    fn terminate(&mut self) -> Result<(), String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("ended with {status} before SIGTERM\n{}", self.output()));
        }
        let kill = format!("kill -TERM {}", self.child.id());
        let status =
            Command::new("sh").args(["-c", &kill]).status().map_err(|error| format!("sh: {error}"))?;
        if status.success() { Ok(()) } else { Err(format!("`{kill}`: {status}")) }
    }

    /// Waits for the server's end.
    fn wait(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => thread::sleep(POLL_INTERVAL),
                Err(error) => return Err(format!("cannot wait for the server: {error}")),
            }
        }
        Err(format!("still running after {limit:?}\n{}", self.output()))
    }

    /// What the server has printed so far.
    fn output(&mut self) -> String {
        self.seen.extend(self.lines.try_iter());
        format!("  | {}", self.seen.join("\n  | "))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that ended already refuses both, which is what is wanted.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Passes on the lines of a pipe until it ends.
fn forward(pipe: Option<impl Read + Send + 'static>, lines: Sender<String>) {
    let Some(pipe) = pipe else { return };
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
}

fn connect(address: SocketAddr) -> Result<TcpStream, String> {
    let stream =
        TcpStream::connect_timeout(&address, TALK_LIMIT).map_err(|error| format!("connect: {error}"))?;
    stream
        .set_read_timeout(Some(TALK_LIMIT))
        .and_then(|()| stream.set_write_timeout(Some(TALK_LIMIT)))
        .map_err(|error| format!("time limit: {error}"))?;
    Ok(stream)
}

/// Sends bytes, wants the same bytes back and nothing more, and an end that follows the end of what was sent.
fn echo(address: SocketAddr) -> Result<(), String> {
    let mut stream = connect(address)?;
    let sent: Vec<u8> = (0..ECHO_BYTES).map(|at| (at % 251) as u8).collect();
    let mut writer = stream.try_clone().map_err(|error| format!("echo: {error}"))?;
    let copy = sent.clone();
    let writing =
        thread::spawn(move || writer.write_all(&copy).and_then(|()| writer.shutdown(Shutdown::Write)));
    let mut received = vec![0; sent.len()];
    stream.read_exact(&mut received).map_err(|error| format!("echo: {error}"))?;
    if let Some(at) = sent.iter().zip(&received).position(|(a, b)| a != b) {
        return Err(format!("echo: byte {at} is {}, not {}", received[at], sent[at]));
    }
    writing.join().map_err(|_| "echo: the writer panicked")?.map_err(|error| format!("echo: {error}"))?;
    match stream.read(&mut received) {
        Ok(0) => Ok(()),
        Ok(more) => Err(format!("echo: {more} bytes that nobody sent")),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Err("echo: the connection stays open after the end of input".to_owned())
        }
        Err(error) => Err(format!("echo: {error}")),
    }
}

/// Sends datagrams and wants each back. One that is lost is sent again, a few times.
fn echo_datagrams(address: SocketAddr) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("datagrams: {error}");
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(failed)?;
    socket.connect(address).map_err(failed)?;
    socket.set_read_timeout(Some(TALK_LIMIT / 10)).map_err(failed)?;
    let mut received = [0; 2048];
    for len in [0, 1, 100, 1400] {
        let sent: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        let comes_back = (0..5).any(|_| {
            let answer = socket.send(&sent).and_then(|_| socket.recv(&mut received));
            answer.is_ok_and(|count| received[..count] == sent)
        });
        if !comes_back {
            return Err(format!("datagrams: one of {len} bytes does not come back"));
        }
    }
    Ok(())
}

/// Sends a request and wants an answer that begins as given.
fn ask(address: SocketAddr, request: &str, answer: &str) -> Result<(), String> {
    let mut stream = connect(address)?;
    stream.write_all(request.as_bytes()).map_err(|error| format!("request: {error}"))?;
    let mut received = vec![0; answer.len()];
    stream.read_exact(&mut received).map_err(|error| format!("answer: {error}"))?;
    let received = String::from_utf8_lossy(&received);
    if received == answer {
        Ok(())
    } else {
        Err(format!("the answer begins with {received:?}, not {answer:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server of one connection, which treats it with `serve`.
    fn serving(serve: impl FnOnce(TcpStream) + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free address");
        let address = listener.local_addr().expect("an address");
        thread::spawn(move || serve(listener.accept().expect("a connection").0));
        address
    }

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[test]
    fn an_echo_must_be_exact() {
        let copy = |mut stream: TcpStream| {
            let mut output = stream.try_clone().expect("a clone");
            std::io::copy(&mut stream, &mut output).expect("a copy");
        };
        assert_eq!(echo(serving(copy)), Ok(()));
        let short = |mut stream: TcpStream| {
            let mut input = Vec::new();
            stream.read_to_end(&mut input).expect("input");
            stream.write_all(&input[1..]).expect("output");
        };
        assert!(echo(serving(short)).is_err());
        let wrong = |mut stream: TcpStream| {
            let mut input = Vec::new();
            stream.read_to_end(&mut input).expect("input");
            input[9] ^= 1;
            stream.write_all(&input).expect("output");
        };
        assert_eq!(echo(serving(wrong)), Err("echo: byte 9 is 8, not 9".to_owned()));
        let more = |mut stream: TcpStream| {
            let mut input = Vec::new();
            stream.read_to_end(&mut input).expect("input");
            input.push(0);
            stream.write_all(&input).expect("output");
        };
        assert_eq!(echo(serving(more)), Err("echo: 1 bytes that nobody sent".to_owned()));
    }

    #[test]
    fn datagrams_must_come_back_as_they_were() {
        let serve = |flip: u8| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a free address");
            let address = socket.local_addr().expect("an address");
            thread::spawn(move || {
                let mut buffer = [0; 2048];
                while let Ok((count, from)) = socket.recv_from(&mut buffer) {
                    buffer[..count].iter_mut().for_each(|byte| *byte ^= flip);
                    if socket.send_to(&buffer[..count], from).is_err() {
                        return;
                    }
                }
            });
            address
        };
        assert_eq!(echo_datagrams(serve(0)), Ok(()));
        assert_eq!(echo_datagrams(serve(1)), Err("datagrams: one of 1 bytes does not come back".to_owned()));
    }

    #[test]
    fn an_answer_must_begin_as_given() {
        let pong = |mut stream: TcpStream| stream.write_all(b"+PONG\r\n").expect("output");
        assert_eq!(ask(serving(pong), "PING\r\n", "+PONG"), Ok(()));
        assert!(ask(serving(pong), "PING\r\n", "-ERR").is_err());
    }

    #[test]
    fn a_server_must_get_ready_and_end_well() {
        let loop_until = "while :; do sleep 0.05; done";
        let good = format!("trap 'exit 0' TERM; echo listening on {{addr}}; {loop_until}");
        assert_eq!(check(&shell(&good), |_| Ok(())), Ok(()));
        let bad_end = format!("trap 'exit 3' TERM; echo listening on {{addr}}; {loop_until}");
        let reason = check(&shell(&bad_end), |_| Ok(())).expect_err("status 3 is no success");
        assert!(reason.contains("exit status: 3") && reason.contains("listening on 127.0.0.1:"), "{reason}");
        let never_ready = check(&shell("echo sorry >&2; exit 1"), |_| Ok(())).expect_err("it ends at once");
        assert!(never_ready.contains("exit status: 1") && never_ready.contains("sorry"), "{never_ready}");
        let silent = check(&shell(&good), |_| Err("silent".to_owned())).expect_err("the talk failed");
        assert!(silent.starts_with("silent"), "{silent}");
        assert!(check(&["/no/such/program".to_owned()], |_| Ok(())).is_err());
    }

    #[test]
    fn a_client_must_end_well() {
        let upstream = serving(drop);
        let wants_address = format!("test \"$0\" = {upstream}");
        assert_eq!(clients::run("sh", &["-c", &wants_address, UPSTREAM_PLACE], upstream), Ok(()));
        let reason = clients::run("sh", &["-c", "echo lost; exit 1"], upstream).expect_err("it fails");
        assert!(reason.contains("exit status: 1") && reason.contains("lost"), "{reason}");
    }

    #[test]
    fn a_server_that_stays_is_killed() {
        let mut server =
            Server::start(&shell("trap '' TERM; echo listening on; while :; do sleep 0.05; done"))
                .expect("sh");
        server.wait_ready().expect("the line");
        server.terminate().expect("a signal");
        let reason = server.wait(Duration::from_millis(200)).expect_err("it ignores the signal");
        assert!(reason.starts_with("still running"), "{reason}");
        let pid = server.child.id();
        drop(server);
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "it outlived the check");
    }
    #[test]
    fn a_server_must_not_end_by_itself() {
        let mut server = Server::start(&shell("echo listening on")).expect("sh");
        server.wait_ready().expect("the line");
        assert!(server.wait(STOP_LIMIT).expect("an end").success());
        let reason = server.terminate().expect_err("it has ended");
        assert!(reason.contains("before SIGTERM"), "{reason}");
    }
}
