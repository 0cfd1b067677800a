//! What a user asks for, checked: a [`Plan`] can be carried out as it stands.

use clap::{Args, Parser};
use std::fmt;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

/// Without another word, a run takes this long.
const DEFAULT_DURATION: Duration = Duration::from_secs(10);
/// Requests in flight on one connection: in a closed loop, and with a rate.
const DEFAULT_DEPTHS: (u32, u32) = (1, 64);
pub(crate) const SIZE_MAX: usize = 16 << 20;
const DEPTH_MAX: u32 = 65_536;
const CONNECTIONS_MAX: u32 = 1_000_000;
const RATE_MAX: u64 = 1_000_000_000;

/// Measures how fast a TCP server answers.
///
/// Each of a number of connections has requests in flight all the time (a closed loop), or requests are
/// sent at a fixed rate, whatever becomes of them (an open loop, --rate). The rate is kept in slots of a
/// millisecond, and latency counts from the slot of a request, sent in time or not: a server that stalls
/// cannot hide it by keeping requests from being sent. In a closed loop it counts from the sending.
///
/// A connection that fails is made again after 100 ms, then after twice that, up to a second, until it
/// has failed --retries times in a row. Requests that were in flight on it have failed; they are not
/// sent again.
///
/// The exit status is 0 if every request was answered as it should, 1 if anything failed or nothing was
/// done. SIGINT and SIGTERM end the run early; requests in flight then do not count as failed.
#[derive(Parser, Debug)]
#[command(version)]
pub(crate) struct Options {
    /// The server, such as 127.0.0.1:7777; of several addresses of a name, the first is taken
    #[arg(value_name = "ADDR")]
    server: String,

    /// How many connections, over all workers
    #[arg(long, short, value_name = "N", default_value_t = 1)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(CONNECTIONS_MAX)))]
    connections: u32,

    /// How many bytes a request has; the server has to send the same bytes back
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = parse_size)]
    size: usize,

    /// Send no bytes to be echoed but requests for this path over HTTP/1.1
    #[arg(long, value_name = "PATH", conflicts_with = "size", value_parser = parse_path)]
    http: Option<String>,

    #[command(flatten)]
    length: Length,

    /// Send this many requests per second, over all connections, whether they are answered or not
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    rate: Option<u64>,

    /// How many requests are in flight on a connection at most; 1 if not given, 64 with --rate
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(1..=i64::from(DEPTH_MAX)))]
    depth: Option<u32>,

    /// How long a connection or an answer may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = parse_seconds)]
    timeout: Duration,

    /// How often a connection may fail in a row before it is given up
    #[arg(long, value_name = "N", default_value_t = 5)]
    retries: u32,

    /// Compare every byte that comes back; --verify=false counts them only
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "true", action = clap::ArgAction::Set)]
    verify: bool,

    /// Chooses the bytes that are sent
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// How many workers; one per physical core if not given
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Let the scheduler move the workers between CPUs
    #[arg(long)]
    no_pin: bool,

    /// Report as one JSON object
    #[arg(long)]
    json: bool,

    /// Do not say once a second how it goes
    #[arg(long)]
    no_progress: bool,
}

/// How long a run is.
#[derive(Args, Debug)]
#[group(multiple = false)]
struct Length {
    /// For how many seconds requests are sent; 10 if neither this nor --requests is given
    #[arg(long, short, value_name = "SECONDS", value_parser = parse_seconds)]
    duration: Option<Duration>,

    /// How many requests are sent, over all connections
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests: Option<u64>,
}

/// A run, as every worker is told of it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) server: SocketAddr,
    pub(crate) connections: u32,
    pub(crate) request: Request,
    pub(crate) length: RunLength,
    /// Requests per second of all workers together; without one, the loop is closed.
    pub(crate) rate: Option<u64>,
    pub(crate) depth: usize,
    pub(crate) timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) seed: u64,
}

/// What is sent, and what the answer has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Echo { size: usize, verify: bool },
    Http { path: String, host: String },
}

/// When a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunLength {
    For(Duration),
    Requests(u64),
}

