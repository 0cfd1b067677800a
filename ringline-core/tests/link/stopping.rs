//! Servers that close and shut down while much is queued for a link that is slow and loses packets, or
//! that is cut.

use crate::echo::assert_complete;
use crate::faults::{Deed, Faults};
use crate::foreign;
use crate::link::Link;
use crate::order::{Manner, Order};
use crate::station::Site;
use crate::{SOON, config};
use ringline_core::CloseReason;
use std::io::{Read, Write};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

const QUEUED_BYTES: u64 = 1 << 20;
const PEERS: u64 = 5;

fn order(salt: u64, manner: Manner) -> Order {
    Order { salt, manner, up_bytes: 0, down_bytes: QUEUED_BYTES }
}

#[test]
fn a_shutdown_loses_nothing_that_is_queued() {
    let link = Link::new(Faults::SLOW);
    let server = Site::serve(&link.right, config(), true);
    let all_began = Barrier::new(PEERS as usize + 1);
    thread::scope(|scope| {
        for salt in 1..=PEERS {
            let mut stream = foreign::connect(&link.left, server.addr());
            let all_began = &all_began;
            scope.spawn(move || {
                let order = order(salt, Manner::Stay);
                stream.write_all(&order.head()).expect("the server reads");
                let mut received = vec![0];
                stream.read_exact(&mut received).expect("the server has begun");
                all_began.wait();
                stream.read_to_end(&mut received).expect("an end in order");
                assert_eq!(received.len() as u64, QUEUED_BYTES);
                assert!(received == order.down(0, received.len()), "every byte is right");
            });
        }
        all_began.wait();
        let outcomes = server.stop(SOON);
        assert_eq!(outcomes.len() as u64, PEERS);
        assert!(outcomes.iter().all(|outcome| outcome.reason == CloseReason::Shutdown), "{outcomes:?}");
    });
    link.tally.assert_done(&[Deed::Lost]);
}

#[test]
fn a_close_loses_nothing_that_is_queued_however_short_it_lingers() {
    for linger in [Duration::from_millis(20), SOON] {
        let link = Link::new(Faults::SLOW);
        let orders: Vec<_> = (1..=PEERS).map(|salt| order(salt, Manner::Leave)).collect();
        let server = Site::serve(&link.right, config().linger(linger), true);
        let client = Site::dial(&link.left, server.addr(), orders);
        assert_complete(&client.finish(PEERS as usize));
        let outcomes = server.finish(PEERS as usize);
        assert!(outcomes.iter().all(|outcome| outcome.reason == CloseReason::Closed), "{outcomes:?}");
        link.tally.assert_done(&[Deed::Lost]);
    }
}

#[test]
fn a_shutdown_ends_at_its_deadline_when_the_link_is_cut() {
    let link = Link::new(Faults { bytes_per_second: 2_000_000, lost: 0, ..Faults::SLOW });
    let server = Site::serve(&link.right, config(), true);
    let orders: Vec<_> = (1..=PEERS).map(|salt| order(salt, Manner::Stay)).collect();
    let client = Site::dial(&link.left, server.addr(), orders);
    client.book.wait_received(1000);
    server.book.wait_opened(PEERS as usize);
    link.set_cut(true);
    let (began, within) = (Instant::now(), Duration::from_millis(400));
    let outcomes = server.stop(within);
    assert!(began.elapsed() >= within, "it waited as long as it may");
    assert!(outcomes.iter().any(|outcome| outcome.reason == CloseReason::ShutdownDeadline), "{outcomes:?}");
    // What was told is now on its way to nobody: this side has to end by itself, too.
    for outcome in client.stop(within) {
        assert_eq!(outcome.reason, CloseReason::ShutdownDeadline, "{outcome:?}");
    }
}
