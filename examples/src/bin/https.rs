//! Https: says hello over HTTP, and with `--tls` over HTTPS.

use clap::Parser;
use ringline_core::{Admit, Config, ConnId, Consumed, Ctx, Deadlines, EventHandler, Peer, SendError};
use ringline_examples::http::{DateLine, Method, Refusal, Request, write_head};
use ringline_examples::{ServerArgs, exit, serve};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// From how many bytes on answers are sent before more requests are looked at. What is sent with one
/// call is one record of TLS, up to 16 KiB.
const BATCH_BYTES: usize = 12 * 1024;

/// An HTTP server that says hello.
///
/// `GET /` and `HEAD /` are answered, and everything else is refused with a status that says why.
/// Connections stay open, and requests need not wait for the answers to those before them. For HTTPS,
/// give a certificate and its key with --tls; they are read again on SIGHUP.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    server: ServerArgs,

    /// What to say
    #[arg(long, value_name = "TEXT", default_value = "Hello, world!")]
    greeting: String,

    /// How many bytes the head of a request may have; longer ones are refused with 431
    #[arg(long, value_name = "BYTES", default_value_t = 8192)]
    #[arg(value_parser = clap::value_parser!(u32).range(64..=262_144))]
    head_bytes: u32,

    /// After how many seconds without a byte a connection is closed
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    idle: u64,
}

struct Hello {
    greeting: Arc<str>,
    head_bytes: usize,
    /// Answers that are about to be sent.
    answers: Vec<u8>,
    date: DateLine,
}

/// How many bytes of requests have answers, and whether that was all for this connection.
#[derive(Clone, Copy, Default)]
struct Answered {
    bytes: usize,
    is_last: bool,
}

impl Hello {
    /// Writes the answers to the requests at the front of `data`, as many as go out together.
    fn answer_all(&mut self, data: &[u8]) -> Answered {
        self.answers.clear();
        let mut answered = Answered::default();
        while answered.bytes < data.len() && !answered.is_last && self.answers.len() < BATCH_BYTES {
            match Request::parse(&data[answered.bytes..], self.head_bytes) {
                Ok(Some(request)) => {
                    answered.bytes += request.bytes;
                    answered.is_last = !request.keeps_alive;
                    self.answer(&request);
                }
                Ok(None) => break,
                Err(refusal) => {
                    answered.is_last = true;
                    self.refuse(refusal);
                }
            }
        }
        answered
    }

    fn answer(&mut self, request: &Request<'_>) {
        let (status, body) = match (request.method, request.path) {
            (Method::Other, _) => ("405 Method Not Allowed", "this server knows GET and HEAD\n"),
            _ if request.has_body => ("413 Content Too Large", "there is nothing to be done with a body\n"),
            (_, "/") => ("200 OK", &*self.greeting),
            _ => ("404 Not Found", "there is nothing but /\n"),
        };
        let allow = if request.method == Method::Other { "allow: GET, HEAD\r\n" } else { "" };
        let more = &[self.date.now(), "content-type: text/plain\r\n", allow];
        write_head(&mut self.answers, status, body.len(), request.keeps_alive, more);
        if request.method != Method::Head {
            self.answers.extend_from_slice(body.as_bytes());
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        write_head(&mut self.answers, refusal.status(), 0, false, &[self.date.now()]);
    }
}

impl EventHandler for Hello {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        let mut done = 0;
        loop {
            let Answered { bytes, is_last } = self.answer_all(&data[done..]);
            if self.answers.is_empty() {
                break;
            }
            match cx.send(id, &self.answers) {
                Ok(_) => done += bytes,
                // Answers are waiting for the peer; these requests are shown again when they are out.
                Err(SendError::Full { .. } | SendError::WorkerFull { .. }) => break,
                Err(_) => {
                    cx.abort(id);
                    break;
                }
            }
            if is_last {
                cx.close(id);
                break;
            }
        }
        Consumed::bytes(done)
    }
}

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    cli.server.protocols = vec!["http/1.1"];
    let (greeting, head_bytes): (Arc<str>, _) = ((cli.greeting + "\n").into(), cli.head_bytes as usize);
    let deadlines = Deadlines::default().idle(Duration::from_secs(cli.idle));
    exit(serve(&cli.server, Config::builder().deadlines(deadlines), move |_seat| Hello {
        greeting: Arc::clone(&greeting),
        head_bytes,
        answers: Vec::new(),
        date: DateLine::default(),
    }))
}
