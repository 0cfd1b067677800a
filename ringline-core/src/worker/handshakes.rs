//! Handshakes take turns: a step of one may cost as much as serving a hundred open connections.
//!
//! What arrives for a handshake is put aside, and a turn takes few steps, in the order in which they became
//! possible, after everything else that the turn has brought. So whoever is connected waits for a few steps at
//! most, however many handshakes go on. While steps are left over, the list of what is due has an entry for
//! nobody, and no turn waits.

use super::Worker;
use super::layered::Arrived;
use crate::backend::Backend;
use crate::buf::Lease;
use crate::conn::{Conn, ConnId, Obstacle};
use crate::handler::EventHandler;
use std::collections::VecDeque;

/// How many steps one turn takes.
const STEPS_PER_TURN: usize = 4;
/// The most bytes that are put aside. What brings more is taken at once: sending them was work for the peer,
/// too.
const LATE_BYTES_MAX: usize = 32 * 1024;

/// Connections whose handshake can go on, the one that has waited longest first.
#[derive(Debug, Default)]
pub(super) struct Handshakes(VecDeque<ConnId>);

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Something has arrived for a handshake, or was there before it.
    pub(super) fn postpone_handshake(&mut self, id: ConnId, lease: Option<&Lease>, copied: &[u8]) {
        let Some(conn) = self.io.conns.get_mut(id) else { return };
        let Some(layered) = conn.layered.as_mut() else { return };
        let bytes = lease.map_or(copied, |lease| self.backend.received(lease));
        if layered.put_aside(bytes, &mut self.inboxes[id.row()]) {
            conn.obstacles.remove(Obstacle::Stuffed);
        }
        let is_much = layered.late.len() > LATE_BYTES_MAX;
        if !std::mem::replace(&mut layered.is_postponed, true) {
            if self.handshakes.0.is_empty() {
                self.io.due.push(ConnId::NOBODY);
            }
            self.handshakes.0.push_back(id);
        }
        if is_much {
            self.read_layered(id, Arrived::Late);
        }
    }

    /// Takes some steps, and leaves the others to the turns that follow.
    #[cold]
    pub(super) fn take_handshake_steps(&mut self) {
        let mut steps = 0;
        while steps < STEPS_PER_TURN
            && let Some(id) = self.handshakes.0.pop_front()
        {
            steps += usize::from(self.take_handshake_step(id));
        }
        if !self.handshakes.0.is_empty() {
            self.io.shard.handshakes_postponed.add(self.handshakes.0.len() as u64);
            self.io.due.push(ConnId::NOBODY);
        }
    }

    /// False if the connection does not care any more.
    fn take_handshake_step(&mut self, id: ConnId) -> bool {
        let Some(conn) = self.io.conns.get_mut(id).filter(|conn| conn.phase.takes_layer()) else {
            return false;
        };
        let Some(layered) = conn.layered.as_mut() else { return false };
        layered.is_postponed = false;
        self.read_layered(id, Arrived::Late);
        if self.io.conns.get(id).is_some_and(Conn::has_ended) {
            // That had to wait for what came before.
            self.ended(id);
        }
        true
    }
}
