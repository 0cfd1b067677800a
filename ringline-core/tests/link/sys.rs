//! The system calls of the test's networks: namespaces, tun devices, their settings, and waiting for
//! packets.
//!
//! Nothing here touches the network that the test was started in: interfaces are made and set by
//! threads, and through sockets, that belong to a namespace of the test's own.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Error, Result};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

const TUN: &str = "/dev/net/tun";

/// Moves the calling thread, and none other, to a new network that nothing is connected to.
pub(crate) fn leave_network() -> Result<()> {
    // SAFETY: the call takes a number and concerns the calling thread only.
    check(unsafe { libc::unshare(libc::CLONE_NEWNET) })
}

/// Moves the calling thread, and none other, to a network.
pub(crate) fn join_network(network: &File) -> Result<()> {
    // SAFETY: the descriptor is open as long as the file is borrowed; the call keeps nothing of it.
    check(unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) })
}

/// A tun device in the network of the calling thread: what the network sends to the interface is read
/// from the file, a packet at a time, and what is written arrives there. Neither blocks.
pub(crate) fn open_tun(interface: &str) -> Result<File> {
    let tun = File::options().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN)?;
    let mut request = named(interface);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    set_interface(&tun, libc::TUNSETIFF as libc::c_ulong, &mut request)?;
    Ok(tun)
}

/// Gives an interface an address of a network of 24 bits. `control` is any socket of its network.
pub(crate) fn set_address(control: &UdpSocket, interface: &str, address: Ipv4Addr) -> Result<()> {
    let mut request = named(interface);
    request.ifr_ifru.ifru_addr = sock_addr(address);
    set_interface(control, libc::SIOCSIFADDR as libc::c_ulong, &mut request)?;
    request.ifr_ifru.ifru_netmask = sock_addr(Ipv4Addr::new(255, 255, 255, 0));
    set_interface(control, libc::SIOCSIFNETMASK as libc::c_ulong, &mut request)
}

pub(crate) fn set_mtu(control: &UdpSocket, interface: &str, mtu_bytes: u16) -> Result<()> {
    let mut request = named(interface);
    request.ifr_ifru.ifru_mtu = mtu_bytes.into();
    set_interface(control, libc::SIOCSIFMTU as libc::c_ulong, &mut request)
}

/// Switches an interface on or off, as an administrator would.
pub(crate) fn set_up(control: &UdpSocket, interface: &str, is_up: bool) -> Result<()> {
    let mut request = named(interface);
    request.ifr_ifru.ifru_flags = if is_up { libc::IFF_UP as libc::c_short } else { 0 };
    set_interface(control, libc::SIOCSIFFLAGS as libc::c_ulong, &mut request)
}

/// Adds a route that says that an address cannot be reached.
pub(crate) fn reject(control: &UdpSocket, address: Ipv4Addr) -> Result<()> {
    let route = Route {
        target: sock_addr(address),
        mask: sock_addr(Ipv4Addr::BROADCAST),
        flags: libc::RTF_UP | libc::RTF_HOST | libc::RTF_REJECT,
        ..Route::default()
    };
    // SAFETY: the request reads the structure, which lives until the call is back; its null pointer
    // says that the route has no device.
    check(unsafe { libc::ioctl(control.as_raw_fd(), libc::SIOCADDRT as _, &raw const route) })
}

/// Waits until one of the files can be read, at most so long, and says which can.
pub(crate) fn wait_readable(files: [&File; 2], limit: Duration) -> Result<[bool; 2]> {
    let mut polled =
        files.map(|file| libc::pollfd { fd: file.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let limit =
        libc::timespec { tv_sec: limit.as_secs() as libc::time_t, tv_nsec: limit.subsec_nanos().into() };
    // SAFETY: the kernel reads and writes as many entries as the array has, and reads the time; both
    // live until the call is back. There is no mask of signals.
    let ready = unsafe {
        libc::ppoll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, &raw const limit, std::ptr::null())
    };
    check(ready.min(0))?;
    Ok(polled.map(|entry| entry.revents != 0))
}

/// The kernel's `struct rtentry`.
#[repr(C)]
struct Route {
    unused_1: libc::c_ulong,
    target: libc::sockaddr,
    gateway: libc::sockaddr,
    mask: libc::sockaddr,
    flags: libc::c_ushort,
    unused_2: libc::c_short,
    unused_3: libc::c_ulong,
    unused_4: usize,
    metric: libc::c_short,
    device: usize,
    mtu: libc::c_ulong,
    window: libc::c_ulong,
    round_trip: libc::c_ushort,
}

impl Default for Route {
    fn default() -> Self {
        let nowhere = sock_addr(Ipv4Addr::UNSPECIFIED);
        Self {
            unused_1: 0,
            target: nowhere,
            gateway: nowhere,
            mask: nowhere,
            flags: 0,
            unused_2: 0,
            unused_3: 0,
            unused_4: 0,
            metric: 0,
            device: 0,
            mtu: 0,
            window: 0,
            round_trip: 0,
        }
    }
}

fn set_interface(through: &impl AsRawFd, request: libc::c_ulong, setting: &mut libc::ifreq) -> Result<()> {
    // SAFETY: all requests of this file take an `ifreq`, which lives until the call is back; the
    // descriptor is open as long as its owner is borrowed.
    check(unsafe { libc::ioctl(through.as_raw_fd(), request as _, std::ptr::from_mut(setting)) })
}

fn named(interface: &str) -> libc::ifreq {
    // SAFETY: the structure is made of numbers and pointers, for which all zeroes are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(interface.len() < request.ifr_name.len(), "a name with its end fits");
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn sock_addr(address: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = address.octets().map(|octet| octet as libc::c_char);
    let mut data = [0; 14];
    // Behind a port of two bytes.
    data[2..6].copy_from_slice(&[a, b, c, d]);
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}

fn check(status: libc::c_int) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}
