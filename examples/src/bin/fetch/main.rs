//! Fetch: a program without listeners, which opens many connections to an HTTP server at once.

mod site;

use clap::Parser;
use ringline_core::{
    Admit, CloseReason, Config, ConnId, ConnectOptions, Consumed, Ctx, Deadlines, EventHandler, Peer, Seat,
    Server,
};
use ringline_examples::exit;
use ringline_tls::TlsConnector;
use site::Site;
use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

/// More headers than servers send.
const HEADERS_MAX: usize = 64;
/// How long workers have to end when there is nothing left to do.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// Fetches a page over many connections at once.
///
/// All connections are open at the same time: the first one is closed when the last one has its answer.
/// Says how many answers were right and why the other connections ended, and fails if there are any.
///
/// The server of an https:// URL has to show a certificate for the name in it, from somebody whom the
/// system trusts, or from the authority given with --cacert.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// A server
    #[arg(long, value_name = "URL")]
    #[arg(help = "A URL, such as https://example.org/page, or just a server, such as 127.0.0.1:80")]
    from: String,

    /// The page, if it is not in the URL; / unless given
    #[arg(long, value_name = "PATH")]
    path: Option<String>,

    /// What the page is to be; any that comes with status 200 will do unless given
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,

    /// The authorities that have to vouch for the server, in a PEM file; those whom the system trusts
    /// unless given
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// Where to connect to, whatever the URL says
    #[arg(long, value_name = "ADDR")]
    connect_to: Option<SocketAddr>,

    /// How many connections
    #[arg(long, value_name = "N", default_value_t = 1000)]
    connections: u32,

    /// How many workers share them
    #[arg(long, value_name = "N", default_value_t = 1)]
    workers: usize,

    /// How many seconds a connection may take to be made, and may then be silent
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    patience: u64,
}

/// What is asked for, and the right answer.
struct Task {
    target: SocketAddr,
    /// For servers that speak TLS, with the name that they have to prove.
    tls: Option<(TlsConnector, String)>,
    request: Vec<u8>,
    page: Option<Vec<u8>>,
}

impl Task {
    fn new(cli: &Cli) -> Result<Self, Box<dyn Error>> {
        let site = Site::parse(&cli.from, cli.path.as_deref())?;
        let target = cli.connect_to.map_or_else(|| site.addr(), Ok)?;
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let page = cli.expect.as_ref().map(read).transpose()?;
        let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", site.path, site.authority);
        let tls = if site.is_tls {
            let mut tls = TlsConnector::builder().alpn(["http/1.1"]);
            if let Some(roots) = &cli.cacert {
                tls = tls.roots(roots);
            }
            let tls = tls.build()?;
            // A name that is none is better known now than on a thread.
            drop(tls.layer(&site.host)?);
            Some((tls, site.host))
        } else if cli.cacert.is_some() {
            return Err("--cacert is for https:// URLs".into());
        } else {
            None
        };
        Ok(Self { target, tls, request: request.into_bytes(), page })
    }
}

/// One connection.
#[derive(Default)]
struct Fetching {
    is_answered: bool,
    is_right: bool,
}

/// How a connection ended.
struct Fetched {
    is_right: bool,
    reason: CloseReason,
}

struct Fetch {
    task: Arc<Task>,
    /// How many connections this worker has to make.
    count: usize,
    answered: Vec<ConnId>,
    failed: usize,
    tell: Sender<Fetched>,
}

impl Fetch {
    /// Closes all connections if none of them waits any more.
    fn close_all(&self, cx: &mut Ctx<'_, Self>) {
        if self.answered.len() + self.failed == self.count {
            self.answered.iter().for_each(|id| cx.close(*id));
        }
    }
}

