//! One worker: its clients, its sockets towards the upstream servers, and what is asked on which.
//!
//! Invariant: every query that was taken in is answered once: by a server, or with SERVFAIL.

use super::counts::Counts;
use super::dice::Dice;
use super::message::{self, Verdict};
use super::pending::{Pending, Stray, Table, Ticket};
use super::stream::{self, Side};
use domain::base::iana::Rcode;
use ringline_core::net::UdpOptions;
use ringline_core::{
    Admit, CloseReason, ConnId, Consumed, Ctx, Datagram, Eof, EventHandler, Peer, ReplyTo, TimerKey,
    UdpClosed, UdpError, UdpId,
};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How queries are forwarded.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) upstreams: Vec<SocketAddr>,
    /// How many sockets, and so ports, a worker has for each of them.
    pub(crate) sockets: usize,
    pub(crate) timeout: Duration,
    /// How often a query is asked before it is given up.
    pub(crate) tries: usize,
    /// How many queries of a worker may wait for answers.
    pub(crate) pending: usize,
}

/// Who wants to know: a client of a listening socket.
#[derive(Clone, Copy, Debug)]
struct Asker {
    socket: UdpId,
    question: ReplyTo,
}

pub(crate) struct Forwarder {
    pub(crate) plan: Arc<Plan>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) dice: Dice,
    table: Table<Asker, UdpId>,
    /// The sockets towards each server.
    lines: Vec<Vec<UdpId>>,
    /// Whose each of them is.
    servers: HashMap<UdpId, usize>,
    /// The server to be asked first: the last one that was not known to fail.
    preferred: usize,
}

impl Forwarder {
    pub(crate) fn new(plan: Arc<Plan>, counts: Arc<Counts>) -> Self {
        Self {
            table: Table::new(plan.pending),
            lines: vec![Vec::new(); plan.upstreams.len()],
            servers: HashMap::new(),
            preferred: 0,
            dice: Dice::new(),
            plan,
            counts,
        }
    }

    pub(crate) fn preferred(&self) -> usize {
        self.preferred
    }

    /// The server to ask after one that has failed.
    pub(crate) fn next_after(&mut self, upstream: usize) -> usize {
        let next = (upstream + 1) % self.plan.upstreams.len();
        if self.preferred == upstream {
            self.preferred = next;
        }
        next
    }

    /// Opens a socket towards a server, on a port that the kernel draws. It is connected: the kernel lets
    /// nothing through that comes from elsewhere, and says if nobody is there.
    fn open_line(&mut self, cx: &mut Ctx<'_, Self>, upstream: usize) -> Result<(), String> {
        let peer = self.plan.upstreams[upstream];
        let socket = cx.connect_udp(peer, &UdpOptions::default());
        let socket = socket.map_err(|error| format!("no socket towards {peer}: {error}"))?;
        self.lines[upstream].push(socket);
        self.servers.insert(socket, upstream);
        Ok(())
    }

    /// A client has sent something.
    fn asked(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, datagram: &Datagram<'_>) {
        let query = datagram.data();
        let refused = match message::judge(query) {
            Verdict::Ignore => return self.counts.refused_malformed.add_one(),
            Verdict::Refuse(rcode) => {
                self.counts.refused_malformed.add_one();
                rcode
            }
            Verdict::Forward => {
                self.counts.queries.add_one();
                let asker = Asker { socket, question: datagram.reply_to() };
                if let Some(ticket) = self.table.insert(asker, query) {
                    return self.ask(cx, ticket, self.preferred);
                }
                self.counts.refused_full.add_one();
                Rcode::SERVFAIL
            }
        };
        if let Some(answer) = message::refusal(query, refused)
            && cx.reply(socket, datagram, &answer).is_err()
        {
            self.counts.unsent.add_one();
        }
    }

    /// Asks a server, on a port and with an id that nobody can know.
    fn ask(&mut self, cx: &mut Ctx<'_, Self>, ticket: Ticket, upstream: usize) {
        let Self { lines, dice, table, plan, counts, .. } = self;
        let sockets = &lines[upstream];
        if sockets.is_empty() {
            return self.fail(cx, ticket);
        }
        let socket = sockets[dice.below(sockets.len())];
        let Some(pending) = table.ask(ticket, socket, upstream, || dice.roll()) else {
            return self.fail(cx, ticket);
        };
        if cx.send_datagram(socket, &pending.query).is_err() {
            // As good as lost on the way: it will be asked again.
            counts.unsent.add_one();
        }
        pending.timer = Some(cx.set_timer(plan.timeout, TimerKey(ticket.number())));
    }

