//! A datagram as a handler sees it, in the kernel's buffer.

use super::arrival::{self, Facts};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

/// A received datagram, or several of one sender that the kernel has put together (see
/// [`UdpOptions::gro`](crate::net::UdpOptions::gro)).
///
/// It lies where the kernel has put it, and is gone when the callback returns.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    data: &'a [u8],
    facts: Facts,
}

impl<'a> Datagram<'a> {
    /// `None` for a buffer that makes no sense.
    pub(crate) fn parse(buffer: &'a [u8]) -> Option<Self> {
        arrival::parse(buffer).map(|(facts, data)| Self { data, facts })
    }

    /// The bytes, which may be none.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Who sent it. On an IPv6 socket, an IPv4 sender has a mapped address (`::ffff:192.0.2.1`).
    pub fn from(&self) -> SocketAddr {
        self.facts.from
    }

    /// The address of this host, or of the group, that it was sent to. Known on sockets that are
    /// bound to no particular address, or that ask for it with
    /// [`UdpOptions::local_address`](crate::net::UdpOptions::local_address).
    pub fn local_addr(&self) -> Option<IpAddr> {
        self.facts.destination
    }

    /// The number of the network interface through which it came, where the local address is known.
    pub fn interface(&self) -> Option<u32> {
        self.facts.destination.map(|_| self.facts.interface)
    }

    /// The byte of the IP header that holds service class and congestion mark, on sockets that ask
    /// for it with [`UdpOptions::tos`](crate::net::UdpOptions::tos).
    pub fn tos(&self) -> Option<u8> {
        self.facts.tos
    }

    /// The congestion mark (ECN): 0 not capable, 1 or 2 capable, 3 congestion was experienced.
    pub fn ecn(&self) -> Option<u8> {
        self.facts.tos.map(|tos| tos & 0b11)
    }

    /// When the kernel received it, on sockets that ask for it with
    /// [`UdpOptions::timestamps`](crate::net::UdpOptions::timestamps).
    pub fn received_at(&self) -> Option<SystemTime> {
        self.facts.received.map(|since: Duration| SystemTime::UNIX_EPOCH + since)
    }

    /// Whether the end is missing because the datagram was larger than
    /// [`datagram_bytes`](crate::ConfigBuilder::datagram_bytes).
    pub fn is_truncated(&self) -> bool {
        self.facts.full_len > self.data.len()
    }

    /// How long it was when it arrived.
    pub fn full_len(&self) -> usize {
        self.facts.full_len
    }

    /// The size of the datagrams that the kernel has put together; `None` if this is a single one.
    pub fn segment_bytes(&self) -> Option<u16> {
        (self.facts.segment_bytes > 0).then_some(self.facts.segment_bytes)
    }

    /// The datagrams one by one, as they were sent: just this one unless the kernel has put several
    /// together.
    pub fn segments(&self) -> Segments<'a> {
        let size = match usize::from(self.facts.segment_bytes) {
            0 => self.data.len(),
            size => size,
        };
        Segments { rest: Some(self.data), size }
    }

    /// What it takes to answer it with [`Ctx::reply`](crate::Ctx::reply), now or later: to be kept when the
    /// datagram is gone.
    pub fn reply_to(&self) -> ReplyTo {
        ReplyTo { to: self.facts.from, from: self.facts.source }
    }

    /// How many datagrams the kernel has dropped on the socket, if it has said so.
    pub(crate) fn drops(&self) -> Option<u32> {
        self.facts.drops
    }
}

/// Where the answer to a datagram goes, and which of our addresses it comes from. From
/// [`Datagram::reply_to`], and good for the socket that the datagram came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReplyTo {
    to: SocketAddr,
    from: Option<IpAddr>,
}

impl ReplyTo {
    /// Who sent the datagram, and will get the answer.
    pub fn peer(&self) -> SocketAddr {
        self.to
    }

    /// The address of ours that the datagram was sent to, if the kernel has told.
    pub(crate) fn source(&self) -> Option<IpAddr> {
        self.from
    }
}

impl From<&Datagram<'_>> for ReplyTo {
    fn from(datagram: &Datagram<'_>) -> Self {
        datagram.reply_to()
    }
}

/// The datagrams of a [`Datagram`], from [`Datagram::segments`].
#[derive(Clone, Debug)]
pub struct Segments<'a> {
    rest: Option<&'a [u8]>,
    size: usize,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        if rest.len() <= self.size {
            return Some(rest);
        }
        let (segment, rest) = rest.split_at(self.size);
        self.rest = Some(rest);
        Some(segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(data: &[u8], size: usize) -> Vec<&[u8]> {
        Segments { rest: Some(data), size }.collect()
    }

    #[test]
    fn segments_are_cut_at_their_size() {
        assert_eq!(segments(b"abcdefg", 3), [b"abc".as_slice(), b"def", b"g"]);
        assert_eq!(segments(b"abcdef", 3), [b"abc".as_slice(), b"def"]);
        assert_eq!(segments(b"ab", 3), [b"ab".as_slice()]);
        assert_eq!(segments(b"", 0), [b"".as_slice()], "an empty datagram is one");
    }
}
