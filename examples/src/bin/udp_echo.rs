//! UDP echo: sends every datagram back to where it came from.

use clap::Parser;
use ringline_core::net::UdpOptions;
use ringline_core::signal::ShutdownSignal;
use ringline_core::{Config, Ctx, Datagram, EventHandler, Server, UdpId, UdpSendError};
use ringline_examples::{announce_all, exit, report};
use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

/// A UDP server that sends every datagram back to where it came from.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Address to bind, such as `0.0.0.0:7777` or `[::]:7777`; repeat it for more. Port 0 lets the kernel
    /// choose
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7777")]
    listen: Vec<String>,

    /// How many workers, each with a socket of its own; one per physical core if not given
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Let the scheduler move the workers between CPUs
    #[arg(long)]
    no_pin: bool,

    /// Let the kernel put datagrams of one sender together, and send them back as runs
    #[arg(long)]
    gro: bool,

    /// Bytes that the kernel keeps for each socket until they are received
    #[arg(long, value_name = "BYTES")]
    receive_buffer: Option<usize>,

    /// Print what was counted before ending
    #[arg(long)]
    stats: bool,
}

struct Echo;

impl EventHandler for Echo {
    type Conn = ();
    type Message = ();

    fn on_datagram(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, datagram: Datagram<'_>) {
        let sent = match datagram.segment_bytes() {
            Some(size) => cx.reply_segments(socket, &datagram, size, datagram.data()),
            None => cx.reply(socket, &datagram, datagram.data()),
        };
        match sent {
            // A datagram that finds no room is lost, like one that the network loses.
            Ok(()) | Err(UdpSendError::Full { .. }) => {}
            Err(error) => log::warn!("an answer to {} was not sent: {error}", datagram.from()),
        }
    }
}

fn run(cli: &Cli) -> Result<(), Box<dyn Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let mut config = Config::builder().pin(!cli.no_pin);
    if let Some(workers) = cli.workers {
        config = config.workers(workers);
    }
    let mut options = UdpOptions::default().gro(cli.gro);
    if let Some(bytes) = cli.receive_buffer {
        options = options.receive_buffer_bytes(bytes);
    }
    let signal = ShutdownSignal::install()?;
    let mut server = Server::new(config.build()?);
    for addr in &cli.listen {
        server = server.bind_udp(addr.as_str(), &options)?;
    }
    let running = server.launch(|_seat| Echo)?;
    announce_all(running.udp_addrs())?;
    let metrics = running.metrics().clone();
    running.run_until(signal, Duration::from_secs(5))?;
    if cli.stats {
        report(&metrics.snapshot())?;
    }
    Ok(())
}

fn main() -> ExitCode {
    exit(run(&Cli::parse()))
}
