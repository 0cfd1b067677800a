//! The name of a datagram socket.

use crate::conn::ConnId;
use std::fmt;

/// Names one datagram socket of one worker, for as long as you like.
///
/// It stays harmless after the socket has closed: every call with it then reports that the socket is
/// gone, even when another one has its row by now. An id of another worker is gone here, too.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UdpId(ConnId);

impl UdpId {
    pub(crate) fn new(key: ConnId) -> Self {
        Self(key)
    }

    /// The row alone: small, dense, and used again after the socket has closed. Good as an index into a
    /// table of your own.
    pub fn row(self) -> usize {
        self.0.row()
    }

    pub(crate) fn key(self) -> ConnId {
        self.0
    }
}

impl fmt::Debug for UdpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UdpId({self})")
    }
}

impl fmt::Display for UdpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
