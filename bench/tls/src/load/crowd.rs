//! Clients that are watched together, by number.

use crate::client::{Broken, Client};
use mio::{Events, Poll, Token};
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many bytes are read at once.
const WIRE_BYTES: usize = 256 * 1024;
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct Crowd {
    poll: Poll,
    events: Events,
    clients: Vec<Client>,
    wire: Vec<u8>,
}

impl Crowd {
    /// Connects `count` clients, no more than `at_once` of them at a time.
    pub fn connect(to: SocketAddr, config: &Arc<ClientConfig>, count: usize, at_once: usize) -> Self {
        let mut crowd = Self {
            poll: Poll::new().expect("epoll"),
            events: Events::with_capacity(1024),
            clients: Vec::with_capacity(count),
            wire: vec![0; WIRE_BYTES],
        };
        let begun = Instant::now();
        while crowd.clients.len() < count {
            let first = crowd.clients.len();
            for number in first..count.min(first + at_once) {
                crowd.clients.push(Client::connect(to, config, crowd.poll.registry(), number));
            }
            while crowd.clients[first..].iter().any(Client::is_handshaking) {
                assert!(begun.elapsed() < PATIENCE, "the server takes no connections");
                crowd.turn(Some(Duration::from_millis(10)), |_, _, _| {});
            }
        }
        crowd
    }

    /// Looks once what has happened, waits up to `wait` for that, and has `take` look at what was received.
    pub fn turn(
        &mut self,
        wait: Option<Duration>,
        mut take: impl FnMut(usize, &[u8], &mut Vec<usize>),
    ) -> Vec<usize> {
        let Self { poll, events, clients, wire } = self;
        poll.poll(events, wait).expect("epoll");
        let mut due = Vec::new();
        for event in events.iter() {
            let Token(number) = event.token();
            let client = &mut clients[number];
            let done =
                client.receive(wire, |bytes| take(number, bytes, &mut due)).and_then(|()| client.flush());
            if let Err(Broken) = done {
                panic!("connection {number} broke off");
            }
        }
        due
    }

    /// Sends on one of them.
    pub fn send(&mut self, number: usize, bytes: &[u8]) {
        let client = &mut self.clients[number];
        client.send(bytes);
        if let Err(Broken) = client.flush() {
            panic!("connection {number} broke off");
        }
    }

    pub fn len(&self) -> usize {
        self.clients.len()
    }
}
