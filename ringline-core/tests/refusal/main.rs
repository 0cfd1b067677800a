//! What a server says when the system refuses something, and that nothing is left of it then.
//!
//! Limits and filters belong to a process, so each test takes place in a process of its own: the
//! same program, started once more for this test alone.

mod confined;
mod files;
mod listening;
mod memory;
mod permission;

use ringline_core::{
    Admit, ConfigBuilder, ConnId, Consumed, Ctx, EventHandler, LaunchError, Peer, RingError, Running, Server,
};
use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How long anything may take that should happen at once.
const SOON: Duration = Duration::from_secs(20);

struct Echo;

impl EventHandler for Echo {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        if cx.send(id, data).is_err() {
            cx.abort(id);
        }
        Consumed::all(data)
    }
}

fn launch(config: ConfigBuilder) -> Result<Running, LaunchError> {
    let config = config.pin(false).build().expect("the configuration is valid");
    let server = Server::new(config).listen("127.0.0.1:0").expect("the loopback network has a free port");
    server.launch(|_seat| Echo)
}

/// Wants a server with this configuration to serve.
fn assert_serves(config: ConfigBuilder) {
    assert_echoes(launch(config).expect("the server starts"));
}

fn assert_echoes(running: Running) {
    let addr = running.local_addrs()[0];
    let mut client = TcpStream::connect_timeout(&addr, SOON).expect("the server takes connections");
    client.set_read_timeout(Some(SOON)).expect("a socket option");
    client.write_all(b"hello").expect("the server reads");
    let mut echo = [0; 5];
    client.read_exact(&mut echo).expect("the server answers");
    assert_eq!(&echo, b"hello");
    drop(client);
    running.shutdown(SOON).expect("every worker ends well");
}

/// Wants a launch to fail because of a ring, and nothing to be left of the server.
fn assert_no_ring(launched: Result<Running, LaunchError>) -> RingError {
    match assert_refused(launched) {
        LaunchError::Ring { source, .. } => source,
        error => panic!("not because of a ring: {error}"),
    }
}

/// Wants a launch to fail and no thread or listener to be left of the server.
fn assert_refused(launched: Result<Running, LaunchError>) -> LaunchError {
    let error = launched.expect_err("the system refuses");
    let until = Instant::now() + SOON;
    // A thread that was joined may be listed for a moment longer.
    while workers() > 0 {
        assert!(Instant::now() < until, "{} workers are left after: {error}", workers());
        std::thread::sleep(Duration::from_millis(1));
    }
    error
}

/// How many threads of this process belong to workers.
fn workers() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("Linux has /proc");
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with("ringline-")).count()
}

/// Wants the text of an error to have all of these in it.
fn assert_says(error: &(impl ToString + Debug), texts: &[&str]) {
    let said = error.to_string();
    for text in texts {
        assert!(said.contains(text), "no `{text}` in `{said}` of {error:?}");
    }
}
