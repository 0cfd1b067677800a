//! The end of a worker: no new connections, everything queued goes out, then nothing is left.

use super::Worker;
use crate::backend::Backend;
use crate::conn::{CloseReason, Fired, Inbox};
use crate::handler::EventHandler;
use std::time::{Duration, Instant};

/// How far the end has come.
#[derive(Debug, Default)]
pub(super) struct Shutdown {
    is_running: bool,
    is_panic: bool,
}

impl Shutdown {
    /// The configuration wants a worker to stop after a panic.
    pub(super) fn after_panic(&mut self) {
        self.is_panic = true;
    }
}

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Stops accepting and closes every connection in order; what is left at `deadline` is
    /// aborted. A second call can only move the deadline.
    pub(crate) fn shut_down(&mut self, deadline: Instant) {
        let deadline_ms = self.io.clock.at_ms(deadline);
        self.io.timers.arm(deadline_ms, Fired::ShutdownDeadline);
        if std::mem::replace(&mut self.shutdown.is_running, true) {
            return;
        }
        self.io.is_ending = true;
        self.acceptor.stop();
        self.empty_mailbox();
        self.shutdown_handler(deadline);
        self.close_all_udp();
        self.end_children();
        self.desk.jobs.cancel_waiting();
        for row in 0..self.io.conns.height() {
            if let Some(id) = self.io.conns.at(row) {
                self.io.close(id, CloseReason::Shutdown);
            }
        }
    }

    /// Whether the worker has been asked to end and nothing of it is left with the kernel.
    pub(crate) fn is_done(&self) -> bool {
        self.shutdown.is_running
            && self.io.conns.live() == 0
            && self.acceptor.is_at_rest()
            && self.io.udp.live() == 0
            && self.io.children.is_at_rest()
            && self.desk.jobs.in_flight() == 0
    }

    /// Whether a panic wants the worker to stop.
    pub(crate) fn has_panicked(&self) -> bool {
        self.shutdown.is_panic
    }

    /// Whether nothing but the kernel keeps the worker busy: no list is waiting to be worked off.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.prompt
            && self.io.dirty.is_empty()
            && self.io.due.is_empty()
            && self.io.unproven.is_empty()
            && !self.has_accept_work()
            && !self.io.udp.has_work()
    }

    /// Panics unless a worker that is done has let go of everything.
    pub(crate) fn assert_at_rest(&self) {
        assert!(self.is_done(), "the worker is done");
        assert_eq!(self.io.queued, 0, "no byte is queued");
        assert!(self.io.stage.is_empty(), "nothing is staged");
        assert_eq!(self.io.pool.lent(), 0, "every block, parcel and receive buffer is home");
        assert!(self.users.iter().all(Option::is_none), "every state went back to the handler");
        assert!(self.inboxes.iter().all(Inbox::is_empty), "no unread byte is left");
        assert_eq!(self.desk.jobs.in_flight(), 0, "every job was answered");
        assert!(self.io.due.is_empty(), "nothing is due");
        assert_eq!(self.io.udp.in_flight(), 0, "every datagram that the kernel was given is home");
        assert!(self.io.children.restless.is_empty(), "no child waits for anything");
        assert!(self.io.tickets.are_all_back(), "no connection is counted any more");
    }

    /// The handler of a worker that is over.
    pub(crate) fn into_handler(self) -> H {
        self.handler
    }

    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutdown.is_running
    }

    /// The time to drain is over.
    pub(super) fn abort_all(&mut self) {
        self.cut_all_udp();
        for row in 0..self.io.conns.height() {
            if let Some(id) = self.io.conns.at(row) {
                self.io.terminate(id, CloseReason::ShutdownDeadline);
            }
        }
        self.kill_children();
        self.desk.jobs.cancel_all();
    }

    /// The handler has asked for the end.
    #[cold]
    pub(super) fn shut_down_within(&mut self, within: Duration) {
        let deadline = self.io.clock.now() + within;
        self.shut_down(deadline);
    }
}
