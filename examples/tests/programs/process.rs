//! An example that runs as a process, ended by force when dropped.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long anything may take that should happen at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    errors: Option<JoinHandle<String>>,
}

/// How a process has ended, and what it has said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    /// Standard output, without the lines that were read before.
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Process {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the example is built");
        let stdout = child.stdout.take().expect("it is piped");
        let mut stderr = child.stderr.take().expect("it is piped");
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                // A test that has seen enough does not listen to the end.
                let _ = send.send(line.expect("it writes text"));
            }
        });
        let errors = thread::spawn(move || {
            let mut errors = String::new();
            stderr.read_to_string(&mut errors).expect("it writes text");
            errors
        });
        Self { child, lines, errors: Some(errors) }
    }

    /// Starts a server and waits until it says where it listens.
    pub(crate) fn serve(program: &str, arguments: &[&str]) -> (Self, SocketAddr) {
        let process = Self::start(program, arguments);
        let addr = process.next_addr();
        (process, addr)
    }

    /// Waits until it says where else it listens.
    pub(crate) fn next_addr(&self) -> SocketAddr {
        let line = self.lines.recv_timeout(SOON).expect("it says where it listens");
        let addr = line.strip_prefix("listening on ").and_then(|addr| addr.parse().ok());
        addr.unwrap_or_else(|| panic!("this is no address: {line}"))
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status();
        assert!(sent.expect("there is a shell").success(), "{name} is sent");
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Outcome {
        let until = Instant::now() + SOON;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it is a child of this process") {
                break status;
            }
            assert!(Instant::now() < until, "it has not ended within {SOON:?}");
            thread::sleep(Duration::from_millis(2));
        };
        let errors = self.errors.take().expect("nobody else takes it").join().expect("it writes text");
        let output = self.lines.iter().map(|line| line + "\n").collect();
        Outcome { status, output, errors }
    }

    /// Asks it to end, which it has to do well.
    pub(crate) fn terminate(self) -> Outcome {
        self.signal("TERM");
        let outcome = self.wait();
        assert!(outcome.status.success(), "{outcome:?}");
        outcome
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended refuses both.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection on which nothing waits for ever.
pub(crate) fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&addr, SOON).expect("the server takes connections");
    stream.set_read_timeout(Some(SOON)).expect("a socket option");
    stream.set_write_timeout(Some(SOON)).expect("a socket option");
    stream
}
