//! A process of its own for one test, and what can be taken from such a process.
//!
//! Nothing here is ever done to the process that runs all tests.
#![allow(unsafe_code)]

use crate::SOON;
use std::io::{Error, Read};
use std::mem::offset_of;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Names the test that a process was started for.
const VARIABLE: &str = "RINGLINE_CONFINED_TEST";
/// What a body that came to its end prints.
const DONE: &str = "the confined test is done";

/// Runs the body in a process of its own, in which no other test runs.
///
/// `test` is the test's own path, by which the new process finds it.
pub(crate) fn alone(test: &str, body: impl FnOnce()) {
    if let Some(confined) = std::env::var_os(VARIABLE) {
        assert_eq!(confined, test, "the process runs one test");
        body();
        println!("{DONE}");
        return;
    }
    let program = std::env::current_exe().expect("Linux knows the program");
    let child = Command::new(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(VARIABLE, test)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process can be started");
    let said = finish(child, test);
    assert!(said.contains(DONE), "{test} was not run: {said}");
}

/// Waits for the end of a process, which must be a success, and returns what it said.
fn finish(mut child: Child, test: &str) -> String {
    let until = Instant::now() + 3 * SOON;
    let status = loop {
        if let Some(status) = child.try_wait().expect("it is a child of this process") {
            break status;
        }
        if Instant::now() > until {
            let _ = child.kill();
            let _ = child.wait();
            panic!("{test} does not end");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let mut said = String::new();
    child.stdout.take().expect("it is piped").read_to_string(&mut said).expect("tests print text");
    assert!(status.success(), "{test} in a process of its own: {status}\n{said}");
    said
}

/// Something that a process may have only so much of.
#[derive(Clone, Copy)]
pub(crate) enum Resource {
    OpenFiles,
    LockedMemory,
}

/// Sets the soft and the hard limit for this process, for ever unless it is privileged.
pub(crate) fn limit(resource: Resource, soft: u64, hard: u64) {
    let number = match resource {
        Resource::OpenFiles => libc::RLIMIT_NOFILE,
        Resource::LockedMemory => libc::RLIMIT_MEMLOCK,
    };
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the call reads the limit, which lives until it is back.
    let status = unsafe { libc::setrlimit(number, &raw const limit) };
    assert_eq!(status, 0, "the limit can be set: {}", Error::last_os_error());
}

/// Makes this process one of `user`, without any privilege; one that had none stays who it is.
pub(crate) fn give_up_privileges(user: libc::uid_t) {
    // SAFETY: the call has no arguments and cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return;
    }
    // SAFETY: no list is passed, as its length of zero says; the other calls take numbers. The C
    // library carries each change to all threads.
    let changed = unsafe {
        libc::setgroups(0, std::ptr::null()) == 0 && libc::setgid(user) == 0 && libc::setuid(user) == 0
    };
    assert!(changed, "an administrator may become anybody: {}", Error::last_os_error());
}

/// Makes a system call fail with `errno` in every thread that this one starts from now on, and in
/// this one itself.
pub(crate) fn forbid(call: libc::c_long, errno: i32) {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let number = offset_of!(libc::seccomp_data, nr) as u32;
    let refusal = libc::SECCOMP_RET_ERRNO | (errno as u32 & libc::SECCOMP_RET_DATA);
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, number),
        libc::sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32) },
        statement(libc::BPF_RET | libc::BPF_K, refusal),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the call takes numbers only.
    let status = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(status, 0, "privileges can be given up: {}", Error::last_os_error());
    // SAFETY: the program and the filter that it points to live until the call is back, and the
    // kernel keeps a copy.
    let status = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(status, 0, "the kernel takes the filter: {}", Error::last_os_error());
}
