//! A simulated kernel: sockets in memory, time that passes only while the worker waits, and every
//! fault of the catalogue at the pace a seed decides.
//!
//! It is hostile within the contract and checks the other half of it: whatever the core does that a
//! real kernel would answer with lost or mixed-up bytes makes it panic with the rule that was broken.
//! The same seed, faults and calls give the same run, to the last completion.
//!
//! A *turn* is one look of the kernel at its sockets: one for each `enter`, and more while it waits.

mod accept;
mod buffers;
mod chore;
mod datagrams;
mod dial;
mod dice;
mod faults;
mod kernel;
mod ledger;
mod link;
mod network;
mod peer;
mod posts;
mod random;
mod receive;
mod send;
mod stamped;
mod trace;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use dial::{REFUSED_NAME, REFUSED_PORT, SILENT_NAME, SILENT_PORT};
pub use faults::{Fault, Faults};
pub(crate) use network::PeerId;

use super::{Backend, Full, Wait};
use crate::buf::{Lease, Stage};
use crate::child::Company;
use crate::net::{BindUdp, Dial};
use crate::op::{Completion, Fd, Kind, Op, Outcome, Tag, UserData};
use buffers::Buffers;
use chore::Chore;
use datagrams::Datagrams;
use dice::Dice;
use ledger::{Breach, Ledger};
use link::Capacity;
use network::Network;
use posts::Posts;
use send::Loan;
use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use trace::Trace;
use watch::Watch;

/// An operation in the submission queue.
#[derive(Debug)]
struct Entry {
    user_data: UserData,
    op: Op,
    /// What a staged send had to send when it was pushed.
    staged: Vec<u8>,
}

/// The kernel, the network and the peers.
#[derive(Debug)]
pub(crate) struct Sim {
    dice: Dice,
    network: Network,
    buffers: Buffers,
    datagrams: Datagrams,
    queue: VecDeque<Entry>,
    ledger: Ledger,
    chores: Vec<Chore>,
    loans: Vec<Loan>,
    posts: Posts,
    /// Peers that the server has connected to and nobody has asked for.
    dialed: VecDeque<PeerId>,
    trace: Trace,
    clock_us: u64,
    turn: u64,
    is_idle: bool,
    overflows: u64,
    starved: u64,
    enter_errno: Option<i32>,
    /// Reused from turn to turn.
    scratch: Vec<Fd>,
    company: Company,
    watches: Vec<Watch>,
}

