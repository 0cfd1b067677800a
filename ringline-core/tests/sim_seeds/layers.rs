//! Layers on some of the connections, from the beginning or from somewhere in the middle, and peers that
//! understand them, or do not.

use crate::chaos::{Account, Chaos};
use crate::dice::Dice;
use ringline_core::layer::{CHUNK_BYTES, Layer, LayerError};
use ringline_core::testing::{PeerId, Veil, World};
use ringline_core::{CloseReason, ConnId, Ctx, Limit, NotSecured, SecureError};

/// How much a peer keeps for later at most.
const OUT_BYTES_MAX: usize = 20_000;

/// How many bytes of a layer's own may wait beside what the handler has sent.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// More than a layer has to say for the handshake and at its end.
const OTHER_BYTES: usize = 100;

/// What is known about the layer of one connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layering {
    pub(crate) is_there: bool,
    /// It was put on the open connection and has yet to agree with the peer's.
    pub(crate) is_securing: bool,
    /// It was put there in the middle, behind this many stretches of what was sent.
    pub(crate) behind: Option<usize>,
    /// It speaks first.
    is_client: bool,
    /// The peer had not agreed to it.
    is_sudden: bool,
    /// How many bytes the accepted sends have on the wire.
    pub(crate) wire_bytes: u64,
}

/// One that may put a layer on a connection of either kind.
fn veil(is_client: bool) -> Veil {
    if is_client { Veil::client() } else { Veil::server() }
}

impl Chaos {
    /// A connection has a layer from its beginning.
    pub(crate) fn note_layer(&mut self, id: ConnId) {
        self.account(id).layering.is_there = true;
    }

    /// A connection of our own has a layer, too, however it was asked for.
    pub(crate) fn cover_own(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId) {
        if self.is_layered {
            let answer = cx.secure(id, Box::new(Veil::client()));
            assert!(matches!(answer, Ok(()) | Err(NotSecured { error: SecureError::Layered, .. })));
            self.note_layer(id);
        }
    }

    /// The peer with this number writes nothing more in plain, after this many bytes.
    pub(crate) fn asked_for_layer(&mut self, peer: u64, written: usize) {
        self.asks.insert(peer, written);
    }

    /// Whether a layer can take over when this many more bytes are consumed.
    pub(crate) fn may_secure(&self, id: ConnId, more: usize) -> bool {
        let Some(account) = self.accounts.get(&id) else { return false };
        let asked = account.peer.and_then(|peer| self.asks.get(&peer));
        !account.layering.is_there && !account.has_ended && asked == Some(&(account.consumed + more))
    }

    /// Puts a layer on a connection; suddenly, if the peer does not expect one.
    pub(crate) fn secure(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, is_sudden: bool) {
        let is_client = self.dice.chance(500);
        let is_open = cx.is_open(id);
        match (cx.secure(id, Box::new(veil(is_client))), self.accounts.get_mut(&id)) {
            (Ok(()), Some(account)) => {
                assert!(is_open && !account.layering.is_there && !account.has_ended);
                let behind = Some(account.script.stretches());
                let wire_bytes = account.accepted_bytes as u64;
                account.need = 0;
                account.layering =
                    Layering { is_there: true, is_securing: true, behind, is_client, is_sudden, wire_bytes };
            }
            (Ok(()), None) => panic!("no layer for connections that are gone"),
            (Err(NotSecured { error, .. }), account) => match error {
                SecureError::Gone => assert!(account.is_none_or(|account| account.is_over)),
                SecureError::Layered => assert!(account.is_some_and(|account| account.layering.is_there)),
                _ => {}
            },
        }
    }

    /// The layers of both sides agree.
    pub(crate) fn secured(&mut self, id: ConnId) {
        let account = self.account(id);
        assert!(std::mem::take(&mut account.layering.is_securing), "on_secured comes once");
    }

