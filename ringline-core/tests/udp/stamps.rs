//! The kernel's time of what comes on connections.

use super::alone;
use ringline_core::net::ListenOptions;
use ringline_core::{Admit, Config, ConnId, Consumed, Ctx, EventHandler, Peer, Server};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

/// Answers with the time in nanoseconds, or with zero.
struct Clock;

impl EventHandler for Clock {
    type Conn = ();
    type Message = ();

    fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<()> {
        Admit::Accept(())
    }

    fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, (): &mut (), data: &[u8]) -> Consumed {
        let since =
            cx.received_at(id).map(|at| at.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970"));
        let nanos = since.map_or(0, |since| since.as_nanos() as u64);
        cx.send(id, &nanos.to_le_bytes()).expect("a short answer");
        Consumed::all(data)
    }
}

#[test]
fn bytes_of_a_connection_have_a_time_if_the_listener_wants_it() {
    let _alone = alone();
    let config = Config::builder().workers(1).pin(false).build().unwrap();
    let running = Server::new(config)
        .listen_with("127.0.0.1:0", &ListenOptions::default().timestamps(true))
        .unwrap()
        .listen("127.0.0.1:0")
        .unwrap()
        .launch(|_| Clock)
        .unwrap();
    let ask = |listener: usize| {
        let mut stream = TcpStream::connect(running.local_addrs()[listener]).unwrap();
        stream.set_read_timeout(Some(super::SOON)).unwrap();
        let mut last = 0;
        for _ in 0..10 {
            stream.write_all(b"when?").unwrap();
            let mut answer = [0; 8];
            stream.read_exact(&mut answer).unwrap();
            assert!(u64::from_le_bytes(answer) >= last);
            last = u64::from_le_bytes(answer);
        }
        Duration::from_nanos(last)
    };
    // The kernel begins to note times when it finds the time to.
    let until = Instant::now() + super::SOON;
    while ask(0).is_zero() {
        assert!(Instant::now() < until, "no byte has a time");
    }
    let before = SystemTime::now() - Duration::from_millis(10);
    let at = SystemTime::UNIX_EPOCH + ask(0);
    let after = SystemTime::now() + Duration::from_millis(10);
    assert!(before <= at && at <= after, "{before:?} {at:?} {after:?}");
    assert_eq!(ask(1), Duration::ZERO);
    running.shutdown(Duration::from_secs(5)).unwrap();
}