impl Sim {
    /// A kernel without listeners. Sizes of zero in `faults` count as one.
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        let capacity = Capacity {
            to_server_bytes: faults.receive_window_bytes.max(1) as usize,
            to_peer_bytes: faults.send_buffer_bytes.max(1) as usize,
        };
        Self {
            network: Network::new(capacity, faults.descriptors.max(1)),
            buffers: Buffers::new(faults.receive_buffers.max(1), faults.receive_buffer_bytes.max(1)),
            datagrams: Datagrams::new(),
            dice: Dice::new(seed, faults),
            queue: VecDeque::new(),
            ledger: Ledger::default(),
            chores: Vec::new(),
            loans: Vec::new(),
            posts: Posts::default(),
            dialed: VecDeque::new(),
            trace: Trace::default(),
            clock_us: 0,
            turn: 0,
            is_idle: false,
            overflows: 0,
            starved: 0,
            enter_errno: None,
            scratch: Vec::new(),
            company: Company::default(),
            watches: Vec::new(),
        }
    }

    /// Keeps the last events in words, for [`Sim::trace`] and for the message of a broken rule.
    pub(crate) fn enable_trace(&mut self) {
        self.trace.enable();
    }

    /// From now on another mix of faults. What was built with the sizes of the old one stays as it
    /// is: receive buffers, descriptors and the windows of connections.
    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.dice.faults = faults;
    }

    /// Every `enter` from now on fails with this, as no kernel may in normal operation.
    #[cfg(test)]
    pub(crate) fn fail_enter(&mut self, errno: i32) {
        self.enter_errno = Some(errno);
    }

    /// Wakes the worker as another thread would: a completion with the wake-up's tag.
    pub(crate) fn wake(&mut self) {
        let tag = crate::op::Tag { kind: Kind::Wake, generation: 0, row: 0 };
        self.posts.push_ready(Completion { tag, outcome: crate::op::Outcome::Done, more: true });
    }

    /// Panics unless nothing is open, nothing on loan and nothing under way but what is `expected`,
    /// such as the accepts of a server that is still listening.
    pub(crate) fn assert_at_rest(&self, expected: &[UserData]) {
        self.enforce(self.ledger.check_at_rest(expected));
        if self.buffers.lent() > 0 {
            self.trace.panic(&format!("at rest no lease is out, but {} are", self.buffers.lent()));
        }
        if self.datagrams.buffers_lent() > 0 || self.datagrams.open() > 0 {
            self.trace.panic("at rest no datagram is on loan, and no datagram socket is open");
        }
        if let Some(rule) = self.datagrams.breach() {
            self.trace.panic(&rule);
        }
        if self.company.uncollected() > 0 {
            self.trace.panic(&format!(
                "at rest every child was collected or let go, but {} were not",
                self.company.uncollected()
            ));
        }
    }

    /// Whether the last `enter` would still be asleep: nothing can happen any more unless a peer does
    /// something or `wake` is called. Completions of staged sends do not count, so a worker
    /// that acts on them after this was true acts on a wake-up that no kernel gives.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_idle
            && self.posts.ready() == 0
            && !self.network.has_work()
            && !self.datagrams.has_work()
            && !self.has_ended_process()
    }

    /// Whether the kernel itself has nothing left to do or to report.
    #[cfg(test)]
    pub(crate) fn is_quiet(&self) -> bool {
        self.queue.is_empty()
            && self.chores.is_empty()
            && self.loans.is_empty()
            && self.posts.len() == 0
            && !self.posts.has_some()
            && !self.network.has_work()
    }

    /// How many operations were pushed whose last completion was not taken.
    #[cfg(test)]
    pub(crate) fn outstanding(&self) -> usize {
        self.ledger.len()
    }

    /// How many descriptors are taken.
    #[cfg(test)]
    pub(crate) fn sockets_open(&self) -> usize {
        self.network.sockets_open()
    }

    /// How many leases are out.
    #[cfg(test)]
    pub(crate) fn leases_out(&self) -> usize {
        self.buffers.lent()
    }

    /// How often a fault has struck.
    pub(crate) fn struck(&self, fault: Fault) -> u64 {
        self.dice.struck(fault)
    }

    /// How often a receive found every buffer on loan. A worker that arms it again at once drives
    /// this up without end.
    #[cfg(test)]
    pub(crate) fn starved(&self) -> u64 {
        self.starved
    }

    /// Whether `next` has something to give.
    #[cfg(test)]
    pub(crate) fn has_completions(&self) -> bool {
        self.posts.has_some()
    }

    /// The last events, one to a line, if they were kept.
    pub(crate) fn trace(&self) -> String {
        self.trace.text()
    }

    fn enforce<T>(&self, verdict: Result<T, Breach>) -> T {
        verdict.unwrap_or_else(|Breach(rule)| self.trace.panic(&rule))
    }
}

impl Backend for Sim {
    fn socket(&mut self, dial: &Dial) -> Result<Fd, i32> {
        self.make_socket(dial)
    }

    fn adopt(&mut self, socket: OwnedFd) -> Fd {
        // The socket stands for a connection in memory.
        drop(socket);
        self.adopt_socket()
    }

