//! What a worker counts, and the sum of what all of them have counted.

use hdrhistogram::Histogram;
use ringline_core::{CloseReason, Limit};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Error, ErrorKind};
use std::time::Duration;

/// Significant digits of a latency.
const DIGITS: u8 = 3;
/// Longer than any answer is waited for; what takes longer still counts as this.
const TIME_MAX: Duration = Duration::from_secs(2 * 86_400);

/// Why a connection or a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Failure {
    ConnectRefused,
    ConnectTimeout,
    ConnectUnreachable,
    /// No local port is left, or none may be used.
    ConnectNoAddress,
    /// This process has no descriptors left.
    ConnectNoDescriptor,
    ConnectOther(i32),
    PeerClosed,
    PeerReset,
    /// No answer in time.
    Timeout,
    /// The answer has other bytes than the request.
    Mismatch,
    /// Bytes that no request has asked for.
    Surplus,
    HttpStatus(u16),
    /// What came is no answer of HTTP/1.1 with a known length.
    HttpMalformed,
    /// A request was due and no connection could take it.
    NotSent,
    Other(i32),
    /// A limit of this program was reached.
    Limit,
}

impl Failure {
    /// The failure behind the end of a connection that this program did not end.
    pub(crate) fn of_end(reason: CloseReason) -> Self {
        match reason {
            CloseReason::ConnectFailed { errno } => Self::of_connect(errno),
            CloseReason::LimitExceeded(Limit::ConnectTimeout) => Self::ConnectTimeout,
            CloseReason::PeerClosed { .. } => Self::PeerClosed,
            CloseReason::PeerReset => Self::PeerReset,
            CloseReason::Failed { errno } => match Error::from_raw_os_error(errno).kind() {
                ErrorKind::TimedOut => Self::Timeout,
                _ => Self::Other(errno),
            },
            _ => Self::Limit,
        }
    }

    fn of_connect(errno: i32) -> Self {
        const EMFILE: i32 = 24;
        const ENFILE: i32 = 23;
        match Error::from_raw_os_error(errno).kind() {
            ErrorKind::ConnectionRefused => Self::ConnectRefused,
            ErrorKind::TimedOut => Self::ConnectTimeout,
            ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
                Self::ConnectUnreachable
            }
            ErrorKind::AddrNotAvailable | ErrorKind::AddrInUse => Self::ConnectNoAddress,
            _ if matches!(errno, EMFILE | ENFILE) => Self::ConnectNoDescriptor,
            _ => Self::ConnectOther(errno),
        }
    }

    /// The name in JSON.
    pub(crate) fn key(self) -> String {
        let key = match self {
            Self::ConnectRefused => "connect_refused",
            Self::ConnectTimeout => "connect_timeout",
            Self::ConnectUnreachable => "connect_unreachable",
            Self::ConnectNoAddress => "connect_no_address",
            Self::ConnectNoDescriptor => "connect_no_descriptor",
            Self::ConnectOther(errno) => return format!("connect_errno_{errno}"),
            Self::PeerClosed => "peer_closed",
            Self::PeerReset => "peer_reset",
            Self::Timeout => "timeout",
            Self::Mismatch => "mismatch",
            Self::Surplus => "surplus",
            Self::HttpStatus(status) => return format!("http_status_{status}"),
            Self::HttpMalformed => "http_malformed",
            Self::NotSent => "not_sent",
            Self::Other(errno) => return format!("errno_{errno}"),
            Self::Limit => "limit",
        };
        key.to_owned()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::ConnectRefused => "connection refused",
            Self::ConnectTimeout => "connection not answered in time",
            Self::ConnectUnreachable => "server unreachable",
            Self::ConnectNoAddress => "no local port left",
            Self::ConnectNoDescriptor => "no descriptor left; raise ulimit -n",
            Self::ConnectOther(errno) => {
                return write!(f, "no connection: {}", Error::from_raw_os_error(*errno));
            }
            Self::PeerClosed => "closed by the server",
            Self::PeerReset => "reset by the server",
            Self::Timeout => "no answer in time",
            Self::Mismatch => "answered with other bytes",
            Self::Surplus => "more bytes than asked for",
            Self::HttpStatus(status) => return write!(f, "status {status}"),
            Self::HttpMalformed => "no answer of HTTP/1.1 with a length",
            Self::NotSent => "due, but no connection could take it",
            Self::Other(errno) => return Error::from_raw_os_error(*errno).fmt(f),
            Self::Limit => "a limit of loadgen itself",
        };
        f.write_str(text)
    }
}

/// How often something failed: connections, and requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
}

/// All that was counted.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Connections that were made.
    pub(crate) opened: u64,
    /// Requests handed over for sending.
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// Requests in flight when the run was cut short.
    pub(crate) abandoned: u64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    pub(crate) failures: BTreeMap<Failure, Count>,
    /// Nanoseconds until the answer, from when the request was due.
    pub(crate) latency: Histogram<u64>,
    /// Nanoseconds from when a request was due until it was sent. Only in an open loop.
    pub(crate) lateness: Histogram<u64>,
    /// From the first request until the last answer, or until the run was over.
    pub(crate) time: Duration,
}

