//! What is known about a datagram, and who gets it.

use super::{Told, alone, arrived, ask, client, client_at, config, launch, launch_with, pattern, server};
use ringline_core::{BindError, LaunchError, UdpClosed, UdpOptions};
use socket2::SockRef;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, SystemTime};

const ANY: &str = "0.0.0.0:0";
const LOCAL: &str = "127.0.0.1:0";
/// The number of the loopback interface.
const LOOPBACK: u32 = 1;

fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

#[test]
fn an_answer_comes_from_the_address_that_was_asked() {
    let _alone = alone();
    let (running, told) = launch(server(config(1)).bind_udp(ANY, &UdpOptions::default()).unwrap());
    let port = running.udp_addrs()[0].port();
    let client = client();
    for last in [1, 2, 77] {
        let to = SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port));
        let (answer, from) = ask(&client, to, b"who are you?");
        assert_eq!((answer.as_slice(), from), (b"who are you?".as_slice(), to));
        let arrived = arrived(&told);
        assert_eq!(arrived.local, Some(to.ip()));
        assert_eq!(arrived.from, client.local_addr().unwrap());
    }
    running.shutdown(Duration::from_secs(5)).unwrap();
}

#[test]
fn an_ipv6_socket_serves_both_families() {
    let _alone = alone();
    if !has_ipv6() {
        return;
    }
    let options = UdpOptions::default().tos(true);
    let (running, told) = launch(server(config(1)).bind_udp("[::]:0", &options).unwrap());
    let port = running.udp_addrs()[0].port();
    let v6 = client_at((Ipv6Addr::LOCALHOST, 0).into());
    let to = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    assert_eq!(ask(&v6, to, b"six"), (b"six".to_vec(), to));
    let six = arrived(&told);
    assert_eq!((six.local, six.tos), (Some(to.ip()), Some(0)));

    let v4 = client();
    SockRef::from(&v4).set_tos_v4(0b10).unwrap();
    let to = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 5), port));
    assert_eq!(ask(&v4, to, b"four"), (b"four".to_vec(), to));
    let four = arrived(&told);
    assert_eq!(four.local, Some(Ipv4Addr::new(127, 0, 0, 5).to_ipv6_mapped().into()));
    assert_eq!((four.ecn, four.from.is_ipv6()), (Some(0b10), true));
    running.shutdown(Duration::from_secs(5)).unwrap();
}

#[test]
fn class_congestion_mark_and_time_come_if_they_are_asked_for() {
    let _alone = alone();
    let options = UdpOptions::default().tos(true).timestamps(true).local_address(true);
    let (running, told) = launch(server(config(1)).bind_udp(LOCAL, &options).unwrap());
    let to = running.udp_addrs()[0];
    let client = client();
    SockRef::from(&client).set_tos_v4(0b1011_1001).unwrap();
    let before = SystemTime::now();
    ask(&client, to, b"marked");
    let after = SystemTime::now();
    let marked = arrived(&told);
    assert_eq!((marked.tos, marked.ecn), (Some(0b1011_1001), Some(0b01)));
    assert_eq!(marked.local, Some(to.ip()));
    // The kernel's clock may tick more coarsely than ours.
    let slack = Duration::from_millis(10);
    let at = marked.at.unwrap();
    assert!(before - slack <= at && at <= after + slack, "{before:?} {at:?} {after:?}");
    running.shutdown(Duration::from_secs(5)).unwrap();

    let (running, told) = launch(server(config(1)).bind_udp(LOCAL, &UdpOptions::default()).unwrap());
    ask(&client, running.udp_addrs()[0], b"plain");
    let plain = arrived(&told);
    assert_eq!((plain.tos, plain.at, plain.local), (None, None, None));
    running.shutdown(Duration::from_secs(5)).unwrap();
}

#[test]
fn a_datagram_that_is_cut_says_so() {
    let _alone = alone();
    let config = config(1).datagram_buffers(8).datagram_bytes(500);
    let (running, told) = launch(server(config).bind_udp(LOCAL, &UdpOptions::default()).unwrap());
    let to = running.udp_addrs()[0];
    let client = client();
    let whole = pattern(2000);
    // A buffer is a little larger than it has to be.
    let (answer, _) = ask(&client, to, &whole);
    assert!((500..700).contains(&answer.len()), "{}", answer.len());
    assert!(whole.starts_with(&answer));
    let cut = arrived(&told);
    assert!(cut.is_truncated);
    assert_eq!((cut.full_len, cut.data.len()), (2000, answer.len()));
    let (answer, _) = ask(&client, to, &whole[..500]);
    assert_eq!(answer, whole[..500]);
    assert!(!arrived(&told).is_truncated);
    assert_eq!(running.metrics().snapshot().udp_truncated, 1);
    running.shutdown(Duration::from_secs(5)).unwrap();
}

