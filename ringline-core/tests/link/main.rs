//! Servers and clients over a link that loses, delays, reorders, doubles and damages packets, that is
//! slow, that is cut and mended, and whose packets are small or large.
//!
//! The two ends of the link are network namespaces that the test makes, each with a tun device; the
//! link itself is a thread that carries packets between the two. Every byte is compared with what the
//! connection is to carry at that place, and every callback is audited. All of this needs root.
//!
//! `RINGLINE_LINK_SEED` seeds the faults, and `RINGLINE_LINK_ROUNDS` is how many times as much as usual
//! is done. The order of packets is up to the kernel, so a seed makes a run similar, not the same.

#[path = "../suite/audit.rs"]
#[allow(dead_code, reason = "not everything that is audited is done here")]
mod audit;
mod book;
mod carrier;
#[path = "../sim_seeds/dice.rs"]
#[allow(dead_code, reason = "runs on the simulated kernel throw more kinds of dice")]
mod dice;
mod faults;
mod foreign;
mod link;
mod namespace;
mod order;
mod post;
mod relay;
mod station;
mod sys;
mod watch;

mod datagrams;
mod deadlines;
mod dialing;
mod echo;
mod outage;
mod proxy;
mod sizes;
mod stopping;
mod streams;
mod vanishing;

use ringline_core::{Config, ConfigBuilder, Deadlines};
use std::sync::Once;
use std::time::Duration;

/// How long anything may take that should happen at once, with many lost packets.
const SOON: Duration = Duration::from_secs(60);

/// The configuration of most servers and clients: nothing is bounded but what a test bounds.
fn config() -> ConfigBuilder {
    Config::builder().deadlines(Deadlines::none()).connect_timeout(SOON).close_timeout(SOON).linger(SOON)
}

/// What the faults follow from.
fn seed() -> u64 {
    static SAID: Once = Once::new();
    let seed = number("RINGLINE_LINK_SEED", 1);
    SAID.call_once(|| eprintln!("RINGLINE_LINK_SEED={seed}"));
    seed
}

/// How many times as much as usual is to be done.
fn rounds() -> u64 {
    number("RINGLINE_LINK_ROUNDS", 1)
}

fn number(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}
