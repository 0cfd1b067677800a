//! The promises made to handlers, checked as callbacks come in.
//!
//! Whatever is found broken is kept as a sentence.

use ringline_core::{Accepted, CloseReason, ConnId, Pressure, SendError, SendFailure, Sent};
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// What is known about one connection.
#[derive(Debug, Default)]
struct Track {
    is_open: bool,
    /// The handler has asked for it.
    is_ours: bool,
    is_refused: bool,
    /// The handler has closed or aborted it.
    is_closing: bool,
    has_ended: bool,
    reason: Option<CloseReason>,
    /// What the handler has left, and how much it waits for.
    left: Vec<u8>,
    need: usize,
    is_paused: bool,
    /// The same bytes may be presented once more without new ones.
    may_repeat: bool,
    is_high: bool,
    accepted: u64,
    bytes_accepted: u64,
    /// Sends that are not covered yet, each with the bytes up to its end.
    open_sends: VecDeque<(u64, u64)>,
    through: u64,
    bytes_reported: u64,
    has_failed: bool,
}

/// Everything that is checked.
#[derive(Debug)]
pub(crate) struct Audit {
    /// Whether reading is to pause while the outbox is high.
    /// Sends are longer on the wire than they are, and a handshake may fail before `on_open`.
    pub(crate) is_layered: bool,
    pub(crate) holds_reads: bool,
    tracks: BTreeMap<ConnId, Track>,
    /// When the timers of a key may fire, in the order in which they were set.
    timers: BTreeMap<u64, VecDeque<Instant>>,
    broken: Vec<String>,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            holds_reads: true,
            is_layered: false,
            tracks: BTreeMap::new(),
            timers: BTreeMap::new(),
            broken: Vec::new(),
        }
    }
}

impl Audit {
    pub(crate) fn accepted(&mut self, id: ConnId) {
        if self.tracks.insert(id, Track::default()).is_some() {
            self.complain(format!("on_accept for {id}, which was in use before"));
        }
    }

    pub(crate) fn dialing(&mut self, id: ConnId) {
        let track = Track { is_ours: true, ..Track::default() };
        if self.tracks.insert(id, track).is_some() {
            self.complain(format!("connect gave {id}, which was in use before"));
        }
    }

    pub(crate) fn refused(&mut self, id: ConnId) {
        self.track(id, "refusing").is_refused = true;
    }

    pub(crate) fn opened(&mut self, id: ConnId) {
        let track = self.track(id, "on_open");
        let repeated = std::mem::replace(&mut track.is_open, true);
        let is_over = track.reason.is_some() || track.is_closing;
        self.expect(!repeated, id, "on_open comes once");
        self.expect(!is_over, id, "no on_open for what has ended or was given up");
    }

    /// What was left is the layer's.
    pub(crate) fn secured(&mut self, id: ConnId) {
        let track = self.middle(id, "on_secured");
        track.left.clear();
        track.need = 0;
    }

    /// `on_data` is about to be asked.
    pub(crate) fn data(&mut self, id: ConnId, data: &[u8]) {
        let holds = self.holds_reads;
        let track = self.middle(id, "on_data");
        let grows = data.len() > track.left.len() || track.may_repeat;
        let rules = [
            (!data.is_empty(), "on_data presents at least one byte"),
            (!track.has_ended, "no on_data after on_eof"),
            (!track.is_closing, "no on_data after close"),
            (!track.is_paused, "no on_data while reading is paused"),
            (!(holds && track.is_high), "no on_data while the outbox is high"),
            (data.starts_with(&track.left), "what was left is presented again, in front"),
            (grows, "on_data comes with more than the last time"),
            (data.len() >= track.need, "on_data comes with what was needed"),
        ];
        track.may_repeat &= data.len() > track.left.len();
        self.expect_all(id, &rules);
    }

    /// `on_data` has answered.
    pub(crate) fn consumed(&mut self, id: ConnId, data: &[u8], bytes: usize, need: usize) {
        let track = self.track(id, "on_data");
        track.left = data.get(bytes..).unwrap_or_default().to_vec();
        track.need = need;
    }

