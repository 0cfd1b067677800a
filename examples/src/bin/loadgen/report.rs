//! What came of a run, for people and for programs.

use super::options::{Plan, RunLength};
use super::tally::{Count, Tally};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use std::fmt;

/// The quantiles that are reported, with their names.
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) workers: usize,
    pub(crate) tally: &'a Tally,
    /// A signal has ended the run.
    pub(crate) is_cut_short: bool,
}

impl Report<'_> {
    /// Whether everything went well, and if not, what did not.
    pub(crate) fn verdict(&self) -> Result<(), String> {
        let Count { connections, requests } = self.tally.failed();
        if requests > 0 || connections > 0 {
            return Err(format!("{requests} requests and {connections} connections failed"));
        }
        if self.tally.answered == 0 {
            return Err(String::from("no request was answered"));
        }
        Ok(())
    }

    pub(crate) fn json(&self) -> Value {
        let Self { plan, tally, .. } = self;
        let failed = tally.failed();
        let errors: Map<_, _> = tally
            .failures
            .iter()
            .map(|(failure, count)| {
                let counts = json!({ "connections": count.connections, "requests": count.requests });
                (failure.key(), counts)
            })
            .collect();
        json!({
            "server": plan.server.to_string(),
            "request": plan.request.to_string(),
            "connections": plan.connections,
            "depth": plan.depth,
            "rate": plan.rate,
            "workers": self.workers,
            "cut_short": self.is_cut_short,
            "ok": self.verdict().is_ok(),
            "seconds": tally.time.as_secs_f64(),
            "requests": {
                "sent": tally.sent,
                "answered": tally.answered,
                "failed": failed.requests,
                "abandoned": tally.abandoned,
                "per_second": self.per_second(tally.answered),
            },
            "opened_connections": tally.opened,
            "failed_connections": failed.connections,
            "errors": errors,
            "bytes": { "sent": tally.bytes_sent, "received": tally.bytes_received },
            "latency_us": times(&tally.latency),
            "lateness_us": times(&tally.lateness),
        })
    }

    fn per_second(&self, count: u64) -> f64 {
        let seconds = self.tally.time.as_secs_f64();
        if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
    }

    fn load(&self) -> String {
        let Plan { connections, depth, .. } = self.plan;
        let length = match self.plan.length {
            RunLength::For(time) => format!("{time:?}"),
            RunLength::Requests(requests) => format!("{requests} requests"),
        };
        let pace = match self.plan.rate {
            Some(rate) => format!("{rate} requests/s"),
            None => String::from("closed loop"),
        };
        format!("{pace}, {length}, connections {connections}, depth {depth}, workers {}", self.workers)
    }
}

/// A table of lines, each with its name in front.
impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, tally, .. } = self;
        let failed = tally.failed();
        writeln!(f, "server       {}, {}", plan.server, plan.request)?;
        writeln!(f, "load         {}", self.load())?;
        let cut_short = if self.is_cut_short { ", cut short" } else { "" };
        writeln!(f, "time         {:.3} s{cut_short}", tally.time.as_secs_f64())?;
        writeln!(
            f,
            "requests     {} sent, {} answered, {} failed, {} abandoned",
            tally.sent, tally.answered, failed.requests, tally.abandoned
        )?;
        writeln!(f, "connections  {} opened, {} failed", tally.opened, failed.connections)?;
        if tally.failures.is_empty() {
            writeln!(f, "errors       none")?;
        }
        for (failure, Count { connections, requests }) in &tally.failures {
            writeln!(f, "errors       {failure}: {requests} requests, {connections} connections")?;
        }
        writeln!(f, "throughput   {:.1} requests/s", self.per_second(tally.answered))?;
        let rates = [tally.bytes_sent, tally.bytes_received].map(|bytes| self.per_second(bytes) / 1e6);
        writeln!(f, "bytes        sent {}, {:.3} MB/s", tally.bytes_sent, rates[0])?;
        writeln!(f, "             received {}, {:.3} MB/s", tally.bytes_received, rates[1])?;
        writeln!(f, "latency      {}", line(&tally.latency))?;
        if self.plan.rate.is_some() {
            writeln!(f, "lateness     {}", line(&tally.lateness))?;
        }
        Ok(())
    }
}

