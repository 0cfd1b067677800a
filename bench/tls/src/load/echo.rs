//! Every client keeps some messages outstanding and answers each that came back with a new one.

use crate::arguments::Arguments;
use crate::{client, crowd::Crowd, process};
use hdrhistogram::Histogram;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What is known of one client.
#[derive(Default)]
struct Open {
    /// When each outstanding message was sent.
    sent: VecDeque<Instant>,
    /// How much of the first of them has come back.
    partial: usize,
}

pub fn run(arguments: &Arguments) -> String {
    let conns: usize = arguments.number("conns", 64);
    let size: usize = arguments.number("size", 64);
    let depth: usize = arguments.number("depth", 1);
    let (warmup, duration) = (arguments.seconds("warmup", 0.3), arguments.seconds("duration", 1.0));
    let pid = arguments.number("pid", 0);
    let config = client::config(&arguments.word("suite"));
    let mut crowd = Crowd::connect(arguments.server(), &config, conns, 64);
    let message: Vec<u8> = (0..size).map(|at| at as u8).collect();
    let mut open: Vec<Open> = (0..conns).map(|_| Open::default()).collect();
    for (number, open) in open.iter_mut().enumerate() {
        for _ in 0..depth {
            open.sent.push_back(Instant::now());
            crowd.send(number, &message);
        }
    }
    let begun = Instant::now();
    let mut latency = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).expect("a histogram");
    let (mut requests, mut from) = (0u64, None);
    let (cpu_ns, secs) = loop {
        let due = crowd.turn(Some(Duration::ZERO), |number, bytes, due| {
            let open = &mut open[number];
            assert_eq!(bytes.first(), message.get(open.partial), "what comes back was sent");
            open.partial += bytes.len();
            while open.partial >= size {
                open.partial -= size;
                let sent = open.sent.pop_front().expect("nothing comes back that was not sent");
                latency.saturating_record(sent.elapsed().as_nanos() as u64);
                requests += 1;
                due.push(number);
            }
        });
        for number in due {
            open[number].sent.push_back(Instant::now());
            crowd.send(number, &message);
        }
        match from {
            None if begun.elapsed() >= warmup => {
                (requests, from) = (0, Some((Instant::now(), process_cpu(pid))));
                latency.clear();
            }
            Some((at, cpu)) if at.elapsed() >= duration => {
                break (process_cpu(pid) - cpu, at.elapsed().as_secs_f64());
            }
            _ => {}
        }
    };
    let quantile = |q| latency.value_at_quantile(q);
    format!(
        "\"requests\":{requests},\"bytes\":{},\"secs\":{secs:.3},\"cpu_ns\":{cpu_ns},\"p50_ns\":{},\"p99_ns\":{}",
        requests * size as u64,
        quantile(0.5),
        quantile(0.99)
    )
}

fn process_cpu(pid: u32) -> u64 {
    if pid == 0 { 0 } else { process::cpu_ns(pid) }
}