    /// A query was not answered: the next server is asked, or nobody any more.
    fn retry(&mut self, cx: &mut Ctx<'_, Self>, ticket: Ticket) {
        let Some(pending) = self.table.get_mut(ticket) else { return };
        let (tries, upstream) = (pending.tries, pending.upstream);
        if let Some(timer) = pending.timer.take() {
            cx.cancel_timer(timer);
        }
        let next = self.next_after(upstream);
        if tries < self.plan.tries {
            self.counts.retries.add_one();
            self.ask(cx, ticket, next);
        } else {
            self.fail(cx, ticket);
        }
    }

    /// Nobody has answered a query.
    fn fail(&mut self, cx: &mut Ctx<'_, Self>, ticket: Ticket) {
        let Some(pending) = self.table.remove(ticket) else { return };
        self.counts.refused_unanswered.add_one();
        if let Some(answer) = message::refusal(&pending.query, Rcode::SERVFAIL) {
            self.tell(cx, pending, answer);
        }
    }

    /// Something has come from a server.
    fn answered(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, upstream: usize, datagram: &Datagram<'_>) {
        let (from, server) = (datagram.from(), self.plan.upstreams[upstream]);
        if (from.ip(), from.port()) != (server.ip(), server.port()) {
            return self.counts.strays.add_one();
        }
        let answer = datagram.data();
        let ticket = match self.table.find_answered(socket, answer) {
            Ok(ticket) => ticket,
            Err(Stray::Unknown) => return self.counts.strays.add_one(),
            Err(Stray::WrongQuestion) => return self.counts.strays_question.add_one(),
        };
        let is_last = self.table.get_mut(ticket).is_none_or(|pending| pending.tries >= self.plan.tries);
        if message::is_no_help(answer) && !is_last {
            return self.retry(cx, ticket);
        }
        if let Some(pending) = self.table.remove(ticket) {
            self.counts.answered.add_one();
            self.tell(cx, pending, answer.to_vec());
        }
    }

    /// Passes an answer on to whoever has asked.
    fn tell(&self, cx: &mut Ctx<'_, Self>, pending: Pending<Asker, UdpId>, mut answer: Vec<u8>) {
        if let Some(timer) = pending.timer {
            cx.cancel_timer(timer);
        }
        message::set_id(&mut answer, pending.asker_id);
        let Asker { socket, question } = pending.asker;
        if cx.reply(socket, question, &answer).is_err() {
            self.counts.unsent.add_one();
        }
    }
}

impl EventHandler for Forwarder {
    type Conn = Side;
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        for upstream in 0..self.plan.upstreams.len() {
            for _ in 0..self.plan.sockets {
                if let Err(error) = self.open_line(cx, upstream) {
                    cx.fail_start(error);
                    return;
                }
            }
        }
    }

    fn on_datagram(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, datagram: Datagram<'_>) {
        match self.servers.get(&socket) {
            Some(&upstream) => self.answered(cx, socket, upstream, &datagram),
            None => self.asked(cx, socket, &datagram),
        }
    }

    /// A server is not there, or cannot be reached: what was asked on this socket is asked elsewhere.
    fn on_udp_error(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, error: UdpError) {
        if let Some(&upstream) = self.servers.get(&socket) {
            log::debug!("{}: {}", self.plan.upstreams[upstream], std::io::Error::from(error));
            for ticket in self.table.tickets(Some(socket)) {
                self.retry(cx, ticket);
            }
        } else {
            self.counts.unsent.add_one();
        }
    }

    /// A socket that failed is replaced.
    fn on_udp_close(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, reason: UdpClosed) {
        let Some(upstream) = self.servers.remove(&socket) else { return };
        self.lines[upstream].retain(|line| *line != socket);
        if let UdpClosed::Failed { errno } = reason {
            log::error!("a socket failed: {}", std::io::Error::from_raw_os_error(errno));
            if let Err(error) = self.open_line(cx, upstream) {
                log::error!("{error}");
            }
            for ticket in self.table.tickets(Some(socket)) {
                self.retry(cx, ticket);
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, key: TimerKey) {
        let ticket = Ticket::new(key.0);
        if let Some(pending) = self.table.get_mut(ticket) {
            pending.timer = None;
            self.retry(cx, ticket);
        }
    }

    /// Whoever waits is told that it is in vain, and can ask another server at once.
    fn on_shutdown(&mut self, cx: &mut Ctx<'_, Self>, _: Instant) {
        for ticket in self.table.tickets(None) {
            self.fail(cx, ticket);
        }
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<Side> {
        Admit::Accept(Side::Client)
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, side: &mut Side) {
        stream::opened(cx, id, side);
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, side: &mut Side, data: &[u8]) -> Consumed {
        stream::read(self, cx, id, side, data)
    }

    fn on_eof(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &mut Side, _: &[u8]) -> Eof {
        Eof::Close
    }

    fn on_close(&mut self, cx: &mut Ctx<'_, Self>, _: ConnId, side: Side, reason: CloseReason) {
        stream::closed(self, cx, side, reason);
    }
}