impl EventHandler for Fetch {
    type Conn = Fetching;
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        for _ in 0..self.count {
            let (target, state) = (self.task.target, Fetching::default());
            let begun = match &self.task.tls {
                None => cx.connect(target, state),
                Some((tls, name)) => {
                    let layer = tls.layer(name).expect("it worked before");
                    cx.connect_layered(target, &ConnectOptions::new(), layer, state)
                }
            };
            begun.expect("there is room for all of them");
        }
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<Fetching> {
        Admit::Refuse
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, _: &mut Fetching) {
        if cx.send(id, &self.task.request).is_err() {
            cx.abort(id);
        }
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, state: &mut Fetching, data: &[u8]) -> Consumed {
        match Answer::parse(data) {
            Some(Answer { status, head, body }) => {
                let Some(page) = data.get(head..head + body) else {
                    return Consumed::none().need(head + body);
                };
                let is_expected = self.task.page.as_ref().is_none_or(|expected| page == expected);
                state.is_right = status == 200 && is_expected;
                state.is_answered = true;
                self.answered.push(id);
                self.close_all(cx);
                Consumed::bytes(head + body)
            }
            None => Consumed::none(),
        }
    }

    fn on_close(&mut self, cx: &mut Ctx<'_, Self>, _: ConnId, state: Fetching, reason: CloseReason) {
        if !state.is_answered {
            self.failed += 1;
            self.close_all(cx);
        }
        // Whoever wanted to know has gone away only if the program ends.
        let _ = self.tell.send(Fetched { is_right: state.is_right, reason });
    }
}

/// The head of an answer: the lengths of head and body, and the status.
struct Answer {
    status: u16,
    head: usize,
    body: usize,
}

impl Answer {
    /// The answer at the front of `data`; `None` if its head is not all there. One that cannot be
    /// understood has no status.
    fn parse(data: &[u8]) -> Option<Self> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let head = match response.parse(data) {
            Ok(httparse::Status::Complete(head)) => head,
            Ok(httparse::Status::Partial) => return None,
            Err(_) => return Some(Self { status: 0, head: data.len(), body: 0 }),
        };
        let length =
            response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length = length.and_then(|header| std::str::from_utf8(header.value).ok()?.trim().parse().ok());
        let status = if length.is_some() { response.code.unwrap_or(0) } else { 0 };
        Some(Self { status, head, body: length.unwrap_or(0) })
    }
}

/// Waits for the end of every connection, and says how they ended.
fn report(ends: &Receiver<Fetched>, count: u32) -> Result<(), Box<dyn Error>> {
    let mut right = 0;
    let mut others = BTreeMap::new();
    for _ in 0..count {
        let Fetched { is_right, reason } = ends.recv()?;
        if is_right {
            right += 1;
        } else {
            *others.entry(reason.to_string()).or_insert(0) += 1;
        }
    }
    println!("{right} of {count} answers as expected");
    for (reason, count) in &others {
        println!("{count} others: {reason}");
    }
    if right == count {
        Ok(())
    } else {
        Err(format!("{} connections got no right answer", count - right).into())
    }
}

fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let task = Arc::new(Task::new(&cli)?);
    let patience = Duration::from_secs(cli.patience);
    let config = Config::builder()
        .workers(cli.workers)
        .pin(false)
        .connections_per_worker(cli.connections)
        .inbox_bytes((task.page.as_ref().map_or(0, Vec::len) + (64 << 10)).max(16 << 20))
        .connect_timeout(patience)
        .handshake_timeout(patience)
        .deadlines(Deadlines::default().idle(patience))
        .build()?;
    let (tell, ends) = mpsc::channel();
    let count = cli.connections as usize;
    let running = Server::new(config).launch(move |Seat { worker, workers, .. }| Fetch {
        task: Arc::clone(&task),
        count: count / workers + usize::from(worker < count % workers),
        answered: Vec::new(),
        failed: 0,
        tell: tell.clone(),
    })?;
    let reported = report(&ends, cli.connections);
    running.shutdown(STOP_LIMIT)?;
    reported
}

fn main() -> ExitCode {
    exit(run(Cli::parse()))
}
