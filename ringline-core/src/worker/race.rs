//! Attempts to connect: what follows when one of several has succeeded, failed, or taken too long.

use super::Worker;
use crate::backend::Backend;
use crate::conn::{CloseReason, Conn, ConnId, ConnectError, Phase, Race};
use crate::handler::EventHandler;
use crate::net::ResolveError;
use crate::op::Fd;
use std::net::SocketAddr;

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// An attempt has succeeded: its socket becomes that of the connection, and the others are given up.
    #[cold]
    pub(super) fn attempt_won(&mut self, attempt: ConnId, id: ConnId) {
        let Some(race) = self.io.races.remove(id) else { return self.give_up(attempt) };
        if !self.is_dialing(id) {
            // Its end has begun meanwhile; the winner is given up like the others.
            return self.leave_race(race);
        }
        let Some(conn) = self.io.conns.get_mut(attempt) else { return };
        let (fd, family) = (std::mem::replace(&mut conn.fd, Fd::NONE), conn.family);
        self.leave_race(race);
        let Some(conn) = self.io.conns.get_mut(id) else { unreachable!("who races has a row") };
        conn.fd = fd;
        conn.family = family;
        self.connected(id);
        self.io.mark(id);
    }

    /// The row of an attempt is gone. If the connection has no other under way, the next address is tried.
    #[cold]
    pub(super) fn attempt_ended(&mut self, attempt: ConnId, id: ConnId, conn: &Conn) {
        self.io.races.end(attempt);
        if !self.is_dialing(id) {
            return;
        }
        let Some(race) = self.io.races.get_mut(id) else { return };
        if let Some(CloseReason::ConnectFailed { errno }) = conn.reason {
            race.errno = errno;
        }
        // Who has failed makes room for the next at once, whoever else is under way.
        let errno = if race.waiting.is_empty() && race.attempts.is_empty() {
            race.errno
        } else if self.io.next_attempt(id).is_err() {
            libc::ENOBUFS
        } else {
            return;
        };
        self.io.terminate(id, CloseReason::ConnectFailed { errno });
    }

    /// Nobody has answered for a while.
    #[cold]
    pub(super) fn attempt_overdue(&mut self, id: ConnId) {
        let Some(race) = self.io.races.get_mut(id) else { return };
        race.timer = None;
        if self.is_dialing(id) {
            // There is an attempt under way, so a full table only makes this one wait.
            let _ = self.io.next_attempt(id);
        }
    }

    /// The addresses of the name are there, or there are none.
    #[cold]
    pub(super) fn race_to(&mut self, id: ConnId, result: Result<Vec<SocketAddr>, ResolveError>) {
        if !self.is_dialing(id) {
            return;
        }
        let reason = match result.map(|addrs| self.io.start_race(id, &addrs)) {
            Ok(Ok(())) => return,
            Ok(Err(ConnectError::Full { .. })) => CloseReason::ConnectFailed { errno: libc::ENOBUFS },
            Ok(Err(_)) => CloseReason::ConnectFailed { errno: libc::EAFNOSUPPORT },
            Err(error) => CloseReason::Unresolved { error },
        };
        self.io.terminate(id, reason);
    }

    /// A connection is over that has not won.
    #[cold]
    pub(super) fn race_over(&mut self, id: ConnId) {
        if let Some(race) = self.io.races.remove(id) {
            self.leave_race(race);
        }
    }

    /// Whether a connection is still to be made.
    fn is_dialing(&self, id: ConnId) -> bool {
        self.io.conns.get(id).is_some_and(|conn| conn.phase == Phase::Connecting)
    }

    fn leave_race(&mut self, race: Race) {
        if let Some(timer) = race.timer {
            self.io.timers.cancel(timer, &mut self.io.conns);
        }
        for attempt in race.attempts {
            self.give_up(attempt);
        }
    }

    fn give_up(&mut self, attempt: ConnId) {
        self.io.terminate(attempt, CloseReason::Aborted);
    }
}
