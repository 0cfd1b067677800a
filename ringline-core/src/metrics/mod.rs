//! What the workers count, declared once and readable from anywhere.
//!
//! Invariant: a metric is one row of the macro `metric_table` and nothing else. The fields of a
//! shard, the fields of a [`Snapshot`], the entries of the metriken registry and the check of
//! `docs/metrics.md` are all made from the same rows, so no two of them can differ. The name of a
//! field is the name of its metric without `ringline/` and with `_` for `/`.
//!
//! Counting costs no locked instruction: each worker writes a shard of its own, and whoever reads
//! adds the shards up. To read from outside, walk `metriken::metrics()` for the totals of the
//! process, or ask a running server for its [`Metrics`].

/// Calls the macro `$make` with every row: `field: Cell = "name", "meaning";`.
///
/// The metrics that are written in every turn come first, so that they share the first cache lines
/// of a shard.
macro_rules! metric_table {
    ($make:ident) => {
        $make! {
            bytes_received: Counter = "ringline/bytes/received",
                "Bytes received on connections.";
            bytes_sent: Counter = "ringline/bytes/sent",
                "Bytes that the kernel took for sending on connections.";
            receives: Counter = "ringline/receives",
                "Receive completions that carried data.";
            sends: Counter = "ringline/sends",
                "Send operations that completed.";
            turns: Counter = "ringline/turns",
                "Turns of the worker loop.";
            completions: Counter = "ringline/completions",
                "Completions taken from the backend.";
            turn_completions: Histogram = "ringline/turn/completions",
                "Completions handled in one turn of the worker loop.";
            timers_fired: Counter = "ringline/timers/fired",
                "Timers that fired.";
            submissions_full: Counter = "ringline/submissions/full",
                "Times the submission queue had no room for an operation.";
            completions_overflowed: Counter = "ringline/completions/overflowed",
                "Times the completion queue was seen to have overflowed.";
            completions_stale: Counter = "ringline/completions/stale",
                "Completions whose generation did not match their row; each was ignored.";
            handler_panics: Counter = "ringline/handler/panics",
                "Panics caught in the callbacks of a handler.";
            sends_short: Counter = "ringline/sends/short",
                "Non-blocking send attempts that did not go out whole.";
            sends_failed: Counter = "ringline/sends/failed",
                "Send operations that completed with an error.";
            connections_accepted: Counter = "ringline/connections/accepted",
                "Connections accepted from listeners.";
            connects: Counter = "ringline/connects",
                "Connections that were made to a peer.";
            connects_failed: Counter = "ringline/connects/failed",
                "Connections to a peer that were not made, for whatever reason.";
            connections_refused: Counter = "ringline/connections/refused",
                "Connections turned away by a limit or by the handler.";
            connections_active: Gauge = "ringline/connections/active",
                "Connections open now.";
            connections_closed: Counter = "ringline/connections/closed",
                "Connections closed, for whatever reason.";
            closed_local: Counter = "ringline/closed/local",
                "Connections closed by the handler.";
            closed_peer: Counter = "ringline/closed/peer",
                "Connections closed because the peer closed its side.";
            closed_reset: Counter = "ringline/closed/reset",
                "Connections reset by the peer.";
            closed_limit: Counter = "ringline/closed/limit",
                "Connections closed because they exceeded a limit.";
            closed_timeout: Counter = "ringline/closed/timeout",
                "Connections closed because closing made no progress in time.";
            closed_first_byte: Counter = "ringline/closed/first_byte",
                "Connections closed because no first byte came in time.";
            closed_idle: Counter = "ringline/closed/idle",
                "Connections closed because nothing was received or sent for too long.";
            closed_read: Counter = "ringline/closed/read",
                "Connections closed because a message was not finished in time.";
            closed_write_stall: Counter = "ringline/closed/write_stall",
                "Connections closed because the peer took nothing of what waited in time.";
            closed_drain: Counter = "ringline/closed/drain",
                "Connections closed because their orderly close took too long.";
            closed_shutdown: Counter = "ringline/closed/shutdown",
                "Connections closed because their worker stopped.";
            closed_error: Counter = "ringline/closed/error",
                "Connections closed by an error of the system or of a layer.";
            closed_panicked: Counter = "ringline/closed/panicked",
                "Connections closed because one of their callbacks panicked.";
            accept_errors: Counter = "ringline/accept/errors",
                "Accept operations that failed.";
            accept_backoffs: Counter = "ringline/accept/backoffs",
                "Times accepting was put off after an error.";
            buffers_empty: Counter = "ringline/buffers/empty",
                "Receives that found no free buffer (ENOBUFS).";
            pool_waits: Counter = "ringline/pool/waits",
                "Times the block pool had no free block, so that it grew or the heap was used.";
            reads_pauses: Counter = "ringline/reads/pauses",
                "Times reading from a connection was paused.";
            inbox_overflows: Counter = "ringline/inbox/overflows",
                "Times the unread input of a connection exceeded its limit.";
            outbox_high: Counter = "ringline/outbox/high",
                "Times the outbox of a connection reached its high mark.";
            outbox_full: Counter = "ringline/outbox/full",
                "Sends rejected because the outbox of the connection was at its limit.";
            guards: Counter = "ringline/guards",
                "Guards whose bytes were not copied by the worker.";
            zero_copy_copied: Counter = "ringline/zero_copy/copied",
                "Zero-copy sends of which the kernel reported that it had copied the bytes after all.";
            chains: Counter = "ringline/chains",
                "Chains that were accepted.";
            buffers_held: Gauge = "ringline/buffers/held",
                "Receive buffers that are full and not back with the kernel.";
            pool_lent: Gauge = "ringline/pool/lent",
                "Blocks and parcels that are queued or with the kernel.";
            forwards_held: Counter = "ringline/forwards/held",
                "Stretches of received bytes that were forwarded without being copied.";
            refused_full: Counter = "ringline/refused/full",
                "Connections turned away because their worker had as many as it may have.";
            refused_server: Counter = "ringline/refused/server",
                "Connections turned away because all workers together had as many as they may have.";
            refused_address: Counter = "ringline/refused/address",
                "Connections turned away because their peer's address had as many as it may have.";
            accept_pauses: Counter = "ringline/accept/pauses",
                "Times a worker paused accepting because it was asked to.";
            mailbox_messages: Counter = "ringline/mailbox/messages",
                "Messages delivered to handlers.";
            mailbox_wakeups: Counter = "ringline/mailbox/wakeups",
                "Times a worker that slept was woken by a message or by the answer of a job.";
            mailbox_full: Counter = "ringline/mailbox/full",
                "Messages that were not posted because too many waited for the worker.";
            options_refused: Counter = "ringline/options/refused",
                "Options of open connections that the kernel refused to set.";
            udp_received: Counter = "ringline/udp/received",
                "Datagrams presented to the handler, those that the kernel had put together counted one by one.";
            udp_bytes_received: Counter = "ringline/udp/bytes/received",
                "Bytes of datagrams presented to the handler.";
            udp_sent: Counter = "ringline/udp/sent",
                "Datagrams that the kernel took for sending.";
            udp_bytes_sent: Counter = "ringline/udp/bytes/sent",
                "Bytes of datagrams that the kernel took for sending.";
            udp_sends_failed: Counter = "ringline/udp/sends/failed",
                "Datagrams that were accepted and that the kernel refused.";
            udp_sends_dropped: Counter = "ringline/udp/sends/dropped",
                "Datagrams that a full queue turned away, or that were queued when their socket was cut off.";
            udp_runs_cut: Counter = "ringline/udp/runs/cut",
                "Runs of datagrams that were sent one by one, because the kernel could not cut them apart.";
            udp_dropped_by_kernel: Counter = "ringline/udp/dropped_by_kernel",
                "Datagrams that the kernel dropped because the buffer of their socket was full.";
            udp_discarded: Counter = "ringline/udp/discarded",
                "Datagrams that arrived on a socket that was closing, or made no sense.";
            udp_truncated: Counter = "ringline/udp/truncated",
                "Datagrams that were cut because they were larger than a buffer.";
            udp_buffers_empty: Counter = "ringline/udp/buffers/empty",
                "Receives of datagrams that found no free buffer (ENOBUFS).";
            udp_errors: Counter = "ringline/udp/errors",
                "Errors that came back for earlier datagrams of connected sockets.";
            udp_pauses: Counter = "ringline/udp/pauses",
                "Times a datagram socket was paused.";
            udp_sockets: Gauge = "ringline/udp/sockets",
                "Datagram sockets open now.";
            connections_adopted: Counter = "ringline/connections/adopted",
                "Connections of sockets that were made elsewhere.";
            children_spawned: Counter = "ringline/children/spawned",
                "Child processes that were started.";
            children_active: Gauge = "ringline/children/active",
                "Child processes that are waited for.";
            children_failed: Counter = "ringline/children/failed",
                "Child processes that could not be started because of an error of the system.";
            children_refused: Counter = "ringline/children/refused",
                "Child processes that were not started because their worker had as many as it may have.";
            children_killed: Counter = "ringline/children/killed",
                "Child processes that had to be killed at the deadline of a shutdown.";
            signals: Counter = "ringline/signals",
                "Signals that a handler was told of.";
            jobs: Counter = "ringline/jobs",
                "Jobs and names that were given to other threads.";
            jobs_rejected: Counter = "ringline/jobs/rejected",
                "Jobs and names that were not accepted.";
            jobs_panicked: Counter = "ringline/jobs/panicked",
                "Jobs that panicked.";
            jobs_dropped: Counter = "ringline/jobs/dropped",
                "Jobs that were cancelled or whose connection was over before the answer.";
            jobs_active: Gauge = "ringline/jobs/active",
                "Jobs and names that were accepted and not answered.";
            handshakes: Counter = "ringline/handshakes",
                "Handshakes of layers that succeeded.";
            handshakes_failed: Counter = "ringline/handshakes/failed",
                "Handshakes of layers that came to nothing, for whatever reason.";
            handshakes_resumed: Counter = "ringline/handshakes/resumed",
                "Handshakes that succeeded and could make use of an earlier one.";
            handshakes_active: Gauge = "ringline/handshakes/active",
                "Handshakes that are going on.";
            handshakes_waits: Counter = "ringline/handshakes/waits",
                "Times a listener with a layer was not accepted from because too many handshakes were going on.";
            closed_handshake: Counter = "ringline/closed/handshake",
                "Connections closed because their handshake was not finished in time.";
            closed_truncated: Counter = "ringline/closed/truncated",
                "Connections closed because their peer ended them without saying so to the layer.";
            handshakes_postponed: Counter = "ringline/handshakes/postponed",
                "Handshakes that could go on and were left to the next turn, each counted in every turn.";
        }
    };
}

