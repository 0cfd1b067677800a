//! Blob: serves files from memory over HTTP, without copying them.

use bytes::Bytes;
use clap::Parser;
use ringline_core::{
    Admit, Chain, Config, ConnId, Consumed, Ctx, EventHandler, Parts, Peer, Rejected, SendError,
};
use ringline_examples::http::{Method, Request, write_head};
use ringline_examples::{ServerArgs, exit, serve};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Longer request heads are refused.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// An HTTP server for files that fit into memory.
///
/// `GET /NAME` answers with a file, `GET /` with a list of the names, and `GET /*` with all files, one
/// after the other.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    server: ServerArgs,

    /// A file to serve under its name; repeat it for more
    #[arg(long, value_name = "PATH")]
    file: Vec<PathBuf>,

    /// A made-up file to serve, such as big=1048576; repeat it for more
    #[arg(long, value_name = "NAME=BYTES", value_parser = made_up)]
    make: Vec<(String, usize)>,

    /// From how many bytes on a file is sent without copying
    #[arg(long, value_name = "BYTES")]
    zero_copy_threshold: Option<usize>,
}

fn made_up(text: &str) -> Result<(String, usize), String> {
    let (name, bytes) = text.split_once('=').ok_or("this has to look like NAME=BYTES")?;
    Ok((name.to_owned(), bytes.parse().map_err(|error| format!("{bytes}: {error}"))?))
}

type Files = BTreeMap<String, Bytes>;

fn load(cli: &Cli) -> Result<Files, Box<dyn Error>> {
    let mut files = Files::new();
    for path in &cli.file {
        let name = path.file_name().ok_or_else(|| format!("{} has no name", path.display()))?;
        let contents = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        files.insert(name.to_string_lossy().into_owned(), contents.into());
    }
    for (name, bytes) in &cli.make {
        let contents: Vec<u8> = (0..*bytes).map(|at| b'a' + (at % 26) as u8).collect();
        files.insert(name.clone(), contents.into());
    }
    if files.is_empty() {
        return Err("there is nothing to serve: name a --file, or --make one".into());
    }
    Ok(files)
}

struct Blob {
    files: Files,
}

impl Blob {
    /// Answers one request; what it asks for goes out whole or not at all.
    fn answer(&self, cx: &mut Ctx<'_, Self>, id: ConnId, request: &Request<'_>) -> Result<(), SendError> {
        let name = request.path.strip_prefix('/').unwrap_or(request.path);
        if name == "*" {
            return self.answer_all(cx, id, request);
        }
        let list;
        let (status, body) = if name.is_empty() {
            list = Bytes::from(self.files.keys().fold(String::new(), |list, name| list + name + "\n"));
            ("200 OK", &list)
        } else {
            match self.files.get(name) {
                Some(file) => ("200 OK", file),
                None => ("404 Not Found", &Bytes::from_static(b"no such file\n")),
            }
        };
        let head = head(status, body.len(), request.keeps_alive);
        let mut parts = Parts::new();
        parts.copy(&head)?;
        if request.method != Method::Head && !body.is_empty() {
            parts.guard(body.clone()).map_err(|rejected| rejected.error)?;
        }
        cx.send_parts(id, parts).map_err(|rejected| rejected.error)?;
        Ok(())
    }

    /// All files as one answer: a chain, so that nothing can come in between.
    fn answer_all(&self, cx: &mut Ctx<'_, Self>, id: ConnId, request: &Request<'_>) -> Result<(), SendError> {
        let bytes = self.files.values().map(Bytes::len).sum();
        let head = head("200 OK", bytes, request.keeps_alive);
        let mut chain = Chain::new();
        chain.copy(&head)?;
        if request.method != Method::Head {
            let mut files = self.files.values().filter(|file| !file.is_empty()).peekable();
            while files.peek().is_some() {
                let mut link = Parts::new();
                for file in files.by_ref().take(Parts::MAX) {
                    link.guard(file.clone()).map_err(|rejected| rejected.error)?;
                }
                chain.parts(link).map_err(|Rejected { error, .. }| error)?;
            }
        }
        cx.send_chain(id, chain).map_err(|rejected| rejected.error)?;
        Ok(())
    }

    fn refuse(cx: &mut Ctx<'_, Self>, id: ConnId, status: &str) -> Consumed {
        // Nothing more can be said to a peer that this does not reach.
        let _ = cx.send(id, &head(status, 0, false));
        cx.close(id);
        Consumed::none()
    }
}

fn head(status: &str, length: usize, keeps_alive: bool) -> Vec<u8> {
    let mut head = Vec::new();
    write_head(&mut head, status, length, keeps_alive, &[]);
    head
}

impl EventHandler for Blob {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        let mut done = 0;
        while done < data.len() {
            let request = match Request::parse(&data[done..], HEAD_BYTES_MAX) {
                Ok(Some(Request { method: Method::Other, .. })) => {
                    return Self::refuse(cx, id, "405 Method Not Allowed");
                }
                Ok(Some(Request { has_body: true, .. })) => {
                    return Self::refuse(cx, id, "413 Content Too Large");
                }
                Ok(Some(request)) => request,
                Ok(None) => break,
                Err(refusal) => return Self::refuse(cx, id, refusal.status()),
            };
            match self.answer(cx, id, &request) {
                Ok(()) => done += request.bytes,
                // Answers are waiting for the peer; this request is shown again when they are out.
                Err(SendError::Full { .. } | SendError::WorkerFull { .. }) => break,
                Err(SendError::TooManyLinks { .. }) => {
                    return Self::refuse(cx, id, "507 Insufficient Storage");
                }
                Err(_) => return Consumed::all(data),
            }
            if !request.keeps_alive {
                cx.close(id);
                break;
            }
        }
        Consumed::bytes(done)
    }
}

fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let files = load(cli)?;
    // Any of the files, and all of them together with a head, must fit a connection's outbox.
    let bytes = files.values().map(Bytes::len).sum::<usize>() + HEAD_BYTES_MAX;
    let mut config = Config::builder();
    let outbox_bytes = bytes.max(4 << 20);
    config = config.outbox_bytes(outbox_bytes).worker_outbox_bytes(outbox_bytes.max(256 << 20));
    if let Some(threshold) = cli.zero_copy_threshold {
        config = config.zero_copy_threshold(threshold);
    }
    serve(&cli.server, config, move |_seat| Blob { files: files.clone() })
}

fn main() -> ExitCode {
    let mut cli = Cli::parse();
    cli.server.protocols = vec!["http/1.1"];
    exit(run(&cli))
}
