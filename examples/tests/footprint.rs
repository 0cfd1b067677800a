//! What the echo example takes and leaves, as seen from outside: memory, wake-ups, system calls,
//! lines and exit statuses.
//!
//! The kernel's own numbers are judged, those in `/proc` and those of `strace`, which must be
//! installed.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

const ECHO: &str = env!("CARGO_BIN_EXE_echo");
/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(20);
const MESSAGE: [u8; 64] = [b'm'; 64];
const CROWD: usize = 10_000;
/// How long an idle server is watched.
const IDLE: Duration = Duration::from_secs(10);

/// A running echo server, ended by force when dropped.
struct Echo {
    child: Child,
    lines: Receiver<String>,
    addrs: Vec<SocketAddr>,
    /// The server itself, which is not the child if something is between the two.
    pid: u32,
}

impl Echo {
    /// Starts it with one worker, and with as many listeners as there are addresses.
    fn start(addrs: &[&str]) -> Self {
        Self::start_under(Command::new(ECHO), addrs)
    }

    fn start_under(mut command: Command, addrs: &[&str]) -> Self {
        let program = command.get_program().to_owned();
        command.args(["--workers", "1"]).args(addrs.iter().flat_map(|addr| ["--listen", addr]));
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap_or_else(|error| {
                panic!("{} must be installed to run this: {error}", program.display())
            });
        let stdout = child.stdout.take().expect("it is piped");
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                send.send(line.expect("it writes text")).expect("the test listens to the end");
            }
        });
        let pid = child.id();
        let mut echo = Self { child, lines, addrs: Vec::new(), pid };
        echo.addrs = addrs.iter().map(|_| echo.next_addr()).collect();
        echo
    }

    fn next_addr(&mut self) -> SocketAddr {
        let line = self.lines.recv_timeout(SOON).expect("it says where it listens");
        let addr = line.strip_prefix("listening on ").and_then(|addr| addr.parse().ok());
        addr.unwrap_or_else(|| panic!("this is no address: {line}"))
    }

    fn addr(&self) -> SocketAddr {
        self.addrs[0]
    }

    /// Sends a signal by its name.
    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -s {name} {}", self.pid)]).status();
        assert!(sent.expect("there is a shell").success(), "{name} is sent");
    }

    /// Waits for the end; says how it ended and what it printed since it was ready.
    fn wait(mut self, within: Duration) -> (ExitStatus, Vec<String>) {
        let status = self.wait_for(within);
        (status, self.lines.iter().collect())
    }

    fn wait_for(&mut self, within: Duration) -> ExitStatus {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is a child of this process") {
                return status;
            }
            assert!(Instant::now() < until, "it has not ended within {within:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// How much memory is resident, in kibibytes. This walks the page tables; the number in the
    /// process's status is put together from the CPUs' and may be some hundred pages off.
    fn resident_kib(&self) -> u64 {
        let maps = format!("/proc/{}/smaps_rollup", self.pid);
        field(&fs::read_to_string(maps).expect("it is running"), "Rss")
    }

    /// Every thread's name and how often it was taken off its CPU.
    fn switches(&self) -> Vec<(String, u64)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).expect("it is running");
        let mut switches: Vec<_> = tasks
            .map(|task| {
                let status = task.expect("a thread").path().join("status");
                let status = fs::read_to_string(status).expect("no thread ends while it serves");
                let name = status.lines().next().and_then(|line| line.strip_prefix("Name:\t"));
                let name = name.expect("the first line has the name").to_owned();
                (name, field(&status, "voluntary_ctxt_switches"))
            })
            .collect();
        switches.sort();
        switches
    }

    /// Wants no thread to have run at all for a while.
    fn assert_sleeps(&self) {
        // What was there to do is done by now.
        thread::sleep(Duration::from_millis(500));
        let before = self.switches();
        assert!(before.iter().any(|(name, _)| name == "ringline-0"), "{before:?}");
        thread::sleep(IDLE);
        assert_eq!(self.switches(), before, "an idle server is not woken");
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            if self.pid != self.child.id() {
                self.signal("KILL");
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// The number behind a name at the beginning of a line.
fn field(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    number.unwrap_or_else(|| panic!("no {name} in {status}"))
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, SOON).expect("the server takes connections");
    stream.set_read_timeout(Some(SOON)).expect("a socket option");
    stream.set_write_timeout(Some(SOON)).expect("a socket option");
    stream.set_nodelay(true).expect("a socket option");
    stream
}

/// One message on each of the clients, out on all of them before the first answer is read.
fn exchange(clients: &mut [TcpStream]) {
    for client in &mut *clients {
        client.write_all(&MESSAGE).expect("the server reads");
    }
    for client in clients {
        let mut answer = [0; MESSAGE.len()];
        client.read_exact(&mut answer).expect("the server answers");
        assert_eq!(answer, MESSAGE);
    }
}

/// Makes room for the crowd's ends in this process.
fn raise_open_files() {
    let pid = std::process::id().to_string();
    let limit = format!("--nofile={}:", CROWD + 1_000);
    let raised = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    let raised = raised.expect("prlimit, of util-linux, must be installed to run this");
    assert!(raised.success(), "the hard limit of open files (ulimit -Hn) must be {} or more", CROWD + 1_000);
}

#[test]
fn at_rest_it_takes_less_than_five_mebibytes_and_no_wake_ups() {
    let echo = Echo::start(&["127.0.0.1:0"]);
    let resident = echo.resident_kib();
    assert!(resident < 5 << 10, "{resident} KiB are resident");
    echo.assert_sleeps();
}

#[test]
fn ten_thousand_silent_connections_take_less_than_a_kibibyte_each_and_no_wake_ups() {
    raise_open_files();
    let echo = Echo::start(&["127.0.0.1:0"]);
    let before = echo.resident_kib();
    let mut clients: Vec<_> = (0..CROWD).map(|_| connect(echo.addr())).collect();
    exchange(&mut clients);
    let growth = echo.resident_kib().saturating_sub(before);
    assert!(growth < CROWD as u64, "{growth} KiB for {CROWD} connections");
    echo.assert_sleeps();
    exchange(&mut clients);
}

/// A log of strace, read once the traced process has ended.
struct Trace {
    log: PathBuf,
    echo: Echo,
}

/// The worker's system calls in some span of time.
#[derive(Debug)]
struct Calls {
    names: BTreeSet<String>,
    count: usize,
    /// Operations that were handed over.
    submitted: usize,
}

impl Trace {
    fn start() -> Self {
        let name = format!("calls-{}.log", std::process::id());
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let mut command = Command::new("strace");
        command.args(["-f", "-ttt", "-o"]).arg(&log).arg("--").arg(ECHO);
        let mut echo = Echo::start_under(command, &["127.0.0.1:0"]);
        let text = fs::read_to_string(&log).expect("strace writes while the server runs");
        let pid = text.split_whitespace().next().and_then(|pid| pid.parse().ok());
        echo.pid = pid.expect("the log begins with the server");
        Self { log, echo }
    }

    /// Does something in a span of time in which nothing else happens.
    fn during(act: impl FnOnce()) -> [f64; 2] {
        let quiet = Duration::from_millis(200);
        let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is later");
        thread::sleep(quiet);
        let began = now();
        act();
        let ended = now();
        thread::sleep(quiet);
        [began.as_secs_f64(), ended.as_secs_f64()]
    }

    /// Ends the server and sorts out what its worker called in each of the spans.
    fn finish(self, spans: &[[f64; 2]]) -> Vec<Calls> {
        self.echo.signal("TERM");
        let (status, _) = self.echo.wait(SOON);
        assert!(status.success(), "{status}");
        let text = fs::read_to_string(&self.log).expect("strace has written it");
        fs::remove_file(&self.log).expect("it is this test's file");
        let worker = text.lines().find(|line| line.contains(r#"PR_SET_NAME, "ringline-0""#));
        let worker = worker.and_then(|line| line.split_whitespace().next()).expect("a thread has the name");
        let calls = |[began, ended]: [f64; 2]| {
            let mut calls = Calls { names: BTreeSet::new(), count: 0, submitted: 0 };
            for line in text.lines() {
                // The columns are set apart by one space or more.
                let Some((thread, rest)) = line.split_once(' ') else { continue };
                let Some((time, call)) = rest.trim_start().split_once(' ') else { continue };
                let time: f64 = time.parse().unwrap_or_else(|_| panic!("no time in `{line}`"));
                // The rest of a call that another thread interrupted was counted with its beginning.
                if thread != worker || call.starts_with("<...") || !(began..ended).contains(&time) {
                    continue;
                }
                let (name, arguments) = call.split_once('(').unwrap_or((call, ""));
                calls.names.insert(name.to_owned());
                calls.count += 1;
                let submitted = arguments.split(", ").nth(1).and_then(|number| number.parse().ok());
                calls.submitted += submitted.unwrap_or(0);
            }
            calls
        };
        spans.iter().map(|span| calls(*span)).collect()
    }
}

#[test]
fn a_request_costs_one_system_call_at_most_and_one_operation() {
    const REQUESTS: usize = 1_000;
    const ROUNDS: usize = 100;
    const CLIENTS: usize = 64;
    /// Receives that are armed anew, and the like.
    const SLACK: usize = 8;

    let trace = Trace::start();
    let mut one = [connect(trace.echo.addr())];
    let mut many: Vec<_> = (0..CLIENTS).map(|_| connect(trace.echo.addr())).collect();
    exchange(&mut one);
    exchange(&mut many);
    let alone = Trace::during(|| (0..REQUESTS).for_each(|_| exchange(&mut one)));
    let together = Trace::during(|| (0..ROUNDS).for_each(|_| exchange(&mut many)));
    drop((one, many));
    let calls = trace.finish(&[alone, together]);

    let only_enter = BTreeSet::from([String::from("io_uring_enter")]);
    let [alone, together] = &calls[..] else { panic!("two spans") };
    assert_eq!(alone.names, only_enter, "{alone:?}");
    assert!((REQUESTS..=REQUESTS + SLACK).contains(&alone.count), "{alone:?}");
    assert!((REQUESTS..=REQUESTS + SLACK).contains(&alone.submitted), "{alone:?}");
    let requests = ROUNDS * CLIENTS;
    assert_eq!(together.names, only_enter, "{together:?}");
    assert!(together.count <= requests + SLACK, "{together:?}");
    assert!((requests..=requests + SLACK).contains(&together.submitted), "{together:?}");
}

/// Wants the server's direction to have ended on every connection.
fn assert_ended(clients: &mut [TcpStream]) {
    for client in clients {
        assert_eq!(client.read(&mut [0]).expect("an end, no reset"), 0);
    }
}

#[test]
fn a_signal_ends_it_in_order_and_frees_the_port() {
    for signal in ["TERM", "INT"] {
        let echo = Echo::start(&["127.0.0.1:0"]);
        let addr = echo.addr();
        let mut clients: Vec<_> = (0..50).map(|_| connect(addr)).collect();
        exchange(&mut clients);
        let began = Instant::now();
        echo.signal(signal);
        assert_ended(&mut clients);
        drop(clients);
        let (status, lines) = echo.wait(SOON);
        let took = began.elapsed();
        assert!(status.success(), "{signal}: {status}");
        assert!(took < Duration::from_secs(2), "{signal}: {took:?} for idle connections");
        assert_eq!(lines, [""; 0], "{signal}: nothing more is printed");
        drop(TcpListener::bind(addr).expect("the port is free at once"));
        let successor = Echo::start(&[&addr.to_string()]);
        exchange(&mut [connect(successor.addr())]);
    }
}

#[test]
fn peers_that_do_not_answer_the_end_delay_it_but_do_not_keep_the_port() {
    let echo = Echo::start(&["127.0.0.1:0"]);
    let addr = echo.addr();
    let mut clients: Vec<_> = (0..50).map(|_| connect(addr)).collect();
    exchange(&mut clients);
    let began = Instant::now();
    echo.signal("TERM");
    assert_ended(&mut clients);
    let mut successor = Echo::start(&[&addr.to_string()]);
    assert!(matches!(successor.child.try_wait(), Ok(None)), "it serves while the old one drains");
    exchange(&mut [connect(addr)]);
    let (status, _) = echo.wait(SOON);
    let took = began.elapsed();
    assert!(status.success(), "{status}");
    // Peers get two seconds to end their direction, and there are ten to drain.
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(5), "{took:?}");
    drop(clients);
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let echo = Echo::start(&["127.0.0.1:0"]);
    let mut clients = [connect(echo.addr())];
    exchange(&mut clients);
    echo.signal("TERM");
    assert_ended(&mut clients);
    let began = Instant::now();
    echo.signal("TERM");
    let (status, _) = echo.wait(SOON);
    assert_eq!(status.signal(), Some(15), "{status}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
}

#[test]
fn every_listener_is_announced_once_and_serves() {
    let echo = Echo::start(&["127.0.0.1:0", "127.0.0.2:0"]);
    let addrs = echo.addrs.clone();
    assert_eq!(
        addrs.iter().map(|addr| addr.ip().to_string()).collect::<Vec<_>>(),
        ["127.0.0.1", "127.0.0.2"]
    );
    for addr in addrs {
        exchange(&mut [connect(addr)]);
    }
    echo.signal("INT");
    let (status, lines) = echo.wait(SOON);
    assert!(status.success(), "{status}");
    assert_eq!(lines, [""; 0], "one line each was all");
}

/// Runs it with arguments with which it must end by itself.
fn run(arguments: &[&str]) -> Output {
    let child = Command::new(ECHO)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the example is built");
    let (send, ended) = mpsc::channel();
    let pid = child.id();
    thread::spawn(move || send.send(child.wait_with_output()));
    let Ok(output) = ended.recv_timeout(SOON) else {
        let _ = Command::new("sh").args(["-c", &format!("kill -s KILL {pid}")]).status();
        panic!("with {arguments:?} it does not end")
    };
    output.expect("it runs")
}

/// Wants it to fail with status 1 and one line that has all of the texts.
fn assert_refuses(arguments: &[&str], texts: &[&str]) {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
    assert_eq!(output.stdout, b"", "{arguments:?}: it is not ready");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    for text in texts {
        assert!(stderr.contains(text), "{arguments:?}: no `{text}` in {stderr}");
    }
}

#[test]
fn help_is_no_failure_and_a_failure_says_why() {
    let output = run(&["--help"]);
    assert!(output.status.success(), "{}", output.status);
    let help = String::from_utf8_lossy(&output.stdout);
    for flag in ["--listen", "--workers", "--no-pin", "--drain", "--connections"] {
        assert!(help.contains(flag), "no {flag} in {help}");
    }

    assert_refuses(&["--listen", "nowhere"], &["error: cannot listen on \"nowhere\"", "0.0.0.0:7000"]);
    assert_refuses(&["--listen", "192.0.2.1:0"], &["192.0.2.1:0: this host does not have that address"]);
    assert_refuses(&["--workers", "0", "--listen", "127.0.0.1:0"], &["workers is 0", "from 1 to"]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("it is bound").to_string();
    assert_refuses(&["--listen", &addr], &[&addr, "the address is in use", "choose another port"]);
    let first_is_free = ["--listen", "127.0.0.1:0", "--listen", &addr];
    assert_refuses(&first_is_free, &["the address is in use"]);
}