impl Tally {
    pub(crate) fn new() -> Self {
        let longest = TIME_MAX.as_nanos() as u64;
        let histogram =
            || Histogram::new_with_max(longest, DIGITS).expect("digits and range may be as they are");
        Self {
            opened: 0,
            sent: 0,
            answered: 0,
            abandoned: 0,
            bytes_sent: 0,
            bytes_received: 0,
            failures: BTreeMap::new(),
            latency: histogram(),
            lateness: histogram(),
            time: Duration::ZERO,
        }
    }

    /// Adds what another worker has counted at the same time.
    pub(crate) fn add(&mut self, other: &Self) {
        self.opened += other.opened;
        self.sent += other.sent;
        self.answered += other.answered;
        self.abandoned += other.abandoned;
        self.bytes_sent += other.bytes_sent;
        self.bytes_received += other.bytes_received;
        for (failure, count) in &other.failures {
            let sum = self.failures.entry(*failure).or_default();
            sum.connections += count.connections;
            sum.requests += count.requests;
        }
        for (histogram, more) in [(&mut self.latency, &other.latency), (&mut self.lateness, &other.lateness)]
        {
            histogram.add(more).expect("all histograms have the same range");
        }
        self.time = self.time.max(other.time);
    }

    pub(crate) fn answer(&mut self, latency: Duration) {
        self.answered += 1;
        record(&mut self.latency, latency);
    }

    pub(crate) fn late(&mut self, lateness: Duration) {
        record(&mut self.lateness, lateness);
    }

    pub(crate) fn fail_connection(&mut self, failure: Failure) {
        self.failures.entry(failure).or_default().connections += 1;
    }

    pub(crate) fn fail_requests(&mut self, failure: Failure, requests: u64) {
        if requests > 0 {
            self.failures.entry(failure).or_default().requests += requests;
        }
    }

    /// How many requests and connections have failed.
    pub(crate) fn failed(&self) -> Count {
        let mut sum = Count::default();
        for count in self.failures.values() {
            sum.connections += count.connections;
            sum.requests += count.requests;
        }
        sum
    }
}

fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_has_everything_of_both() {
        let mut one = Tally::new();
        one.answer(Duration::from_micros(10));
        one.fail_requests(Failure::Timeout, 2);
        one.time = Duration::from_secs(1);
        let mut two = Tally::new();
        two.answer(Duration::from_micros(30));
        two.late(Duration::from_micros(5));
        two.fail_requests(Failure::Timeout, 3);
        two.fail_requests(Failure::Mismatch, 0);
        two.fail_connection(Failure::PeerReset);
        two.time = Duration::from_secs(2);
        one.add(&two);
        assert_eq!((one.answered, one.latency.len(), one.lateness.len()), (2, 2, 1));
        assert_eq!(one.latency.max(), one.latency.highest_equivalent(30_000));
        assert_eq!(one.failures[&Failure::Timeout], Count { connections: 0, requests: 5 });
        assert_eq!(one.failed(), Count { connections: 1, requests: 5 });
        assert_eq!(one.failures.len(), 2, "what did not happen is not listed");
        assert_eq!(one.time, Duration::from_secs(2), "they ran at the same time");
    }

    #[test]
    fn ends_have_names() {
        for (reason, failure) in [
            (CloseReason::ConnectFailed { errno: 111 }, Failure::ConnectRefused),
            (CloseReason::ConnectFailed { errno: 110 }, Failure::ConnectTimeout),
            (CloseReason::ConnectFailed { errno: 113 }, Failure::ConnectUnreachable),
            (CloseReason::ConnectFailed { errno: 99 }, Failure::ConnectNoAddress),
            (CloseReason::ConnectFailed { errno: 24 }, Failure::ConnectNoDescriptor),
            (CloseReason::ConnectFailed { errno: 13 }, Failure::ConnectOther(13)),
            (CloseReason::LimitExceeded(Limit::ConnectTimeout), Failure::ConnectTimeout),
            (CloseReason::LimitExceeded(Limit::WriteStall), Failure::Limit),
            (CloseReason::PeerClosed { unread: 3 }, Failure::PeerClosed),
            (CloseReason::PeerReset, Failure::PeerReset),
            (CloseReason::Failed { errno: 110 }, Failure::Timeout),
            (CloseReason::Failed { errno: 5 }, Failure::Other(5)),
        ] {
            assert_eq!(Failure::of_end(reason), failure, "{reason}");
        }
        assert_eq!(Failure::ConnectOther(13).key(), "connect_errno_13");
        assert_eq!(Failure::ConnectOther(13).to_string(), "no connection: Permission denied (os error 13)");
    }
}