    /// A send was accepted that takes this many bytes on the wire.
    pub(crate) fn note_wire(&mut self, id: ConnId, before: Option<usize>, after: Option<usize>) {
        let wire = after.unwrap_or(0).saturating_sub(before.unwrap_or(0));
        self.account(id).layering.wire_bytes += wire as u64;
    }

    /// How many plain bytes come before a layer that was put on the connection of this peer, whether
    /// that layer speaks first, and whether it came suddenly.
    fn switch(&self, peer: u64) -> Option<(usize, bool, bool)> {
        let mut all = self.accounts.values().chain(&self.closed);
        let account = all.find(|account| account.peer == Some(peer))?;
        let Layering { behind, is_client, is_sudden, .. } = account.layering;
        Some((account.script.len_of(behind?), is_client, is_sudden))
    }
}

impl Account {
    /// A connection without a layer cannot end in the ways of layers.
    pub(crate) fn check_layer(&self, reason: CloseReason) {
        let is_layers = matches!(
            reason,
            CloseReason::LayerFailed(_)
                | CloseReason::Truncated { .. }
                | CloseReason::LimitExceeded(Limit::Handshake)
        );
        assert!(self.layering.is_there || !is_layers, "{reason:?} without a layer");
    }
}

/// What a peer does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mischief {
    None,
    /// It writes a few bytes at a time, which is its right.
    Dribbles,
    /// It changes a bit.
    Breaks,
    /// It asks for answers and does not read them.
    Floods,
    /// It begins with something else than a handshake.
    Raves,
    /// It never says anything.
    IsSilent,
}

/// The layer of a peer.
pub(crate) struct Lens {
    veil: Veil,
    mischief: Mischief,
    /// It keeps to all rules.
    pub(crate) is_honest: bool,
    out: Vec<u8>,
    /// How many bytes of answers it has asked for.
    asked_bytes: usize,
    tail: Vec<u8>,
    has_failed: bool,
    wants_end: bool,
    /// How many bytes were read before the layer.
    read_before: usize,
}

impl Lens {
    /// For a connection that has a layer from the beginning.
    pub(crate) fn new(is_client: bool, dice: &mut Dice) -> Self {
        let mischief = match dice.below(12) {
            0..2 => Mischief::Dribbles,
            2 => Mischief::Breaks,
            3 => Mischief::Floods,
            4 if dice.chance(500) => Mischief::Raves,
            5 if dice.chance(300) => Mischief::IsSilent,
            _ => Mischief::None,
        };
        let mut lens = Self::with(veil(is_client), mischief);
        if mischief == Mischief::Raves {
            lens.is_honest = false;
            lens.out = (0..=dice.below(40)).map(|_| dice.below(256) as u8).collect();
        }
        lens
    }

    /// For a connection on which this many plain bytes were read before.
    fn later(is_client: bool, is_honest: bool, read_before: usize) -> Self {
        Self { is_honest, read_before, ..Self::with(veil(is_client), Mischief::None) }
    }

    fn with(mut veil: Veil, mischief: Mischief) -> Self {
        let mut out = Vec::new();
        veil.begin(&mut out).expect("a veil begins");
        Self {
            veil,
            mischief,
            is_honest: true,
            out,
            asked_bytes: 0,
            tail: Vec::new(),
            has_failed: false,
            wants_end: false,
            read_before: 0,
        }
    }

    /// Whether it has no time to read.
    pub(crate) fn is_busy(&self) -> bool {
        self.mischief == Mischief::Floods && !self.veil.is_handshaking()
    }

    /// Whether its answers alone may have been too much for somebody who cannot get rid of them.
    pub(crate) fn has_flooded(&self) -> bool {
        self.asked_bytes + OTHER_BYTES > ANSWER_BYTES_MAX
    }

