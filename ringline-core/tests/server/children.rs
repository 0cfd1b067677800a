//! Child processes of real servers.

use super::{SOON, alone, config, pattern, stop, wait_until};
use ringline_core::signal::Signal;
use ringline_core::{
    Admit, ChildCommand, ChildExit, ChildId, ChildKey, ChildStdio, CloseReason, ConfigBuilder, ConnId,
    Consumed, Ctx, Eof, EventHandler, KillError, Peer, Running, SendError, Server, SpawnError,
};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Instant;

/// What the handler tells the test.
#[derive(Debug)]
pub(crate) enum Told {
    Ended { key: u64, exit: ChildExit, at: Instant },
    Output { name: &'static str, bytes: Vec<u8>, reason: CloseReason },
    Number(u32),
    Refused(String),
}

/// A connection of a child: what it is to read, and what it has written.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    name: &'static str,
    input: Vec<u8>,
    sent: usize,
    output: Vec<u8>,
}

pub(crate) fn pipe(name: &'static str, input: &[u8]) -> Pipe {
    Pipe { name, input: input.to_vec(), ..Pipe::default() }
}

pub(crate) type Plan = Box<dyn Fn(&mut Parent, &mut Ctx<'_, Parent>) + Send + Sync>;

/// Does at its start what the test wants, feeds its children, and tells what becomes of them.
pub(crate) struct Parent {
    pub(crate) tell: Sender<Told>,
    pub(crate) plan: std::sync::Arc<Plan>,
    pub(crate) on_child: fn(&mut Self, &mut Ctx<'_, Self>, ChildKey, ChildExit),
    pub(crate) ids: Vec<ChildId>,
}

impl Parent {
    pub(crate) fn spawn(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        command: ChildCommand<Pipe>,
        key: u64,
    ) -> Option<ChildId> {
        match cx.spawn(command, ChildKey(key)) {
            Ok(spawned) => {
                self.ids.push(spawned.child);
                let number = cx.process_number(spawned.child).expect("it runs");
                let _ = self.tell.send(Told::Number(number));
                Some(spawned.child)
            }
            Err(refused) => {
                let _ = self.tell.send(Told::Refused(refused.to_string()));
                None
            }
        }
    }
}

/// Sends what there is room for, and then ends our direction.
fn feed(cx: &mut Ctx<'_, Parent>, id: ConnId, pipe: &mut Pipe) {
    while pipe.sent < pipe.input.len() {
        let end = pipe.input.len().min(pipe.sent + (64 << 10));
        match cx.send(id, &pipe.input[pipe.sent..end]) {
            Ok(_) => pipe.sent = end,
            Err(SendError::Full { .. } | SendError::Closing) => return,
            Err(error) => panic!("{error}"),
        }
    }
    cx.shutdown_write(id);
}

impl EventHandler for Parent {
    type Conn = Pipe;
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        let plan = std::sync::Arc::clone(&self.plan);
        plan(self, cx);
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<Pipe> {
        Admit::Refuse
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, pipe: &mut Pipe) {
        feed(cx, id, pipe);
    }

    fn on_writable(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, pipe: &mut Pipe) {
        feed(cx, id, pipe);
    }

    fn on_data(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, pipe: &mut Pipe, data: &[u8]) -> Consumed {
        pipe.output.extend_from_slice(data);
        Consumed::all(data)
    }

    fn on_eof(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &mut Pipe, _: &[u8]) -> Eof {
        Eof::Close
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, pipe: Pipe, reason: CloseReason) {
        let _ = self.tell.send(Told::Output { name: pipe.name, bytes: pipe.output, reason });
    }

    fn on_child(&mut self, cx: &mut Ctx<'_, Self>, child: ChildId, key: ChildKey, exit: ChildExit) {
        assert!(self.ids.contains(&child));
        assert_eq!(cx.kill(child, Signal::Kill), Err(KillError::Gone));
        assert!(!cx.is_running(child) && cx.process_number(child).is_none());
        let _ = self.tell.send(Told::Ended { key: key.0, exit, at: Instant::now() });
        (self.on_child)(self, cx, key, exit);
    }
}

fn launch_with(
    config: ConfigBuilder,
    on_child: fn(&mut Parent, &mut Ctx<'_, Parent>, ChildKey, ChildExit),
    plan: impl Fn(&mut Parent, &mut Ctx<'_, Parent>) + Send + Sync + 'static,
) -> (Running, Receiver<Told>) {
    let (tell, told) = mpsc::channel();
    let plan: std::sync::Arc<Plan> = std::sync::Arc::new(Box::new(plan));
    let server = Server::new(config.build().expect("the configuration is valid"));
    let running = server.launch(move |_| Parent {
        tell: tell.clone(),
        plan: std::sync::Arc::clone(&plan),
        on_child,
        ids: Vec::new(),
    });
    (running.expect("the server starts"), told)
}

pub(crate) fn launch(
    plan: impl Fn(&mut Parent, &mut Ctx<'_, Parent>) + Send + Sync + 'static,
) -> (Running, Receiver<Told>) {
    launch_with(config(1), |_, _, _, _| {}, plan)
}

pub(crate) fn next(told: &Receiver<Told>) -> Told {
    told.recv_timeout(SOON).expect("the handler tells")
}

fn next_end(told: &Receiver<Told>) -> (u64, ChildExit) {
    loop {
        if let Told::Ended { key, exit, .. } = next(told) {
            return (key, exit);
        }
    }
}

pub(crate) fn next_number(told: &Receiver<Told>) -> u32 {
    loop {
        if let Told::Number(number) = next(told) {
            return number;
        }
    }
}

fn next_output(told: &Receiver<Told>, wanted: &str) -> (Vec<u8>, CloseReason) {
    loop {
        match next(told) {
            Told::Output { name, bytes, reason } if name == wanted => return (bytes, reason),
            _ => {}
        }
    }
}

fn next_refusal(told: &Receiver<Told>) -> String {
    loop {
        if let Told::Refused(text) = next(told) {
            return text;
        }
    }
}

pub(crate) fn sh(script: &str) -> ChildCommand<Pipe> {
    ChildCommand::new("/bin/sh").arg("-c").arg(script)
}

pub(crate) fn exists(number: u32) -> bool {
    Path::new(&format!("/proc/{number}")).exists()
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux has /proc").count()
}

/// The descriptors that every child of this program gets, whatever the program does.
fn inheritable() -> Vec<u32> {
    let entries = std::fs::read_dir("/proc/self/fdinfo").expect("Linux has /proc").filter_map(Result::ok);
    let stays = |entry: &std::fs::DirEntry| {
        let info = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        Some(u32::from_str_radix(flags.trim(), 8).ok()? & libc::O_CLOEXEC as u32 == 0)
    };
    let staying = entries.filter(|entry| stays(entry) == Some(true));
    staying.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn is_slow() -> bool {
    std::env::var_os("RINGLINE_GUEST").is_some()
}

pub(crate) const SIGTERM: ChildExit = ChildExit::Signal { signal: 15, core_dumped: false };
pub(crate) const SIGKILL: ChildExit = ChildExit::Signal { signal: 9, core_dumped: false };

#[test]
fn megabytes_go_through_a_child_and_come_back() {
    let _alone = alone();
    let len = if is_slow() { 1 << 20 } else { 24 << 20 };
    let bytes = pattern(len);
    let input = bytes.clone();
    let (running, told) = launch(move |parent, cx| {
        parent.spawn(cx, ChildCommand::new("cat").connection(pipe("cat", &input)), 7);
    });
    let (mut exit, mut output) = (None, None);
    while exit.is_none() || output.is_none() {
        match next(&told) {
            Told::Ended { key, exit: end, .. } => exit = Some((key, end)),
            Told::Output { bytes, reason, .. } => output = Some((bytes, reason)),
            _ => {}
        }
    }
    assert_eq!(exit, Some((7, ChildExit::Code(0))));
    let (echoed, reason) = output.expect("it is there");
    assert_eq!(reason, CloseReason::PeerClosed { unread: 0 });
    assert!(echoed == bytes, "{} of {len} bytes came back", echoed.len());
    let metrics = running.metrics().snapshot();
    assert_eq!((metrics.children_spawned, metrics.children_active), (1, 0));
    assert_eq!(metrics.connections_adopted, 1);
    stop(running);
}

#[test]
fn the_end_of_a_child_is_told_as_it_was() {
    let _alone = alone();
    let (running, told) = launch(|parent, cx| {
        parent.spawn(cx, sh("exit 0"), 0);
        parent.spawn(cx, sh("exit 42"), 1);
        parent.spawn(cx, sh("kill -TERM $$"), 2);
        parent.spawn(cx, sh("kill -KILL $$"), 3);
        assert_eq!(cx.children(), 4);
    });
    let ends: BTreeMap<_, _> = (0..4).map(|_| next_end(&told)).collect();
    let wanted = [(0, ChildExit::Code(0)), (1, ChildExit::Code(42)), (2, SIGTERM), (3, SIGKILL)];
    assert_eq!(ends, BTreeMap::from(wanted));
    assert!(ends[&0].is_success() && !ends[&1].is_success());
    assert_eq!(ends[&1].to_string(), "exited with code 42");
    assert_eq!(ends[&2].to_string(), "ended by signal 15");
    stop(running);
    assert!(told.recv().is_err(), "each end is told once");
}

#[test]
fn five_hundred_children_leave_no_zombie_and_no_descriptor() {
    let _alone = alone();
    let count: u64 = if is_slow() { 60 } else { 500 };
    let before = descriptors();
    let (running, told) = launch_with(
        config(1).children_per_worker(500),
        |_, _, _, _| {},
        move |parent, cx| {
            for key in 0..count {
                let command = sh("read line; echo $line; exit 3").connection(pipe("many", b"hello\n"));
                parent.spawn(cx, command, key).expect("there is room");
            }
        },
    );
    let (mut numbers, mut ends, mut outputs) = (Vec::new(), Vec::new(), 0);
    while ends.len() < count as usize || outputs < count {
        match next(&told) {
            Told::Number(number) => numbers.push(number),
            Told::Ended { key, exit, .. } => {
                assert_eq!(exit, ChildExit::Code(3));
                ends.push(key);
            }
            Told::Output { bytes, .. } => {
                assert_eq!(bytes, b"hello\n");
                outputs += 1;
            }
            Told::Refused(text) => panic!("{text}"),
        }
    }
    ends.sort_unstable();
    assert!(ends.into_iter().eq(0..count), "each child is told of once");
    assert!(numbers.iter().all(|&number| !exists(number)), "on_child comes after the collection");
    assert_eq!(running.metrics().snapshot().children_active, 0);
    stop(running);
    wait_until("every descriptor is closed", || descriptors() <= before);
}

#[test]
fn what_cannot_be_run_is_said_with_the_way_out() {
    let _alone = alone();
    let before = descriptors();
    let (running, told) = launch_with(
        config(1).children_per_worker(1),
        |_, _, _, _| {},
        |parent, cx| {
            parent.spawn(cx, ChildCommand::new("/no/such/program").connection(pipe("none", b"")), 0);
            parent.spawn(cx, ChildCommand::new("/etc/hostname-or-any-directory/../../etc"), 0);
            parent.spawn(cx, sh("true").current_dir("/no/such/directory"), 0);
            parent.spawn(cx, sh("read line").connection(pipe("one", b"")), 1);
            match cx.spawn(sh("true").connection(pipe("back", b"state")), ChildKey(2)) {
                Err(refused) => {
                    assert!(matches!(refused.error, SpawnError::Full { limit: 1 }));
                    let _ = parent.tell.send(Told::Refused(refused.error.to_string()));
                }
                Ok(_) => panic!("there is room for one"),
            }
        },
    );
    assert_eq!(
        next_refusal(&told),
        "there is no program /no/such/program; give its path, or a name that is in PATH"
    );
    let text = next_refusal(&told);
    assert!(text.contains("may not be run") || text.contains("there is no program"), "{text}");
    assert_eq!(next_refusal(&told), "there is no directory /no/such/directory to run in");
    assert_eq!(
        next_refusal(&told),
        "the worker has 1 children already; wait for one to end or raise children_per_worker"
    );
    assert_eq!(next_end(&told), (1, ChildExit::Code(1)));
    let metrics = running.metrics().snapshot();
    assert_eq!((metrics.children_spawned, metrics.children_failed, metrics.children_refused), (1, 3, 1));
    stop(running);
    wait_until("every descriptor is closed", || descriptors() <= before);
}

#[test]
fn a_command_that_was_refused_can_be_tried_again() {
    let _alone = alone();
    let (running, told) = launch_with(
        config(1).connections_per_worker(1),
        |_, _, _, _| {},
        |parent, cx| {
            let two = sh("echo out; echo err >&2").connection(pipe("out", b""));
            let refused =
                cx.spawn(two.stderr_connection(pipe("err", b"")), ChildKey(1)).expect_err("one fits");
            assert!(matches!(refused.error, SpawnError::ConnectionsFull { limit: 1 }));
            let command = *refused.command;
            drop(command);
            parent.spawn(cx, sh("echo again").connection(pipe("again", b"")), 2);
        },
    );
    assert_eq!(next_output(&told, "again").0, b"again\n");
    stop(running);
}

#[test]
fn environment_directory_and_streams_are_what_was_asked_for() {
    let _alone = alone();
    let path = std::env::temp_dir().join(format!("ringline-child-{}", std::process::id()));
    let mut file =
        File::options().create(true).truncate(true).read(true).write(true).open(&path).expect("a file");
    let copy: OwnedFd = file.try_clone().expect("a descriptor").into();
    let copy = std::sync::Mutex::new(Some(copy));
    let (running, told) = launch(move |parent, cx| {
        let script = "echo $ONE-$HOME-$PATH; pwd; echo oops >&2";
        let command = ChildCommand::new("/bin/sh").args(["-c", script]).env("TWO", "gone").env_clear();
        let command = command.env("ONE", "1").env("HOME", "x").env_remove("HOME").current_dir("/");
        let command = command.env("PATH", "p").connection(pipe("apart", b""));
        parent.spawn(cx, command.stderr_connection(pipe("err", b"ignored")), 1);
        let merged = sh("echo one; echo two >&2; echo three").connection(pipe("merged", b"")).merge_stderr();
        parent.spawn(cx, merged, 2);
        let file = copy.lock().expect("nobody panics").take().expect("one worker");
        let command = sh("cat; echo written").stdout(file).stderr(ChildStdio::Null).own_group();
        parent.spawn(cx, command, 3);
    });
    let mut outputs = BTreeMap::new();
    let mut ends = 0;
    while outputs.len() < 3 || ends < 3 {
        match next(&told) {
            Told::Output { name, bytes, .. } => {
                outputs.insert(name, String::from_utf8(bytes).expect("text"));
            }
            Told::Ended { exit, .. } => {
                assert_eq!(exit, ChildExit::Code(0));
                ends += 1;
            }
            _ => {}
        }
    }
    assert_eq!(outputs["apart"], "1--p\n/\n");
    assert_eq!(outputs["err"], "oops\n");
    assert_eq!(outputs["merged"], "one\ntwo\nthree\n");
    let mut written = String::new();
    file.rewind().expect("a file");
    file.read_to_string(&mut written).expect("text");
    assert_eq!(written, "written\n", "the standard input is empty unless something is asked for");
    std::fs::remove_file(path).expect("it is there");
    stop(running);
}

#[test]
fn nothing_of_the_server_gets_to_a_child() {
    let _alone = alone();
    let inherited = inheritable();
    let (running, told) = launch(|parent, cx| {
        // Opened by the shell itself is the descriptor of the directory that it lists.
        let command = sh("for fd in /proc/self/fd/*; do echo ${fd##*/}; done").connection(pipe("fds", b""));
        parent.spawn(cx, command, 1);
        let command = sh("grep -E '^Sig(Blk|Ign)' /proc/self/status").connection(pipe("signals", b""));
        parent.spawn(cx, command, 2);
    });
    let mut outputs = BTreeMap::new();
    while outputs.len() < 2 {
        if let Told::Output { name, bytes, .. } = next(&told) {
            outputs.insert(name, String::from_utf8(bytes).expect("text"));
        }
    }
    let fds: Vec<u32> = outputs["fds"].lines().map(|fd| fd.parse().expect("a number")).collect();
    let strange: Vec<_> = fds.iter().filter(|&fd| *fd > 2 && !inherited.contains(fd)).collect();
    assert!(strange.len() <= 1, "only the shell's own descriptor: {strange:?}");
    for line in outputs["signals"].lines() {
        let (name, mask) = line.split_once(':').expect("a name and a value");
        let mask = u64::from_str_radix(mask.trim(), 16).expect("a mask");
        match name {
            "SigBlk" => assert_eq!(mask, 0, "no signal is blocked"),
            _ => assert_eq!(mask & (1 << (13 - 1)), 0, "SIGPIPE is not ignored"),
        }
    }
    stop(running);
}

#[test]
fn a_signal_reaches_the_child_and_nobody_else() {
    let _alone = alone();
    let (running, told) = launch(|parent, cx| {
        let first = parent.spawn(cx, sh("exec sleep 60"), 1).expect("it starts");
        parent.spawn(cx, sh("exec sleep 60"), 2).expect("it starts");
        cx.kill(first, Signal::User1).expect("it runs");
    });
    let end = ChildExit::Signal { signal: Signal::User1.number(), core_dumped: false };
    assert_eq!(next_end(&told), (1, end));
    assert_eq!(running.metrics().snapshot().children_active, 1);
    stop(running);
}

#[test]
fn a_child_can_be_replaced_when_it_ends() {
    let _alone = alone();
    let again = |parent: &mut Parent, cx: &mut Ctx<'_, Parent>, key: ChildKey, _: ChildExit| {
        if key.0 < 20 {
            parent.spawn(cx, sh("exit 1"), key.0 + 1);
        }
    };
    let (running, told) = launch_with(config(1).children_per_worker(1), again, |parent, cx| {
        parent.spawn(cx, sh("exit 1"), 1);
    });
    for key in 1..=20 {
        assert_eq!(next_end(&told), (key, ChildExit::Code(1)), "the row is free before on_child");
    }
    stop(running);
}
