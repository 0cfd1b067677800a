//! Many connections that have said something once and then keep quiet: what the server keeps for them.

use crate::arguments::Arguments;
use crate::{client, crowd::Crowd, process};
use std::time::{Duration, Instant};

/// What each says before it falls silent, large enough for buffers to be needed.
const BYTES: usize = 1000;
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(arguments: &Arguments) -> String {
    let conns: usize = arguments.number("conns", 10_000);
    let pid = arguments.number("pid", 0);
    let config = client::config(&arguments.word("suite"));
    // What the server needs once, for whatever number of connections, is there after the first.
    let mut first = Crowd::connect(arguments.server(), &config, 64, 64);
    exchange(&mut first);
    let before = process::rss_bytes(pid);
    let begun = Instant::now();
    let mut crowd = Crowd::connect(arguments.server(), &config, conns, 256);
    let opened = begun.elapsed();
    exchange(&mut crowd);
    std::thread::sleep(Duration::from_millis(500));
    let after = process::rss_bytes(pid);
    let cpu = process::cpu_ns(pid);
    std::thread::sleep(Duration::from_secs(1));
    let idle_cpu_ns = process::cpu_ns(pid) - cpu;
    exchange(&mut crowd);
    format!(
        "\"conns\":{conns},\"open_secs\":{:.2},\"rss_before\":{before},\"rss_after\":{after},\
         \"bytes_per_conn\":{},\"idle_cpu_ns_per_s\":{idle_cpu_ns}",
        opened.as_secs_f64(),
        after.saturating_sub(before) / conns as u64
    )
}

/// Every connection is served once.
fn exchange(crowd: &mut Crowd) {
    let message = [7; BYTES];
    let mut missing = vec![0; crowd.len()];
    let begun = Instant::now();
    for first in (0..crowd.len()).step_by(256) {
        let batch = first..crowd.len().min(first + 256);
        for number in batch.clone() {
            crowd.send(number, &message);
            missing[number] = BYTES;
        }
        while missing[batch.clone()].iter().any(|bytes| *bytes > 0) {
            assert!(begun.elapsed() < PATIENCE, "some get no answer");
            crowd.turn(Some(Duration::from_millis(10)), |number, bytes, _| missing[number] -= bytes.len());
        }
    }
}
