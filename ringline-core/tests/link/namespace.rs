//! A network of the test's own, with one interface, whose cable ends in a file.
//!
//! A thread is moved into it to open sockets, and what that thread starts, workers for example, is in
//! it, too. The network goes when the value and the last of those sockets have gone.

use crate::sys;
use std::fs::{self, File};
use std::net::{Ipv4Addr, UdpSocket};
use std::panic::resume_unwind;
use std::thread;

const INTERFACE: &str = "link0";
const LOOPBACK: &str = "lo";

/// A network.
#[derive(Debug)]
pub(crate) struct Namespace {
    network: File,
    /// A socket through which interfaces are set.
    control: UdpSocket,
    address: Ipv4Addr,
}

impl Namespace {
    /// A network whose interface has this address, and the other end of the interface's cable.
    pub(crate) fn new(address: Ipv4Addr, mtu_bytes: u16) -> (Self, File) {
        let made = thread::spawn(move || {
            sys::leave_network().expect("this test makes network namespaces, for which it has to be root");
            let network = File::open("/proc/thread-self/ns/net").expect("the thread has a network");
            // The kernel would greet IPv6 routers.
            let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
            let cable = sys::open_tun(INTERFACE)
                .expect("this test makes tun devices, for which it needs /dev/net/tun and has to be root");
            let control = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            sys::set_address(&control, INTERFACE, address).expect("an interface takes an address");
            sys::set_mtu(&control, INTERFACE, mtu_bytes).expect("a tun device takes this size");
            for interface in [LOOPBACK, INTERFACE] {
                sys::set_up(&control, interface, true).expect("an interface can be switched on");
            }
            (Self { network, control, address }, cable)
        });
        made.join().unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Runs `body` in this network and returns what it returns.
    pub(crate) fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let entered = scope.spawn(|| {
                sys::join_network(&self.network).expect("the network is there");
                body()
            });
            entered.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// The address of the interface.
    pub(crate) fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Switches the interface on or off. While it is off, there is no route to the other side.
    pub(crate) fn set_up(&self, is_up: bool) {
        sys::set_up(&self.control, INTERFACE, is_up).expect("an interface can be switched");
    }

    /// From now on, there is no way to an address, and the network says so.
    pub(crate) fn reject(&self, address: Ipv4Addr) {
        sys::reject(&self.control, address).expect("a network takes routes");
    }

    /// Sets a parameter of this network alone, such as `ipv4/tcp_retries2`.
    pub(crate) fn set(&self, parameter: &str, value: u32) {
        let path = format!("/proc/sys/net/{parameter}");
        self.enter(|| fs::write(&path, value.to_string()))
            .unwrap_or_else(|error| panic!("{path} cannot be set: {error}"));
    }

    /// What this network has counted, such as `Tcp` and `InCsumErrors`.
    pub(crate) fn counted(&self, protocol: &str, name: &str) -> u64 {
        let table = self.enter(|| fs::read_to_string("/proc/thread-self/net/snmp"));
        let table = table.expect("the kernel counts packets");
        // Two lines for each protocol: names, then numbers.
        let mut lines = table.lines().filter_map(|line| line.strip_prefix(protocol)?.strip_prefix(": "));
        let (names, numbers) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let place = names.split(' ').position(|listed| listed == name);
        let number = place.and_then(|place| numbers.split(' ').nth(place)?.parse().ok());
        number.unwrap_or_else(|| panic!("no {name} of {protocol} in:\n{table}"))
    }
}