#[test]
fn empty_datagrams_and_the_longest_come_back() {
    let _alone = alone();
    let (running, _told) = launch(server(config(1)).bind_udp(LOCAL, &UdpOptions::default()).unwrap());
    let to = running.udp_addrs()[0];
    let client = client();
    for len in [0, 65_507, 0, 0, 1] {
        let bytes = pattern(len);
        assert!(ask(&client, to, &bytes).0 == bytes, "{len} bytes");
    }
    running.shutdown(Duration::from_secs(5)).unwrap();
}

#[test]
fn workers_share_a_port_and_a_peer_stays_with_its_worker() {
    let _alone = alone();
    let (running, told) = launch(server(config(3)).bind_udp(LOCAL, &UdpOptions::default()).unwrap());
    assert_eq!(running.udp_addrs().len(), 1);
    let to = running.udp_addrs()[0];
    let mut workers = BTreeSet::new();
    for _ in 0..64 {
        let client = client();
        let mut own = BTreeSet::new();
        for _ in 0..3 {
            assert_eq!(ask(&client, to, b"mine").1, to);
            own.insert(arrived(&told).worker);
        }
        assert_eq!(own.len(), 1, "a peer stays with its worker");
        workers.extend(own);
    }
    // The kernel deals out by a hash; that all of 64 miss a worker does not happen.
    assert_eq!(workers.len(), 3);
    running.shutdown(Duration::from_secs(5)).unwrap();
}

#[test]
fn a_socket_on_one_worker_is_alone() {
    let _alone = alone();
    let options = UdpOptions::default().on_worker(1);
    let (running, told) = launch(server(config(2)).bind_udp(LOCAL, &options).unwrap());
    let to = running.udp_addrs()[0];
    for _ in 0..20 {
        ask(&client(), to, b"x");
        assert_eq!(arrived(&told).worker, 1);
    }
    let taken = server(config(1)).bind_udp(to, &options).unwrap_err();
    assert!(matches!(taken, BindError::AddressInUse { addr } if addr == to), "{taken}");
    assert!(taken.to_string().contains("ss -lunp"));
    running.shutdown(Duration::from_secs(5)).unwrap();

    let nowhere = server(config(1)).bind_udp(LOCAL, &options).unwrap();
    let error = nowhere.launch(|_| Nobody).unwrap_err();
    assert!(matches!(error, LaunchError::NoSuchWorker { worker: 1, workers: 1, .. }), "{error}");
}

struct Nobody;

impl ringline_core::EventHandler for Nobody {
    type Conn = ();
    type Message = ();

    fn on_accept(
        &mut self,
        _: &mut ringline_core::Ctx<'_, Self>,
        _: ringline_core::ConnId,
        _: &ringline_core::Peer,
    ) -> ringline_core::Admit<()> {
        ringline_core::Admit::Refuse
    }

    fn on_data(
        &mut self,
        _: &mut ringline_core::Ctx<'_, Self>,
        _: ringline_core::ConnId,
        (): &mut (),
        data: &[u8],
    ) -> ringline_core::Consumed {
        ringline_core::Consumed::all(data)
    }
}

#[test]
fn sockets_come_late_and_go() {
    let _alone = alone();
    let (running, told) = launch(server(config(1)).bind_udp(LOCAL, &UdpOptions::default()).unwrap());
    let to = running.udp_addrs()[0];
    let client = client();
    client.send_to(b"bind", to).unwrap();
    let late = loop {
        if let Told::Bound(addr) = told.recv_timeout(super::SOON).unwrap() {
            break addr;
        }
    };
    assert_eq!(ask(&client, late, b"late"), (b"late".to_vec(), late));
    client.send_to(b"close", late).unwrap();
    let reason = loop {
        if let Told::Closed(reason) = told.recv_timeout(super::SOON).unwrap() {
            break reason;
        }
    };
    assert_eq!(reason, UdpClosed::Closed);
    // The port is free at once.
    drop(UdpSocket::bind(late).unwrap());
    assert_eq!(ask(&client, to, b"still").1, to);
    running.shutdown(Duration::from_secs(5)).unwrap();
    assert!(told.iter().any(|told| matches!(told, Told::Closed(UdpClosed::Shutdown))));
}

