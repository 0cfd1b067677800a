//! One side of one TLS connection, fed with bytes.
//!
//! rustls is used without buffers of its own. Records are decrypted where they lie; what is not a whole
//! record yet is kept here, because the machine remembers places in it. An error does not end the
//! machine before its alert is out.

use crate::fault::TlsFault;
use crate::sni;
use ringline_core::layer::LayerError;
use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};
use rustls::{CommonState, Error};
use std::ops::Deref;

/// Type, version and length of a record.
const HEADER_BYTES: usize = 5;
/// What a record has around its payload at most: header, nonce, padding type and tag.
const RECORD_OVERHEAD: usize = HEADER_BYTES + 8 + 1 + 16;
/// A change of keys that goes out before the next record.
const KEY_UPDATE_BYTES: usize = 64;
/// The longest payload of a record, unless it is configured otherwise.
const PAYLOAD_BYTES: usize = 16 * 1024;

/// The side of a connection, which rustls has two types for.
pub(crate) trait Side: Deref<Target: Deref<Target = CommonState>> {
    type Data;

    fn records<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn records<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn records<'c, 'i>(&'c mut self, incoming: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(incoming)
    }
}

/// A side with what it needs to be driven.
pub(crate) struct Machine<S> {
    side: S,
    /// What it is not through with.
    tail: Vec<u8>,
    payload_bytes: usize,
    is_read_closed: bool,
    said_goodbye: bool,
    has_failed: bool,
}

impl<S: Side> Machine<S> {
    /// `fragment` is the configured length of a record, if there is one.
    pub(crate) fn new(side: S, fragment: Option<usize>) -> Self {
        let payload_bytes = fragment.map_or(PAYLOAD_BYTES, |bytes| bytes.saturating_sub(5).max(1));
        let tail = Vec::new();
        Self { side, tail, payload_bytes, is_read_closed: false, said_goodbye: false, has_failed: false }
    }

    /// Takes what has arrived, all of it.
    pub(crate) fn read(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<(), LayerError> {
        if self.has_failed {
            return Err(TlsFault::Misbehaved.layer_error());
        }
        let mut rest = incoming;
        while !self.tail.is_empty() && !rest.is_empty() {
            // Only what was cut in two is put together; what follows is decrypted where it lies.
            let (more, behind) = rest.split_at_mut(missing_bytes(&self.tail).min(rest.len()));
            let mut tail = std::mem::take(&mut self.tail);
            tail.extend_from_slice(more);
            let through = self.feed(&mut tail, plain, wire)?;
            if through < tail.len() {
                tail.drain(..through);
                self.tail = tail;
            }
            rest = behind;
        }
        if self.tail.is_empty() {
            let through = self.feed(rest, plain, wire)?;
            self.tail.extend_from_slice(&rest[through..]);
        }
        Ok(())
    }

    pub(crate) fn wire_len(&self, plain_bytes: usize) -> usize {
        plain_bytes + plain_bytes.div_ceil(self.payload_bytes) * RECORD_OVERHEAD + KEY_UPDATE_BYTES
    }

    /// Encrypts into `wire`. All of it or, with an error, nothing.
    pub(crate) fn write(&mut self, plain: &[u8], wire: &mut [u8]) -> Result<usize, LayerError> {
        let written = self.with_traffic(|mut traffic| traffic.encrypt(plain, wire));
        match written {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(EncryptError::EncryptExhausted)) => Err(TlsFault::Exhausted.layer_error()),
            Some(Err(EncryptError::InsufficientSize(_))) | None => Err(TlsFault::Internal.layer_error()),
        }
    }

    /// Ends our direction, once, unless there is nothing to end.
    pub(crate) fn close(&mut self, wire: &mut Vec<u8>) {
        if self.has_failed || std::mem::replace(&mut self.said_goodbye, true) {
            return;
        }
        let mut room = [0; RECORD_OVERHEAD + KEY_UPDATE_BYTES];
        if let Some(Ok(bytes)) = self.with_traffic(|mut traffic| traffic.queue_close_notify(&mut room)) {
            wire.extend_from_slice(&room[..bytes]);
        }
    }

