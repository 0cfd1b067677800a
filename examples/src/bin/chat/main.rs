//! Chat: rooms whose members are served by different workers.
//!
//! Each worker knows its own clients. What is said in a room is posted once to each other worker, which
//! passes it on to those of its clients that are in it.

mod line;
mod outgoing;
mod rooms;
mod server;

use clap::Parser;
use line::NAME_BYTES_MAX;
use ringline_core::{Config, Deadlines};
use ringline_examples::{ServerArgs, exit, serve};
use server::{Chat, LAST_WORDS_BYTES, Limits};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

const BYTES_MAX: u64 = 1 << 20;
/// How long a client that has to go gets to read what waits for it.
const LAST_READING: Duration = Duration::from_secs(5);

/// A chat server.
///
/// Clients send lines of text: /join ROOM, /leave ROOM, /nick NAME, /quit, and everything else is said to
/// the room that was joined last. Everybody who is in a room, the speaker too, gets each line once, and the
/// lines of one speaker in their order. Lines of the server's own begin with * and, if something is wrong,
/// with an exclamation mark.
///
/// A client for which more than --backlog-bytes wait does not read fast enough: it is told and
/// disconnected, so that nobody misses lines without knowing it.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(flatten)]
    server: ServerArgs,

    /// How many bytes a line may have; a client that sends more is disconnected
    #[arg(long, value_name = "BYTES", default_value_t = 512)]
    #[arg(value_parser = clap::value_parser!(u64).range(16..=BYTES_MAX / 4))]
    line_bytes: u64,

    /// How many rooms a client may be in
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    rooms: u32,

    /// How many bytes may wait for a client that does not read
    #[arg(long, value_name = "BYTES", default_value_t = 65_536)]
    #[arg(value_parser = clap::value_parser!(u64).range(4096..=BYTES_MAX))]
    backlog_bytes: u64,

    /// How many lines may wait for a worker; while more do, those who speak are not heard
    #[arg(long, value_name = "N", default_value_t = 4096)]
    mailbox_messages: usize,
}

/// What a line needs beside its text: the names of the room and of the speaker, and what sets them apart.
const NAMES_BYTES: usize = 2 * NAME_BYTES_MAX + 8;

fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    let limits = Limits {
        line_bytes: cli.line_bytes as usize,
        rooms: cli.rooms as usize,
        backlog_bytes: cli.backlog_bytes as usize,
    };
    let least = 2 * (limits.line_bytes + NAMES_BYTES);
    if limits.backlog_bytes < least {
        let Limits { line_bytes, .. } = limits;
        return Err(
            format!("with lines of {line_bytes} bytes, --backlog-bytes has to be {least} or more").into()
        );
    }
    let outbox_bytes = limits.backlog_bytes + LAST_WORDS_BYTES;
    let config = Config::builder()
        .mailbox_messages(cli.mailbox_messages)
        .outbox_bytes(outbox_bytes)
        .outbox_high_bytes(outbox_bytes / 2)
        .outbox_low_bytes(outbox_bytes / 8)
        .deadlines(Deadlines::default().drain(LAST_READING));
    serve(&cli.server, config, move |seat| Chat::new(seat, limits))
}

fn main() -> ExitCode {
    exit(run(&Cli::parse()))
}
