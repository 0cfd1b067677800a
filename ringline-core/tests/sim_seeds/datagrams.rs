//! Datagrams amid everything else: sockets that come and go, sends of every kind, and what becomes of
//! each.

use crate::chaos::Chaos;
use crate::dice::{self, Dice};
use crate::tracked::Owners;
use ringline_core::metrics::Snapshot;
use ringline_core::testing::{UdpPeerId, World};
use ringline_core::{
    BindError, Ctx, Datagram, UdpClosed, UdpError, UdpId, UdpOptions, UdpSendError, Undelivered,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How often one datagram can come: once, or twice if the network doubles it.
const COPIES_MAX: u32 = 2;
/// The head of a datagram: its number.
const HEAD_BYTES: usize = 8;

/// What a handler knows of its datagram sockets.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// Every socket there has been, and how it ended.
    sockets: BTreeMap<UdpId, Option<UdpClosed>>,
    open: Vec<(UdpId, SocketAddr)>,
    paused: BTreeMap<UdpId, bool>,
    /// Where datagrams may go.
    peers: Vec<SocketAddr>,
    seen: BTreeMap<u64, u32>,
    accepted: u64,
    refused: u64,
    failed: u64,
    owners: Owners,
    is_ending: bool,
}

impl Desk {
    /// Does something with some socket.
    pub(crate) fn meddle(&mut self, dice: &mut Dice, cx: &mut Ctx<'_, Chaos>) {
        if self.open.is_empty() || self.open.len() < 4 && dice.chance(150) {
            return self.bind(dice, cx);
        }
        let (socket, _) = self.open[dice.below(self.open.len())];
        match dice.below(20) {
            0 => {
                cx.pause_udp(socket);
                self.paused.insert(socket, true);
            }
            1..4 => {
                cx.resume_udp(socket);
                self.paused.insert(socket, false);
            }
            4 if dice.chance(300) => {
                cx.close_udp(socket);
                assert_eq!(cx.send_datagram(socket, b"late"), Err(UdpSendError::Closing));
                self.open.retain(|(open, _)| *open != socket);
            }
            5 => {
                let group = IpAddr::V4(Ipv4Addr::new(239, 1, 2, 3));
                cx.join_multicast(socket, group, 0).expect("the socket is open");
                cx.leave_multicast(socket, group, 0).expect("the socket is open");
            }
            _ => self.send(dice, cx, socket),
        }
    }

    pub(crate) fn on_datagram(
        &mut self,
        dice: &mut Dice,
        cx: &mut Ctx<'_, Chaos>,
        socket: UdpId,
        datagram: Datagram<'_>,
    ) {
        assert_eq!(self.sockets.get(&socket), Some(&None), "nothing comes to a socket that has ended");
        assert!(self.open.iter().any(|(open, _)| *open == socket), "nothing comes behind a close");
        assert_ne!(self.paused.get(&socket), Some(&true), "nothing comes to a socket that is paused");
        assert!(self.peers.contains(&datagram.from()));
        let (head, rest) = datagram.data().split_at(HEAD_BYTES);
        let number = u64::from_le_bytes(head.try_into().expect("eight bytes"));
        dice::check(number, 0, rest, "datagram");
        let seen = self.seen.entry(number).or_default();
        *seen += 1;
        assert!(*seen <= COPIES_MAX, "datagram {number} comes a {seen}th time");
        if dice.chance(600) {
            let sent = cx.reply(socket, &datagram, datagram.data());
            self.count(1, sent);
        }
        if dice.chance(300) {
            self.meddle(dice, cx);
        }
    }

    pub(crate) fn on_error(&mut self, socket: UdpId, error: UdpError) {
        assert_eq!(self.sockets.get(&socket), Some(&None), "no error of a socket that has ended");
        if let UdpError::Send { datagrams, .. } = error {
            self.failed += datagrams as u64;
        }
    }

    pub(crate) fn on_close(&mut self, cx: &mut Ctx<'_, Chaos>, socket: UdpId, reason: UdpClosed) {
        let before = self.sockets.insert(socket, Some(reason));
        assert_eq!(before, Some(None), "a socket ends once");
        self.open.retain(|(open, _)| *open != socket);
        assert_eq!(cx.send_datagram(socket, b"gone"), Err(UdpSendError::Gone));
    }

    /// The server begins to shut down.
    pub(crate) fn end(&mut self) {
        self.is_ending = true;
        self.open.clear();
    }