fn times(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let mut times: Map<_, _> = QUANTILES
        .iter()
        .map(|&(name, quantile)| (name.to_owned(), json!(us(histogram.value_at_quantile(quantile)))))
        .collect();
    times.insert(String::from("max"), json!(us(histogram.max())));
    times.insert(String::from("mean"), json!(histogram.mean() / 1e3));
    Value::Object(times)
}

fn line(histogram: &Histogram<u64>) -> String {
    if histogram.is_empty() {
        return String::from("nothing to tell");
    }
    let quantile = |(name, quantile)| format!("{name} {:.1}", us(histogram.value_at_quantile(quantile)));
    format!("{}, max {:.1} us", QUANTILES.map(quantile).join(", "), us(histogram.max()))
}

fn us(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::tally::Failure;
    use clap::Parser;
    use std::time::Duration;

    fn plan(arguments: &[&str]) -> Plan {
        let words = ["loadgen", "127.0.0.1:7777"].iter().chain(arguments);
        Options::try_parse_from(words).unwrap().plan().unwrap()
    }

    fn tally() -> Tally {
        let mut tally = Tally::new();
        tally.sent = 1000;
        tally.opened = 2;
        for at in 1..=1000 {
            tally.answer(Duration::from_micros(at));
        }
        tally.bytes_sent = 2_000_000;
        tally.bytes_received = 1_000_000;
        tally.time = Duration::from_secs(2);
        tally
    }

    fn report<'a>(plan: &'a Plan, tally: &'a Tally) -> Report<'a> {
        Report { plan, workers: 2, tally, is_cut_short: false }
    }

    #[test]
    fn the_table_says_it_all() {
        let (plan, mut tally) = (plan(&["-n", "1000"]), tally());
        let table = report(&plan, &tally).to_string();
        assert_eq!(
            table,
            "server       127.0.0.1:7777, echo of 64 bytes\n\
             load         closed loop, 1000 requests, connections 1, depth 1, workers 2\n\
             time         2.000 s\n\
             requests     1000 sent, 1000 answered, 0 failed, 0 abandoned\n\
             connections  2 opened, 0 failed\n\
             errors       none\n\
             throughput   500.0 requests/s\n\
             bytes        sent 2000000, 1.000 MB/s\n\
             \x20            received 1000000, 0.500 MB/s\n\
             latency      p50 500.2, p90 900.1, p99 990.2, p99.9 999.4, max 1000.4 us\n"
        );
        tally.fail_requests(Failure::Timeout, 3);
        tally.fail_connection(Failure::Timeout);
        let table = report(&plan, &tally).to_string();
        assert!(table.contains("errors       no answer in time: 3 requests, 1 connections\n"), "{table}");
    }

    #[test]
    fn json_has_the_same_numbers() {
        let (plan, mut tally) = (plan(&["--rate", "500", "--duration", "2"]), tally());
        tally.fail_requests(Failure::PeerReset, 2);
        tally.fail_connection(Failure::PeerReset);
        tally.late(Duration::from_micros(3));
        let json = report(&plan, &tally).json();
        assert_eq!(json["requests"]["answered"], 1000);
        assert_eq!(json["requests"]["failed"], 2);
        assert_eq!(json["requests"]["per_second"], 500.0);
        assert_eq!(json["errors"], json!({ "peer_reset": { "connections": 1, "requests": 2 } }));
        assert_eq!(json["rate"], 500);
        assert_eq!(json["ok"], false);
        assert_eq!(json["seconds"], 2.0);
        let p50 = json["latency_us"]["p50"].as_f64().unwrap();
        assert!((499.0..=501.0).contains(&p50), "{p50}");
        assert!(json["lateness_us"]["max"].as_f64().unwrap() >= 3.0);
        let text = json.to_string();
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json, "it is one object");
    }

    #[test]
    fn nothing_done_is_a_failure() {
        let plan = plan(&[]);
        assert_eq!(report(&plan, &tally()).verdict(), Ok(()));
        let nothing = Tally::new();
        assert!(report(&plan, &nothing).verdict().is_err());
        assert_eq!(report(&plan, &nothing).json()["latency_us"], Value::Null);
        for spoil in [
            |tally: &mut Tally| tally.fail_requests(Failure::NotSent, 1),
            |tally: &mut Tally| {
                tally.fail_connection(Failure::ConnectRefused);
            },
        ] {
            let mut tally = tally();
            spoil(&mut tally);
            assert!(report(&plan, &tally).verdict().is_err());
        }
    }
}
