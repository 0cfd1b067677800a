//! The trait a user implements. What each callback may rely on is listed in `docs/promises.md`.

use crate::child::{ChildExit, ChildId, ChildKey};
use crate::conn::{CloseReason, ConnId, Sent, TimerKey};
use crate::consumed::Consumed;
use crate::ctx::Ctx;
use crate::job::{JobFailed, JobKey, ResolveError};
use crate::net::{Datagram, OptionRefused, Peer};
use crate::signal::Signal;
use crate::udp::{UdpClosed, UdpError, UdpId};
use std::net::SocketAddr;
use std::time::Instant;

/// The answer to [`on_accept`](EventHandler::on_accept).
#[derive(Debug)]
#[must_use]
pub enum Admit<C> {
    /// Serve the connection; this is its state.
    Accept(C),
    /// Close it at once. No other callback follows.
    Refuse,
}

/// The answer to [`on_eof`](EventHandler::on_eof).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Eof {
    /// Send what is queued, then close.
    Close,
    /// The peer has said everything, the handler has not: it goes on sending and calls
    /// [`close`](Ctx::close) itself.
    KeepWriting,
}

/// One turn of the worker's loop, as [`on_tick`](EventHandler::on_tick) sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Tick {
    /// How many completions this turn has dispatched.
    pub completions: usize,
    /// The tick interval has passed since the last tick for which this was true. Always false if
    /// no [`tick_interval`](crate::ConfigBuilder::tick_interval) is set.
    pub interval: bool,
}

/// What a server does when something happens. One value per worker, on the worker's thread.
///
/// For each connection the order is: `on_accept`, `on_open`, then any of `on_data`,
/// `on_send_complete`, `on_writable`, `on_conn_timer` and `on_eof` (once at most), and at last
/// `on_close`, exactly once, after which the id means nothing any more.
///
/// Callbacks must not block: everything else on this worker waits meanwhile. A panic in a callback
/// ends the connection it was for and no other; see [`PanicPolicy`](crate::PanicPolicy).
///
/// # Examples
///
/// A server that answers every line with its length:
///
/// ```
/// use ringline_core::{Admit, ConnId, Consumed, Ctx, EventHandler, Peer};
///
/// struct Lengths;
///
/// impl EventHandler for Lengths {
///     type Conn = u64; // lines answered
///     type Message = ();
///
///     fn on_accept(&mut self, _: &mut Ctx<'_, Self>, _: ConnId, _: &Peer) -> Admit<u64> {
///         Admit::Accept(0)
///     }
///
///     fn on_data(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, lines: &mut u64, data: &[u8]) -> Consumed {
///         let mut consumed = 0;
///         while let Some(end) = data[consumed..].iter().position(|&byte| byte == b'\n') {
///             if cx.send(id, format!("{end}\n").as_bytes()).is_err() {
///                 cx.abort(id);
///             }
///             *lines += 1;
///             consumed += end + 1;
///         }
///         Consumed::bytes(consumed)
///     }
/// }
/// ```
#[allow(unused_variables)]
pub trait EventHandler: Sized {
    /// What the handler keeps about one connection. It enters by value in
    /// [`on_accept`](Self::on_accept) and leaves by value in [`on_close`](Self::on_close).
    type Conn;

    /// What other threads and other workers may post to this handler; `()` if there is nothing to say.
    type Message: Send + 'static;

