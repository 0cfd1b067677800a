//! Addresses of both kinds, options of connections to be made, and options of those that are there.

use crate::chaos::{Account, Chaos};
use crate::dice::Dice;
use ringline_core::net::{Addr, UnixAddr};
use ringline_core::{ConnId, ConnectOptions, Ctx, OptionError, OptionRefused, Peer, SocketOptions};
use std::net::SocketAddr;
use std::time::Duration;

/// Where to connect to, now and then to where nobody answers.
pub(crate) fn target(dice: &mut Dice) -> Addr {
    let (port, name) = match dice.below(12) {
        0 => (1, "refused"),
        1 => (2, "silent"),
        _ => (7000, "peer"),
    };
    if dice.chance(300) {
        UnixAddr::abstract_name(name).expect("it is short").into()
    } else {
        SocketAddr::from(([192, 0, 2, 1], port)).into()
    }
}

/// How to connect there: every choice is one that makes sense.
pub(crate) fn connect_options(dice: &mut Dice, to: &Addr) -> ConnectOptions {
    let mut options = ConnectOptions::new();
    if dice.chance(300) {
        options = options.timeout(Duration::from_micros(dice.below(900_000) as u64));
    }
    if to.ip().is_some() && dice.chance(600) {
        options = options.bind(([127, 0, 0, 1], dice.below(60_000) as u16));
    }
    options.socket(socket_options(dice, to.ip().is_none()))
}

/// Some options, or none.
fn socket_options(dice: &mut Dice, is_unix: bool) -> SocketOptions {
    let mut options = SocketOptions::new();
    for _ in 0..dice.below(4) {
        options = match dice.below(4) {
            0 => options.send_buffer_bytes(1 + dice.below(100_000) as u32),
            1 if !is_unix => options.keep_alive_idle(Duration::from_secs(1 + dice.below(100) as u64)),
            2 if !is_unix => options.nodelay(dice.chance(500)),
            _ => options.raw(1, 100 + dice.below(4) as i32, &[1; 4]),
        };
    }
    options
}

impl Chaos {
    /// A peer of a Unix socket has credentials, and one of TCP an address.
    pub(crate) fn check_peer(&self, peer: &Peer) {
        assert_eq!(peer.ip().is_some(), !self.is_unix);
        assert_eq!(peer.credentials().is_some(), self.is_unix);
    }

    /// Asks for options that the kernel may take, and for some that it never sees.
    pub(crate) fn set_socket_options(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId) {
        let is_open = cx.is_open(id);
        if self.dice.chance(100) {
            let late = SocketOptions::new().device("lo");
            assert!(cx.set_socket_options(id, &late).is_err(), "it never comes to the kernel");
            return;
        }
        // What fits both kinds of sockets.
        let options = socket_options(&mut self.dice, true);
        match cx.set_socket_options(id, &options) {
            Ok(()) => {
                assert!(is_open, "only open connections have options");
                self.account(id).tuning.asked += 1;
            }
            Err(OptionError::NotOpen) => assert!(!is_open),
            Err(error) => assert!(matches!(error, OptionError::Busy { .. }), "{error}"),
        }
    }

    /// Each call is answered once.
    pub(crate) fn options_set(&mut self, id: ConnId, result: Result<(), OptionRefused>) {
        let tuning = &mut self.account(id).tuning;
        tuning.told += 1;
        tuning.refused += u64::from(result.is_err());
        assert!(tuning.told <= tuning.asked, "an answer that nobody has asked for");
    }
}

/// What became of the options of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tuned {
    asked: u64,
    told: u64,
    refused: u64,
}

impl Account {
    /// Whether an answer about options is missing.
    pub(crate) fn waits_for_options(&self) -> bool {
        self.is_open && self.tuning.told < self.tuning.asked
    }
}
