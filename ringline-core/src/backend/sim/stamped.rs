//! Receives of connections that tell when their bytes came: as messages, into the buffers of datagrams.

use super::Sim;
use super::datagrams::{EPOCH, SERVER};
use super::faults::Fault;
use super::network::Arm;
use crate::net::arrival::{self, Facts};
use crate::op::{Fd, Outcome};
use std::collections::VecDeque;
use std::time::Duration;

impl Sim {
    /// What the receive of a connection that tells the time has to report, if anything. The end of the
    /// stream is a message without bytes.
    pub(super) fn receive_stamped(&mut self, fd: Fd, arm: Arm) -> Option<(Outcome, bool)> {
        let (_, link) = self.network.socket(fd)?;
        if link.to_server.is_empty() {
            if let Some(errno) = link.take_error() {
                return Some((Outcome::Failed { errno }, false));
            }
            if !link.is_at_end() {
                return None;
            }
        }
        let Some(buffers) = &mut self.datagrams.buffers else {
            self.trace.panic("buffers for datagrams are ready before the first receive");
        };
        let room = buffers.room().unwrap_or(0) as usize;
        if room == 0 || self.dice.strikes(Fault::NoBuffers) {
            self.starved += u64::from(room == 0);
            return Some((Outcome::Failed { errno: libc::ENOBUFS }, false));
        }
        let mut len = link.to_server.len().min(room - arrival::OVERHEAD_BYTES);
        if len > 0 && self.dice.strikes(Fault::ShortReceive) {
            len = 1 + self.dice.below(self.dice.faults.short_receive_bytes.min(len as u32)) as usize;
        }
        let bytes: Vec<u8> = link.to_server.drain(..len).collect();
        let facts = Facts {
            from: (SERVER, 0).into(),
            full_len: len,
            destination: None,
            source: None,
            interface: 0,
            tos: None,
            received: Some(EPOCH + Duration::from_micros(self.clock_us)),
            segment_bytes: 0,
            drops: None,
        };
        let mut message = VecDeque::from(arrival::encode(&facts, &bytes, room));
        let message_len = message.len() as u32;
        let lease = buffers.fill(&mut message, message_len, false);
        let more = len > 0 && !arm.is_doomed && !self.dice.strikes(Fault::ArmEnds);
        Some((Outcome::Datagram(lease), more))
    }
}