    pub(crate) fn is_read_closed(&self) -> bool {
        self.is_read_closed
    }

    /// Whether the beginning of a record, or of a message in several, is here and its end is not.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.tail.is_empty()
    }

    pub(crate) fn state(&self) -> &CommonState {
        &self.side
    }

    /// Feeds the side until it wants more, and returns how many bytes it is through with.
    fn feed(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<usize, LayerError> {
        let mut through = 0;
        loop {
            let UnbufferedStatus { discard, state } = self.side.records(&mut incoming[through..]);
            let mut more = 0;
            let step = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    let mut read = Ok(true);
                    while let Some(record) = traffic.next_record() {
                        match record {
                            Ok(record) => {
                                plain.extend_from_slice(record.payload);
                                more += record.discard;
                            }
                            Err(error) => read = Err(error),
                        }
                    }
                    read
                }
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    append(wire, |room| data.encode(room)).map(|()| true)
                }
                Ok(ConnectionState::TransmitTlsData(data)) => {
                    data.done();
                    Ok(true)
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.is_read_closed = true;
                    Ok(true)
                }
                Ok(ConnectionState::Closed) => {
                    self.is_read_closed = true;
                    Ok(false)
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => Ok(false),
                // No configuration of ours takes any.
                Ok(_) => Err(Error::General("early data came although none is taken".into())),
                Err(error) => Err(error),
            };
            through += discard + more;
            match step {
                Ok(true) => {}
                // What comes behind the end of the peer's direction is nobody's.
                Ok(false) => return Ok(if self.is_read_closed { incoming.len() } else { through }),
                Err(error) => return Err(self.fail(&error, &mut incoming[through..], wire)),
            }
        }
    }

    /// Lets the alert out that says what went wrong.
    #[cold]
    fn fail(&mut self, error: &Error, incoming: &mut [u8], wire: &mut Vec<u8>) -> LayerError {
        // rustls has no error of its own for a name without a certificate.
        let fault = if sni::was_in_vain() { TlsFault::UnknownName } else { TlsFault::from_rustls(error) };
        if fault == TlsFault::Internal {
            log::warn!("a TLS connection fails on this side: {error}");
        } else {
            log::debug!("a TLS connection fails: {error}");
        }
        self.has_failed = true;
        while self.side.wants_write() {
            match self.side.records(incoming).state {
                Ok(ConnectionState::EncodeTlsData(mut data)) => {
                    if append(wire, |room| data.encode(room)).is_err() {
                        break;
                    }
                }
                _ => break,
            }
        }
        fault.layer_error()
    }

    /// Does something that takes a side which can send; `None` if it cannot.
    fn with_traffic<R>(&mut self, act: impl FnOnce(WriteTraffic<'_, S::Data>) -> R) -> Option<R> {
        // What is here was fed before, so nothing comes of it now but the state that follows from it.
        match self.side.records(&mut self.tail).state {
            Ok(ConnectionState::WriteTraffic(traffic)) => Some(act(traffic)),
            _ => None,
        }
    }
}

/// How much more of what arrives belongs to the record that begins here. The rest of a message that is spread
/// over records may be anywhere.
fn missing_bytes(tail: &[u8]) -> usize {
    let whole = match tail {
        [_, _, _, high, low, ..] => HEADER_BYTES + usize::from(u16::from_be_bytes([*high, *low])),
        _ => HEADER_BYTES,
    };
    if tail.len() < whole { whole - tail.len() } else { usize::MAX }
}

/// Appends what `encode` writes, which says how much room it needs.
fn append(
    wire: &mut Vec<u8>,
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> Result<(), Error> {
    let needed = match encode(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(error @ EncodeError::AlreadyEncoded) => return Err(Error::General(error.to_string())),
    };
    let at = wire.len();
    wire.resize(at + needed, 0);
    let encoded = encode(&mut wire[at..]).map_err(|error| Error::General(error.to_string()));
    wire.truncate(at + encoded.as_ref().map_or(0, |bytes| *bytes));
    encoded.map(drop)
}
