//! A layer for tests: frames with a handshake, an end mark and a checksum, and no secrecy at all.
//!
//! A frame is a kind, a length of two bytes, a checksum of both, one of the whole and a payload that is hidden
//! behind a mask which moves on with every byte, so that a frame that is lost, repeated, changed or out of
//! place is noticed. One bit that has changed is noticed for certain, and never taken for a different length:
//! where a frame ends is believed only once the checksum of its head agrees.

use crate::layer::{Layer, LayerError, LayerFactory};
use std::any::Any;
use std::sync::Arc;

/// How long a payload is at most.
const PAYLOAD_MAX: usize = 4000;
const HEAD: usize = 5;

const HELLO: u8 = 1;
const FINISHED: u8 = 2;
const DATA: u8 = 3;
const CLOSE: u8 = 4;
const ALERT: u8 = 5;
const PING: u8 = 6;
const PONG: u8 = 7;

/// One side of a veiled connection.
///
/// # Examples
///
/// Two sides that understand one another:
///
/// ```
/// use ringline_core::layer::Layer;
/// use ringline_core::testing::Veil;
///
/// let (mut client, mut server) = (Veil::client(), Veil::server());
/// let (mut there, mut back, mut plain) = (Vec::new(), Vec::new(), Vec::new());
/// client.begin(&mut there)?;
/// while client.is_handshaking() || server.is_handshaking() {
///     server.read(&mut there, &mut plain, &mut back)?;
///     there.clear();
///     client.read(&mut back, &mut plain, &mut there)?;
///     back.clear();
/// }
/// let mut wire = vec![0; client.wire_len(5)];
/// let written = client.write(b"hello", &mut wire)?;
/// server.read(&mut wire[..written], &mut plain, &mut back)?;
/// assert_eq!(plain, b"hello");
/// # Ok::<(), ringline_core::layer::LayerError>(())
/// ```
#[derive(Debug)]
pub struct Veil {
    is_client: bool,
    is_ready: bool,
    said_hello: bool,
    is_read_closed: bool,
    is_write_closed: bool,
    written: u64,
    read: u64,
    pongs: u64,
}

/// Makes the server's side for every connection of a listener.
#[derive(Debug)]
pub struct Veils;

impl Veils {
    /// For [`World::layered`](super::World::layered) and [`Server::layered`](crate::Server::layered).
    pub fn shared() -> Arc<dyn LayerFactory> {
        Arc::new(Self)
    }
}

impl LayerFactory for Veils {
    fn accept(&self) -> Result<Box<dyn Layer>, LayerError> {
        Ok(Box::new(Veil::server()))
    }
}

impl Veil {
    /// A frame was changed on the way, or does not belong where it is.
    pub const BROKEN: LayerError = LayerError::by_peer(1, "a frame is broken");
    /// The other side has found a frame of ours broken.
    pub const ALERTED: LayerError = LayerError::by_peer(2, "the peer has found a frame broken");

    /// The side that speaks first.
    pub fn client() -> Self {
        Self {
            is_client: true,
            is_ready: false,
            said_hello: false,
            is_read_closed: false,
            is_write_closed: false,
            written: 0,
            read: 0,
            pongs: 0,
        }
    }

    /// The side that answers.
    pub fn server() -> Self {
        Self { is_client: false, ..Self::client() }
    }

    /// A frame that the other side answers at once, with bytes that are no send of its handler's.
    pub fn ping(&mut self, wire: &mut Vec<u8>) {
        self.frame(PING, &[7; 64], wire);
    }

    /// How many of those were answered.
    pub fn pongs(&self) -> u64 {
        self.pongs
    }

    fn frame(&mut self, kind: u8, payload: &[u8], wire: &mut Vec<u8>) {
        let at = wire.len();
        wire.resize(at + HEAD + payload.len(), 0);
        self.write_frame(kind, payload, &mut wire[at..]);
    }