    /// What must hold in the end.
    pub(crate) fn judge(&self, counts: &Snapshot) {
        assert!(self.sockets.values().all(Option::is_some), "every socket has ended");
        let settled = counts.udp_sent + counts.udp_sends_failed + counts.udp_sends_dropped;
        assert_eq!(settled, self.accepted + self.refused, "every datagram is accounted for once");
        assert_eq!(counts.udp_sends_failed, self.failed, "every failure is reported once");
        let seen: u32 = self.seen.values().sum();
        assert!(u64::from(seen) <= counts.udp_received, "what is seen is counted");
        assert_eq!(self.owners.alive(), 0, "every guard is dropped");
        assert!(self.owners.are_untouched());
    }

    fn bind(&mut self, dice: &mut Dice, cx: &mut Ctx<'_, Chaos>) {
        let ip = if dice.chance(500) { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let mut options = UdpOptions::default()
            .queue_datagrams(1 + dice.below(40))
            .queue_bytes(200 + dice.below(20_000))
            .timestamps(dice.chance(300));
        if dice.chance(250) && !self.peers.is_empty() {
            // Now and then one that nobody has.
            let nobody = SocketAddr::from(([10, 9, 9, 9], 1));
            let peer = if dice.chance(500) { nobody } else { self.peers[dice.below(self.peers.len())] };
            options = options.connect(peer);
        }
        match cx.bind_udp((ip, 0).into(), &options) {
            Ok(socket) => {
                assert!(!self.is_ending, "no socket after the end has begun");
                let addr = cx.udp_local_addr(socket).expect("it has just been bound");
                assert!(self.sockets.insert(socket, None).is_none(), "ids are unique");
                self.open.push((socket, addr));
            }
            Err(BindError::ShuttingDown { .. }) => assert!(self.is_ending),
            Err(error) => panic!("{error}"),
        }
    }

    fn send(&mut self, dice: &mut Dice, cx: &mut Ctx<'_, Chaos>, socket: UdpId) {
        if self.peers.is_empty() {
            return;
        }
        let to = self.peers[dice.below(self.peers.len())];
        let bytes = vec![dice.below(256) as u8; dice.below(2000)];
        match dice.below(4) {
            0 => {
                let segments = 1 + dice.below(20);
                let size = bytes.len().div_ceil(segments).max(1) as u16;
                let count = bytes.len().div_ceil(size.into()) as u64;
                let sent = cx.send_segments(socket, Some(to), size, &bytes);
                self.count(count, sent);
            }
            1 => {
                let guard = self.owners.lend(bytes);
                let sent = cx.send_guard_to(socket, Some(to), guard);
                self.count(1, sent.map_err(|Undelivered { error, .. }| error));
            }
            2 => {
                let sent = cx.send_datagram(socket, &bytes);
                self.count(1, sent);
            }
            _ => {
                let sent = cx.send_to(socket, to, &bytes);
                self.count(1, sent);
            }
        }
    }

    fn count(&mut self, datagrams: u64, sent: Result<(), UdpSendError>) {
        match sent {
            Ok(()) => self.accepted += datagrams,
            Err(UdpSendError::Full { .. }) => self.refused += datagrams,
            Err(UdpSendError::Closing | UdpSendError::NotConnected | UdpSendError::BadSegments { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// The peers of one run.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    peers: Vec<UdpPeerId>,
    sent: u64,
}

impl Crowd {
    /// Some peer does something.
    pub(crate) fn step(&mut self, world: &mut World<Chaos>, dice: &mut Dice) {
        if self.peers.len() < 4 && dice.chance(100) {
            let peer = world.udp_peer();
            let addr = world.udp_peer_addr(peer);
            self.peers.push(peer);
            world.act(|chaos, _| chaos.udp.peers.push(addr));
        }
        let open: Vec<_> = world.handler().udp.open.iter().map(|(_, addr)| *addr).collect();
        for &peer in &self.peers {
            while let Some((from, _)) = world.udp_receive(peer) {
                assert!(from.port() >= 20_000, "it comes from a socket of the server's");
            }
            if open.is_empty() || !dice.chance(500) {
                continue;
            }
            let to = open[dice.below(open.len())];
            for _ in 0..=dice.below(6) {
                let mut bytes = self.sent.to_le_bytes().to_vec();
                let len = dice.below(1500);
                bytes.extend(dice::bytes(self.sent, 0, len));
                world.udp_send(peer, to, &bytes);
                self.sent += 1;
            }
        }
        world.act(|chaos, cx| {
            if chaos.dice.chance(300) {
                let Chaos { udp, dice, .. } = chaos;
                udp.meddle(dice, cx);
            }
        });
    }
}
