//! A received datagram as the kernel writes it: a head, the sender's address, control messages, and
//! the bytes.
//!
//! Everything here is read from a slice with its bounds checked, so whatever the lengths in it say,
//! nothing outside of the buffer is ever looked at. The simulated kernel writes the same form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::time::Duration;

/// `struct io_uring_recvmsg_out`: lengths of name, control messages and bytes, and flags.
const HEAD_BYTES: usize = 16;
/// Room for the sender's address.
pub(crate) const NAME_BYTES: usize = 32;
/// Room for every control message that a socket of ours asks for, together.
pub(crate) const CONTROL_BYTES: usize = 176;
/// What a buffer holds besides the bytes of a datagram.
pub(crate) const OVERHEAD_BYTES: usize = HEAD_BYTES + NAME_BYTES + CONTROL_BYTES;

/// The head of a control message: its length, level and type.
const CONTROL_HEAD_BYTES: usize = size_of::<usize>() + 8;

/// What came with a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) from: SocketAddr,
    /// The length before it was cut to what the buffer holds.
    pub(crate) full_len: usize,
    /// The address that it was sent to.
    pub(crate) destination: Option<IpAddr>,
    /// The address of ours that an answer should come from.
    pub(crate) source: Option<IpAddr>,
    pub(crate) interface: u32,
    pub(crate) tos: Option<u8>,
    /// When it arrived, since the beginning of 1970.
    pub(crate) received: Option<Duration>,
    /// The size of the datagrams that the kernel has put together, or zero.
    pub(crate) segment_bytes: u16,
    /// How many datagrams the kernel has dropped on this socket, if it says so.
    pub(crate) drops: Option<u32>,
}

/// Takes a buffer apart; `None` if it makes no sense.
pub(crate) fn parse(buffer: &[u8]) -> Option<(Facts, &[u8])> {
    let name_len = usize::try_from(word(buffer, 0)?).ok()?;
    let control_len = usize::try_from(word(buffer, 4)?).ok()?;
    let full_len = usize::try_from(word(buffer, 8)?).ok()?;
    let data = buffer.get(OVERHEAD_BYTES..)?;
    let name = buffer.get(HEAD_BYTES..HEAD_BYTES + name_len.min(NAME_BYTES))?;
    let control_start = HEAD_BYTES + NAME_BYTES;
    let control = buffer.get(control_start..control_start + control_len.min(CONTROL_BYTES))?;
    let mut facts = Facts {
        from: address(name)?,
        full_len,
        destination: None,
        source: None,
        interface: 0,
        tos: None,
        received: None,
        segment_bytes: 0,
        drops: None,
    };
    if !control.is_empty() {
        read_control(&mut facts, control);
    }
    Some((facts, &data[..data.len().min(full_len)]))
}

/// Takes a buffer with bytes of a stream apart: when the last of them arrived, and the bytes.
pub(crate) fn parse_stream(buffer: &[u8]) -> (Option<Duration>, &[u8]) {
    let control_len = word(buffer, 4).map_or(0, |len| len as usize).min(CONTROL_BYTES);
    let control_start = HEAD_BYTES + NAME_BYTES;
    let mut control = buffer.get(control_start..control_start + control_len).unwrap_or_default();
    let mut received = None;
    while let Some((level, kind, data, rest)) = next_control(control) {
        if (level, kind) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
            received = time(data);
        }
        control = rest;
    }
    (received, buffer.get(OVERHEAD_BYTES..).unwrap_or_default())
}

fn read_control(facts: &mut Facts, mut control: &[u8]) {
    while let Some((level, kind, data, rest)) = next_control(control) {
        control = rest;
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let (Some(interface), Some(own), Some(to)) = (word(data, 0), array(data, 4), array(data, 8))
                else {
                    continue;
                };
                facts.interface = interface;
                facts.source = Some(Ipv4Addr::from(own).into());
                facts.destination = Some(Ipv4Addr::from(to).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let (Some(to), Some(interface)) = (array::<16>(data, 0), word(data, 16)) else { continue };
                let to = Ipv6Addr::from(to);
                facts.interface = interface;
                facts.source = (!to.is_multicast()).then_some(to.into());
                facts.destination = Some(to.into());
            }
            (libc::IPPROTO_IP, libc::IP_TOS) => facts.tos = data.first().copied(),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => facts.tos = word(data, 0).map(|class| class as u8),
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => facts.received = time(data),
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => facts.drops = word(data, 0),
            (libc::SOL_UDP, libc::UDP_GRO) => {
                facts.segment_bytes = word(data, 0).and_then(|bytes| bytes.try_into().ok()).unwrap_or(0);
            }
            _ => {}
        }
    }
}