/// What concerns the process and not the run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Surroundings {
    pub(crate) workers: Option<usize>,
    pub(crate) pin: bool,
    pub(crate) json: bool,
    pub(crate) progress: bool,
}

impl Options {
    pub(crate) fn surroundings(&self) -> Surroundings {
        Surroundings {
            workers: self.workers,
            pin: !self.no_pin,
            json: self.json,
            progress: !self.no_progress,
        }
    }

    /// The run that is asked for, or what is wrong with it.
    pub(crate) fn plan(self) -> Result<Plan, String> {
        let found = self.server.to_socket_addrs();
        let mut found = found.map_err(|error| {
            format!("{}: {error}; this has to be an address and a port, such as 127.0.0.1:7777", self.server)
        })?;
        let server = found.next().ok_or_else(|| format!("{} has no address", self.server))?;
        let length = match (self.length.duration, self.length.requests) {
            (_, Some(requests)) => RunLength::Requests(requests),
            (duration, None) => RunLength::For(duration.unwrap_or(DEFAULT_DURATION)),
        };
        let (closed, open) = DEFAULT_DEPTHS;
        let depth = self.depth.unwrap_or_else(|| if self.rate.is_some() { open } else { closed });
        let request = match self.http {
            Some(path) => Request::Http { path, host: self.server },
            None => Request::Echo { size: self.size, verify: self.verify },
        };
        Ok(Plan {
            server,
            connections: self.connections,
            request,
            length,
            rate: self.rate,
            depth: depth as usize,
            timeout: self.timeout,
            retries: self.retries,
            seed: self.seed,
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Echo { size, verify: true } => write!(f, "echo of {size} bytes"),
            Self::Echo { size, verify: false } => write!(f, "echo of {size} bytes, not compared"),
            Self::Http { path, .. } => write!(f, "GET {path}"),
        }
    }
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| String::from("this has to be a number of seconds"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(time) if (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(&time) => Ok(time),
        _ => Err(String::from("this has to be from 0.001 to 86400")),
    }
}

fn parse_size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ 1..=SIZE_MAX) => Ok(size),
        _ => Err(format!("this has to be from 1 to {SIZE_MAX}")),
    }
}

fn parse_path(text: &str) -> Result<String, String> {
    if text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(text.to_owned());
    }
    Err(String::from("this has to begin with a slash and to have no spaces"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(arguments: &str) -> Result<Plan, String> {
        let words = ["loadgen", "127.0.0.1:7777"].into_iter().chain(arguments.split_whitespace());
        Options::try_parse_from(words).map_err(|error| error.to_string())?.plan()
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let closed = plan("").unwrap();
        assert_eq!((closed.connections, closed.depth, closed.rate), (1, 1, None));
        assert_eq!(closed.length, RunLength::For(DEFAULT_DURATION));
        assert_eq!(closed.request, Request::Echo { size: 64, verify: true });
        assert_eq!(plan("--rate 1000").unwrap().depth, 64);
        assert_eq!(plan("--rate 1000 --depth 3").unwrap().depth, 3);
    }

    #[test]
    fn a_flag_may_stand_alone_or_with_a_value() {
        for (arguments, expected) in [("--verify", true), ("--verify=true", true), ("--verify=false", false)]
        {
            let request = Request::Echo { size: 64, verify: expected };
            assert_eq!(plan(arguments).unwrap().request, request, "{arguments}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [
            "--size 0",
            "--size 16777217",
            "--connections 0",
            "--depth 0",
            "--rate 0",
            "--requests 0",
            "--duration 0",
            "--duration nan",
            "--timeout -1",
            "--duration 1 --requests 1",
            "--http nowhere",
            "--http /a --size 1",
        ] {
            assert!(plan(arguments).is_err(), "{arguments}");
        }
        let unnamed = Options::try_parse_from(["loadgen", "nowhere"]).unwrap().plan().unwrap_err();
        assert!(unnamed.contains("such as 127.0.0.1:7777"), "{unnamed}");
    }

    #[test]
    fn fractions_of_a_second_are_times() {
        assert_eq!(plan("--duration 0.25").unwrap().length, RunLength::For(Duration::from_millis(250)));
    }
}
