//! Programs of others, run with a time limit.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs.
pub(crate) struct Tool {
    child: Child,
    output: mpsc::Receiver<Vec<u8>>,
    seen: Vec<u8>,
    /// How much of it was waited for.
    through: usize,
}

impl Tool {
    pub(crate) fn start(program: &str, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => panic!("cannot run {program}: {error}; install it, these tests need it"),
        };
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
        Self { child, output, seen: Vec::new(), through: 0 }
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

    /// What it has written, both streams, when `text` is there: behind what was waited for before.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = find(&self.seen[self.through..], text.as_bytes()) {
                self.through += at + text.len();
                return self.so_far();
            }
            match self.output.recv_timeout(PATIENCE) {
                Ok(more) => self.seen.extend(more),
                Err(error) => panic!("no {text:?} in {}: {error}", self.so_far()),
            }
        }
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

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Runs a program to its end with this input.
pub(crate) fn run(program: &str, args: &[&str], input: &[u8]) -> String {
    let mut tool = Tool::start(program, args);
    tool.write(input);
    tool.end();
    tool.finish()
}