    fn write_frame(&mut self, kind: u8, payload: &[u8], frame: &mut [u8]) {
        let (head, body) = frame.split_at_mut(HEAD);
        head[0] = kind;
        head[1..3].copy_from_slice(&(payload.len() as u16).to_be_bytes());
        head[3] = head_sum(kind, payload.len(), self.written);
        head[4] = payload.iter().copied().fold(head[3], mix);
        for (hidden, byte) in body.iter_mut().zip(payload) {
            *hidden = byte ^ mask(self.written);
            self.written += 1;
        }
    }

    /// Takes one frame whose payload is in `body`.
    fn take(
        &mut self,
        [kind, head_check, check]: [u8; 3],
        body: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), LayerError> {
        for byte in body.iter_mut() {
            *byte ^= mask(self.read);
            self.read += 1;
        }
        if check != body.iter().copied().fold(head_check, mix) {
            return Err(Self::BROKEN);
        }
        match (kind, self.is_ready) {
            (HELLO, false) if self.is_client => {
                self.frame(FINISHED, b"finished", wire);
                self.is_ready = true;
            }
            (HELLO, false) if !self.said_hello => {
                self.said_hello = true;
                self.frame(HELLO, b"hello client", wire);
            }
            (FINISHED, false) if self.said_hello => self.is_ready = true,
            (DATA, true) => plain.extend_from_slice(body),
            (PING, true) => self.frame(PONG, body, wire),
            (PONG, true) => self.pongs += 1,
            (CLOSE, true) => self.is_read_closed = true,
            (ALERT, _) => return Err(Self::ALERTED),
            _ => return Err(Self::BROKEN),
        }
        Ok(())
    }
}

impl Layer for Veil {
    fn begin(&mut self, wire: &mut Vec<u8>) -> Result<(), LayerError> {
        if self.is_client {
            self.frame(HELLO, b"hello server", wire);
        }
        Ok(())
    }

    fn read(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<usize, LayerError> {
        let mut through = 0;
        while !self.is_read_closed {
            let Some((head, rest)) = incoming[through..].split_first_chunk_mut::<HEAD>() else {
                break;
            };
            let [kind, high, low, head_check, check] = *head;
            let len = usize::from(u16::from_be_bytes([high, low]));
            let is_sound = head_check == head_sum(kind, len, self.read);
            let is_known = is_sound && (HELLO..=PONG).contains(&kind) && len <= PAYLOAD_MAX;
            let taken = match rest.get_mut(..len) {
                _ if !is_known => Err(Self::BROKEN),
                None => break,
                Some(body) => self.take([kind, head_check, check], body, plain, wire),
            };
            if let Err(error) = taken {
                if error == Self::BROKEN {
                    self.is_write_closed = true;
                    self.frame(ALERT, b"broken", wire);
                }
                return Err(error);
            }
            through += HEAD + len;
        }
        Ok(if self.is_read_closed { incoming.len() } else { through })
    }

    fn wire_len(&self, plain_bytes: usize) -> usize {
        plain_bytes + HEAD * plain_bytes.div_ceil(PAYLOAD_MAX)
    }

    fn write(&mut self, plain: &[u8], wire: &mut [u8]) -> Result<usize, LayerError> {
        let mut at = 0;
        for payload in plain.chunks(PAYLOAD_MAX) {
            let end = at + HEAD + payload.len();
            self.write_frame(DATA, payload, &mut wire[at..end]);
            at = end;
        }
        Ok(at)
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.is_write_closed, true) {
            self.frame(CLOSE, b"bye", wire);
        }
    }

    fn is_handshaking(&self) -> bool {
        !self.is_ready
    }

    fn is_read_closed(&self) -> bool {
        self.is_read_closed
    }

    fn facts(&self) -> &dyn Any {
        self
    }
}

