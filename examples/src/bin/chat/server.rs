//! One worker's clients, and what they say to each other.

use super::line::Command;
use super::outgoing::{Outgoing, Post};
use super::rooms::Rooms;
use ringline_core::{Admit, CloseReason, ConnId, Consumed, Ctx, Eof, EventHandler, Peer, Seat, TimerKey};
use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Room in an outbox that only the last words to a client may use.
pub(crate) const LAST_WORDS_BYTES: usize = 256;
/// When a full mailbox of another worker is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(1);
const RETRY: TimerKey = TimerKey(0);

/// What a client may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) line_bytes: usize,
    pub(crate) rooms: usize,
    /// How much may wait for it.
    pub(crate) backlog_bytes: usize,
}

pub(crate) struct Client {
    nick: String,
    rooms: Vec<Arc<str>>,
}

pub(crate) struct Chat {
    limits: Limits,
    worker: usize,
    /// Clients so far, for the names that they begin with.
    count: u64,
    clients: HashSet<ConnId>,
    rooms: Rooms<ConnId>,
    outgoing: Outgoing,
    /// Clients that are not heard until all other workers have heard what was said.
    unheard: Vec<ConnId>,
}

/// Whether a client stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Stays,
    Goes,
}

impl Chat {
    pub(crate) fn new(seat: Seat, limits: Limits) -> Self {
        Self {
            limits,
            worker: seat.worker,
            count: 0,
            clients: HashSet::new(),
            rooms: Rooms::new(),
            outgoing: Outgoing::new(seat.worker, seat.workers),
            unheard: Vec::new(),
        }
    }

    /// Does what a line says.
    fn obey(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, client: &mut Client, line: &[u8]) -> Next {
        match Command::parse(line) {
            Ok(Command::Say(text)) => match client.rooms.last() {
                Some(room) => {
                    let line = format!("[{room}] {}: {text}\n", client.nick);
                    let room = Arc::clone(room);
                    self.say(cx, room, line);
                }
                None => self.tell(cx, id, "! join a room first"),
            },
            Ok(Command::Join(room)) => self.join(cx, id, client, room),
            Ok(Command::Leave(room)) => self.leave(cx, id, client, room),
            Ok(Command::Nick(nick)) => {
                nick.clone_into(&mut client.nick);
                self.tell(cx, id, format_args!("* you are {nick}"));
            }
            Ok(Command::Nothing) => {}
            Ok(Command::Quit) => return Next::Goes,
            Err(nonsense) => self.tell(cx, id, format_args!("! {nonsense}")),
        }
        Next::Stays
    }

    /// The room that was joined last is the one to talk in, so joining it again is how to go back to it.
    fn join(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, client: &mut Client, room: &str) {
        let known = client.rooms.iter().position(|name| **name == *room);
        if let Some(at) = known {
            let name = client.rooms.remove(at);
            client.rooms.push(name);
        } else if client.rooms.len() < self.limits.rooms {
            client.rooms.push(self.rooms.join(room, id));
        } else {
            let limit = self.limits.rooms;
            return self.tell(cx, id, format_args!("! {limit} rooms are the limit; leave one"));
        }
        self.tell(cx, id, format_args!("* you are in {room}"));
    }

    fn leave(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, client: &mut Client, room: Option<&str>) {
        let at = match room {
            Some(room) => client.rooms.iter().position(|name| **name == *room),
            None => client.rooms.len().checked_sub(1),
        };
        let Some(at) = at else { return self.tell(cx, id, "! you are not there") };
        let room = client.rooms.remove(at);
        self.rooms.leave(&room, id);
        self.tell(cx, id, format_args!("* you have left {room}"));
    }

    /// Says something to everybody in a room, wherever they are.
    fn say(&mut self, cx: &mut Ctx<'_, Self>, room: Arc<str>, line: String) {
        let post = Post { room, line: Arc::from(line.into_bytes()) };
        self.deliver(cx, &post);
        let was_empty = self.outgoing.is_empty();
        self.outgoing.post(cx, &post);
        if was_empty && !self.outgoing.is_empty() {
            cx.set_timer(RETRY_AFTER, RETRY);
        }
    }

