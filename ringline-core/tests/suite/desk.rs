//! A handler with datagram sockets that does what a scenario says, and watches over the promises.

use super::tracked::Owners;
use super::{Kernel, assert_same, ms};
use ringline_core::testing::{Faults, World};
use ringline_core::{
    Admit, BindError, Config, ConnId, Consumed, Ctx, Datagram, EventHandler, Peer, TimerKey, UdpClosed,
    UdpError, UdpId, UdpOptions, UdpSendError,
};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

pub(crate) type Cx<'a> = Ctx<'a, Desk>;
pub(crate) type OnDatagram = fn(&mut Desk, &mut Cx<'_>, UdpId, Datagram<'_>);

/// The handler under test: does what a scenario says, and watches over the promises.
pub(crate) struct Desk {
    pub(crate) kernel: Kernel,
    pub(crate) on_datagram: OnDatagram,
    pub(crate) on_timer: fn(&mut Self, &mut Cx<'_>),
    /// What is bound in `on_start`.
    pub(crate) options: Option<UdpOptions>,
    pub(crate) sockets: Vec<UdpId>,
    /// How many datagrams each socket was shown.
    pub(crate) shown: BTreeMap<UdpId, usize>,
    pub(crate) seen: Vec<Vec<u8>>,
    pub(crate) errors: Vec<UdpError>,
    pub(crate) closed: BTreeMap<UdpId, UdpClosed>,
    pub(crate) accepted: u64,
    pub(crate) rejected: u64,
    pub(crate) panics: u64,
    pub(crate) owners: Owners,
    pub(crate) complaints: Vec<String>,
}

impl Desk {
    pub(crate) fn new(on_datagram: OnDatagram) -> Self {
        Self {
            kernel: Kernel::Simulated,
            on_datagram,
            on_timer: |_, _| {},
            options: Some(UdpOptions::default()),
            sockets: Vec::new(),
            shown: BTreeMap::new(),
            seen: Vec::new(),
            errors: Vec::new(),
            closed: BTreeMap::new(),
            accepted: 0,
            rejected: 0,
            panics: 0,
            owners: Owners::default(),
            complaints: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, options: UdpOptions) -> Self {
        self.options = Some(options);
        self
    }

    pub(crate) fn bind(&mut self, cx: &mut Cx<'_>, options: &UdpOptions) -> Result<UdpId, BindError> {
        let socket = cx.bind_udp((Ipv4Addr::LOCALHOST, 0).into(), options)?;
        self.sockets.push(socket);
        Ok(socket)
    }

    pub(crate) fn count(
        &mut self,
        datagrams: u64,
        sent: Result<(), UdpSendError>,
    ) -> Result<(), UdpSendError> {
        match sent {
            Ok(()) => self.accepted += datagrams,
            Err(UdpSendError::Full { .. }) => self.rejected += datagrams,
            Err(_) => {}
        }
        sent
    }

    fn watch(&mut self, socket: UdpId, what: &str) {
        if self.closed.contains_key(&socket) {
            self.complaints.push(format!("{what} after on_udp_close of {socket}"));
        }
    }
}

pub(crate) const ECHO: OnDatagram = |desk, cx, socket, datagram| {
    let sent = cx.reply(socket, datagram.reply_to(), datagram.data());
    let _ = desk.count(1, sent);
};

/// Answers with a run of two.
pub(crate) const TWICE: OnDatagram = |desk, cx, socket, datagram| {
    let twice = datagram.data().repeat(2);
    let sent = cx.reply_segments(socket, &datagram, datagram.data().len() as u16, &twice);
    let _ = desk.count(2, sent);
};

pub(crate) const KEEP: OnDatagram = |desk, _, _, datagram| desk.seen.push(datagram.data().to_vec());

impl EventHandler for Desk {
    type Conn = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Cx<'_>) {
        if let Some(options) = self.options.clone() {
            self.bind(cx, &options).expect("a socket");
        }
    }

    fn on_accept(&mut self, _: &mut Cx<'_>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Refuse
    }

    fn on_data(&mut self, _: &mut Cx<'_>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        Consumed::all(data)
    }

