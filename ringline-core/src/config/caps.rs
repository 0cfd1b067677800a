//! The knobs that cap the connections of a whole server, and the children of a worker.
//!
//! Those of the server are off by default, because they cost a count that all workers share.

use super::ConfigBuilder;

impl ConfigBuilder {
    /// How many connections all workers of a server serve at a time together: 1 to
    /// `1_024_000_000`. By default `None`: each worker has its own limit,
    /// [`connections_per_worker`](Self::connections_per_worker), and nothing else.
    ///
    /// A connection beyond that is closed as soon as it is accepted, before the handler hears of it,
    /// and counted as refused. The limit of each worker holds as well. Connections are not dealt out
    /// in turn, so if that limit is near this one divided by the workers, a worker may be full before
    /// the server is.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringline_core::Config;
    ///
    /// let builder = Config::builder().connections_max(10_000).connections_per_address(100);
    /// assert!(builder.clone().build().is_ok());
    /// assert!(builder.connections_max(None).build().is_ok());
    /// ```
    pub fn connections_max(mut self, connections: impl Into<Option<usize>>) -> Self {
        self.draft.connections_max = connections.into();
        self
    }

    /// How many connections of one address all workers of a server serve at a time together: 1 to
    /// `1_024_000_000`, and not more than [`connections_max`](Self::connections_max). By default
    /// `None`: an address may have as many as there are.
    ///
    /// An address is an IPv4 address or the first 64 bits of an IPv6 address, because whoever has one
    /// IPv6 address usually has all that begin with the same 64 bits. An IPv4 address that comes
    /// through an IPv6 listener counts as IPv4. A connection beyond that is closed as soon as it is
    /// accepted, before the handler hears of it, and counted as refused.
    ///
    /// Many people may share an address, and behind a proxy everybody does. The workers count in a
    /// table that they share, and lock it whenever a connection comes or goes.
    pub fn connections_per_address(mut self, connections: impl Into<Option<u32>>) -> Self {
        self.draft.connections_per_address = connections.into();
        self
    }

    /// How many child processes a worker has at a time: 0 to 65,536, by default 256. With 0,
    /// [`spawn`](crate::Ctx::spawn) always fails.
    ///
    /// A child costs a descriptor of the process, and one more for each connection that it has. A
    /// child beyond the limit is not started, which is counted.
    pub fn children_per_worker(mut self, children: u32) -> Self {
        self.draft.children_per_worker = children;
        self
    }
}
