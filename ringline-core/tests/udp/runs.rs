//! Runs of datagrams: cut apart by the kernel on the way out, and put together on the way in.

use super::{Told, alone, arrived, client, config, launch, launch_sender, pattern, server};
use ringline_core::UdpOptions;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

const LOCAL: &str = "127.0.0.1:0";
const SEGMENT: u16 = 1000;
const RUN: usize = 40_500;

/// Where the run goes: a callback cannot be told otherwise.
static TARGET: Mutex<Option<SocketAddr>> = Mutex::new(None);

#[test]
fn a_run_is_cut_apart_for_whoever_receives_it() {
    let _alone = alone();
    let client = client();
    *TARGET.lock().unwrap() = Some(client.local_addr().unwrap());
    let (running, _told) = launch_sender(server(config(1)), |cx, _| {
        let socket = cx.bind_udp(LOCAL.parse().unwrap(), &UdpOptions::default()).unwrap();
        let to = *TARGET.lock().unwrap();
        cx.send_segments(socket, to, SEGMENT, &pattern(RUN)).unwrap();
    });
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    while received.len() < RUN {
        let len = client.recv(&mut buffer).unwrap();
        assert_eq!(len, usize::from(SEGMENT).min(RUN - received.len()));
        received.extend_from_slice(&buffer[..len]);
    }
    assert!(received == pattern(RUN));
    let count = RUN.div_ceil(SEGMENT.into()) as u64;
    super::wait("all are counted", || running.metrics().snapshot().udp_sent == count);
    running.shutdown(Duration::from_secs(5)).unwrap();
}

#[test]
fn a_run_makes_the_round_trip_byte_for_byte() {
    let _alone = alone();
    let gro = UdpOptions::default().gro(true);
    let (echo, echoed) = launch(server(config(1)).bind_udp(LOCAL, &gro).unwrap());
    *TARGET.lock().unwrap() = Some(echo.udp_addrs()[0]);
    let (sender, back) = launch_sender(server(config(1)), |cx, tell| {
        let to = TARGET.lock().unwrap().unwrap();
        let socket = cx.connect_udp(to, &UdpOptions::default().gro(true)).unwrap();
        cx.send_segments(socket, None, SEGMENT, &pattern(RUN)).unwrap();
        tell.send(Told::Bound(to)).unwrap();
    });
    let mut there = Vec::new();
    let mut largest = 0;
    while there.len() < RUN {
        let run = arrived(&echoed);
        largest = largest.max(run.data.len());
        if let Some(size) = run.segment_bytes {
            assert_eq!(size, SEGMENT);
            let (last, whole) = run.segments.split_last().unwrap();
            assert!(whole.iter().all(|len| *len == usize::from(SEGMENT)) && *last <= usize::from(SEGMENT));
        }
        there.extend(run.data);
    }
    assert!(there == pattern(RUN), "on the way there");
    assert!(largest > usize::from(SEGMENT), "the kernel has put some together");
    let mut returned = Vec::new();
    while returned.len() < RUN {
        returned.extend(arrived(&back).data);
    }
    assert!(returned == pattern(RUN), "on the way back");
    let count = RUN.div_ceil(SEGMENT.into()) as u64;
    super::wait("all are counted", || echo.metrics().snapshot().udp_sent == count);
    assert_eq!(echo.metrics().snapshot().udp_received, count);
    sender.shutdown(Duration::from_secs(5)).unwrap();
    echo.shutdown(Duration::from_secs(5)).unwrap();
}
