//! Carries packets between the cables of two interfaces, and does to them what faults say.
//!
//! One thread for a link. What it has taken from one cable it delivers at its time, loses on purpose,
//! or drops because its queue is full, and counts in each case.

use crate::dice::Dice;
use crate::faults::{Deed, Faults, Tally};
use crate::sys;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the carrier waits before it looks whether it is still needed.
const LOOK: Duration = Duration::from_millis(20);
/// How long it waits after an error of an interface, which may last.
const PAUSE: Duration = Duration::from_millis(1);
/// Packets taken from one cable before the other one has its turn.
const BATCH: usize = 64;
const PACKET_BYTES_MAX: usize = 1 << 16;

/// What the test changes while packets are on their way.
#[derive(Debug)]
pub(crate) struct Orders {
    pub(crate) is_cut: AtomicBool,
    pub(crate) is_over: AtomicBool,
}

/// A packet on its way, in the order in which packets arrive.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    due: Instant,
    number: u64,
    bytes: Vec<u8>,
}

/// One direction.
#[derive(Debug)]
struct Way {
    dice: Dice,
    packets: BinaryHeap<Reverse<Packet>>,
    /// When the last packet that was taken has left.
    free_at: Instant,
    taken: u64,
    /// The highest number that was delivered.
    delivered: u64,
}

/// The thread of a link.
#[derive(Debug)]
pub(crate) struct Carrier {
    cables: [File; 2],
    /// From each cable to the other one.
    ways: [Way; 2],
    faults: Faults,
    orders: Arc<Orders>,
    tally: Arc<Tally>,
}

impl Carrier {
    pub(crate) fn new(
        cables: [File; 2],
        seed: u64,
        faults: Faults,
        orders: Arc<Orders>,
        tally: Arc<Tally>,
    ) -> Self {
        let ways = [2 * seed, 2 * seed + 1].map(|seed| Way {
            dice: Dice::new(seed),
            packets: BinaryHeap::new(),
            free_at: Instant::now(),
            taken: 0,
            delivered: 0,
        });
        Self { cables, ways, faults, orders, tally }
    }

    /// Carries until it is told that the test is over.
    pub(crate) fn run(mut self) {
        let mut buffer = vec![0; PACKET_BYTES_MAX];
        while !self.orders.is_over.load(Ordering::Relaxed) {
            let now = Instant::now();
            self.deliver(now);
            let due = self.ways.iter().filter_map(|way| way.packets.peek()).map(|packet| packet.0.due).min();
            let limit = due.map_or(LOOK, |due| due.saturating_duration_since(now).min(LOOK));
            let [left, right] = &self.cables;
            let Ok(ready) = sys::wait_readable([left, right], limit) else { continue };
            for (side, _) in ready.into_iter().enumerate().filter(|(_, is_ready)| *is_ready) {
                self.take(side, &mut buffer);
            }
        }
    }

    /// Takes packets that a side has sent.
    fn take(&mut self, side: usize, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            match (&self.cables[side]).read(buffer) {
                Ok(len) => self.treat(side, &buffer[..len]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The interface is switched off.
                Err(_) => return std::thread::sleep(PAUSE),
            }
        }
    }

    /// Decides what becomes of a packet.
    fn treat(&mut self, side: usize, packet: &[u8]) {
        let faults = &self.faults;
        let Some(4) = packet.first().map(|byte| byte >> 4) else { return };
        let way = &mut self.ways[side];
        self.tally.saw(packet.len());
        if self.orders.is_cut.load(Ordering::Relaxed) {
            return self.tally.add(Deed::Cut);
        }
        if way.dice.chance(faults.lost) {
            return self.tally.add(Deed::Lost);
        }
        let now = Instant::now();
        let leaves = way.free_at.max(now) + per_second(packet.len(), faults.bytes_per_second);
        let waiting = bytes_in(leaves - now, faults.bytes_per_second);
        if waiting > faults.queue_bytes as u64 {
            return self.tally.add(Deed::Overflowed);
        }
        way.free_at = leaves;
        let mut bytes = packet.to_vec();
        if way.dice.chance(faults.damaged) {
            way.damage(&mut bytes);
            self.tally.add(Deed::Damaged);
        }
        let due = leaves + faults.delay;
        let copy = way.dice.chance(faults.doubled).then(|| bytes.clone());
        let late = if way.dice.chance(faults.late) { way.lateness(faults) } else { Duration::ZERO };
        way.put(due + late, bytes);
        if let Some(copy) = copy {
            let late = way.lateness(faults);
            way.put(due + late, copy);
            self.tally.add(Deed::Doubled);
        }
    }

    /// Delivers everything that is due.
    fn deliver(&mut self, now: Instant) {
        for (side, way) in self.ways.iter_mut().enumerate() {
            while way.packets.peek().is_some_and(|packet| packet.0.due <= now) {
                let Some(Reverse(packet)) = way.packets.pop() else { break };
                if self.orders.is_cut.load(Ordering::Relaxed) {
                    self.tally.add(Deed::Cut);
                    continue;
                }
                // A packet that is damaged so much that it is none is refused at once.
                match (&self.cables[1 - side]).write(&packet.bytes) {
                    Ok(_) => self.tally.add(Deed::Carried),
                    Err(_) => self.tally.add(Deed::Refused),
                }
                if packet.number < way.delivered {
                    self.tally.add(Deed::Overtaken);
                }
                way.delivered = way.delivered.max(packet.number);
            }
        }
    }
}

impl Way {
    fn put(&mut self, due: Instant, bytes: Vec<u8>) {
        self.taken += 1;
        self.packets.push(Reverse(Packet { due, number: self.taken, bytes }));
    }

    /// Changes one byte, which every checksum notices: more than one could make up for each other.
    fn damage(&mut self, packet: &mut [u8]) {
        let place = self.dice.below(packet.len());
        packet[place] ^= 1 + self.dice.below(255) as u8;
    }

    fn lateness(&mut self, faults: &Faults) -> Duration {
        let lateness_us = faults.lateness.as_micros() as usize;
        Duration::from_micros(self.dice.below(lateness_us + 1) as u64)
    }
}

/// How long so many bytes take.
fn per_second(bytes: usize, bytes_per_second: u64) -> Duration {
    Duration::from_nanos((bytes as u64).saturating_mul(1_000_000_000) / bytes_per_second)
}

/// How many bytes such a time takes.
fn bytes_in(time: Duration, bytes_per_second: u64) -> u64 {
    (time.as_nanos() * u128::from(bytes_per_second) / 1_000_000_000) as u64
}
