//! Loadgen: measures how fast a TCP server answers, in a closed loop or at a fixed rate.
//!
//! Workers share nothing while they run. Each counts for itself, and the counts come together when all
//! of them are done.

mod client;
mod events;
mod http;
mod options;
mod protocol;
mod report;
mod schedule;
mod slot;
mod tally;

use clap::Parser;
use client::Client;
use events::{Event, Live, Reporter};
use options::{Options, Plan, Request, Surroundings};
use report::Report;
use ringline_core::signal::ShutdownSignal;
use ringline_core::{Config, ConfigError, Deadlines, PanicPolicy, Running, Server};
use ringline_examples::exit;
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tally::Tally;

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How long closing connections may take when everything is said.
const CLOSE_TIME: Duration = Duration::from_secs(1);
const LINGER: Duration = Duration::from_millis(200);

fn config(plan: &Plan, surroundings: Surroundings) -> Result<Config, ConfigError> {
    let size = match plan.request {
        Request::Echo { size, .. } => size,
        Request::Http { .. } => 0,
    };
    let outbox_bytes = (4 << 20).max(2 * size);
    let per_worker = plan.connections.div_ceil(surroundings.workers.unwrap_or(1).max(1) as u32);
    let mut config = Config::builder()
        .pin(surroundings.pin)
        .connections_per_worker(per_worker)
        // A server that answers before it has read everything waits until its answers are read. If they
        // were not read before everything is sent, both would wait.
        .hold_reads(false)
        .outbox_bytes(outbox_bytes)
        .worker_outbox_bytes(outbox_bytes.max(256 << 20))
        .connect_timeout(plan.timeout)
        .linger(LINGER)
        // Requests have times of their own.
        .deadlines(Deadlines::none())
        .panic_policy(PanicPolicy::StopWorker);
    if let Some(workers) = surroundings.workers {
        config = config.workers(workers);
    }
    config.build()
}

/// Has a signal become an event. The thread ends with the process.
fn watch_signals(events: Sender<Event>) -> Result<(), Box<dyn Error>> {
    let mut signal = ShutdownSignal::install()?;
    std::thread::Builder::new().name(String::from("loadgen-signal")).spawn(move || {
        loop {
            signal.wait();
            if events.send(Event::Signal).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// The run as the main thread sees it.
struct Watch {
    events: Receiver<Event>,
    lives: Vec<Arc<Live>>,
    tally: Tally,
    /// Workers that have ended.
    ended: usize,
    began: Instant,
    /// What was answered when it was last said.
    answered: u64,
}

impl Watch {
    /// Waits until all workers have ended, or a signal; true if it was a signal.
    fn wait(&mut self, workers: usize, progress: bool) -> bool {
        let mut next = self.began + PROGRESS_INTERVAL;
        while self.ended < workers {
            match self.events.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(Event::Signal) => return true,
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {
                    next += PROGRESS_INTERVAL;
                    if progress {
                        self.say();
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        false
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Started(live) => self.lives.push(live),
            Event::Ended(tally) => {
                self.tally.add(&tally);
                self.ended += 1;
            }
            Event::Died => self.ended += 1,
            Event::Signal => {}
        }
    }

    fn say(&mut self) {
        let (mut answered, mut failed) = (0, 0);
        for live in &self.lives {
            let (more_answered, more_failed) = live.load();
            answered += more_answered;
            failed += more_failed;
        }
        let seconds = self.began.elapsed().as_secs();
        let recent = answered - self.answered;
        self.answered = answered;
        // Who does not want to read it need not.
        let _ = writeln!(
            std::io::stderr(),
            "{seconds} s: {answered} answered, {recent} since the last line, {failed} failed"
        );
    }
}

fn run(options: Options) -> Result<(), Box<dyn Error>> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    let surroundings = options.surroundings();
    let plan = Arc::new(options.plan()?);
    let config = config(&plan, surroundings)?;
    let (send, events) = channel();
    watch_signals(send.clone())?;
    let of_workers = Arc::clone(&plan);
    let running: Running = Server::new(config)
        .launch(move |seat| Client::new(seat, Arc::clone(&of_workers), Reporter::new(send.clone())))?;
    let workers = running.workers();
    let began = Instant::now();
    let mut watch = Watch { events, lives: Vec::new(), tally: Tally::new(), ended: 0, began, answered: 0 };
    let is_cut_short = watch.wait(workers, surroundings.progress);
    let stopped = running.shutdown(CLOSE_TIME);
    while let Ok(event) = watch.events.try_recv() {
        watch.take(event);
    }
    let report = Report { plan: &plan, workers, tally: &watch.tally, is_cut_short };
    let mut out = std::io::stdout().lock();
    if surroundings.json {
        writeln!(out, "{}", report.json())?;
    } else {
        write!(out, "{report}")?;
    }
    out.flush()?;
    stopped?;
    Ok(report.verdict()?)
}

fn main() -> ExitCode {
    exit(run(Options::parse()))
}