    fn push(&mut self, user_data: UserData, op: Op, stage: &Stage) -> Result<(), Full> {
        self.enforce(self.ledger.check(user_data, &op));
        let entries = self.dice.faults.submission_entries.max(1) as usize;
        if self.queue.len() >= entries || self.dice.strikes(Fault::QueueFull) {
            self.trace.note(|| format!("full for {}", trace::describe(&op)));
            return Err(Full(op));
        }
        self.trace.note(|| format!("push {} as {:?}", trace::describe(&op), user_data.decode()));
        self.ledger.record(user_data, &op);
        self.datagrams.pushed(user_data, &op);
        let staged = match &op {
            Op::SendNow { span, .. } => stage.bytes(*span).to_vec(),
            _ => Vec::new(),
        };
        self.queue.push_back(Entry { user_data, op, staged });
        Ok(())
    }

    fn enter(&mut self, stage: &Stage, wait: Wait) -> io::Result<()> {
        if let Some(errno) = self.enter_errno {
            return Err(io::Error::from_raw_os_error(errno));
        }
        self.run(stage, wait);
        Ok(())
    }

    fn next_sent(&mut self) -> Option<(Tag, usize)> {
        if !self.posts.is_sent_next() {
            return None;
        }
        match self.next() {
            Some(Completion { tag, outcome: Outcome::Sent { bytes, .. }, .. }) => Some((tag, bytes)),
            completion => unreachable!("a send was next, not {completion:?}"),
        }
    }

    fn next_received(&mut self) -> Option<(Tag, Lease)> {
        if !self.posts.is_received_next() {
            return None;
        }
        match self.next() {
            Some(Completion { tag, outcome: Outcome::Received(lease), .. }) => Some((tag, lease)),
            completion => unreachable!("bytes were next, not {completion:?}"),
        }
    }

    fn next(&mut self) -> Option<Completion> {
        let completion = self.posts.pop()?;
        self.trace.note(|| format!("take {}", trace::describe_completion(&completion)));
        let user_data = completion.tag.encode();
        if let (Kind::Connect, Outcome::Done) = (completion.tag.kind, &completion.outcome) {
            self.ledger.connected(user_data);
        }
        match &completion.outcome {
            Outcome::Returned(_) => self.ledger.returned(user_data),
            outcome if completion.tag.kind != Kind::Wake && kernel::is_last(outcome, completion.more) => {
                let lends = matches!(outcome, Outcome::Sent { .. }) && completion.more;
                self.ledger.settle(user_data, lends);
                self.datagrams.settled(user_data);
            }
            _ => {}
        }
        Some(completion)
    }

    fn received(&self, lease: &Lease) -> &[u8] {
        self.enforce(self.buffers.bytes(lease))
    }

    fn received_mut(&mut self, lease: &mut Lease) -> &mut [u8] {
        match self.buffers.bytes_mut(lease) {
            Ok(bytes) => bytes,
            Err(Breach(rule)) => self.trace.panic(&rule),
        }
    }

    fn share(&mut self, part: &Lease) {
        self.trace.note(|| format!("share {part:?}"));
        let verdict = self.buffers.share(part);
        self.enforce(verdict);
    }

    fn has_spare_buffers(&self) -> bool {
        self.buffers.has_spare()
    }

    fn buffers_held(&self) -> usize {
        self.buffers.held()
    }

    fn has_silent(&self) -> bool {
        let is_silent = |op: &Op| matches!(op, Op::SendNow { .. } | Op::Send { waits: false, .. });
        self.posts.has_staged() || self.queue.iter().any(|entry| is_silent(&entry.op))
    }

    fn release(&mut self, lease: Lease) {
        self.trace.note(|| format!("release {lease:?}"));
        let verdict = self.buffers.release(&lease);
        self.enforce(verdict);
    }

    fn time_ms(&self) -> Option<u64> {
        Some(self.clock_us / 1000)
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn udp_maker(&self) -> Box<dyn BindUdp> {
        self.datagrams.maker()
    }

    fn prepare_datagrams(&mut self) -> Result<(), i32> {
        self.make_datagram_buffers();
        Ok(())
    }

    fn datagram(&self, lease: &Lease) -> &[u8] {
        self.enforce(self.datagrams.bytes(lease))
    }

    fn release_datagram(&mut self, lease: Lease) {
        let verdict = self.datagrams.release(&lease);
        self.enforce(verdict);
    }
}
