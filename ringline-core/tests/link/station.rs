//! A server that does what orders say, and a client that gives them, both on ringline.

use crate::book::{Book, Outcome};
use crate::namespace::Namespace;
use crate::order::{HEAD_BYTES, Manner, Order};
use crate::watch::{Token, Watch};
use crate::{SOON, config};
use ringline_core::{
    Admit, CloseReason, ConfigBuilder, ConnId, Consumed, Ctx, Eof, EventHandler, Peer, Pressure, Running,
    SendError, Sent, Server, TimerKey,
};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How much is sent with one call.
const PIECE_BYTES: u64 = 48 << 10;
/// How long a client waits before it tries again.
const PAUSE: Duration = Duration::from_millis(20);

/// A server or a client at work, in one of the networks.
#[derive(Debug)]
pub(crate) struct Site {
    name: &'static str,
    running: Running,
    pub(crate) book: Arc<Book>,
}

impl Site {
    /// A server, whose configuration says whether it holds reads.
    pub(crate) fn serve(side: &Namespace, config: ConfigBuilder, holds_reads: bool) -> Self {
        Self::launch("the server", side, Some(side.address()), config.hold_reads(holds_reads), move |book| {
            Station { watch: Watch::new(book, holds_reads), target: None, orders: Vec::new(), again: 0 }
        })
    }

    /// A client that connects once for each order, all at once.
    pub(crate) fn dial(side: &Namespace, target: SocketAddr, orders: Vec<Order>) -> Self {
        Self::dial_with(side, config(), target, orders, false)
    }

    /// The same. If it goes on, it connects again for each connection that is over.
    pub(crate) fn dial_with(
        side: &Namespace,
        config: ConfigBuilder,
        target: SocketAddr,
        orders: Vec<Order>,
        goes_on: bool,
    ) -> Self {
        // It reads whatever it has to send, or both sides would wait for each other.
        Self::launch("the client", side, None, config.hold_reads(false), move |book| {
            book.set_goes_on(goes_on);
            let orders = orders.clone();
            Station { watch: Watch::new(book, false), target: Some(target), orders, again: 0 }
        })
    }

    /// Any handler, on a port that the kernel chooses if it listens.
    pub(crate) fn launch<H: EventHandler<Message = ()> + 'static>(
        name: &'static str,
        side: &Namespace,
        listen: Option<Ipv4Addr>,
        config: ConfigBuilder,
        make: impl Fn(Arc<Book>) -> H + Send + Sync + 'static,
    ) -> Self {
        let config = config.workers(1).pin(false).build().expect("the configuration is valid");
        let book = Arc::new(Book::default());
        let shared = Arc::clone(&book);
        let running = side.enter(|| {
            let mut server = Server::new(config);
            if let Some(address) = listen {
                server = server.listen(SocketAddr::from((address, 0))).expect("the network has free ports");
            }
            server.launch(move |_| make(Arc::clone(&shared))).expect("a worker starts")
        });
        Self { name, running, book }
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.running.local_addrs()[0]
    }

    /// Shuts it down, in order if `within` leaves time for it, and returns what became of its
    /// connections.
    pub(crate) fn stop(self, within: Duration) -> Vec<Outcome> {
        self.running.shutdown(within).expect("the worker ends well");
        self.book.assert_kept(self.name);
        self.book.outcomes()
    }

    /// Waits until all of so many connections are over, then stops.
    pub(crate) fn finish(self, count: usize) -> Vec<Outcome> {
        self.book.wait_ended(count);
        let outcomes = self.stop(SOON);
        assert_eq!(outcomes.len(), count, "one end for each connection");
        let salts: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.salt).collect();
        let different: BTreeSet<_> = salts.iter().collect();
        assert_eq!(different.len(), salts.len(), "every order is carried out once");
        outcomes
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Job {
    /// A server has to be told.
    order: Option<Order>,
    is_ours: bool,
    has_opened: bool,
    sent: u64,
    received: u64,
    has_ended: bool,
    peer_has_ended: bool,
    began: Instant,
    token: Token,
}

impl Job {
    /// How many bytes are to be sent, and how many received.
    fn dues(&self) -> Option<(u64, u64)> {
        let Order { up_bytes, down_bytes, .. } = self.order?;
        Some(if self.is_ours { (up_bytes, down_bytes) } else { (down_bytes, up_bytes) })
    }

    fn is_complete(&self) -> bool {
        self.dues() == Some((self.sent, self.received)) && self.peer_has_ended
    }
}

/// The handler of both.
pub(crate) struct Station {
    watch: Watch,
    target: Option<SocketAddr>,
    /// What it is going to ask for.
    orders: Vec<Order>,
    /// How many connections were made again.
    again: u64,
}

impl Station {
    fn job(&self, cx: &mut Ctx<'_, Self>, order: Option<Order>) -> Job {
        Job {
            order,
            is_ours: order.is_some(),
            has_opened: false,
            sent: 0,
            received: 0,
            has_ended: false,
            peer_has_ended: false,
            began: cx.now(),
            token: self.watch.token(),
        }
    }

    fn dial(&mut self, cx: &mut Ctx<'_, Self>, order: Order) {
        let target = self.target.expect("a client knows its server");
        self.watch.book.asked();
        let job = self.job(cx, Some(order));
        self.watch.connect(cx, target, job);
    }

