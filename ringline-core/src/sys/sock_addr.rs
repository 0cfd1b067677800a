//! Socket addresses as the kernel writes them.
//!
//! An address is read only as far as the length the kernel returned with it, so what an earlier
//! operation left in the same storage is never taken for part of it.
#![allow(unsafe_code)]

use crate::net::addr::Addr;
use crate::net::unix_addr::UnixAddr;
use std::mem::offset_of;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::{ptr, slice};

/// The address in `storage`, of which the kernel has filled `len` bytes.
///
/// `None` when it is neither a whole IPv4 or IPv6 address nor that of a Unix socket; no address at all has
/// length zero.
pub(crate) fn from_raw(storage: &libc::sockaddr_storage, len: libc::socklen_t) -> Option<Addr> {
    let len = len as usize;
    if len < size_of::<libc::sa_family_t>() {
        return None;
    }
    match i32::from(storage.ss_family) {
        libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => Some(Addr::Ip(ipv4(storage).into())),
        libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => Some(Addr::Ip(ipv6(storage).into())),
        libc::AF_UNIX => unix(storage, len).map(Addr::Unix),
        _ => None,
    }
}

/// Writes `address` the way the kernel reads it, and says how long it is.
pub(crate) fn to_raw(address: &SocketAddr, storage: &mut libc::sockaddr_storage) -> libc::socklen_t {
    match address {
        SocketAddr::V4(address) => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                sin_zero: [0; 8],
            };
            // SAFETY: `sockaddr_storage` is at least as large and as aligned as every other socket
            // address, and borrowed mutably here.
            unsafe { ptr::from_mut(storage).cast::<libc::sockaddr_in>().write(raw) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(address) => {
            let raw = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: address.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                sin6_scope_id: address.scope_id(),
            };
            // SAFETY: as for IPv4.
            unsafe { ptr::from_mut(storage).cast::<libc::sockaddr_in6>().write(raw) };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

fn ipv4(storage: &libc::sockaddr_storage) -> SocketAddrV4 {
    // SAFETY: `sockaddr_storage` is at least as large and as aligned as every other socket address,
    // a `&` to it guarantees that it is initialised, and every field of `sockaddr_in` is an
    // integer, for which any bits are valid.
    let raw = unsafe { ptr::from_ref(storage).cast::<libc::sockaddr_in>().read() };
    let ip = u32::from_be(raw.sin_addr.s_addr);
    SocketAddrV4::new(ip.into(), u16::from_be(raw.sin_port))
}

fn ipv6(storage: &libc::sockaddr_storage) -> SocketAddrV6 {
    // SAFETY: as for IPv4: `sockaddr_in6` fits into `sockaddr_storage` and consists of integers.
    let raw = unsafe { ptr::from_ref(storage).cast::<libc::sockaddr_in6>().read() };
    let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
    SocketAddrV6::new(
        ip,
        u16::from_be(raw.sin6_port),
        // The standard library keeps the flow information in network order too, and the scope in
        // the host's.
        raw.sin6_flowinfo,
        raw.sin6_scope_id,
    )
}

/// The path or the name ends where the address does.
fn unix(storage: &libc::sockaddr_storage, len: usize) -> Option<UnixAddr> {
    const START: usize = offset_of!(libc::sockaddr_un, sun_path);
    let len = len.checked_sub(START).filter(|len| START + len <= size_of::<libc::sockaddr_storage>())?;
    // SAFETY: the bytes lie within the storage, as has just been checked, which a `&` to it guarantees to be
    // initialised, and the slice borrows from that.
    let bytes = unsafe { slice::from_raw_parts(ptr::from_ref(storage).cast::<u8>().add(START), len) };
    UnixAddr::from_kernel(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    /// `address` as the kernel would write it, and its length.
    fn raw(address: impl Into<Addr>) -> (libc::sockaddr_storage, libc::socklen_t) {
        let address = address.into().to_sock_addr();
        // SAFETY: all-zero bytes are a valid `sockaddr_storage`.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        // SAFETY: `SockAddr` points to as many bytes as its length says, which is at most the size
        // of `sockaddr_storage`.
        unsafe {
            ptr::copy_nonoverlapping(
                address.as_ptr().cast::<u8>(),
                (&raw mut storage).cast(),
                address.len() as usize,
            );
        }
        (storage, address.len())
    }

    #[test]
    fn addresses_survive_the_way_through_the_kernels_form() {
        let scoped = SocketAddrV6::new("fe80::1234".parse().unwrap(), 7000, 0x0102_0304, 5);
        for address in [
            "192.0.2.7:7000".parse().unwrap(),
            "[2001:db8::7]:65535".parse().unwrap(),
            "[::ffff:192.0.2.7]:1".parse().unwrap(),
            SocketAddr::V6(scoped),
        ] {
            let (storage, len) = raw(address);
            assert_eq!(from_raw(&storage, len), Some(address.into()));
            let (mut written, expected) = (storage, len);
            assert_eq!(to_raw(&address, &mut written), expected);
            assert_eq!(from_raw(&written, expected), Some(address.into()));
        }
    }

    #[test]
    fn a_cut_address_is_none() {
        for address in ["192.0.2.7:7000", "[2001:db8::7]:7000"] {
            let (storage, len) = raw(address.parse::<SocketAddr>().unwrap());
            for short in 0..len {
                assert_eq!(from_raw(&storage, short), None, "{address} cut to {short}");
            }
        }
    }

    #[test]
    fn another_family_is_none() {
        let (mut storage, len) = raw("192.0.2.7:7000".parse::<SocketAddr>().unwrap());
        storage.ss_family = libc::AF_PACKET as libc::sa_family_t;
        assert_eq!(from_raw(&storage, len), None);
    }

    #[test]
    fn unix_addresses_survive_the_way_and_none_reads_beyond_the_storage() {
        for address in [
            UnixAddr::unnamed(),
            UnixAddr::path("/run/x.sock").unwrap(),
            UnixAddr::path("x".repeat(107)).unwrap(),
            UnixAddr::abstract_name("a\0b").unwrap(),
        ] {
            let (storage, len) = raw(address.clone());
            assert_eq!(from_raw(&storage, len), Some(address.into()));
        }
        let (storage, _) = raw(UnixAddr::path("x").unwrap());
        for len in [111, 128, 129, u32::MAX] {
            assert_eq!(from_raw(&storage, len), None, "length {len}");
        }
    }
}
