//! Links for small and for large packets.

use crate::config;
use crate::echo::{ALL_DEEDS, assert_complete, echoes};
use crate::faults::Faults;
use crate::link::Link;
use crate::order::Order;
use crate::station::Site;

/// The smallest that every host of IPv4 takes, and a large one.
const MTUS_BYTES: [u16; 2] = [576, 9000];
const STREAM_BYTES: u64 = 1 << 20;

#[test]
fn packets_of_576_and_of_9000_bytes_carry_everything() {
    for mtu_bytes in MTUS_BYTES {
        let link = Link::with_mtu(Faults::ALL, mtu_bytes);
        let mut orders = echoes(20);
        orders.extend((100..104).map(|salt| Order::stream(salt, STREAM_BYTES, STREAM_BYTES)));
        let count = orders.len();
        let server = Site::serve(&link.right, config(), false);
        let client = Site::dial(&link.left, server.addr(), orders);
        assert_complete(&client.finish(count));
        assert_complete(&server.finish(count));
        link.tally.assert_done(&ALL_DEEDS);
        assert_eq!(link.tally.longest_bytes(), mtu_bytes.into(), "packets are as long as they may be");
    }
}
