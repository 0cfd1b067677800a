//! Completion in, event out: what a completion changes about one connection. No I/O, no user code.

use super::row::WriteEnd;
use super::{CloseReason, Conn, Obstacle, Phase, PhaseEvent};
use crate::buf::{Lease, Parcel, Pool, Stage};
use crate::op::{Kind, Outcome};

/// What the worker has to do about a completion.
#[derive(Debug)]
pub(crate) enum Event {
    Nothing,
    /// The peer has answered.
    Connected,
    /// Bytes arrived.
    Received(Lease),
    /// The peer has ended its direction.
    Ended,
    /// The receive ended because the backend had no buffer left.
    OutOfBuffers,
    /// A send came home; this many bytes left, and the allocator was asked for `fresh` blocks.
    Sent {
        bytes: usize,
        /// Nothing waits for the peer.
        is_whole: bool,
        /// A closing connection has come nearer to its end.
        is_progress: bool,
        fresh: u32,
    },
    /// The connection cannot go on.
    Broken(CloseReason),
    /// A send came home broken.
    SendBroken(CloseReason),
    /// The kernel has no more use for the memory of a send that was over before.
    Returned {
        /// It had copied the bytes although it was asked not to.
        was_copied: bool,
    },
    /// The descriptor is gone; the row is free once the handler has been told.
    Released,
}

/// Where a connection's sends keep their bytes.
#[derive(Debug)]
pub(crate) struct Memory<'a> {
    pub(crate) stage: &'a mut Stage,
    pub(crate) pool: &'a mut Pool,
}

/// Applies one completion.
#[inline]
pub(crate) fn advance(
    conn: &mut Conn,
    memory: &mut Memory<'_>,
    kind: Kind,
    outcome: Outcome,
    more: bool,
) -> Event {
    match kind {
        Kind::Recv => received(conn, outcome, more),
        Kind::Send => sent(conn, memory, outcome),
        Kind::Connect => connected(conn, &outcome),
        Kind::CancelConnect => {
            conn.ops.cancel_connect = false;
            // As below: what was not found may be there all the same.
            conn.ops.connect_cancelled &= !matches!(outcome, Outcome::Failed { errno: libc::ENOENT });
            Event::Nothing
        }
        Kind::Reset => {
            conn.ops.reset = false;
            if let Outcome::Failed { errno } = outcome {
                log::warn!(
                    "a connection could not be reset (errno {errno}); its peer may keep memory for long"
                );
            }
            Event::Nothing
        }
        Kind::Shutdown => {
            conn.write_end = WriteEnd::Ended;
            Event::Nothing
        }
        Kind::CancelRecv => {
            conn.ops.cancel_recv = false;
            conn.settle_doubt();
            Event::Nothing
        }
        Kind::Peek => peeked(conn, &outcome),
        Kind::CancelSend => {
            conn.ops.cancel_send = false;
            // One that found nothing has not ended the send, which may be in flight all the same.
            conn.ops.send_cancelled &= !matches!(outcome, Outcome::Failed { errno: libc::ENOENT, .. });
            Event::Nothing
        }
        Kind::Close => {
            conn.ops.close = false;
            release(conn)
        }
        kind => unreachable!("{kind:?} is no operation of a connection"),
    }
}

/// The connect is over. One that nobody wants any more leaves a socket that is closed in any case.
fn connected(conn: &mut Conn, outcome: &Outcome) -> Event {
    conn.ops.connect = false;
    match outcome {
        _ if conn.phase != Phase::Connecting => Event::Nothing,
        Outcome::Done => Event::Connected,
        Outcome::Failed { errno } => Event::Broken(CloseReason::ConnectFailed { errno: *errno }),
        outcome => unreachable!("a connect does not complete with {outcome:?}"),
    }
}

#[inline]
fn received(conn: &mut Conn, outcome: Outcome, more: bool) -> Event {
    conn.ops.recv = more && matches!(outcome, Outcome::Received(_));
    conn.settle_doubt();
    match outcome {
        Outcome::Received(lease) => Event::Received(lease),
        // A look may be about to say that it is no end but an error, which it alone was told.
        Outcome::EndOfStream if conn.ops.peek => {
            conn.obstacles.add(Obstacle::Doubted);
            Event::Nothing
        }
        Outcome::EndOfStream => {
            conn.obstacles.add(Obstacle::Ended);
            Event::Ended
        }
        // Whatever the kernel says about more to come, an error ends the receive.
        Outcome::Failed { errno } => match errno {
            libc::ECANCELED | libc::EINTR | libc::EAGAIN => Event::Nothing,
            libc::ENOBUFS => Event::OutOfBuffers,
            errno => Event::Broken(CloseReason::from_errno(errno)),
        },
        outcome => unreachable!("a receive does not complete with {outcome:?}"),
    }
}