/// The first control message: level, type, data, and what follows it.
fn next_control(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let len = usize::from_ne_bytes(array(control, 0)?);
    let level = i32::from_ne_bytes(array(control, size_of::<usize>())?);
    let kind = i32::from_ne_bytes(array(control, size_of::<usize>() + 4)?);
    let data = control.get(CONTROL_HEAD_BYTES..len)?;
    let rest = control.get(len.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
    Some((level, kind, data, rest))
}

fn address(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(array(name, 0)?);
    let port = u16::from_be_bytes(array(name, 2)?);
    match i32::from(family) {
        libc::AF_INET => Some(SocketAddrV4::new(Ipv4Addr::from(array::<4>(name, 4)?), port).into()),
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(array::<16>(name, 8)?);
            // The standard library keeps the flow information as the kernel does.
            Some(SocketAddrV6::new(ip, port, word(name, 4)?, word(name, 24)?).into())
        }
        _ => None,
    }
}

fn time(data: &[u8]) -> Option<Duration> {
    let seconds = u64::try_from(i64::from_ne_bytes(array(data, 0)?)).ok()?;
    let nanos = u32::try_from(i64::from_ne_bytes(array(data, 8)?)).ok()?;
    (nanos < 1_000_000_000).then(|| Duration::new(seconds, nanos))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Writes a datagram the way the kernel does, cut to what `buffer_bytes` hold.
pub(crate) fn encode(facts: &Facts, data: &[u8], buffer_bytes: usize) -> Vec<u8> {
    let mut control = Vec::new();
    if let (Some(IpAddr::V4(to)), Some(IpAddr::V4(own))) = (facts.destination, facts.source) {
        let mut info = facts.interface.to_ne_bytes().to_vec();
        info.extend(own.octets());
        info.extend(to.octets());
        push_control(&mut control, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
    }
    if let Some(IpAddr::V6(to)) = facts.destination {
        let mut info = to.octets().to_vec();
        info.extend(facts.interface.to_ne_bytes());
        push_control(&mut control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
    }
    if let Some(tos) = facts.tos {
        push_control(&mut control, libc::IPPROTO_IP, libc::IP_TOS, &[tos]);
    }
    if let Some(received) = facts.received {
        let mut time = i64::try_from(received.as_secs()).unwrap_or(i64::MAX).to_ne_bytes().to_vec();
        time.extend(i64::from(received.subsec_nanos()).to_ne_bytes());
        push_control(&mut control, libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &time);
    }
    if let Some(drops) = facts.drops {
        push_control(&mut control, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &drops.to_ne_bytes());
    }
    if facts.segment_bytes > 0 {
        let bytes = u32::from(facts.segment_bytes).to_ne_bytes();
        push_control(&mut control, libc::SOL_UDP, libc::UDP_GRO, &bytes);
    }
    let name = name_of(facts.from);
    let mut buffer = Vec::with_capacity(OVERHEAD_BYTES + data.len());
    for len in [name.len(), control.len(), facts.full_len, 0] {
        buffer.extend((len as u32).to_ne_bytes());
    }
    buffer.extend(name);
    buffer.resize(HEAD_BYTES + NAME_BYTES, 0);
    buffer.extend(control);
    buffer.resize(OVERHEAD_BYTES, 0);
    buffer.extend(data);
    buffer.truncate(buffer_bytes);
    buffer
}

fn push_control(control: &mut Vec<u8>, level: i32, kind: i32, data: &[u8]) {
    control.extend((CONTROL_HEAD_BYTES + data.len()).to_ne_bytes());
    control.extend(level.to_ne_bytes());
    control.extend(kind.to_ne_bytes());
    control.extend(data);
    control.resize(control.len().next_multiple_of(size_of::<usize>()), 0);
}

fn name_of(address: SocketAddr) -> Vec<u8> {
    let mut name = Vec::with_capacity(NAME_BYTES);
    match address {
        SocketAddr::V4(address) => {
            name.extend((libc::AF_INET as u16).to_ne_bytes());
            name.extend(address.port().to_be_bytes());
            name.extend(address.ip().octets());
            name.resize(16, 0);
        }
        SocketAddr::V6(address) => {
            name.extend((libc::AF_INET6 as u16).to_ne_bytes());
            name.extend(address.port().to_be_bytes());
            name.extend(address.flowinfo().to_ne_bytes());
            name.extend(address.ip().octets());
            name.extend(address.scope_id().to_ne_bytes());
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts(from: &str) -> Facts {
        Facts {
            from: from.parse().unwrap(),
            full_len: 5,
            destination: None,
            source: None,
            interface: 0,
            tos: None,
            received: None,
            segment_bytes: 0,
            drops: None,
        }
    }

    fn full(from: &str, own: &str) -> Facts {
        let own: IpAddr = own.parse().unwrap();
        Facts {
            destination: Some(own),
            source: Some(own),
            interface: 3,
            tos: Some(0b10),
            received: Some(Duration::new(1_700_000_000, 123_456_789)),
            segment_bytes: 1400,
            drops: Some(77),
            ..facts(from)
        }
    }

    #[test]
    fn what_is_written_is_read() {
        for facts in [
            facts("192.0.2.1:53"),
            facts("[2001:db8::1]:53"),
            full("192.0.2.1:1", "10.0.0.1"),
            full("[fe80::1%7]:65535", "2001:db8::9"),
        ] {
            let buffer = encode(&facts, b"hello", 4096);
            assert_eq!(parse(&buffer), Some((facts, b"hello".as_slice())));
        }
    }

    #[test]
    fn all_control_messages_together_fit_their_room() {
        let buffer = encode(&full("192.0.2.1:1", "10.0.0.1"), b"hello", 4096);
        assert!(word(&buffer, 4).unwrap() as usize <= CONTROL_BYTES);
    }

    #[test]
    fn a_datagram_that_was_cut_says_how_long_it_was() {
        let mut facts = facts("192.0.2.1:53");
        facts.full_len = 1000;
        let buffer = encode(&facts, &[7; 1000], OVERHEAD_BYTES + 100);
        let (read, data) = parse(&buffer).unwrap();
        assert_eq!((read.full_len, data.len()), (1000, 100));
    }

    #[test]
    fn a_group_is_no_address_to_answer_from() {
        let mut facts = facts("[2001:db8::1]:53");
        facts.destination = Some("ff02::1".parse().unwrap());
        let buffer = encode(&facts, b"hello", 4096);
        let (read, _) = parse(&buffer).unwrap();
        assert_eq!((read.destination, read.source), (facts.destination, None));
    }

    #[test]
    fn bytes_of_a_stream_come_with_their_time() {
        let facts = full("192.0.2.1:1", "10.0.0.1");
        let buffer = encode(&facts, b"hello", 4096);
        assert_eq!(parse_stream(&buffer), (facts.received, b"hello".as_slice()));
        assert_eq!(parse_stream(&buffer[..OVERHEAD_BYTES]), (facts.received, b"".as_slice()));
        assert_eq!(parse_stream(&[]), (None, b"".as_slice()));
    }

    #[test]
    fn a_short_buffer_is_refused() {
        let buffer = encode(&facts("192.0.2.1:53"), b"hello", 4096);
        for len in 0..OVERHEAD_BYTES {
            assert_eq!(parse(&buffer[..len]), None);
        }
    }

    proptest! {
        #[test]
        fn hostile_lengths_never_reach_beyond_the_buffer(
            mut buffer in proptest::collection::vec(any::<u8>(), 0..600),
            words in proptest::collection::vec((0..150usize, any::<u32>()), 0..8),
        ) {
            for (at, value) in words {
                if let Some(place) = buffer.get_mut(4 * at..4 * at + 4) {
                    place.copy_from_slice(&value.to_ne_bytes());
                }
            }
            if let Some((facts, data)) = parse(&buffer) {
                prop_assert!(data.len() <= buffer.len() - OVERHEAD_BYTES);
                prop_assert!(data.len() <= facts.full_len);
            }
        }

        #[test]
        fn control_messages_with_any_length_are_passed_or_end_the_list(
            len: usize, level in 0..300i32, kind in 0..110i32, rest: [u8; 24],
        ) {
            let mut buffer = encode(&full("192.0.2.1:1", "10.0.0.1"), b"hello", 4096);
            let start = HEAD_BYTES + NAME_BYTES;
            buffer[start..start + 8].copy_from_slice(&len.to_ne_bytes());
            buffer[start + 8..start + 12].copy_from_slice(&level.to_ne_bytes());
            buffer[start + 12..start + 16].copy_from_slice(&kind.to_ne_bytes());
            buffer[start + 16..start + 40].copy_from_slice(&rest);
            prop_assert_eq!(parse(&buffer).map(|(_, data)| data), Some(b"hello".as_slice()));
        }
    }
}
