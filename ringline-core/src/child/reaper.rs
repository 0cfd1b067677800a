//! Waits for processes that no worker waits for any more.
//!
//! One thread serves the whole program. It exists while there is somebody to wait for, sleeps until
//! one of them has ended, and ends with the last.

use crate::sys::EventFd;
use crate::sys::process::{Process, wait_for_any};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, mem, thread};

/// Those that the thread has not taken over yet, and the way to wake it if it exists.
#[derive(Debug)]
struct Waiting {
    arrived: Vec<Process>,
    thread: Option<Arc<EventFd>>,
}

static WAITING: Mutex<Waiting> = Mutex::new(Waiting { arrived: Vec::new(), thread: None });

fn waiting() -> MutexGuard<'static, Waiting> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Collects a process, now if it has ended, else when it does.
pub(super) fn take(process: Process) {
    if !matches!(process.try_wait(), Ok(None)) {
        return;
    }
    let mut waiting = waiting();
    waiting.arrived.push(process);
    let woken = match &waiting.thread {
        Some(wake) => wake.signal(),
        None => start().map(|wake| waiting.thread = Some(wake)),
    };
    if let Err(error) = woken {
        // They are not forgotten: the next one that comes brings another try.
        log::error!("{} children cannot be waited for yet: {error}", waiting.arrived.len());
    }
}

/// Starts the thread. Whoever calls this holds the lock, so it begins by waiting for that.
fn start() -> io::Result<Arc<EventFd>> {
    let wake = Arc::new(EventFd::new()?);
    let own = Arc::clone(&wake);
    thread::Builder::new().name(String::from("ringline-reaper")).spawn(move || serve(&own))?;
    Ok(wake)
}

fn serve(wake: &EventFd) {
    let mut orphans = Vec::new();
    loop {
        let mut waiting = waiting();
        orphans.append(&mut mem::take(&mut waiting.arrived));
        orphans.retain(|process: &Process| matches!(process.try_wait(), Ok(None)));
        if orphans.is_empty() {
            waiting.thread = None;
            return;
        }
        drop(waiting);
        if let Err(error) = wait_for_any(&orphans, wake.as_fd()) {
            log::error!("{} children cannot be waited for: {error}", orphans.len());
            let mut waiting = self::waiting();
            waiting.arrived.append(&mut orphans);
            waiting.thread = None;
            return;
        }
        // Nothing to read is as good as read.
        let _ = wake.drain();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[expect(clippy::zombie_processes, reason = "whoever takes it collects it")]
    fn start_one(script: &str) -> Process {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        Process::open(child.id()).unwrap()
    }

    fn wait_gone(number: u32) {
        let until = Instant::now() + Duration::from_secs(20);
        while Path::new(&format!("/proc/{number}")).exists() {
            assert!(Instant::now() < until, "process {number} is still there");
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[test]
    fn orphans_are_collected_when_they_end_and_not_before() {
        let long = start_one("exec sleep 60");
        let end = Process::open(long.number()).unwrap();
        take(long);
        // One that comes later wakes the thread that waits already.
        for _ in 0..3 {
            let short = start_one("sleep 0.02");
            let number = short.number();
            take(short);
            wait_gone(number);
        }
        assert!(Path::new(&format!("/proc/{}", end.number())).exists());
        end.signal(libc::SIGKILL).unwrap();
        wait_gone(end.number());
    }
}
