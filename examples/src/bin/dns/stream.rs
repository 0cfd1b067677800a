//! Queries over TCP, which clients use when an answer over UDP was cut off.
//!
//! Invariant: a client waits for one answer at a time; while a server is asked on its behalf, over a
//! connection of its own, the client is not read. So a client has at most one connection behind it.

use super::forwarder::Forwarder;
use super::message::{self, Verdict};
use domain::base::iana::Rcode;
use ringline_core::{CloseReason, ConnId, Consumed, Ctx, Deadlines};
use std::time::Duration;

/// How long a client may be silent.
const CLIENT_IDLE: Duration = Duration::from_secs(30);

/// Which end of the forwarder a connection is on.
#[derive(Debug)]
pub(crate) enum Side {
    Client,
    Upstream(Relay),
}

/// A query on its way.
#[derive(Debug)]
pub(crate) struct Relay {
    client: ConnId,
    client_id: u16,
    /// With an id of our own.
    query: Vec<u8>,
    tries: usize,
    upstream: usize,
    timeout: Duration,
    is_answered: bool,
}

/// A connection can be used.
pub(crate) fn opened(cx: &mut Ctx<'_, Forwarder>, id: ConnId, side: &Side) {
    match side {
        Side::Client => {
            cx.set_deadlines(id, Deadlines::default().idle(CLIENT_IDLE));
        }
        Side::Upstream(relay) => {
            cx.set_deadlines(id, Deadlines::default().idle(relay.timeout));
            if send(cx, id, &relay.query).is_err() {
                cx.abort(id);
            }
        }
    }
}

/// Reads one message, which has its length in front.
pub(crate) fn read(
    forwarder: &mut Forwarder,
    cx: &mut Ctx<'_, Forwarder>,
    id: ConnId,
    side: &mut Side,
    data: &[u8],
) -> Consumed {
    let Some((length, rest)) = data.split_first_chunk::<2>() else { return Consumed::none().need(2) };
    let end = 2 + usize::from(u16::from_be_bytes(*length));
    let Some(message) = rest.get(..end - 2) else { return Consumed::none().need(end) };
    match side {
        Side::Client => {
            asked(forwarder, cx, id, message);
            // What comes behind it is shown again when it is answered.
            Consumed::bytes(end)
        }
        Side::Upstream(relay) => {
            if message::is_answer(message, &relay.query) {
                relay.is_answered = true;
                forwarder.counts.answered.add_one();
                answer(cx, relay, message.to_vec());
                cx.close(id);
            } else {
                forwarder.counts.strays.add_one();
                cx.abort(id);
            }
            Consumed::all(data)
        }
    }
}

/// A connection is over; if it was a server's and has not answered, the next one is asked.
pub(crate) fn closed(
    forwarder: &mut Forwarder,
    cx: &mut Ctx<'_, Forwarder>,
    side: Side,
    reason: CloseReason,
) {
    let Side::Upstream(relay) = side else { return };
    if relay.is_answered || !cx.is_open(relay.client) {
        return;
    }
    log::debug!("{}: {reason}", forwarder.plan.upstreams[relay.upstream]);
    let upstream = forwarder.next_after(relay.upstream);
    if relay.tries < forwarder.plan.tries {
        forwarder.counts.retries.add_one();
        ask(forwarder, cx, Relay { upstream, ..relay });
    } else {
        fail(forwarder, cx, &relay);
    }
}

/// A client has sent a message.
fn asked(forwarder: &mut Forwarder, cx: &mut Ctx<'_, Forwarder>, client: ConnId, message: &[u8]) {
    let (verdict, client_id) = (message::judge(message), message::id(message));
    match (verdict, client_id) {
        (Verdict::Forward, Some(client_id)) => {
            forwarder.counts.queries.add_one();
            cx.pause_reads(client);
            let mut query = message.to_vec();
            message::set_id(&mut query, forwarder.dice.roll());
            let (upstream, timeout) = (forwarder.preferred(), forwarder.plan.timeout);
            let relay = Relay { client, client_id, query, tries: 0, upstream, timeout, is_answered: false };
            ask(forwarder, cx, relay);
        }
        (Verdict::Refuse(rcode), _) => {
            forwarder.counts.refused_malformed.add_one();
            let refusal = message::refusal(message, rcode);
            if refusal.is_none_or(|refusal| send(cx, client, &refusal).is_err()) {
                cx.abort(client);
            }
            // What came behind it need not wait for more.
            cx.resume_reads(client);
        }
        _ => {
            forwarder.counts.refused_malformed.add_one();
            cx.abort(client);
        }
    }
}

fn ask(forwarder: &mut Forwarder, cx: &mut Ctx<'_, Forwarder>, mut relay: Relay) {
    relay.tries += 1;
    let server = forwarder.plan.upstreams[relay.upstream];
    if let Err(not) = cx.connect(server, Side::Upstream(relay))
        && let Side::Upstream(relay) = not.state
    {
        // There is no room for more connections, and asking again would not make any.
        forwarder.counts.refused_full.add_one();
        refuse(cx, &relay);
    }
}

fn fail(forwarder: &Forwarder, cx: &mut Ctx<'_, Forwarder>, relay: &Relay) {
    forwarder.counts.refused_unanswered.add_one();
    refuse(cx, relay);
}

fn refuse(cx: &mut Ctx<'_, Forwarder>, relay: &Relay) {
    match message::refusal(&relay.query, Rcode::SERVFAIL) {
        Some(refusal) => answer(cx, relay, refusal),
        None => cx.abort(relay.client),
    }
}

/// Passes an answer on, and listens to the client again.
fn answer(cx: &mut Ctx<'_, Forwarder>, relay: &Relay, mut answer: Vec<u8>) {
    message::set_id(&mut answer, relay.client_id);
    if send(cx, relay.client, &answer).is_err() {
        cx.abort(relay.client);
    }
    cx.resume_reads(relay.client);
}

/// Sends a message with its length in front.
fn send(cx: &mut Ctx<'_, Forwarder>, id: ConnId, message: &[u8]) -> Result<(), ringline_core::SendError> {
    // No message is longer: it came with such a length, or in a datagram.
    let length = (message.len() as u16).to_be_bytes();
    cx.send(id, &[&length, message].concat()).map(|_| ())
}
