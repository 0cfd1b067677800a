//! The name of a connection.

use std::fmt;

/// Names one connection of one worker, for as long as you like.
///
/// An id is a row in the worker's table and the generation of that row. It stays harmless after
/// the connection has closed: every call with it then reports that the connection is gone, even
/// when the row serves another connection by now. An id of another worker is gone here, too: workers
/// begin their generations far apart.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    pub(crate) row: u32,
    pub(crate) generation: u32,
}

impl ConnId {
    /// No connection: the row that no table has. On the worker's list of what is to be flushed it stands
    /// for what belongs to no connection.
    pub(crate) const NOBODY: Self = Self { row: u32::MAX, generation: 0 };

    /// The row alone: small, dense, below the configured number of connections, and used again
    /// after the connection has closed. Good as an index into a table of your own.
    pub fn row(self) -> usize {
        self.row as usize
    }
}

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnId({self})")
    }
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.row, self.generation)
    }
}