    /// A send was accepted or rejected; `before` and `after` it so many bytes were pending.
    pub(crate) fn sent(
        &mut self,
        id: ConnId,
        bytes: usize,
        answer: Result<Accepted, SendError>,
        before: Option<usize>,
        after: Option<usize>,
    ) {
        let is_layered = self.is_layered;
        let Some(track) = self.tracks.get_mut(&id) else {
            return self.expect(answer == Err(SendError::Gone), id, "a connection never seen is gone");
        };
        let is_over = track.reason.is_some() || track.is_refused;
        match answer {
            Ok(Accepted { sequence, pressure }) => {
                // On the wire it is longer. A layer that fails over it has ended the connection by now.
                let has_failed = is_layered && after == Some(0);
                let wire = after.unwrap_or(0).saturating_sub(before.unwrap_or(0));
                let bytes = if is_layered { wire.max(bytes) } else { bytes };
                track.accepted += 1;
                track.bytes_accepted += bytes as u64;
                track.open_sends.push_back((track.accepted, track.bytes_accepted));
                track.is_high |= pressure == Pressure::High;
                let rules = [
                    (!is_over, "a connection that is over takes no sends"),
                    (!track.is_closing, "a connection that closes takes no sends"),
                    (track.is_open, "a connection takes sends from on_open on"),
                    (sequence == track.accepted, "sends are numbered 1, 2, 3"),
                    (track.is_high == (pressure == Pressure::High), "high until on_writable"),
                    (
                        has_failed || after == before.map(|before| before + bytes),
                        "an accepted send is pending",
                    ),
                ];
                self.expect_all(id, &rules);
            }
            Err(error) => {
                // An outbox without room counts as high, unless it is empty.
                track.may_repeat |= matches!(error, SendError::WorkerFull { .. });
                track.is_high |= matches!(error, SendError::Full { pending, .. } if pending > 0);
                let honest = match error {
                    SendError::Gone => is_over,
                    SendError::Full { pending, limit } => {
                        Some(pending) == before && (is_layered || pending + bytes > limit) && !is_over
                    }
                    SendError::WorkerFull { pending, limit } => {
                        (is_layered || pending + bytes > limit) && !is_over
                    }
                    _ => !is_over,
                };
                self.expect(honest, id, &format!("the error is the right one, not {error:?}"));
                self.expect(before == after, id, "nothing of a rejected send is queued");
            }
        }
    }

    pub(crate) fn completed(&mut self, id: ConnId, sent: Sent) {
        let is_layered = self.is_layered;
        let track = self.middle(id, "on_send_complete");
        let mut bytes_due = track.bytes_reported;
        while let Some(&(sequence, end)) = track.open_sends.front()
            && sequence <= sent.through
        {
            bytes_due = bytes_due.max(end);
            track.open_sends.pop_front();
        }
        let advances = sent.through > track.through;
        track.through = sent.through;
        track.bytes_reported += sent.bytes;
        if let Err(SendFailure::Broken { sent: out, of }) = sent.result {
            // The rest of the chain counts as never accepted.
            track.bytes_accepted -= of - out;
            track.open_sends.iter_mut().for_each(|(_, end)| *end -= of - out);
            bytes_due -= of - out;
        }
        track.has_failed |= matches!(sent.result, Err(SendFailure::Ended(_)));
        let rules = [
            (advances, "every on_send_complete covers another send"),
            (sent.through <= track.accepted, "only accepted sends complete"),
            (is_layered || track.bytes_reported <= track.bytes_accepted, "only accepted bytes are reported"),
            (track.has_failed || track.bytes_reported >= bytes_due, "completed sends went out whole"),
        ];
        self.expect_all(id, &rules);
    }

    pub(crate) fn writable(&mut self, id: ConnId) {
        let track = self.middle(id, "on_writable");
        let was_high = std::mem::take(&mut track.is_high);
        track.may_repeat = true;
        self.expect(was_high, id, "on_writable comes only after the outbox was high");
    }

    pub(crate) fn ended(&mut self, id: ConnId, unread: &[u8]) {
        let track = self.middle(id, "on_eof");
        let rules = [
            (!track.has_ended, "on_eof comes once"),
            (!track.is_paused, "no on_eof while reading is paused"),
            (unread.starts_with(&track.left), "what was left is unread at the end"),
            (
                unread.len() == track.left.len() || unread.len() < track.need,
                "all that could be presented was presented before on_eof",
            ),
        ];
        track.has_ended = true;
        track.left = unread.to_vec();
        self.expect_all(id, &rules);
    }

    pub(crate) fn conn_timer(&mut self, id: ConnId) {
        let is_closing = self.middle(id, "on_conn_timer").is_closing;
        self.expect(!is_closing, id, "no on_conn_timer after close");
    }

