//! One row of the connection table: everything the core keeps about a connection except the user's
//! state and the unread bytes, which are columns of their own.

use super::{CloseReason, ConnId, Deadlines, Initiator, Obstacle, Obstacles, Outbox, Phase, PhaseEvent};
use super::{Layered, Pressure, Tuning, Watch};
use crate::buf::{Pool, Stage};
use crate::net::{Dial, Family};
use crate::op::Fd;
use crate::timer::TimerId;
use std::os::fd::OwnedFd;

/// Our sending direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteEnd {
    Open,
    /// Open, and what is sent has to go through a layer first.
    Layered,
    /// Not open before the layer is ready.
    Securing,
    /// To be ended when everything queued is out.
    Ending,
    /// The operation that ends it is in flight.
    InFlight,
    Ended,
}

impl WriteEnd {
    /// Whether nobody has asked for its end.
    #[inline]
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Open | Self::Layered | Self::Securing)
    }
}

/// Operations in flight, apart from the outbox's own. True from submission to the last completion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ops {
    pub(crate) connect: bool,
    pub(crate) cancel_connect: bool,
    /// The connect was cancelled already; one cancel is enough.
    pub(crate) connect_cancelled: bool,
    pub(crate) recv: bool,
    pub(crate) cancel_recv: bool,
    pub(crate) cancel_send: bool,
    /// The send in flight waits for room, for as long as that takes.
    pub(crate) send_waits: bool,
    /// The send in flight was cancelled already; one cancel is enough.
    pub(crate) send_cancelled: bool,
    pub(crate) reset: bool,
    pub(crate) close: bool,
    pub(crate) set_option: bool,
    pub(crate) peek: bool,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) fd: Fd,
    pub(crate) family: Family,
    pub(crate) phase: Phase,
    pub(crate) write_end: WriteEnd,
    pub(crate) ops: Ops,
    /// Where to connect to, until that operation is on its way.
    pub(crate) dials: Option<Box<Dial>>,
    /// It counts among those that were accepted or made.
    pub(crate) was_counted: bool,
    /// What lies between the wire and the handler, if anything does.
    pub(crate) layered: Option<Box<Layered>>,
    /// Why it is not read.
    pub(crate) obstacles: Obstacles,
    /// Unread bytes are to be presented again although nothing has arrived.
    pub(crate) redeliver: bool,
    /// The handler was told that the peer has ended its direction.
    pub(crate) end_told: bool,
    /// In the list of connections to flush.
    pub(crate) is_dirty: bool,
    /// In the list of connections to look after once this turn's completions are through.
    pub(crate) is_due: bool,
    /// The kernel is asked when it received bytes.
    pub(crate) is_stamped: bool,
    pub(crate) outbox: Outbox,
    /// Closing is to drop what the peer has not acknowledged, because the connection was cut short.
    pub(crate) resets: bool,
    /// The kernel was told so.
    pub(crate) was_reset: bool,
    /// Reading waits for this many outboxes of other connections to come down.
    pub(crate) feeds: u32,
    /// Connections whose reading waits for this one's outbox to come down.
    pub(crate) fed_by: Vec<ConnId>,
    pub(crate) reason: Option<CloseReason>,
    /// The first of this connection's timers.
    pub(crate) timers: Option<TimerId>,
    /// When to try again to send to a peer that has ended, and how many times that was in vain.
    pub(crate) retry_timer: Option<TimerId>,
    pub(crate) retries: u8,
    /// Bounds the time that connecting takes, and later the time that closing takes.
    pub(crate) close_timer: Option<TimerId>,
    /// Its deadlines.
    pub(crate) watch: Watch,
    /// Options that are to be set.
    pub(crate) tuning: Option<Box<Tuning>>,
    /// A socket that was made elsewhere, until the backend has it.
    pub(crate) adopts: Option<OwnedFd>,
    /// Its peer takes no more before we have read what it has to say: a high outbox does not hold reading.
    pub(crate) reads_on: bool,
}

