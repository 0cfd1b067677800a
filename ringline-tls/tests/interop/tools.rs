//! Programs of others, run with a time limit.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// Whether a program can be run; says so if not.
pub(crate) fn has(program: &str) -> bool {
    let version = if program == "openssl" { "version" } else { "--version" };
    let found =
        Command::new(program).arg(version).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("{program} is not installed; nothing is tried");
    }
    found
}

/// A program that runs.
pub(crate) struct Tool {
    child: Child,
    output: mpsc::Receiver<Vec<u8>>,
    seen: Vec<u8>,
}

impl Tool {
    pub(crate) fn start(program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let (sender, output) = mpsc::channel();
        let streams: [Box<dyn Read + Send>; 2] = [
            Box::new(child.stdout.take().expect("it is piped")),
            Box::new(child.stderr.take().expect("it is piped")),
        ];
        for mut stream in streams {
            let sender = sender.clone();
            thread::spawn(move || {
                let mut bytes = vec![0; 1 << 16];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    if sender.send(bytes[..count].to_vec()).is_err() {
                        break;
                    }
                }
            });
        }
        Self { child, output, seen: Vec::new() }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("it is open");
        stdin.write_all(bytes).expect("the program reads");
        stdin.flush().expect("the program reads");
    }

    /// Ends its input.
    pub(crate) fn end(&mut self) {
        self.child.stdin = None;
    }

    /// What it has written, both streams, up to and with `text`.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        while !contains(&self.seen, text.as_bytes()) {
            match self.output.recv_timeout(PATIENCE) {
                Ok(more) => self.seen.extend(more),
                Err(_) => panic!("no {text:?} in {}", String::from_utf8_lossy(&self.seen)),
            }
        }
        self.so_far()
    }

    /// Everything that it writes until it ends.
    pub(crate) fn finish(&mut self) -> String {
        loop {
            match self.output.recv_timeout(PATIENCE) {
                Ok(more) => self.seen.extend(more),
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.so_far(),
                Err(mpsc::RecvTimeoutError::Timeout) => panic!("it does not end: {}", self.so_far()),
            }
        }
    }

    fn so_far(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// Runs a program to its end with this input.
pub(crate) fn run(program: &str, args: &[&str], input: &[u8]) -> String {
    let mut tool = Tool::start(program, args);
    tool.write(input);
    tool.end();
    tool.finish()
}