/// What a look beside the receive has found. An error is told once, so this is it. An end is told as often as
/// one asks: the receive is armed anew and tells it behind all bytes.
#[cold]
fn peeked(conn: &mut Conn, outcome: &Outcome) -> Event {
    conn.ops.peek = false;
    match *outcome {
        Outcome::Failed { errno: libc::EAGAIN } => {}
        // What is behind the bytes, or what the kernel had no memory to look for, is looked for later.
        Outcome::Done
        | Outcome::Failed { errno: libc::ECANCELED | libc::EINTR | libc::ENOMEM | libc::ENOBUFS } => {
            conn.watch.listen();
        }
        Outcome::Failed { errno } => return Event::Broken(CloseReason::from_errno(errno)),
        Outcome::EndOfStream => {
            if conn.ops.recv && !conn.has_ended() {
                conn.obstacles.add(Obstacle::Doubted);
            }
        }
        ref outcome => unreachable!("a look does not complete with {outcome:?}"),
    }
    conn.settle_doubt();
    Event::Nothing
}

#[inline]
fn sent(conn: &mut Conn, memory: &mut Memory<'_>, outcome: Outcome) -> Event {
    match outcome {
        Outcome::Sent { bytes, errno, parcel } => landed(conn, memory, bytes, errno, parcel),
        Outcome::Returned(parcel) => returned(conn, memory, parcel),
        outcome => unreachable!("a send does not complete with {outcome:?}"),
    }
}

/// A send is over.
#[inline]
fn landed(
    conn: &mut Conn,
    memory: &mut Memory<'_>,
    bytes: usize,
    errno: i32,
    parcel: Option<Box<Parcel>>,
) -> Event {
    // By far the most frequent case: a staged send that went out whole.
    if errno == 0 && conn.phase == Phase::Open && conn.outbox.complete_whole(bytes, memory.stage) {
        return Event::Sent { bytes, is_whole: true, is_progress: false, fresh: 0 };
    }
    landed_otherwise(conn, memory, bytes, errno, parcel)
}

fn landed_otherwise(
    conn: &mut Conn,
    memory: &mut Memory<'_>,
    bytes: usize,
    errno: i32,
    parcel: Option<Box<Parcel>>,
) -> Event {
    let waited = std::mem::take(&mut conn.ops.send_waits);
    let was_cancelled = std::mem::take(&mut conn.ops.send_cancelled);
    let passing = match errno {
        0 | libc::EINTR | libc::ECANCELED => true,
        // A socket that takes nothing now, or a kernel short of memory, is waited for.
        libc::EAGAIN if !waited => true,
        // Sending without copying needs a socket that can, and memory that may be locked.
        libc::ENOBUFS | libc::ENOMEM => !waited || conn.outbox.go_over_to_copying(),
        libc::EOPNOTSUPP => conn.outbox.go_over_to_copying(),
        _ => false,
    };
    // A send that does not wait, or that was called back, is expected to fall short.
    let is_break = waited && !was_cancelled && errno != libc::EOPNOTSUPP;
    let landed = conn.outbox.complete(bytes, parcel, is_break, memory.stage, memory.pool);
    if conn.phase == Phase::Joining {
        conn.outbox.discard(memory.stage, memory.pool);
    }
    if !passing {
        return Event::SendBroken(CloseReason::from_errno(errno));
    }
    if let Some(reason) = landed.broken {
        return Event::SendBroken(reason);
    }
    let is_progress = bytes > 0 && conn.phase == Phase::Flushing;
    Event::Sent { bytes, is_whole: landed.is_whole, is_progress, fresh: landed.fresh }
}

/// The memory of a send is back.
fn returned(conn: &mut Conn, memory: &mut Memory<'_>, parcel: Box<Parcel>) -> Event {
    let was_copied = parcel.was_copied;
    let landed = conn.outbox.take_back(parcel, memory.pool);
    if conn.phase == Phase::Joining {
        conn.outbox.discard(memory.stage, memory.pool);
    }
    match landed.broken {
        Some(reason) => Event::SendBroken(reason),
        None if conn.phase == Phase::Closing => release(conn),
        None => Event::Returned { was_copied },
    }
}

/// Lets go of a connection whose descriptor is closed, if the kernel has none of its memory.
fn release(conn: &mut Conn) -> Event {
    if conn.ops.close || conn.outbox.is_lending() {
        return Event::Nothing;
    }
    let released = conn.phase.on(PhaseEvent::Released);
    assert!(released, "only a closing connection is released");
    Event::Released
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Family;
    use crate::op::Fd;

    #[test]
    fn a_cancel_that_found_nothing_may_be_repeated() {
        let (mut stage, mut pool) = (Stage::new(4096).unwrap(), Pool::default());
        let mut memory = Memory { stage: &mut stage, pool: &mut pool };
        let failed = |errno| Outcome::Failed { errno };
        for (outcome, is_final) in
            [(Outcome::Done, true), (failed(libc::EALREADY), true), (failed(libc::ENOENT), false)]
        {
            let mut conn = Conn::new(Fd(0), Family::V4);
            conn.phase = Phase::Open;
            conn.watch.ask();
            conn.ops.send_waits = true;
            assert!(conn.recalls_send());
            conn.ops.send_cancelled = true;
            conn.ops.cancel_send = true;
            let event = advance(&mut conn, &mut memory, Kind::CancelSend, outcome, false);
            assert!(matches!(event, Event::Nothing) && !conn.ops.cancel_send);
            assert_eq!(conn.recalls_send(), !is_final);
        }
    }
}
