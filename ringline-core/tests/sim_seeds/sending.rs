//! Every way to send, at random, and the record of what the peer is to receive.

use crate::chaos::{Account, Chaos, downstream};
use crate::dice;
use crate::tracked::Owners;
use bytes::Bytes;
use ringline_core::{
    Accepted, Chain, ConnId, Ctx, OnBreak, Parts, Pressure, Rejected, SendError, SendFailure, Sent,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A stretch of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    name: u64,
    from: usize,
    len: usize,
}

/// What was sent to a peer, in order, and the owners of what was not copied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    stretches: Vec<Stretch>,
    /// How much of the connection's own stream is among them.
    own: usize,
    /// Number and place of the last stretch of each chain that may still break, and what it does then.
    chains: Vec<(u64, usize, OnBreak)>,
    pub(crate) owners: Owners,
    pub(crate) len: usize,
    pub(crate) broken: u64,
}

impl Script {
    /// Panics unless `bytes` is what comes behind the first `from`.
    pub(crate) fn check(&self, mut from: usize, mut bytes: &[u8], who: &str) {
        for stretch in &self.stretches {
            if from >= stretch.len {
                from -= stretch.len;
                continue;
            }
            let part = (stretch.len - from).min(bytes.len());
            dice::check(stretch.name, stretch.from + from, &bytes[..part], who);
            bytes = &bytes[part..];
            from = 0;
        }
        assert!(bytes.is_empty(), "{who}: {} bytes that nobody sent", bytes.len());
    }

    /// How many stretches there are.
    pub(crate) fn stretches(&self) -> usize {
        self.stretches.len()
    }

    /// How many bytes the first so many stretches have.
    pub(crate) fn len_of(&self, count: usize) -> usize {
        self.stretches[..count].iter().map(|stretch| stretch.len).sum()
    }

    fn add(&mut self, name: u64, from: usize, len: usize) {
        self.stretches.push(Stretch { name, from, len });
        self.len += len;
    }

    /// Sends up to a number are over, the last of them perhaps broken.
    fn complete(&mut self, sent: Sent) {
        if let Err(SendFailure::Broken { sent: out, of }) = sent.result {
            let chain = self.chains.iter().rfind(|(number, ..)| *number <= sent.through);
            let &(_, at, on_break) = chain.expect("only chains break");
            assert_eq!(on_break, OnBreak::Report, "only those are reported that want to be");
            let stretch = &mut self.stretches[at];
            assert_eq!(stretch.len as u64, of, "a chain breaks as a whole");
            assert!(out < of, "a chain that is out is not broken");
            stretch.len = out as usize;
            self.len -= (of - out) as usize;
            self.broken += 1;
        }
        self.chains.retain(|(number, ..)| *number > sent.through);
    }
}

impl Account {
    /// Notes what a send was answered with; true if it was accepted.
    fn sent(&mut self, len: usize, answer: Result<Accepted, SendError>) -> Option<u64> {
        match answer {
            Ok(accepted) => {
                assert!(self.is_open, "sends are for open connections");
                self.sends += 1;
                assert_eq!(accepted.sequence, self.sends, "sends are numbered without gaps");
                self.accepted_bytes += len;
                self.is_high |= accepted.pressure == Pressure::High;
                return Some(accepted.sequence);
            }
            Err(SendError::Gone) => assert!(self.is_over, "a connection is there until on_close"),
            Err(SendError::Full { pending, .. }) => self.is_high |= pending > 0,
            Err(SendError::Closing | SendError::WorkerFull { .. }) => {}
            Err(error) => panic!("not the right error: {error:?}"),
        }
        None
    }

    /// What the handler has learned of completed sends.
    pub(crate) fn completed(&mut self, sent: Sent) {
        self.script.complete(sent);
        assert!(self.script.owners.are_untouched(), "bytes that are lent are left alone");
    }
}

/// How something is sent.
#[derive(Clone, Copy)]
enum Way {
    Copy,
    Guard,
    Parts,
    Chain,
}