    pub(crate) fn closed(&mut self, id: ConnId, reason: CloseReason) {
        let is_layered = self.is_layered;
        let track = self.track(id, "on_close");
        let unread = track.left.len();
        let rules = [
            (track.is_open || track.is_ours || is_layered, "on_close comes after on_open"),
            (
                !(track.is_open && matches!(reason, CloseReason::ConnectFailed { .. })),
                "a connection that has opened was made",
            ),
            (track.reason.is_none(), "on_close comes once"),
            (track.through == track.accepted, "every send is covered before on_close"),
            (
                // The layer's own bytes are among them.
                track.has_failed
                    || track.bytes_reported == track.bytes_accepted
                    || is_layered && track.bytes_reported > track.bytes_accepted,
                "all bytes of sends that went well are reported",
            ),
            (!(reason.is_clean() && track.has_failed), "a clean end means that everything sent went out"),
            (
                !matches!(reason, CloseReason::PeerClosed { unread: said } if said != unread || !track.has_ended),
                "the peer closed with as much unread as on_eof showed",
            ),
        ];
        track.reason = Some(reason);
        self.expect_all(id, &rules);
    }

    pub(crate) fn closing(&mut self, id: ConnId) {
        if let Some(track) = self.tracks.get_mut(&id) {
            track.is_closing = true;
        }
    }

    pub(crate) fn paused(&mut self, id: ConnId, is_paused: bool) {
        if let Some(track) = self.tracks.get_mut(&id) {
            track.is_paused = is_paused;
            track.may_repeat |= !is_paused;
        }
    }

    pub(crate) fn timer_set(&mut self, key: u64, earliest: Instant) {
        self.timers.entry(key).or_default().push_back(earliest);
    }

    pub(crate) fn timer_fired(&mut self, key: u64, now: Instant) {
        match self.timers.get_mut(&key).and_then(VecDeque::pop_front) {
            Some(earliest) if earliest <= now => {}
            Some(earliest) => self.complain(format!("timer {key} fired {:?} early", earliest - now)),
            None => self.complain(format!("timer {key} fired without having been set")),
        }
    }

    /// Nothing may be left open.
    pub(crate) fn check_ended(&mut self) {
        let open =
            |(_, track): &(&ConnId, &Track)| (track.is_open || track.is_ours) && track.reason.is_none();
        let left: Vec<_> = self.tracks.iter().filter(open).map(|(id, _)| *id).collect();
        for id in left {
            self.complain(format!("{id}: on_close never came"));
        }
    }

    pub(crate) fn complain(&mut self, what: String) {
        self.broken.push(what);
    }

    pub(crate) fn reason(&self, id: ConnId) -> Option<CloseReason> {
        self.tracks.get(&id).and_then(|track| track.reason)
    }

    /// The bytes that were accepted for a connection so far.
    pub(crate) fn bytes_accepted(&self, id: ConnId) -> u64 {
        self.tracks.get(&id).map_or(0, |track| track.bytes_accepted)
    }

    /// Whether a send of a connection was reported as failed.
    pub(crate) fn has_failed(&self, id: ConnId) -> bool {
        self.tracks.get(&id).is_some_and(|track| track.has_failed)
    }

    pub(crate) fn complaints(&self) -> String {
        self.broken.join("\n")
    }

    /// A connection between `on_open` and `on_close`.
    fn middle(&mut self, id: ConnId, callback: &str) -> &mut Track {
        let track = self.track(id, callback);
        let (is_open, is_over, has_failed) = (track.is_open, track.reason.is_some(), track.has_failed);
        self.expect(is_open, id, &format!("{callback} comes after on_open"));
        self.expect(!is_over, id, &format!("no {callback} after on_close"));
        self.expect(!has_failed, id, &format!("no {callback} after a failed send"));
        self.tracks.entry(id).or_default()
    }

    fn track(&mut self, id: ConnId, callback: &str) -> &mut Track {
        if !self.tracks.contains_key(&id) {
            self.complain(format!("{callback} for {id}, which was never accepted"));
        }
        self.tracks.entry(id).or_default()
    }

    fn expect_all(&mut self, id: ConnId, rules: &[(bool, &str)]) {
        for (holds, rule) in rules {
            self.expect(*holds, id, rule);
        }
    }

    fn expect(&mut self, holds: bool, id: ConnId, rule: &str) {
        if !holds {
            self.broken.push(format!("{id}: {rule}"));
        }
    }
}