impl Conn {
    pub(crate) fn new(fd: Fd, family: Family) -> Self {
        Self {
            fd,
            family,
            phase: Phase::Arriving,
            write_end: WriteEnd::Open,
            ops: Ops::default(),
            dials: None,
            was_counted: false,
            layered: None,
            obstacles: Obstacles::default(),
            redeliver: false,
            end_told: false,
            is_dirty: false,
            is_due: false,
            is_stamped: false,
            outbox: Outbox::new(),
            resets: false,
            was_reset: false,
            feeds: 0,
            fed_by: Vec::new(),
            reason: None,
            timers: None,
            retry_timer: None,
            retries: 0,
            close_timer: None,
            watch: Watch::new(&Deadlines::none()),
            tuning: None,
            adopts: None,
            reads_on: false,
        }
    }

    /// A connection to be made to an address that is not known yet.
    pub(crate) fn racing() -> Self {
        Self { phase: Phase::Connecting, ..Self::new(Fd::NONE, Family::V4) }
    }

    /// A connection to be made, without a socket yet.
    pub(crate) fn dialing(dial: Dial) -> Self {
        let family = dial.addr.family();
        let dials = Some(Box::new(dial));
        Self { phase: Phase::Connecting, dials, ..Self::new(Fd::NONE, family) }
    }

    /// A connection of a socket that was made elsewhere.
    pub(crate) fn adopted(socket: OwnedFd, family: Family) -> Self {
        Self { phase: Phase::Connecting, adopts: Some(socket), ..Self::new(Fd::NONE, family) }
    }

    /// Whether it was adopted and the handler does not know that it is open.
    pub(crate) fn is_new_here(&self) -> bool {
        self.phase == Phase::Connecting && self.fd != Fd::NONE && self.dials.is_none() && !self.ops.connect
    }

    /// Asks for an orderly end: what is queued goes out first. True if that is news.
    pub(crate) fn close(&mut self, reason: CloseReason) -> bool {
        let begins = self.phase.on(PhaseEvent::CloseAsked);
        if begins {
            self.reason = Some(reason);
        }
        begins
    }

    /// Ends the connection at once and returns how many queued bytes were dropped, or `None` if it
    /// was ending at once already. The cause of a loss replaces the cause of an orderly close, and so
    /// does whatever cuts it short on our side, because what the peer has not read yet may be lost.
    pub(crate) fn terminate(
        &mut self,
        reason: CloseReason,
        stage: &mut Stage,
        pool: &mut Pool,
    ) -> Option<usize> {
        let was_cut_short = std::mem::replace(&mut self.resets, true);
        let cuts_short = matches!(reason.initiator(), Initiator::Local | Initiator::Limit);
        if !self.phase.on(PhaseEvent::Terminated) {
            // Everything is with the kernel, but not yet with the peer.
            if self.phase == Phase::Joining && self.outbox.is_lending() && cuts_short && !was_cut_short {
                self.reason = Some(reason);
            }
            return None;
        }
        if self.reason.is_none() || self.outbox.is_unfinished() || cuts_short {
            self.reason = Some(reason);
        }
        Some(self.outbox.discard(stage, pool))
    }

    /// Whether the handler may send.
    #[inline]
    pub(crate) fn takes_sends(&self) -> bool {
        self.phase.takes_sends() && matches!(self.write_end, WriteEnd::Open | WriteEnd::Layered)
    }

    /// Whether the handler may send, and what it sends goes out as it is.
    #[inline]
    pub(crate) fn takes_plain_sends(&self) -> bool {
        self.phase.takes_sends() && self.write_end == WriteEnd::Open
    }

    /// Whether the peer ended its direction without saying so to the layer first.
    pub(crate) fn was_cut_off(&self) -> bool {
        self.has_ended() && self.layered.as_ref().is_some_and(|layered| !layered.is_read_closed())
    }

    /// Whether a layer has yet to agree with the peer's.
    pub(crate) fn is_handshaking(&self) -> bool {
        self.layered.as_ref().is_some_and(|layered| layered.is_handshaking())
    }

    /// Whether the handler is to see data now.
    #[inline]
    pub(crate) fn delivers(&self) -> bool {
        self.phase == Phase::Open && self.obstacles.let_deliver()
    }

    /// Whether the handler is to see data where the backend has it.
    #[inline]
    pub(crate) fn presents(&self) -> bool {
        self.phase == Phase::Open && self.obstacles.let_present()
    }