impl Chaos {
    /// Sends the next bytes of a connection's stream, if it is there and takes them, in any way.
    pub(crate) fn send(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId) {
        let len = self.dice.length();
        let way = match self.dice.below(8) {
            0..3 => Way::Copy,
            3..5 => Way::Guard,
            5 => Way::Parts,
            _ => Way::Chain,
        };
        let Some(account) = self.accounts.get(&id) else { return self.send_to_nobody(cx, id, way) };
        let Some(peer) = account.peer else { return };
        let (owners, own) = (account.script.owners.clone(), account.script.own);
        let bytes = dice::bytes(downstream(peer), own, len);
        let before = cx.pending_bytes(id);
        let mut on_break = None;
        let answer = match way {
            Way::Copy => cx.send(id, &bytes),
            Way::Guard if len == 0 => {
                let rejected = cx.send_guard(id, Bytes::new()).expect_err("it has no bytes");
                assert_eq!(rejected.error, SendError::EmptyGuard);
                return;
            }
            Way::Guard => {
                let guard = self.lend(&owners, &bytes);
                cx.send_guard(id, guard).map_err(|rejected| {
                    assert!(rejected.value == bytes, "the guard comes back");
                    let _ = catch_unwind(AssertUnwindSafe(|| drop(rejected.value)));
                    rejected.error
                })
            }
            Way::Parts => {
                let parts = self.parts(&owners, &bytes);
                cx.send_parts(id, parts).map_err(|rejected| came_back(rejected, len, Parts::bytes))
            }
            Way::Chain => {
                let rule = [OnBreak::Resume, OnBreak::Report, OnBreak::Abort][self.dice.below(3)];
                on_break = Some(rule);
                let chain = self.chain(&owners, &bytes).on_break(rule);
                self.send_chain(cx, id, chain, len)
            }
        };
        if answer.is_err() {
            assert_eq!(cx.pending_bytes(id), before, "nothing of a rejected send is queued");
        }
        if answer.is_ok() {
            self.note_wire(id, before, cx.pending_bytes(id));
        }
        let account = self.account(id);
        if let Some(sequence) = account.sent(len, answer) {
            account.script.own += len;
            account.script.add(downstream(peer), own, len);
            if let Some(rule) = on_break.filter(|_| len > 0) {
                account.script.chains.push((sequence, account.script.stretches.len() - 1, rule));
            }
        }
    }

    /// Sends a part of what a callback is looking at to the same connection or to another.
    pub(crate) fn forward(&mut self, cx: &mut Ctx<'_, Self>, source: ConnId, name: u64, data: &[u8]) {
        let mut to = source;
        if self.dice.chance(600) {
            let Some(any) = self.any_id() else { return };
            to = any;
        }
        let (mut from, mut end) = (0, data.len());
        if self.dice.chance(300) {
            from = self.dice.below(data.len() + 1);
            end = from + self.dice.below(data.len() - from + 1);
        }
        let Some(account) = self.accounts.get(&to) else {
            assert_eq!(cx.forward(to, data), Err(SendError::Gone), "a stale id reaches nobody");
            return;
        };
        if account.peer.is_none() {
            return;
        }
        let before = cx.pending_bytes(to);
        let answer = cx.forward(to, &data[from..end]);
        if answer.is_ok() {
            self.note_wire(to, before, cx.pending_bytes(to));
        }
        let start = self.account(source).consumed + from;
        let account = self.account(to);
        if account.sent(end - from, answer).is_some() {
            account.script.add(name, start, end - from);
        }
        let waits = match answer {
            Ok(accepted) => accepted.pressure == Pressure::High,
            Err(SendError::Full { pending, .. }) => pending > 0,
            Err(_) => false,
        };
        if waits && to != source {
            self.account(source).feeds.push(to);
        }
    }

    /// Nobody is asked to read on whose bytes have nowhere to go.
    pub(crate) fn check_held(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId) {
        if !self.holds_reads {
            return;
        }
        assert!(!self.account(id).is_high, "no on_data while the outbox is high");
        for to in self.account(id).feeds.clone() {
            let is_high = self.accounts.get(&to).is_some_and(|account| account.is_high);
            assert!(!(is_high && cx.is_open(to)), "no on_data while the outbox it was forwarded to is high");
        }
    }

