//! What every example shares: the flags, the start, the line that says it is ready, and the end.

pub mod http;

use clap::Args;
use ringline_core::metrics::{MetricValue, Snapshot};
use ringline_core::net::{UnixAddr, UnixAddrError, UnixListenOptions};
use ringline_core::signal::ShutdownSignal;
use ringline_core::{ConfigBuilder, EventHandler, Seat, Server};
use ringline_tls::{ListenTls, TlsConfig};
use signal_hook::consts::SIGHUP;
use signal_hook::iterator::Signals;
use std::error::Error;
use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Flags of every server among the examples.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// Addresses to listen on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7777")]
    #[arg(
        help = "Address to listen on, such as 0.0.0.0:7777, unix:/run/x.sock or unix:@name; repeat it for more. Port 0: the kernel chooses"
    )]
    pub listen: Vec<String>,

    /// Speak TLS on all of them. CERT is a PEM file with the server's certificate and then those of its
    /// issuers, KEY one with its key. Both are read again on SIGHUP; if something is wrong then, what was
    /// read before stays, and the log says why
    #[arg(long, num_args = 2, value_names = ["CERT", "KEY"])]
    pub tls: Option<Vec<PathBuf>>,

    /// The application protocols that are spoken over TLS (ALPN)
    #[arg(skip)]
    pub protocols: Vec<&'static str>,

    /// How many workers; one per physical core if not given
    #[arg(long, value_name = "N")]
    pub workers: Option<usize>,

    /// Let the scheduler move the workers between CPUs
    #[arg(long)]
    pub no_pin: bool,

    /// How many seconds open connections get to finish after SIGTERM or SIGINT
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub drain: u64,

    /// How many connections each worker serves at most
    #[arg(long, value_name = "N", default_value_t = 16_384)]
    pub connections: u32,

    /// Print what was counted before ending
    #[arg(long)]
    pub stats: bool,
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// Prints one line `listening on ADDR` per listener when every worker is ready.
///
/// # Errors
///
/// Whatever kept the server from starting or from ending well.
pub fn serve<H, F>(args: &ServerArgs, config: ConfigBuilder, factory: F) -> Result<(), Box<dyn Error>>
where
    H: EventHandler + 'static,
    F: Fn(Seat) -> H + Send + Sync + 'static,
{
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let mut config = config.pin(!args.no_pin).connections_per_worker(args.connections);
    if let Some(workers) = args.workers {
        config = config.workers(workers);
    }
    let signal = ShutdownSignal::install()?;
    let tls = args.tls.as_deref().map(|files| load_tls(files, &args.protocols)).transpose()?;
    let mut server = Server::new(config.build()?);
    for addr in &args.listen {
        server = match unix_addr(addr)? {
            Some(addr) => server.listen_unix(addr, &UnixListenOptions::default())?,
            None => server.listen(addr.as_str())?,
        };
        if let Some(tls) = &tls {
            server = server.with_tls(tls);
        }
    }
    let running = server.launch(factory)?;
    announce_all(running.listen_addrs())?;
    let metrics = running.metrics().clone();
    running.run_until(signal, Duration::from_secs(args.drain))?;
    if args.stats {
        report(&metrics.snapshot())?;
    }
    Ok(())
}

/// The TLS of these two files, which a thread reads again whenever SIGHUP arrives.
fn load_tls(files: &[PathBuf], protocols: &[&str]) -> Result<TlsConfig, Box<dyn Error>> {
    let [certificate, key] = files else { return Err("--tls takes two files".into()) };
    let tls = TlsConfig::builder().certificate(certificate, key).alpn(protocols.iter().copied()).build()?;
    let (handle, mut signals) = (tls.clone(), Signals::new([SIGHUP])?);
    std::thread::spawn(move || {
        for _ in signals.forever() {
            match handle.reload() {
                Ok(()) => log::info!("certificates were read again"),
                Err(error) => log::error!("certificates stay as they are: {error}"),
            }
        }
    });
    Ok(tls)
}

/// The address of a Unix socket, if the text is one: `unix:` and a path, or `unix:@` and an abstract name.
///
/// # Errors
///
/// What is wrong with the path or the name.
pub fn unix_addr(text: &str) -> Result<Option<UnixAddr>, UnixAddrError> {
    let Some(rest) = text.strip_prefix("unix:") else { return Ok(None) };
    let addr = match rest.strip_prefix('@') {
        Some(name) => UnixAddr::abstract_name(name),
        None => UnixAddr::path(rest),
    };
    addr.map(Some)
}

/// Runs an example's body; an error goes to standard error as one line and makes the exit status 1.
pub fn exit(result: Result<(), Box<dyn Error>>) -> std::process::ExitCode {
    match result {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

/// Prints what was counted, one metric to a line.
///
/// # Errors
///
/// Whatever kept it from being printed.
pub fn report(snapshot: &Snapshot) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for (name, value) in snapshot.iter() {
        match value {
            MetricValue::Counter(count) => writeln!(out, "{name} {count}")?,
            MetricValue::Gauge(level) => writeln!(out, "{name} {level}")?,
            // How the events are spread is for those who draw them.
            MetricValue::Histogram(_) => {}
        }
    }
    out.flush()
}

/// Prints one line `listening on ADDR` for each address.
///
/// # Errors
///
/// Whatever kept it from being printed.
pub fn announce_all(addrs: &[impl Display]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for addr in addrs {
        writeln!(out, "listening on {addr}")?;
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_unix_sockets_are_told_apart_from_others() {
        assert_eq!(unix_addr("127.0.0.1:7777"), Ok(None));
        assert_eq!(unix_addr("unix:/run/x"), Ok(UnixAddr::path("/run/x").ok()));
        assert_eq!(unix_addr("unix:@x"), Ok(UnixAddr::abstract_name("x").ok()));
        assert_eq!(unix_addr("unix:"), Err(UnixAddrError::EmptyPath));
    }
}
