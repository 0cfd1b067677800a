//! A server that is measured: a process on a core of its own.

use std::fs;
use std::io::{self, Error};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(10);

pub(crate) struct Server {
    pub(crate) name: String,
    process: Child,
}

impl Server {
    /// Starts what `NAME=COMMAND` says and waits until it listens.
    pub(crate) fn start(text: &str, port: u16, core: usize) -> io::Result<Self> {
        let (name, command) =
            text.split_once('=').ok_or_else(|| Error::other(format!("no '=' in {text}")))?;
        let command = command.replace("{port}", &port.to_string());
        let mut words = command.split_whitespace();
        let program = words.next().ok_or_else(|| Error::other(format!("no command in {text}")))?;
        let process = Command::new("taskset")
            .args(["-c", &core.to_string(), program])
            .args(words)
            .stdout(Stdio::null())
            .spawn()?;
        let mut server = Self { name: name.into(), process };
        let until = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if server.process.try_wait()?.is_some() || Instant::now() > until {
                return Err(Error::other(format!("{name} does not listen on port {port}")));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    /// The CPU time of all its threads.
    pub(crate) fn cpu_ns(&self) -> io::Result<u64> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.process.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let first = text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
            sum += first.ok_or_else(|| Error::other("a kernel without schedstat"))?;
        }
        Ok(sum)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Keeps a thread, or the calling one, on a core.
pub(crate) fn pin(thread: i32, core: usize) -> io::Result<()> {
    // SAFETY: an all-zero set is an empty one, the call reads as many bytes as it is told, and `CPU_SET` checks the core.
    let status = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(thread, size_of_val(&set), &set)
    };
    if status == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
