//! Addresses that cannot be listened on.

use crate::confined::{Resource, alone, give_up_privileges, limit};
use crate::{assert_says, assert_serves};
use ringline_core::{Config, ListenError, Server};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// A user who owns nothing.
const NOBODY: u32 = 65_534;

fn refusal(addr: &str) -> ListenError {
    match Server::new(Config::default()).listen(addr) {
        Ok(_) => panic!("{addr} can be listened on"),
        Err(error) => error,
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = taken.local_addr().expect("it is bound");
    let error = refusal(&addr.to_string());
    assert!(matches!(error, ListenError::AddressInUse { addr: tried } if tried == addr), "{error:?}");
    assert_says(&error, &[&addr.to_string(), "in use", "ss -ltnp", "another port"]);
}

#[test]
fn what_is_no_address_is_named() {
    for nonsense in ["", "nowhere", "127.0.0.1", "127.0.0.1:65536", "[::1:80", "127.0.0.1:http"] {
        let error = refusal(nonsense);
        assert!(matches!(error, ListenError::BadAddress { .. }), "{nonsense}: {error:?}");
        assert_says(&error, &[nonsense, "with a port", "0.0.0.0:7000", "[::]:7000"]);
    }
}

#[test]
fn an_address_of_another_host_is_named() {
    // From a block that is kept for documentation.
    let error = refusal("192.0.2.1:7000");
    let expected = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 7000));
    assert!(matches!(error, ListenError::AddressNotAvailable { addr } if addr == expected), "{error:?}");
    assert_says(&error, &["192.0.2.1:7000", "does not have that address", "ip addr", "0.0.0.0"]);
}

#[test]
fn a_port_for_the_privileged_is_named() {
    alone("listening::a_port_for_the_privileged_is_named", || {
        give_up_privileges(NOBODY);
        let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        let first: u16 = first.expect("Linux has /proc").trim().parse().expect("a port");
        let listened = Server::new(Config::default()).listen("127.0.0.1:1");
        if first <= 1 {
            assert!(listened.is_ok(), "every port is for everybody here: {listened:?}");
            return;
        }
        let error = listened.expect_err("the port is privileged");
        assert!(matches!(error, ListenError::PermissionDenied { addr } if addr.port() == 1), "{error:?}");
        assert_says(&error, &["permission denied", "ip_unprivileged_port_start", "CAP_NET_BIND_SERVICE"]);
    });
}

#[test]
fn a_listener_without_a_descriptor_is_named() {
    alone("listening::a_listener_without_a_descriptor_is_named", || {
        limit(Resource::OpenFiles, 100, 100);
        let held: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/proc/self/stat").ok()).collect();
        let error = refusal("127.0.0.1:0");
        assert!(matches!(error, ListenError::TooManyOpenFiles { soft_limit: 100, .. }), "{error:?}");
        assert_says(&error, &["all 100 descriptors", "ulimit -n", "LimitNOFILE"]);
        drop(held);
        assert_serves(Config::builder().workers(1).connections_per_worker(16));
    });
}
