//! Large streams, both ways at once, and directions that end before the other one.

use crate::echo::{ALL_DEEDS, assert_complete};
use crate::faults::Faults;
use crate::foreign::{self, Foreign};
use crate::link::Link;
use crate::order::Order;
use crate::station::Site;
use crate::{config, rounds};
use std::thread;

const LARGE_BYTES: u64 = 2 << 20;

/// Directions of every length beside each other.
fn uneven() -> Vec<Order> {
    let bytes = [(0, 300_000), (300_000, 0), (0, 0), (1, 500_000), (500_000, 1), (100_000, 100_000)];
    (1..).zip(bytes).map(|(salt, (up, down))| Order::stream(salt, up, down)).collect()
}

#[test]
fn large_streams_go_both_ways_at_once() {
    let link = Link::new(Faults::ALL);
    let orders: Vec<_> =
        (1..=4).map(|salt| Order::stream(salt, LARGE_BYTES * rounds(), LARGE_BYTES * rounds())).collect();
    let count = orders.len();
    let server = Site::serve(&link.right, config(), false);
    let client = Site::dial(&link.left, server.addr(), orders);
    assert_complete(&client.finish(count));
    assert_complete(&server.finish(count));
    link.tally.assert_done(&ALL_DEEDS);
    link.assert_damage_noticed();
}

#[test]
fn a_direction_goes_on_after_the_other_has_ended() {
    let link = Link::new(Faults::ALL);
    let server = Site::serve(&link.right, config(), false);
    let client = Site::dial(&link.left, server.addr(), uneven());
    let count = uneven().len();
    assert_complete(&client.finish(count));
    assert_complete(&server.finish(count));
}

#[test]
fn a_direction_goes_on_with_others_at_the_other_end() {
    let link = Link::new(Faults::ALL);
    let count = uneven().len();
    let server = Site::serve(&link.right, config(), false);
    let foreign = Foreign::serve(&link.right);
    let client = Site::dial(&link.left, foreign.addr(), uneven());
    thread::scope(|scope| {
        for order in uneven() {
            let (link, server) = (&link, &server);
            scope.spawn(move || {
                let stream = foreign::connect(&link.left, server.addr());
                let got = foreign::give(&stream, &order).expect("the server keeps its order");
                assert_eq!(got, order.down_bytes);
            });
        }
    });
    assert_complete(&client.finish(count));
    assert_complete(&server.finish(count));
    let mut got: Vec<_> = foreign.finish().into_iter().map(|count| count.expect("an orderly end")).collect();
    let mut asked: Vec<_> = uneven().iter().map(|order| order.up_bytes).collect();
    got.sort_unstable();
    asked.sort_unstable();
    assert_eq!(got, asked);
}
