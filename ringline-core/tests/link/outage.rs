//! Links that go down and come up again, over and over, while much is under way.

use crate::book::Outcome;
use crate::dice::Dice;
use crate::echo::echoes;
use crate::faults::{Deed, Faults};
use crate::link::Link;
use crate::order::Order;
use crate::station::Site;
use crate::{config, rounds, seed};
use ringline_core::CloseReason;
use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

/// How many bytes arrive between two outages.
const PROGRESS_BYTES: u64 = 2 << 20;
/// How long nothing arrives before a link counts as down, and how often that is looked at.
const SILENCE: Duration = Duration::from_millis(100);
const LOOKS_MAX: usize = 30;

/// A way to take a link down, and up again.
type Switch = fn(&Link, bool);

fn cut(link: &Link, is_down: bool) {
    link.set_cut(is_down);
}

fn switch_off(link: &Link, is_down: bool) {
    link.left.set_up(!is_down);
    link.right.set_up(!is_down);
}

/// Takes a link down and up under load. Whatever was served is complete in the end, at both sides; the
/// rest, so many, was turned away.
fn keep_going(switch: Switch, outages: u64) -> (Link, usize) {
    let link = Link::new(Faults::ALL);
    let mut dice = Dice::new(seed());
    let mut orders = echoes(20);
    orders.extend((100..104).map(|salt| Order::stream(salt, 600_000, 600_000)));
    let server = Site::serve(&link.right, config(), false);
    let client = Site::dial_with(&link.left, config(), server.addr(), orders, true);
    for _ in 0..outages {
        client.book.wait_received(client.book.received_bytes() + PROGRESS_BYTES);
        switch(&link, true);
        // What was on its way is still taken in.
        let is_silent = || {
            let before = client.book.received_bytes();
            thread::sleep(SILENCE);
            client.book.received_bytes() == before
        };
        assert!((0..LOOKS_MAX).any(|_| is_silent()), "nothing gets through");
        thread::sleep(Duration::from_millis(100 + dice.below(500) as u64));
        switch(&link, false);
    }
    client.book.wait_received(client.book.received_bytes() + PROGRESS_BYTES);
    let ended = client.book.wait_all_ended();
    let complete = ended.iter().filter(|outcome| outcome.is_complete).count();
    let ours = client.finish(ended.len());
    let theirs = server.finish(complete);
    for outcome in &theirs {
        assert!(outcome.is_complete && outcome.reason.is_clean(), "{outcome:?}");
    }
    let known: BTreeSet<_> = theirs.iter().filter_map(|outcome| outcome.salt).collect();
    for outcome in &ours {
        let is_served = outcome.salt.is_some_and(|salt| known.contains(&salt));
        let is_whole = outcome.is_complete && outcome.reason.is_clean() && is_served;
        assert!(is_whole || is_turned_away(outcome) && !is_served, "{outcome:?}");
    }
    (link, ours.len() - complete)
}

/// What a client is told that connects while interfaces are off. It may be a reset, of a connection that
/// was made for the client only: a kernel that cannot repeat its own part of the greeting, because it has
/// no route, forgets who greets.
fn is_turned_away(outcome: &Outcome) -> bool {
    match outcome.reason {
        CloseReason::ConnectFailed { errno } => [libc::ENETUNREACH, libc::EHOSTUNREACH].contains(&errno),
        reason => reason == CloseReason::PeerReset && outcome.has_opened,
    }
}

#[test]
fn a_link_that_is_cut_and_mended_under_load_costs_time_only() {
    let (link, turned_away) = keep_going(cut, 3 * rounds());
    assert_eq!(turned_away, 0, "nobody can tell that the link is cut");
    link.tally.assert_done(&[Deed::Cut]);
}

#[test]
fn interfaces_that_are_switched_off_and_on_under_load_cost_time_only() {
    keep_going(switch_off, 3 * rounds());
}
