//! A proxy whose clients and whose server are both behind the link, so that every byte crosses it twice
//! each way.

use crate::echo::{ALL_DEEDS, assert_complete, echoes};
use crate::faults::Faults;
use crate::foreign::{self, Foreign};
use crate::link::Link;
use crate::order::{Manner, Order};
use crate::relay::Relay;
use crate::station::Site;
use crate::{config, rounds};
use ringline_core::CloseReason;
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::thread;
use std::time::Duration;

#[test]
fn everything_passes_a_proxy_behind_a_bad_link() {
    let link = Link::new(Faults::ALL);
    let server = Site::serve(&link.right, config(), false);
    let proxy = Relay::launch(&link.left, server.addr());
    let mut orders = echoes(30 * rounds());
    orders.extend((100..104).map(|salt| Order::stream(salt, 500_000, 800_000)));
    let count = orders.len();
    let client = Site::dial(&link.right, proxy.addr(), orders);
    assert_complete(&client.finish(count));
    assert_complete(&proxy.finish(2 * count));
    assert_complete(&server.finish(count));
    link.tally.assert_done(&ALL_DEEDS);
}

#[test]
fn everything_passes_between_others() {
    let link = Link::new(Faults::ALL);
    let server = Foreign::serve(&link.right);
    let proxy = Relay::launch(&link.left, server.addr());
    let orders: Vec<_> = (1..=8).map(|salt| Order::stream(salt, 200_000, 300_000)).collect();
    thread::scope(|scope| {
        for order in &orders {
            let (link, proxy) = (&link, &proxy);
            scope.spawn(move || {
                let stream = foreign::connect(&link.right, proxy.addr());
                assert_eq!(foreign::give(&stream, order).expect("an answer"), order.down_bytes);
            });
        }
    });
    for served in server.finish() {
        assert_eq!(served.expect("an orderly end"), 200_000);
    }
    assert_complete(&proxy.finish(2 * orders.len()));
}

#[test]
fn a_side_that_dies_takes_the_other_with_it() {
    let link = Link::new(Faults::ALL);
    let server = Foreign::serve(&link.right);
    let proxy = Relay::launch(&link.left, server.addr());
    let mut client = foreign::connect(&link.right, proxy.addr());
    let order = Order { salt: 1, manner: Manner::Stream, up_bytes: 1 << 40, down_bytes: 1 << 40 };
    client.write_all(&order.head()).expect("the proxy reads");
    client.read_exact(&mut vec![0; 100_000]).expect("the server sends");
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("a socket option");
    drop(client);
    let outcomes = proxy.finish(2);
    assert!(outcomes.iter().any(|outcome| outcome.reason == CloseReason::PeerReset), "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| outcome.reason == CloseReason::Aborted), "{outcomes:?}");
    for served in server.finish() {
        let error = served.expect_err("no orderly end").kind();
        assert!(matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error:?}");
    }
}
