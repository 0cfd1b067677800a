//! CPU time per request of several echo servers at once, by a client that visits them in turns for some
//! milliseconds each: whatever the host does meanwhile falls on all of them alike.
//!
//!     cargo run --release --manifest-path bench/slices/Cargo.toml -- \
//!         'one=target/release/echo --listen 127.0.0.1:{port} --workers 1' 'other=/path/to/server {port}'
//!
//! Servers run on one core and the client, which spins, on another. The first server is the base of the ratios; one that
//! is named twice shows how far two figures differ for no reason. Root can keep the host's traffic and its congestion
//! control out of it: `unshare -n sh -c 'ip link set lo up; sysctl -w net.ipv4.tcp_congestion_control=reno; ...'`.

mod crowd;
mod server;

use clap::Parser;
use crowd::Crowd;
use server::Server;
use std::io;
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(about = "Compares the CPU time that echo servers need per request")]
struct Cli {
    /// A server: a name and a command that listens on 127.0.0.1:{port}
    #[arg(required = true, value_name = "NAME=COMMAND")]
    servers: Vec<String>,
    /// How long it takes
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    seconds: u64,
    /// How long a server is visited at a time, in milliseconds
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..))]
    slice: u64,
    /// Connections to each server
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// Messages in flight on each connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    depth: u16,
    /// Bytes of a message
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    size: u16,
    /// The core of the servers, and that of the client
    #[arg(long, num_args = 2, default_values_t = [0, 1])]
    cores: Vec<usize>,
    /// The first of the ports
    #[arg(long, default_value_t = 7100)]
    port: u16,
}

/// A server, who loads it, and what each visit has shown in nanoseconds per request.
struct Entry {
    server: Server,
    crowd: Crowd,
    slices: Vec<f64>,
}

fn main() -> io::Result<()> {
    let cli = Cli::parse();
    let mut entries = Vec::new();
    for (text, port) in cli.servers.iter().zip(cli.port..) {
        let server = Server::start(text, port, cli.cores[0])?;
        let crowd = Crowd::connect(port, cli.connections.into(), cli.depth.into(), cli.size.into())?;
        entries.push(Entry { server, crowd, slices: Vec::new() });
    }
    server::pin(0, cli.cores[1])?;
    let slice = Duration::from_millis(cli.slice);
    let end = Instant::now() + Duration::from_secs(cli.seconds);
    while Instant::now() < end {
        for Entry { server, crowd, slices } in &mut entries {
            // It was idle while the others were visited.
            crowd.load(slice / 5)?;
            let before = server.cpu_ns()?;
            let requests = crowd.load(slice)?;
            slices.push((server.cpu_ns()? - before) as f64 / requests as f64);
        }
    }
    report(&entries);
    Ok(())
}

fn report(entries: &[Entry]) {
    println!(
        "| server | CPU ns/request, median (quartiles) | to the first, median (quartiles) |\n|---|---|---|"
    );
    for Entry { server, slices, .. } in entries {
        let base = &entries[0].slices;
        let ratios = slices.iter().zip(base).map(|(own, base)| own / base).collect();
        let [low, median, high] = quartiles(slices.clone());
        let [less, ratio, more] = quartiles(ratios);
        println!(
            "| {} | {median:.0} ({low:.0}..{high:.0}) | {ratio:.3} ({less:.3}..{more:.3}) |",
            server.name
        );
    }
    println!("\n{} slices of each", entries[0].slices.len());
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() * quarter / 4).min(values.len() - 1)])
}