    /// Called first, once, on the worker's thread, before the first connection. What keeps the worker from
    /// starting is said with [`fail_start`](Ctx::fail_start).
    fn on_start(&mut self, cx: &mut Ctx<'_, Self>) {}

    /// A peer has connected. The connection takes sends from [`on_open`](Self::on_open) on, not
    /// yet here.
    ///
    /// A handler that does not implement this refuses everybody: the one of a program that only connects, or
    /// has datagram sockets or children alone.
    fn on_accept(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, peer: &Peer) -> Admit<Self::Conn> {
        Admit::Refuse
    }

    /// The connection is ready in both directions. The place for a greeting.
    fn on_open(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Self::Conn) {}

    /// The layer that [`secure`](Ctx::secure) put on the connection agrees with the peer's: from now on
    /// what is sent and received goes through it. Not called for a connection that had a layer from the
    /// beginning, which [`on_open`](Self::on_open) is called for when that is ready.
    fn on_secured(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Self::Conn) {}

    /// Everything unread, contiguous: at least one byte. What is not consumed is presented again,
    /// followed by more, once more has arrived.
    ///
    /// A handler that does not implement this reads everything and drops it.
    fn on_data(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        id: ConnId,
        conn: &mut Self::Conn,
        data: &[u8],
    ) -> Consumed {
        Consumed::all(data)
    }

    /// All sends up to `sent.through` have completed: the kernel has their bytes, or, if
    /// `sent.result` is an error, the connection is about to close and some were dropped. Every
    /// accepted send is covered by exactly one call.
    ///
    /// A handler that does not implement this is not woken for completed sends.
    fn on_send_complete(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Self::Conn, sent: Sent) {
        cx.ignore_completed_sends();
    }

    /// The outbox has come down to its low mark after having reached its high one.
    fn on_writable(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Self::Conn) {}

    /// The peer has ended its direction; no [`on_data`](Self::on_data) follows. `unread` is what
    /// the handler has not consumed: not empty if the peer stopped in the middle of a message.
    fn on_eof(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Self::Conn, unread: &[u8]) -> Eof {
        Eof::Close
    }

    /// A timer set with [`set_conn_timer`](Ctx::set_conn_timer) has expired.
    fn on_conn_timer(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: &mut Self::Conn, key: TimerKey) {}

    /// A timer set with [`set_timer`](Ctx::set_timer) has expired.
    fn on_timer(&mut self, cx: &mut Ctx<'_, Self>, key: TimerKey) {}

    /// The connection is over and its state comes back. The framework holds nothing of it any
    /// more: no bytes, no timers, no descriptor.
    fn on_close(&mut self, cx: &mut Ctx<'_, Self>, id: ConnId, conn: Self::Conn, reason: CloseReason) {}

    /// The last callback of every turn. A turn happens when there is something to do; for one at
    /// least every so often, set a [`tick_interval`](crate::ConfigBuilder::tick_interval).
    fn on_tick(&mut self, cx: &mut Ctx<'_, Self>, tick: Tick) {}

    /// A message that was posted to this worker, by another thread, by another worker, or by this one:
    /// see [`Mailbox`](crate::Mailbox). Comes after the turn's completions and before its timers. A turn
    /// delivers 256 messages at most; what is left waits for the next one, which begins at once.
    ///
    /// What was posted before a worker begins to shut down is delivered before
    /// [`on_shutdown`](Self::on_shutdown). What is posted later may not be.
    fn on_message(&mut self, cx: &mut Ctx<'_, Self>, message: Self::Message) {}

    /// Options that [`set_socket_options`](Ctx::set_socket_options) was called for are set, all of them, or
    /// one was refused by the kernel and those behind it were not tried. Also called for an option of a
    /// listener that an accepted socket does not inherit, if the kernel refuses it.
    ///
    /// A handler that does not implement this finds refusals in the metric `ringline/options/refused` and,
    /// at the level `debug`, in the log.
    fn on_socket_options(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        id: ConnId,
        conn: &mut Self::Conn,
        result: Result<(), OptionRefused>,
    ) {
        if let Err(refused) = result {
            log::debug!("connection {id}: {refused}");
        }
    }

    /// A datagram has arrived on a socket that [`Server::bind_udp`](crate::Server::bind_udp) or
    /// [`Ctx::bind_udp`] made. It lies in the kernel's buffer, which the kernel gets back when this
    /// returns.
    ///
    /// A panic here costs the datagram and no more, whatever it was that made the handler panic; the
    /// socket goes on.
    fn on_datagram(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, datagram: Datagram<'_>) {}

    /// The kernel reports an error on a datagram socket, which goes on: nobody is there, or a datagram
    /// could not be sent. Every accepted datagram that did not leave for such a reason is reported
    /// once.
    fn on_udp_error(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, error: UdpError) {}

    /// A datagram socket is over, exactly once and as its last callback. The framework holds nothing of
    /// it any more.
    fn on_udp_close(&mut self, cx: &mut Ctx<'_, Self>, socket: UdpId, reason: UdpClosed) {}

    /// The answer to [`run_blocking`](Ctx::run_blocking): what the job returned, or why it did not. Comes
    /// when messages do, 256 at most in a turn.
    fn on_job(&mut self, cx: &mut Ctx<'_, Self>, key: JobKey, result: Result<Self::Message, JobFailed>) {}

    /// The answer to [`run_blocking_for`](Ctx::run_blocking_for), as long as the connection is open.
    fn on_conn_job(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        id: ConnId,
        conn: &mut Self::Conn,
        key: JobKey,
        result: Result<Self::Message, JobFailed>,
    ) {
    }

    /// The answer to [`resolve`](Ctx::resolve): at least one address, or why there is none.
    fn on_resolved(
        &mut self,
        cx: &mut Ctx<'_, Self>,
        key: JobKey,
        result: Result<Vec<SocketAddr>, ResolveError>,
    ) {
    }

    /// The server shuts down: no new connections from now on, and every open one is closed once
    /// what it has queued is out, at the latest at `deadline`. The last place to send a farewell.
    fn on_shutdown(&mut self, cx: &mut Ctx<'_, Self>, deadline: Instant) {}

    /// A child that [`spawn`](Ctx::spawn) has started with `key` is over and was collected; the last
    /// callback that names it. Bytes that it has written may be on their way still: its connections end by
    /// themselves, before or after this.
    fn on_child(&mut self, cx: &mut Ctx<'_, Self>, child: ChildId, key: ChildKey, exit: ChildExit) {}

    /// A signal that [`Server::signals`](crate::Server::signals) asks for has arrived, at least once since
    /// the last call for it.
    fn on_signal(&mut self, cx: &mut Ctx<'_, Self>, signal: Signal) {}
}