    /// An outbox is down again.
    pub(crate) fn note_room(&mut self, id: ConnId) {
        for account in self.accounts.values_mut() {
            account.feeds.retain(|to| *to != id);
        }
    }

    fn send_to_nobody(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, way: Way) {
        let owners = Owners::default();
        let error = match way {
            Way::Copy => cx.send(id, b"x").expect_err("a stale id reaches nobody"),
            Way::Guard => {
                let rejected = cx.send_guard(id, owners.lend(vec![7; 500])).expect_err("nobody");
                assert_eq!((owners.alive(), rejected.value.len()), (1, 500), "the guard comes back");
                rejected.error
            }
            Way::Parts => {
                let parts = self.parts(&owners, &[7; 500]);
                cx.send_parts(id, parts)
                    .map_err(|rejected| came_back(rejected, 500, Parts::bytes))
                    .expect_err("nobody")
            }
            Way::Chain => {
                let chain = self.chain(&owners, &[7; 500]).then_close();
                cx.send_chain(id, chain)
                    .map_err(|rejected| came_back(rejected, 500, Chain::bytes))
                    .expect_err("nobody")
            }
        };
        assert_eq!(error, SendError::Gone, "a stale id reaches nobody");
        assert_eq!(owners.alive(), 0, "what came back was dropped");
    }

    fn send_chain(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        id: ConnId,
        chain: Chain<'_>,
        len: usize,
    ) -> Result<Accepted, SendError> {
        let (closes, ends) = (self.dice.chance(20), self.dice.chance(20));
        let chain = if closes { chain.then_close() } else { chain };
        let chain = if ends && !closes { chain.then_shutdown() } else { chain };
        let answer = cx.send_chain(id, chain);
        if answer.is_ok() && closes {
            self.note_close(id);
        }
        if answer.is_ok() && ends {
            self.account(id).write_ended |= cx.is_open(id);
        }
        answer.map_err(|rejected| came_back(rejected, len, Chain::bytes))
    }

    fn lend(&mut self, owners: &Owners, bytes: &[u8]) -> Bytes {
        let panics = self.dice.chance(10);
        owners.lend_with(bytes.to_vec(), panics)
    }

    /// Parts with these bytes, divided at random; some of them have none.
    fn parts<'a>(&mut self, owners: &Owners, mut bytes: &'a [u8]) -> Parts<'a> {
        let mut parts = Parts::new();
        let count = 1 + self.dice.below(6);
        for at in 1..=count {
            let len = if at == count { bytes.len() } else { self.dice.below(bytes.len() + 1) };
            let (part, rest) = bytes.split_at(len);
            bytes = rest;
            if len > 0 && self.dice.chance(500) {
                parts.guard(self.lend(owners, part)).expect("there are few parts");
            } else {
                parts.copy(part).expect("there are few parts");
            }
        }
        parts
    }

    fn chain<'a>(&mut self, owners: &Owners, mut bytes: &'a [u8]) -> Chain<'a> {
        let mut chain = Chain::new();
        let count = 1 + self.dice.below(Chain::MAX);
        for at in 1..=count {
            let len = if at == count { bytes.len() } else { self.dice.below(bytes.len() * 2 / count + 2) };
            let (link, rest) = bytes.split_at(len.min(bytes.len()));
            bytes = rest;
            match self.dice.below(3) {
                0 => chain.copy(link).expect("there are few links"),
                1 if !link.is_empty() => {
                    chain.guard(self.lend(owners, link)).expect("there are few links");
                }
                _ => chain.parts(self.parts(owners, link)).expect("there are few links"),
            }
        }
        chain
    }
}

/// The error, after a look at whether what was sent came back with all of its bytes.
fn came_back<T>(rejected: Rejected<T>, len: usize, bytes: impl Fn(&T) -> usize) -> SendError {
    assert_eq!(bytes(&rejected.value), len, "what was not accepted comes back whole");
    rejected.error
}
