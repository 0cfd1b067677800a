//! DNS: forwards queries to other servers, over UDP and TCP.

mod counts;
mod dice;
mod forwarder;
mod message;
mod pending;
mod stream;

use clap::Parser;
use counts::Counts;
use forwarder::{Forwarder, Plan};
use ringline_core::net::UdpOptions;
use ringline_core::signal::ShutdownSignal;
use ringline_core::{Config, Server};
use ringline_examples::{announce_all, exit, report};
use std::error::Error;
use std::io::Write;
use std::net::ToSocketAddrs;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// A DNS forwarder.
///
/// A query goes to the upstream server that was good last time, and if it does not answer in time, or cannot
/// help, to the next one. It is asked with an id drawn at random, on one of --sockets ports drawn by the
/// kernel; what does not come from there, with this id and this question, is not believed. A client whose
/// query finds --pending others waiting, or that nobody answers, gets SERVFAIL.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Address to listen on, for UDP and TCP, such as 127.0.0.1:53; repeat it for more. Port 0 lets the
    /// kernel choose, one port for TCP and another one for UDP. On a host with several addresses, name
    /// them: answers to queries that came to 0.0.0.0 have the address that the kernel prefers
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5300")]
    listen: Vec<String>,

    /// A server to ask, such as 192.0.2.53 or 192.0.2.53:5300; repeat it for more
    #[arg(long, value_name = "ADDR", required = true)]
    upstream: Vec<String>,

    /// How many milliseconds a server gets to answer
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    timeout: u64,

    /// How often a query is asked before it is given up
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=100))]
    tries: u16,

    /// How many queries each worker may have waiting
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pending: u32,

    /// How many sockets each worker has for each upstream server
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=512))]
    sockets: u16,

    /// How many TCP connections each worker has at most, to clients and servers together
    #[arg(long, value_name = "N", default_value_t = 1024)]
    connections: u32,

    /// How many workers; one per physical core if not given
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Let the scheduler move the workers between CPUs
    #[arg(long)]
    no_pin: bool,

    /// Print what was counted before ending
    #[arg(long)]
    stats: bool,
}

impl Cli {
    fn plan(&self) -> Result<Plan, Box<dyn Error>> {
        let mut upstreams = Vec::new();
        for server in &self.upstream {
            let with_port = if server.parse::<std::net::IpAddr>().is_ok() {
                (server.as_str(), 53).to_socket_addrs()
            } else {
                server.to_socket_addrs()
            };
            upstreams.extend(with_port.map_err(|error| format!("{server}: {error}"))?);
        }
        if upstreams.is_empty() {
            return Err("none of the upstream servers has an address".into());
        }
        Ok(Plan {
            upstreams,
            sockets: self.sockets.into(),
            timeout: Duration::from_millis(self.timeout),
            tries: self.tries.into(),
            pending: self.pending as usize,
        })
    }
}

fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let plan = Arc::new(cli.plan()?);
    let mut config = Config::builder()
        .pin(!cli.no_pin)
        .connections_per_worker(cli.connections)
        .connect_timeout(plan.timeout);
    if let Some(workers) = cli.workers {
        config = config.workers(workers);
    }
    let signal = ShutdownSignal::install()?;
    let mut server = Server::new(config.build()?);
    for addr in &cli.listen {
        server = server.listen(addr.as_str())?.bind_udp(addr.as_str(), &UdpOptions::default())?;
    }
    let counts = Arc::new(Counts::default());
    let of_workers = Arc::clone(&counts);
    let running = server.launch(move |_seat| Forwarder::new(Arc::clone(&plan), Arc::clone(&of_workers)))?;
    announce_all(running.udp_addrs())?;
    announce_all(running.local_addrs())?;
    let metrics = running.metrics().clone();
    running.run_until(signal, Duration::from_secs(5))?;
    if cli.stats {
        report(&metrics.snapshot())?;
        write!(std::io::stdout(), "{counts}")?;
    }
    Ok(())
}

fn main() -> ExitCode {
    exit(run(&Cli::parse()))
}