    fn on_datagram(&mut self, cx: &mut Cx<'_>, socket: UdpId, datagram: Datagram<'_>) {
        self.watch(socket, "on_datagram");
        *self.shown.entry(socket).or_default() += 1;
        (self.on_datagram)(self, cx, socket, datagram);
    }

    fn on_udp_error(&mut self, _: &mut Cx<'_>, socket: UdpId, error: UdpError) {
        self.watch(socket, "on_udp_error");
        self.errors.push(error);
    }

    fn on_udp_close(&mut self, cx: &mut Cx<'_>, socket: UdpId, reason: UdpClosed) {
        self.watch(socket, "on_udp_close");
        self.closed.insert(socket, reason);
        if cx.send_to(socket, ([127, 0, 0, 1], 9).into(), b"x") != Err(UdpSendError::Gone) {
            self.complaints.push(format!("{socket} takes sends after its end"));
        }
    }

    fn on_timer(&mut self, cx: &mut Cx<'_>, _: TimerKey) {
        (self.on_timer)(self, cx);
    }
}

fn world(kernel: Kernel, config: &Config, mut desk: Desk) -> World<Desk> {
    desk.kernel = kernel;
    match kernel {
        Kernel::Simulated | Kernel::SimulatedUnix => World::simulated(config, 1, Faults::none(), desk),
        Kernel::Faulty { seed } => World::simulated(config, seed, kernel.faults(), desk),
        Kernel::Real | Kernel::Unix => World::loopback(config, desk).expect("a ring"),
        Kernel::Old => World::loopback_as_on_old_kernels(config, desk).expect("a ring"),
    }
}

/// Plays a scenario on every kernel, and then checks what must always hold.
pub(crate) fn on_every_kernel(make: impl Fn() -> Desk, scenario: impl Fn(&mut World<Desk>)) {
    let config = Config::builder().linger(ms(40)).build().expect("the configuration is valid");
    for kernel in Kernel::all().into_iter().filter(|kernel| !kernel.is_unix()) {
        eprintln!("{kernel:?}");
        let mut world = world(kernel, &config, make());
        scenario(&mut world);
        finish(world);
    }
}

/// Every datagram is accounted for, every socket ended once, every guard was dropped.
pub(crate) fn finish(mut world: World<Desk>) {
    world.shut_down(ms(60_000));
    wait(&mut world, "the end", |world| world.is_done());
    let counts = world.metrics();
    let desk = world.finish();
    assert_eq!(desk.complaints, [""; 0], "broken promises");
    let settled = counts.udp_sent + counts.udp_sends_failed + counts.udp_sends_dropped;
    assert_eq!(settled, desk.accepted + desk.rejected, "every datagram is accounted for once");
    for socket in &desk.sockets {
        assert!(desk.closed.contains_key(socket), "{socket} has ended");
    }
    assert_eq!(desk.closed.len(), desk.sockets.len());
    assert_eq!(counts.handler_panics, desk.panics);
    assert!(desk.owners.alive() == 0 && desk.owners.are_untouched(), "every guard was dropped as it was");
}

pub(crate) fn wait(world: &mut World<Desk>, what: &str, mut condition: impl FnMut(&mut World<Desk>) -> bool) {
    for _ in 0..20_000 {
        if condition(world) {
            return;
        }
        world.sleep(ms(1));
    }
    panic!("this never happens: {what}");
}

pub(crate) fn address(world: &mut World<Desk>) -> SocketAddr {
    world.act(|desk, cx| cx.udp_local_addr(desk.sockets[0])).expect("the socket is there")
}

/// Sends until an answer that equals the question is there.
pub(crate) fn ask(world: &mut World<Desk>, to: SocketAddr, bytes: &[u8]) -> SocketAddr {
    let peer = world.udp_peer();
    let mut from = None;
    let mut step = 0;
    wait(world, "an answer", |world| {
        if step % 8 == 0 {
            world.udp_send(peer, to, bytes);
        }
        step += 1;
        while let Some((sender, answer)) = world.udp_receive(peer) {
            assert_same(&answer, bytes);
            from = Some(sender);
        }
        from.is_some()
    });
    from.expect("it has just been there")
}