    /// Whether what is unread is for the handler at all.
    #[inline]
    pub(crate) fn is_for_handler(&self) -> bool {
        self.phase == Phase::Open && !self.obstacles.has(Obstacle::Securing)
    }

    /// Whether a layer has yet to see more of what has begun to arrive.
    pub(crate) fn is_in_a_unit(&self) -> bool {
        self.layered.as_ref().is_some_and(|layered| layered.is_waiting())
    }

    /// Whether the peer has ended its direction.
    #[inline]
    pub(crate) fn has_ended(&self) -> bool {
        self.obstacles.has(Obstacle::Ended)
    }

    /// The receive may have come home, and what was asked beside it, so that one may be armed anew.
    pub(crate) fn settle_doubt(&mut self) {
        if !self.ops.recv && !self.ops.cancel_recv && !self.ops.peek {
            self.obstacles.remove(Obstacle::Doubted);
        }
    }

    /// Whether only asking can tell that the peer is gone: a receive is armed, and no send is going to tell,
    /// whatever keeps the handler from reading for the moment. A send that waits for room may report how
    /// much has left instead of why it failed, and a Unix socket whose peer has only ended its direction
    /// takes sends.
    pub(crate) fn is_in_the_dark(&self) -> bool {
        let asks = self.outbox.is_idle() || self.ops.send_waits || self.family == Family::Unix;
        asks && self.ops.recv && !self.ops.peek && self.phase != Phase::Joining
    }

    /// Whether a receive should be armed.
    pub(crate) fn wants_recv(&self) -> bool {
        if self.has_ended() || self.obstacles.has(Obstacle::Doubted) {
            return false;
        }
        match self.phase {
            Phase::Open => {
                let mut obstacles = self.obstacles;
                // One that is armed stays so until the socket refuses; none is armed anew.
                if !self.outbox.is_blocked() && self.ops.recv {
                    obstacles.remove(Obstacle::Held);
                }
                // A layer that is not ready yet needs what it needs, whatever keeps bytes from the handler.
                obstacles.are_none() || obstacles.has(Obstacle::Securing)
            }
            Phase::Flushing => self.ops.recv,
            Phase::Handshaking | Phase::Lingering => true,
            _ => false,
        }
    }

    /// Whether the connection is open in both directions, receives if it wants to, and is below its
    /// high mark: nothing but sending can be left to do.
    #[inline]
    pub(crate) fn is_steady(&self) -> bool {
        // By far the most frequent case.
        let is_plain = self.obstacles.are_none() && self.ops.recv && !self.ops.send_waits;
        self.phase == Phase::Open
            && self.write_end.is_open()
            && self.outbox.pressure() == Pressure::Low
            && (is_plain || self.has_what_it_wants())
    }

    /// Whether reading and sending are as they should be.
    #[inline(never)]
    fn has_what_it_wants(&self) -> bool {
        self.ops.recv == self.wants_recv() && !self.recalls_send()
    }

    /// Whether a send that waits for room is to come home before it is done: at a peer that has
    /// ended, because the kernel cannot wait there, and to tell how many bytes have left.
    pub(crate) fn recalls_send(&self) -> bool {
        self.ops.send_waits && !self.ops.send_cancelled && (self.has_ended() || self.watch.asks())
    }

    /// Whether it makes no difference to anything but the outbox when a send goes out whole.
    #[inline]
    pub(crate) fn is_unwatched(&self) -> bool {
        self.phase == Phase::Open && self.outbox.pressure() == Pressure::Low && !self.watch.follows_sends()
    }

    /// Whether there is nothing to do at all.
    #[inline]
    pub(crate) fn is_settled(&self) -> bool {
        self.is_steady() && self.outbox.is_idle()
    }

    /// Whether nothing of this connection is in flight.
    pub(crate) fn is_joined(&self) -> bool {
        let ops = self.ops;
        !ops.connect
            && !ops.cancel_connect
            && !ops.recv
            && !ops.cancel_recv
            && !ops.cancel_send
            && !ops.reset
            && !ops.close
            && !ops.set_option
            && !ops.peek
            && self.write_end != WriteEnd::InFlight
            && !self.outbox.is_flying()
    }
}
