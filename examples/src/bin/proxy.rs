//! Proxy: passes connections on to another server, both ways, without copying large pieces.

use clap::Parser;
use ringline_core::net::Addr;
use ringline_core::{
    Admit, CloseReason, Config, ConnId, Consumed, Ctx, Deadlines, Eof, EventHandler, Peer, Seat, SendError,
};
use ringline_examples::{ServerArgs, exit, serve, unix_addr};
use std::cell::Cell;
use std::error::Error;
use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

/// A TCP proxy.
///
/// Each connection is passed on to one of the upstream servers in turn, or to the next one if it does
/// not answer. Half closes are passed on, and a side that fails takes the other with it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    server: ServerArgs,

    /// Where to pass connections on to, such as 127.0.0.1:80, or a Unix socket as with --listen; repeat it for more
    #[arg(long, value_name = "ADDR", required = true)]
    upstream: Vec<String>,

    /// How many seconds an upstream server gets to answer
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    connect_timeout: u64,

    /// Close connections on which nothing has moved for this many seconds
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u64>,

    /// What a client is told when no upstream server answers, before its connection closes
    #[arg(long, value_name = "TEXT", default_value = "")]
    apology: String,
}

/// A client and the server that it talks to, as both of their connections see them.
struct Pair {
    client: ConnId,
    upstream: Cell<ConnId>,
    /// How many servers were tried.
    tries: Cell<usize>,
    client_ended: Cell<bool>,
    upstream_ended: Cell<bool>,
}

/// One side of a pair; a client is alone until it is open.
enum Side {
    Alone,
    Client(Rc<Pair>),
    Upstream(Rc<Pair>),
}

impl Side {
    /// The connection on the other side.
    fn other(&self) -> Option<ConnId> {
        match self {
            Self::Alone => None,
            Self::Client(pair) => Some(pair.upstream.get()),
            Self::Upstream(pair) => Some(pair.client),
        }
    }
}

struct Proxy {
    upstreams: Vec<Addr>,
    /// Which one is next.
    next: usize,
    apology: Vec<u8>,
}

impl Proxy {
    /// Connects to the next server; `None` if that is not possible.
    fn dial(&mut self, cx: &mut Ctx<'_, Self>, pair: &Rc<Pair>) -> Option<()> {
        let address = &self.upstreams[self.next % self.upstreams.len()];
        self.next = self.next.wrapping_add(1);
        pair.tries.set(pair.tries.get() + 1);
        let upstream = cx.connect(address, Side::Upstream(Rc::clone(pair))).ok()?;
        pair.upstream.set(upstream);
        Some(())
    }

    /// No server answers.
    fn apologize(&self, cx: &mut Ctx<'_, Self>, client: ConnId) {
        // A client that this does not reach is closed all the same.
        let _ = cx.send(client, &self.apology);
        cx.close(client);
    }
}

impl EventHandler for Proxy {
    type Conn = Side;
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<Side> {
        Admit::Accept(Side::Alone)
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, side: &mut Side) {
        match side {
            Side::Alone => {
                let pair = Rc::new(Pair {
                    client: id,
                    upstream: Cell::new(id),
                    tries: Cell::new(0),
                    client_ended: Cell::new(false),
                    upstream_ended: Cell::new(false),
                });
                // Nobody is there yet to take what the client says.
                cx.pause_reads(id);
                if self.dial(cx, &pair).is_none() {
                    self.apologize(cx, id);
                }
                *side = Side::Client(pair);
            }
            Side::Upstream(pair) => cx.resume_reads(pair.client),
            Side::Client(_) => {}
        }
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, side: &mut Side, data: &[u8]) -> Consumed {
        let Some(other) = side.other() else { return Consumed::none() };
        match cx.forward(other, data) {
            Ok(_) => Consumed::all(data),
            // What is not consumed is shown again when the other side has room.
            Err(SendError::Full { .. } | SendError::WorkerFull { .. }) => Consumed::none(),
            Err(_) => {
                cx.abort(id);
                Consumed::none()
            }
        }
    }

    fn on_eof(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, side: &mut Side, _: &[u8]) -> Eof {
        let pair = match side {
            Side::Alone => return Eof::Close,
            Side::Client(pair) => {
                pair.client_ended.set(true);
                pair
            }
            Side::Upstream(pair) => {
                pair.upstream_ended.set(true);
                pair
            }
        };
        let other = if id == pair.client { pair.upstream.get() } else { pair.client };
        if pair.client_ended.get() && pair.upstream_ended.get() {
            // Everything was said both ways; what is still on its way goes out first.
            cx.close(other);
            return Eof::Close;
        }
        cx.shutdown_write(other);
        Eof::KeepWriting
    }

    fn on_close(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, side: Side, reason: CloseReason) {
        match side {
            Side::Alone => {}
            Side::Upstream(pair) if pair.upstream.get() == id && !cx.is_open(pair.client) => {}
            Side::Upstream(pair) if is_unreachable(reason) => {
                let is_tried = pair.tries.get() >= self.upstreams.len();
                if is_tried || self.dial(cx, &pair).is_none() {
                    self.apologize(cx, pair.client);
                }
            }
            Side::Upstream(pair) => end(cx, pair.client, reason),
            Side::Client(pair) => end(cx, pair.upstream.get(), reason),
        }
    }
}

/// Whether a connection ended before it began.
fn is_unreachable(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::ConnectFailed { .. })
        || reason == CloseReason::LimitExceeded(ringline_core::Limit::ConnectTimeout)
}

/// One side has ended: the other one follows, in the same way.
fn end<H: EventHandler>(cx: &mut Ctx<'_, H>, other: ConnId, reason: CloseReason) {
    if reason.is_clean() { cx.close(other) } else { cx.abort(other) }
}

fn run(cli: Cli) -> Result<(), Box<dyn Error>> {
    let mut upstreams = Vec::new();
    for addr in &cli.upstream {
        if let Some(addr) = unix_addr(addr)? {
            upstreams.push(addr.into());
            continue;
        }
        let found = addr.to_socket_addrs().map_err(|error| format!("{addr}: {error}"))?;
        upstreams.extend(found.map(Addr::from));
    }
    if upstreams.is_empty() {
        return Err("none of the upstream servers has an address".into());
    }
    let mut deadlines = Deadlines::default();
    if let Some(seconds) = cli.idle {
        deadlines = deadlines.idle(Duration::from_secs(seconds));
    }
    let config =
        Config::builder().connect_timeout(Duration::from_secs(cli.connect_timeout)).deadlines(deadlines);
    let apology = cli.apology.into_bytes();
    serve(&cli.server, config, move |seat: Seat| Proxy {
        upstreams: upstreams.clone(),
        next: seat.worker,
        apology: apology.clone(),
    })
}

fn main() -> ExitCode {
    exit(run(Cli::parse()))
}