    /// Says something to those in a room who are here.
    fn deliver(&self, cx: &mut Ctx<'_, Self>, post: &Post) {
        for &member in self.rooms.members(&post.room) {
            self.pass(cx, member, &post.line);
        }
    }

    fn tell(&self, cx: &mut Ctx<'_, Self>, id: ConnId, text: impl Display) {
        self.pass(cx, id, format!("{text}\n").as_bytes());
    }

    /// Sends a line. A client for which too much waits is too slow for its rooms: it misses nothing
    /// without knowing, so it is told and has to go.
    fn pass(&self, cx: &mut Ctx<'_, Self>, id: ConnId, line: &[u8]) {
        let waiting = cx.pending_bytes(id).unwrap_or(0);
        if waiting + line.len() > self.limits.backlog_bytes {
            if cx.is_open(id) {
                log::info!("a client has left {waiting} bytes unread and has to go");
                dismiss(cx, id, "you do not read fast enough");
            }
        } else if cx.send(id, line).is_err() && cx.is_open(id) {
            dismiss(cx, id, "the server has no room");
        }
    }

    /// Reads lines, as long as the other workers keep up. Says how many bytes were read and whether the
    /// client stays.
    fn read(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        id: ConnId,
        client: &mut Client,
        data: &[u8],
    ) -> (usize, Next) {
        let mut done = 0;
        while let Some(end) = data[done..].iter().position(|&byte| byte == b'\n') {
            if !self.outgoing.is_empty() {
                self.hold(cx, id);
                return (done, Next::Stays);
            }
            if end > self.limits.line_bytes {
                return (done, self.refuse_line(cx, id));
            }
            if self.obey(cx, id, client, &data[done..done + end]) == Next::Goes {
                return (done, Next::Goes);
            }
            done += end + 1;
        }
        if data.len() - done > self.limits.line_bytes {
            return (done, self.refuse_line(cx, id));
        }
        (done, Next::Stays)
    }

    fn refuse_line(&self, cx: &mut Ctx<'_, Self>, id: ConnId) -> Next {
        dismiss(cx, id, format_args!("a line may have {} bytes", self.limits.line_bytes));
        Next::Goes
    }

    /// Does not hear a client until the other workers have caught up.
    fn hold(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId) {
        cx.pause_reads(id);
        self.unheard.push(id);
    }
}

/// Ends a connection with a reason, for which an outbox always has room.
fn dismiss<H: EventHandler>(cx: &mut Ctx<'_, H>, id: ConnId, reason: impl Display) {
    // Nothing more can be said to a client that this does not reach.
    let _ = cx.send(id, format!("! {reason}; goodbye\n").as_bytes());
    cx.close(id);
}

impl EventHandler for Chat {
    type Conn = Client;
    type Message = Post;

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<Client> {
        self.count += 1;
        Admit::Accept(Client { nick: format!("guest-{}-{}", self.worker, self.count), rooms: Vec::new() })
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, client: &mut Client) {
        self.clients.insert(id);
        self.tell(
            cx,
            id,
            format_args!("* you are {}; /join ROOM, /leave ROOM, /nick NAME, /quit", client.nick),
        );
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, client: &mut Client, data: &[u8]) -> Consumed {
        let (done, next) = self.read(cx, id, client, data);
        if next == Next::Goes {
            cx.close(id);
        }
        Consumed::bytes(done)
    }

    /// A client that ends its direction has said everything and goes; what was said to it still arrives.
    /// A last line without an end is not passed on.
    fn on_eof(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &mut Client, _: &[u8]) -> Eof {
        Eof::Close
    }

    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, post: Post) {
        self.deliver(cx, &post);
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, key: TimerKey) {
        if !self.outgoing.retry(cx) {
            cx.set_timer(RETRY_AFTER, key);
            return;
        }
        for id in self.unheard.drain(..) {
            cx.resume_reads(id);
        }
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, client: Client, reason: CloseReason) {
        self.clients.remove(&id);
        for room in &client.rooms {
            self.rooms.leave(room, id);
        }
        if !reason.is_clean() {
            log::info!("{} is gone: {reason}", client.nick);
        }
    }

    fn on_shutdown(&mut self, cx: &mut Ctx<'_, Self>, _: Instant) {
        for &id in &self.clients {
            self.tell(cx, id, "* the server ends; goodbye");
        }
    }
}