mod registry;
mod shard;
mod view;

pub(crate) use registry::{ShardHandle, ShardReader, register};
pub use view::{Distribution, MetricValue, Metrics, Snapshot};

#[cfg(test)]
mod tests {
    use super::Snapshot;
    use std::collections::BTreeSet;

    const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

    /// One row of the table, with the words that the document uses for it.
    #[derive(Debug, PartialEq)]
    struct Row<'a> {
        name: &'a str,
        kind: &'a str,
        meaning: &'a str,
    }

    macro_rules! declare_rows {
        ($($field:ident: $cell:ident = $name:literal, $meaning:literal;)+) => {
            /// The field and the row of every metric, in the order of the table.
            const ROWS: &[(&str, Row<'static>)] =
                &[$((
                    stringify!($field),
                    Row { name: $name, kind: stringify!($cell), meaning: $meaning },
                )),+];
        };
    }
    metric_table!(declare_rows);

    /// The rows of the document: table lines whose first column is a metric's name in code quotes.
    fn documented() -> impl Iterator<Item = Row<'static>> {
        DOCUMENT.lines().filter(|line| line.starts_with("| `ringline/")).map(|line| {
            let columns: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
            let [name, kind, meaning] = columns[..] else {
                panic!("a row has a name, a kind and a meaning: {line}");
            };
            Row { name: name.trim_matches('`'), kind, meaning }
        })
    }

    #[test]
    fn the_document_and_the_table_agree() {
        let mut documented: Vec<_> = documented().collect();
        for (_, row) in ROWS {
            let found = documented.iter().position(|other| other.name == row.name);
            let found = found.unwrap_or_else(|| panic!("docs/metrics.md lacks {}", row.name));
            let other = documented.swap_remove(found);
            assert_eq!(other.kind.to_lowercase(), row.kind.to_lowercase(), "the kind of {}", row.name);
            assert_eq!(other.meaning, row.meaning, "the meaning of {}", row.name);
        }
        assert_eq!(documented, [], "docs/metrics.md names metrics that do not exist, or one of them twice");
    }

    #[test]
    fn fields_are_named_after_their_metrics() {
        for (field, row) in ROWS {
            assert_eq!(
                row.name.strip_prefix("ringline/").map(|name| name.replace('/', "_")).as_deref(),
                Some(*field)
            );
        }
    }

    #[test]
    fn every_metric_is_in_the_registry_exactly_once() {
        let registry = metriken::metrics();
        let mut registered: Vec<_> = registry
            .iter()
            .map(metriken::MetricEntry::name)
            .filter(|name| name.starts_with("ringline/"))
            .collect();
        registered.sort_unstable();
        let declared: BTreeSet<_> = ROWS.iter().map(|(_, row)| row.name).collect();
        assert_eq!(declared.len(), ROWS.len(), "no two rows have the same name");
        assert!(registered.into_iter().eq(declared));
    }

    #[test]
    fn the_registry_has_the_kinds_and_meanings_of_the_table() {
        let registry = metriken::metrics();
        for (_, row) in ROWS {
            let entry =
                registry.iter().find(|entry| entry.name() == row.name).expect("the row is registered");
            assert_eq!(entry.description(), Some(row.meaning));
            let kind = match entry.value().expect("a metric always has a value") {
                metriken::Value::Counter(_) => "Counter",
                metriken::Value::Gauge(_) => "Gauge",
                metriken::Value::Histogram(_) => "Histogram",
                _ => "another kind",
            };
            assert_eq!(kind, row.kind, "{}", row.name);
        }
    }

    #[test]
    fn a_snapshot_lists_the_table_in_order() {
        let snapshot = Snapshot::default();
        assert!(snapshot.iter().map(|(name, _)| name).eq(ROWS.iter().map(|(_, row)| row.name)));
    }
}