    pub(crate) fn takes_more(&self) -> bool {
        !self.veil.is_handshaking() && !self.wants_end && self.out.len() < OUT_BYTES_MAX
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(CHUNK_BYTES) {
            let at = self.out.len();
            self.out.resize(at + self.veil.wire_len(chunk.len()), 0);
            let wrote = self.veil.write(chunk, &mut self.out[at..]).expect("a veil writes");
            self.out.truncate(at + wrote);
        }
    }

    /// Writes what it has to say, as it sees fit.
    pub(crate) fn push(&mut self, world: &mut World<Chaos>, peer: PeerId, dice: &mut Dice) {
        let at_most = match self.mischief {
            Mischief::IsSilent => return,
            Mischief::Dribbles => 1 + dice.below(3),
            _ => self.out.len(),
        };
        let is_quiet = self.veil.is_handshaking() || self.wants_end;
        if self.mischief == Mischief::Floods && !is_quiet && self.out.len() < OUT_BYTES_MAX {
            let before = self.out.len();
            (0..20).for_each(|_| self.veil.ping(&mut self.out));
            // An answer is as long as what asks for it.
            self.asked_bytes += self.out.len() - before;
        }
        if self.mischief == Mischief::Breaks && !self.out.is_empty() && dice.chance(50) {
            let at = dice.below(self.out.len());
            self.out[at] ^= 1 << dice.below(8);
            self.is_honest = false;
            // The checksum of a frame notices one, and not every two.
            self.mischief = Mischief::None;
        }
        self.flush(world, peer, at_most);
    }

    /// Writes what is left, now that all mischief is over. True if something was written.
    pub(crate) fn flush(&mut self, world: &mut World<Chaos>, peer: PeerId, at_most: usize) -> bool {
        let written = world.write(peer, &self.out[..at_most.min(self.out.len())]);
        self.out.drain(..written);
        if self.wants_end && self.out.is_empty() {
            world.end(peer);
            self.wants_end = false;
        }
        written > 0
    }

    pub(crate) fn flush_all(&mut self, world: &mut World<Chaos>, peer: PeerId) -> bool {
        self.mischief != Mischief::IsSilent && self.flush(world, peer, usize::MAX)
    }

    /// Ends its direction, with a mark or without.
    pub(crate) fn end(&mut self, world: &mut World<Chaos>, peer: PeerId, cuts_off: bool) {
        if cuts_off || self.veil.is_handshaking() || self.mischief == Mischief::IsSilent {
            self.is_honest = false;
            world.end(peer);
        } else if !self.wants_end {
            self.veil.close(&mut self.out);
            self.wants_end = true;
            self.flush(world, peer, 0);
        }
    }

    /// The plain bytes behind what was read.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        if self.has_failed {
            return plain;
        }
        self.tail.extend_from_slice(bytes);
        match self.veil.read(&mut self.tail, &mut plain, &mut self.out) {
            Ok(through) => drop(self.tail.drain(..through)),
            Err(error) => {
                let is_due = !self.is_honest && error == Veil::ALERTED || error == LayerError::ENDED;
                assert!(is_due || !self.is_honest, "a layer says {error} to one that keeps the rules");
                self.has_failed = true;
            }
        }
        plain
    }
}

/// What a peer has read, without its layer; one may be there from now on.
pub(crate) fn uncover(
    world: &World<Chaos>,
    (lens, number): (&mut Option<Lens>, u64),
    (read, has_asked): (usize, bool),
    bytes: Vec<u8>,
) -> Vec<u8> {
    let switch = world.handler().switch(number);
    if let (None, Some((_, is_client, is_sudden))) = (&lens, switch) {
        *lens = Some(Lens::later(!is_client, has_asked && !is_sudden, read));
    }
    let Some(lens) = lens else { return bytes };
    let before = switch.map_or(0, |(before, ..)| before);
    let (plain, wire) = bytes.split_at(before.saturating_sub(lens.read_before).min(bytes.len()));
    lens.read_before += plain.len();
    [plain, &lens.take(wire)].concat()
}