fn mask(at: u64) -> u8 {
    (at.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// What the head of a frame with a payload of this length says for itself.
fn head_sum(kind: u8, payload_bytes: usize, at: u64) -> u8 {
    (payload_bytes as u16).to_be_bytes().into_iter().fold(kind ^ mask(at ^ 0xFFFF), mix)
}

/// One changed bit of any byte changes one bit of the sum.
fn mix(sum: u8, byte: u8) -> u8 {
    sum.rotate_left(1) ^ byte
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `wire` in pieces of these lengths.
    fn feed(veil: &mut Veil, wire: &[u8], lens: &[usize]) -> (Vec<u8>, Vec<u8>, Result<(), LayerError>) {
        let (mut plain, mut answers, mut tail) = (Vec::new(), Vec::new(), Vec::new());
        let (mut rest, mut lens) = (wire, lens.iter().cycle());
        while !rest.is_empty() {
            let len = lens.next().map_or(1, |len| (*len).clamp(1, rest.len()));
            tail.extend_from_slice(&rest[..len]);
            rest = &rest[len..];
            match veil.read(&mut tail, &mut plain, &mut answers) {
                Ok(through) => drop(tail.drain(..through)),
                Err(error) => return (plain, answers, Err(error)),
            }
        }
        (plain, answers, Ok(()))
    }

    fn ready() -> (Veil, Veil) {
        let (mut client, mut server) = (Veil::client(), Veil::server());
        let mut hello = Vec::new();
        client.begin(&mut hello).unwrap();
        let (_, answer, read) = feed(&mut server, &hello, &[1]);
        read.unwrap();
        let (_, finished, read) = feed(&mut client, &answer, &[1]);
        read.unwrap();
        feed(&mut server, &finished, &[1]).2.unwrap();
        assert!(!client.is_handshaking() && !server.is_handshaking());
        (client, server)
    }

    proptest! {
        #[test]
        fn what_one_side_writes_the_other_reads_whatever_the_pieces(
            plain in proptest::collection::vec(any::<u8>(), 1..20_000),
            lens in proptest::collection::vec(1usize..5000, 1..8),
        ) {
            let (mut client, mut server) = ready();
            let mut wire = Vec::new();
            for chunk in plain.chunks(crate::layer::CHUNK_BYTES) {
                let mut room = vec![0; client.wire_len(chunk.len())];
                let written = client.write(chunk, &mut room).unwrap();
                wire.extend_from_slice(&room[..written]);
            }
            client.close(&mut wire);
            let (read, answers, result) = feed(&mut server, &wire, &lens);
            prop_assert_eq!(result, Ok(()));
            prop_assert!(read == plain && answers.is_empty() && server.is_read_closed());
        }

    }

    /// A frame of data, as the client writes it next.
    fn data(client: &mut Veil, plain: &[u8]) -> Vec<u8> {
        let mut wire = vec![0; client.wire_len(plain.len())];
        let written = client.write(plain, &mut wire).unwrap();
        wire.truncate(written);
        wire
    }

    #[test]
    fn a_changed_bit_is_noticed_wherever_it_is() {
        for (at, bit) in (0..HEAD + 996).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let (mut client, mut server) = ready();
            let mut wire = data(&mut client, &[b'x'; 996]);
            wire[at] ^= 1 << bit;
            // Nor is the rest of a frame awaited whose length has grown.
            let (read, answers, result) = feed(&mut server, &wire, &[100]);
            let is_noticed = result == Err(Veil::BROKEN) && !answers.is_empty();
            assert!(read.is_empty() && is_noticed, "bit {bit} of byte {at}: {result:?}");
        }
    }

    #[test]
    fn a_length_that_has_grown_is_noticed_whatever_the_frames_behind_it_hold() {
        for round in 0..1000u64 {
            let (mut client, mut server) = ready();
            let mut wire = data(&mut client, b"two dozen bytes, no more");
            let behind: Vec<_> = (0..3000).map(|at| mask(round * 3000 + at)).collect();
            wire.extend(data(&mut client, &behind));
            // From 24 bytes to 2072.
            wire[1] ^= 1 << 3;
            let (read, _, result) = feed(&mut server, &wire, &[wire.len()]);
            assert_eq!((read.len(), result), (0, Err(Veil::BROKEN)), "round {round}");
        }
    }
}
