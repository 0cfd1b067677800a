//! TLS as a layer of a connection.

use crate::machine::Machine;
use crate::{facts::TlsFacts, sni};
use ringline_core::layer::{Layer, LayerError};
use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::{CommonState, HandshakeKind};
use std::any::Any;
use std::fmt;

enum Side {
    Server(Machine<UnbufferedServerConnection>),
    Client(Machine<UnbufferedClientConnection>),
}

/// Runs one expression on the machine, whichever side it is.
macro_rules! on_side {
    ($layer:expr, $machine:ident => $then:expr) => {
        match &mut $layer.side {
            Side::Server($machine) => $then,
            Side::Client($machine) => $then,
        }
    };
}

/// One side of a TLS connection: what [`TlsConfig`](crate::TlsConfig) and
/// [`TlsConnector`](crate::TlsConnector) make, for [`Ctx::secure`](ringline_core::Ctx::secure) and
/// [`Ctx::connect_layered`](ringline_core::Ctx::connect_layered).
pub struct TlsLayer {
    side: Side,
    /// The name that was asked for.
    server_name: Option<Box<str>>,
}

impl TlsLayer {
    pub(crate) fn server(connection: UnbufferedServerConnection, fragment: Option<usize>) -> Self {
        Self { side: Side::Server(Machine::new(connection, fragment)), server_name: None }
    }

    pub(crate) fn client(
        connection: UnbufferedClientConnection,
        fragment: Option<usize>,
        server_name: &str,
    ) -> Self {
        let side = Side::Client(Machine::new(connection, fragment));
        Self { side, server_name: Some(server_name.into()) }
    }

    /// What was agreed with the peer so far.
    pub fn facts(&self) -> TlsFacts<'_> {
        TlsFacts::new(self.state(), self.server_name.as_deref())
    }

    fn state(&self) -> &CommonState {
        match &self.side {
            Side::Server(machine) => machine.state(),
            Side::Client(machine) => machine.state(),
        }
    }
}

impl Layer for TlsLayer {
    fn begin(&mut self, wire: &mut Vec<u8>) -> Result<(), LayerError> {
        match &mut self.side {
            Side::Server(_) => Ok(()),
            Side::Client(machine) => machine.read(&mut [], &mut Vec::new(), wire),
        }
    }

    fn read(
        &mut self,
        incoming: &mut [u8],
        plain: &mut Vec<u8>,
        wire: &mut Vec<u8>,
    ) -> Result<usize, LayerError> {
        let is_handshaking = self.is_handshaking();
        let read = on_side!(self, machine => machine.read(incoming, plain, wire));
        if is_handshaking && let Some(name) = sni::take() {
            self.server_name = Some(name);
        }
        read.map(|()| incoming.len())
    }

    fn wire_len(&self, plain_bytes: usize) -> usize {
        match &self.side {
            Side::Server(machine) => machine.wire_len(plain_bytes),
            Side::Client(machine) => machine.wire_len(plain_bytes),
        }
    }

    fn write(&mut self, plain: &[u8], wire: &mut [u8]) -> Result<usize, LayerError> {
        on_side!(self, machine => machine.write(plain, wire))
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        on_side!(self, machine => machine.close(wire));
    }

    fn is_handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    fn is_read_closed(&self) -> bool {
        match &self.side {
            Side::Server(machine) => machine.is_read_closed(),
            Side::Client(machine) => machine.is_read_closed(),
        }
    }

    fn is_waiting(&self) -> bool {
        match &self.side {
            Side::Server(machine) => machine.is_waiting(),
            Side::Client(machine) => machine.is_waiting(),
        }
    }

    fn is_resumed(&self) -> bool {
        self.state().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    fn facts(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for TlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsLayer").field("facts", &self.facts()).finish_non_exhaustive()
    }
}