    /// Connects once more with an order like this one, a little later if there was nobody.
    fn again(&mut self, cx: &mut Ctx<'_, Self>, order: Order, has_opened: bool) {
        self.again += 1;
        let order = Order { salt: order.salt + (self.again << 20), ..order };
        if has_opened {
            return self.dial(cx, order);
        }
        self.orders.push(order);
        cx.set_timer(PAUSE, TimerKey(0));
        self.watch.audit.timer_set(0, cx.now() + PAUSE);
    }

    /// Sends as much as there is room for, and what belongs to the end.
    fn pump(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, job: &mut Job) {
        let (Some(order), Some((due, _))) = (job.order, job.dues()) else { return };
        if job.has_ended || (!job.is_ours && order.manner == Manner::Echo) {
            return;
        }
        let at_once = !job.is_ours && matches!(order.manner, Manner::Stay | Manner::Leave);
        while job.sent < due {
            let len = PIECE_BYTES.min(due - job.sent) as usize;
            let bytes = if job.is_ours { order.up(job.sent, len) } else { order.down(job.sent, len) };
            match self.watch.send(cx, id, &bytes) {
                Ok(accepted) => {
                    job.sent += len as u64;
                    if accepted.pressure == Pressure::High && !at_once {
                        return;
                    }
                }
                Err(SendError::Full { .. }) if !at_once => return,
                Err(error) => return self.watch.complain(format!("{id} takes no more: {error}")),
            }
        }
        if !job.is_ours && order.manner == Manner::Stay {
            return;
        }
        job.has_ended = true;
        if order.manner == Manner::Leave && !job.is_ours || job.peer_has_ended {
            self.watch.close(cx, id);
        } else {
            cx.shutdown_write(id);
        }
    }

    /// Compares what has arrived, and echoes it if it is to be echoed.
    fn take(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, job: &mut Job, data: &[u8]) {
        let Some(order) = job.order else { return };
        let at = job.received;
        let right = if job.is_ours { order.down(at, data.len()) } else { order.up(at, data.len()) };
        let due = job.dues().map_or(0, |(_, due)| due);
        job.received += data.len() as u64;
        self.watch.book.received(data.len() as u64);
        if right != data || job.received > due {
            self.watch.complain(format!("{id}: {} wrong bytes from {at} on, {due} are due", data.len()));
        }
        if !job.is_ours && order.manner == Manner::Echo {
            let answer = if order.salt % 2 == 0 {
                self.watch.send(cx, id, data)
            } else {
                self.watch.sending(cx, id, data.len(), |cx| cx.forward(id, data))
            };
            match answer {
                Ok(_) => job.sent += data.len() as u64,
                Err(error) => self.watch.complain(format!("{id} does not echo: {error}")),
            }
        }
    }
}

impl EventHandler for Station {
    type Conn = Job;
    type Message = ();

    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {
        for order in std::mem::take(&mut self.orders) {
            self.dial(cx, order);
        }
    }

    fn on_accept(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, _: &Peer) -> Admit<Job> {
        self.watch.audit.accepted(id);
        Admit::Accept(self.job(cx, None))
    }

    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, job: &mut Job) {
        self.watch.audit.opened(id);
        job.has_opened = true;
        if let Some(order) = job.order {
            if let Err(error) = self.watch.send(cx, id, &order.head()) {
                self.watch.complain(format!("{id} takes no order: {error}"));
            }
            self.pump(cx, id, job);
        }
        self.watch.book.opened();
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, job: &mut Job, data: &[u8]) -> Consumed {
        self.watch.audit.data(id, data);
        let mut head = 0;
        if job.order.is_none() {
            let Some(order) = Order::parse(data) else {
                self.watch.audit.consumed(id, data, 0, HEAD_BYTES);
                return Consumed::none().need(HEAD_BYTES);
            };
            job.order = Some(order);
            head = HEAD_BYTES;
        }
        if data.len() > head {
            self.take(cx, id, job, &data[head..]);
        }
        if head > 0 {
            self.pump(cx, id, job);
        }
        self.watch.audit.consumed(id, data, data.len(), 0);
        Consumed::all(data)
    }

    fn on_send_complete(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, _: &mut Job, sent: Sent) {
        self.watch.audit.completed(id, sent);
    }

    fn on_writable(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, job: &mut Job) {
        self.watch.audit.writable(id);
        self.pump(cx, id, job);
    }

    fn on_eof(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, job: &mut Job, unread: &[u8]) -> Eof {
        self.watch.audit.ended(id, unread);
        job.peer_has_ended = true;
        match job.dues() {
            Some((due, _)) if job.sent < due => Eof::KeepWriting,
            _ => Eof::Close,
        }
    }

    fn on_close(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, job: Job, reason: CloseReason) {
        let is_complete = job.is_complete();
        if let Some(order) = job.order
            && job.is_ours
            && self.watch.book.goes_on()
        {
            self.again(cx, order, job.has_opened);
        }
        self.watch.book.ended(Outcome {
            salt: job.order.map(|order| order.salt),
            reason,
            has_opened: job.has_opened,
            is_complete,
            lasted: cx.now() - job.began,
        });
        self.watch.closed(id, job.token, reason);
    }

    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, key: TimerKey) {
        self.watch.audit.timer_fired(key.0, cx.now());
        if let Some(order) = self.orders.pop() {
            self.dial(cx, order);
        }
    }
}