#[test]
fn a_connected_socket_is_told_that_nobody_is_there_and_goes_on() {
    let _alone = alone();
    let (running, told) = launch_with(server(config(1)), |cx, tell| {
        let nobody = UdpSocket::bind(LOCAL).unwrap().local_addr().unwrap();
        let socket = cx.connect_udp(nobody, &UdpOptions::default()).unwrap();
        for _ in 0..3 {
            cx.send_datagram(socket, b"anybody?").unwrap();
        }
        tell.send(Told::Bound(cx.udp_local_addr(socket).unwrap())).unwrap();
    });
    let mut refusals = 0;
    while refusals == 0 {
        match told.recv_timeout(super::SOON).unwrap() {
            Told::Error(error) => refusals += u32::from(error.is_refused()),
            Told::Closed(reason) => panic!("it has closed: {reason:?}"),
            _ => {}
        }
    }
    let turns = running.metrics().snapshot().turns;
    std::thread::sleep(Duration::from_millis(300));
    let turns = running.metrics().snapshot().turns - turns;
    assert!(turns < 20, "{turns} turns with nothing to do");
    running.shutdown(Duration::from_secs(5)).unwrap();
}

#[test]
fn members_of_a_group_hear_it() {
    let _alone = alone();
    let group = Ipv4Addr::new(239, 255, 70, 7);
    let (running, told) = launch_with(server(config(1)), |cx, tell| {
        let group = IpAddr::V4(Ipv4Addr::new(239, 255, 70, 7));
        let socket = cx.bind_udp(ANY.parse().unwrap(), &UdpOptions::default()).unwrap();
        cx.join_multicast(socket, group, LOOPBACK).unwrap();
        assert!(cx.join_multicast(socket, group, LOOPBACK).is_err(), "it is a member already");
        assert!(cx.join_multicast(socket, Ipv4Addr::LOCALHOST.into(), LOOPBACK).is_err());
        tell.send(Told::Bound(cx.udp_local_addr(socket).unwrap())).unwrap();
    });
    let Told::Bound(addr) = told.recv_timeout(super::SOON).unwrap() else { panic!("it binds first") };
    let client = client();
    SockRef::from(&client).set_multicast_if_v4(&Ipv4Addr::LOCALHOST).unwrap();
    let (answer, from) = ask(&client, (group, addr.port()).into(), b"everybody");
    // The answer comes from an address of the host, because a group has none of its own.
    assert_eq!((answer.as_slice(), from.ip().is_multicast()), (b"everybody".as_slice(), false));
    assert_eq!(arrived(&told).local, Some(group.into()));
    running.shutdown(Duration::from_secs(5)).unwrap();
}

#[test]
fn members_of_an_ipv6_group_hear_it() {
    let _alone = alone();
    if !has_ipv6() {
        return;
    }
    let group: Ipv6Addr = "ff01::7007".parse().unwrap();
    let (running, told) = launch_with(server(config(1)), |cx, tell| {
        let group: IpAddr = "ff01::7007".parse().unwrap();
        let socket = cx.bind_udp("[::]:0".parse().unwrap(), &UdpOptions::default()).unwrap();
        cx.join_multicast(socket, group, LOOPBACK).unwrap();
        tell.send(Told::Bound(cx.udp_local_addr(socket).unwrap())).unwrap();
    });
    let Told::Bound(addr) = told.recv_timeout(super::SOON).unwrap() else { panic!("it binds first") };
    let client = client_at((Ipv6Addr::LOCALHOST, 0).into());
    SockRef::from(&client).set_multicast_if_v6(LOOPBACK).unwrap();
    let members = std::fs::read_to_string("/proc/net/igmp6").unwrap();
    assert!(members.contains("ff010000000000000000000000007007"), "{members}");
    let to = SocketAddr::from(std::net::SocketAddrV6::new(group, addr.port(), 0, LOOPBACK));
    // Many hosts have no route for groups on the loopback interface.
    if client.send_to(b"everybody", to).is_ok() {
        assert_eq!(client.recv(&mut [0; 16]).unwrap(), 9);
        assert_eq!(arrived(&told).local, Some(group.into()));
    }
    running.shutdown(Duration::from_secs(5)).unwrap();
}

#[test]
fn options_that_the_kernel_refuses_are_named() {
    let _alone = alone();
    let options = UdpOptions::default().ttl(0);
    let error = server(config(1)).bind_udp(LOCAL, &options).unwrap_err();
    assert!(matches!(error, BindError::Option { option: "ttl", .. }), "{error}");
    let all = UdpOptions::default()
        .broadcast(true)
        .dont_fragment(true)
        .ttl(9)
        .multicast_ttl(3)
        .multicast_loop(false)
        .receive_buffer_bytes(1 << 16)
        .send_buffer_bytes(1 << 16)
        .reuse_address(true)
        .v6_only(true);
    let (running, _told) = launch(server(config(1)).bind_udp(LOCAL, &all).unwrap());
    assert_eq!(ask(&client(), running.udp_addrs()[0], b"x").0, b"x");
    running.shutdown(Duration::from_secs(5)).unwrap();
}
