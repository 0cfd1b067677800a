//! Messages of all sizes that come back, over a link that does everything to them.

use crate::book::Outcome;
use crate::dice::Dice;
use crate::faults::{Deed, Faults};
use crate::foreign::{self, Foreign};
use crate::link::Link;
use crate::order::Order;
use crate::station::Site;
use crate::{config, rounds, seed};
use std::thread;

/// Every one of these has to have been done to packets.
pub(crate) const ALL_DEEDS: [Deed; 5] =
    [Deed::Carried, Deed::Lost, Deed::Doubled, Deed::Damaged, Deed::Overtaken];

/// Orders of 1 byte to 1 MiB, small ones mostly.
pub(crate) fn echoes(count: u64) -> Vec<Order> {
    let mut dice = Dice::new(seed());
    let mut size = || {
        let most = 1 << dice.below(19);
        1 + dice.below(most) as u64
    };
    let mut sizes: Vec<u64> = (0..count).map(|_| size()).collect();
    sizes[0] = 1;
    sizes[1] = 1 << 20;
    (1..).zip(sizes).map(|(salt, bytes)| Order::echo(salt, bytes)).collect()
}

pub(crate) fn assert_complete(outcomes: &[Outcome]) {
    for outcome in outcomes {
        assert!(outcome.is_complete && outcome.reason.is_clean(), "{outcome:?}");
    }
}

#[test]
fn every_byte_comes_back_whatever_the_link_does() {
    let link = Link::new(Faults::ALL);
    let orders = echoes(120 * rounds());
    let count = orders.len();
    let server = Site::serve(&link.right, config(), true);
    let client = Site::dial(&link.left, server.addr(), orders);
    assert_complete(&client.finish(count));
    assert_complete(&server.finish(count));
    link.tally.assert_done(&ALL_DEEDS);
    link.assert_damage_noticed();
}

#[test]
fn clients_of_others_get_every_byte_back() {
    let link = Link::new(Faults::ALL);
    let orders = echoes(40 * rounds());
    let server = Site::serve(&link.right, config(), true);
    thread::scope(|scope| {
        for order in &orders {
            let (link, server) = (&link, &server);
            scope.spawn(move || {
                let stream = foreign::connect(&link.left, server.addr());
                let back = foreign::give(&stream, order).expect("the server answers");
                assert_eq!(back, order.down_bytes);
            });
        }
    });
    assert_complete(&server.finish(orders.len()));
    link.tally.assert_done(&ALL_DEEDS);
}

#[test]
fn clients_of_ours_get_every_byte_back_from_servers_of_others() {
    let link = Link::new(Faults::ALL);
    let orders = echoes(40 * rounds());
    let count = orders.len();
    let server = Foreign::serve(&link.right);
    let client = Site::dial(&link.left, server.addr(), orders);
    assert_complete(&client.finish(count));
    for served in server.finish() {
        served.expect("the connection ends in order");
    }
    link.tally.assert_done(&ALL_DEEDS);
}
