//! A program without listeners that has ten thousand connections to a server at the same time.

use super::{Echo, SOON, alone, config, pattern, stop};
use ringline_core::{Admit, CloseReason, ConnId, ConnectError, Consumed, Ctx, EventHandler, Peer, Server};
use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

const MESSAGE_BYTES: usize = 100;

/// How many connections there are: fewer on a small machine that is emulated.
fn connections() -> usize {
    if std::env::var_os("RINGLINE_GUEST").is_some() { 500 } else { 10_000 }
}

/// What the message of a client begins at, in a text that all share.
type Number = usize;

/// A connection that is over.
#[derive(Debug)]
struct Over {
    number: Number,
    is_answered: bool,
    reason: CloseReason,
}

/// A connection of ours, on its way or there.
struct Call {
    number: Number,
    is_answered: bool,
}

/// Asks for all connections when it starts, sends a message on each, and closes all of them when the
/// last has its answer.
struct Caller {
    target: SocketAddr,
    text: Vec<u8>,
    count: usize,
    answered: Vec<ConnId>,
    tell: Sender<Over>,
}

impl Caller {
    fn message(&self, number: Number) -> &[u8] {
        &self.text[number..number + MESSAGE_BYTES]
    }
}

impl EventHandler for Caller {
    type Conn = Call;
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        for number in 0..self.count {
            let call = Call { number, is_answered: false };
            cx.connect(self.target, call).expect("there is room for all of them");
        }
        // One more than the limit comes back.
        let refused = cx.connect(self.target, Call { number: self.count, is_answered: false });
        let refused = refused.expect_err("there is no room for more");
        assert_eq!(refused.error, ConnectError::Full { limit: self.count as u32 });
        assert_eq!(refused.state.number, self.count);
    }

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<Call> {
        Admit::Refuse
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, call: &mut Call) {
        cx.send(id, self.message(call.number)).expect("a new connection has room");
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, call: &mut Call, data: &[u8]) -> Consumed {
        if data.len() < MESSAGE_BYTES {
            return Consumed::none().need(MESSAGE_BYTES);
        }
        call.is_answered = data == self.message(call.number);
        self.answered.push(id);
        if self.answered.len() == self.count {
            assert_eq!(cx.connections(), self.count, "all are there at the same time");
            self.answered.iter().for_each(|id| cx.close(*id));
        }
        Consumed::all(data)
    }

    fn on_close(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, call: Call, reason: CloseReason) {
        let Call { number, is_answered } = call;
        // A test that does not listen has failed already.
        let _ = self.tell.send(Over { number, is_answered, reason });
    }
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("Linux has /proc").count()
}

#[test]
fn ten_thousand_connections_are_made_at_once_used_and_gone() {
    let _alone = alone();
    let before = descriptors();
    let count = connections();
    let limit = count as u32;
    let (factory, _told) = Echo::factory();
    let server = config(1).connections_per_worker(limit).build().expect("the configuration is valid");
    let server = Server::new(server).listen("127.0.0.1:0").expect("a listener").launch(factory);
    let server = server.expect("a server");
    let target = server.local_addrs()[0];
    let (tell, over) = mpsc::channel();
    let caller = config(1)
        .connections_per_worker(limit)
        .connect_timeout(Duration::from_secs(60))
        .build()
        .expect("the configuration is valid");
    let text = pattern(count + MESSAGE_BYTES);
    let caller = Server::new(caller).launch(move |_| Caller {
        target,
        text: text.clone(),
        count,
        answered: Vec::new(),
        tell: tell.clone(),
    });
    let caller = caller.expect("no listener is needed");
    let mut seen = vec![false; count];
    for _ in 0..count {
        let Over { number, is_answered, reason } = over.recv_timeout(3 * SOON).expect("every on_close");
        assert!(is_answered && reason == CloseReason::Closed, "client {number}: {reason:?}");
        assert!(!std::mem::replace(&mut seen[number], true), "client {number} ended twice");
    }
    let counted = caller.metrics().snapshot();
    assert_eq!((counted.connections_active, counted.handler_panics), (0, 0));
    caller.shutdown(SOON).expect("the worker ends well");
    assert!(over.try_recv().is_err(), "nothing ends twice");
    stop(server);
    assert_eq!(descriptors(), before, "no descriptor is left");
}
