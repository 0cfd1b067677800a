//! The only place that calls the user's code, apart from layers: those are called where they are kept.
//!
//! A panic stops here. One in a callback for a connection ends that connection; elsewhere it is
//! counted and the worker goes on, or stops if the configuration says so.

use super::Worker;
use crate::backend::Backend;
use crate::buf::{Lease, drop_carefully};
use crate::child::{ChildExit, ChildId, ChildKey};
use crate::config::PanicPolicy;
use crate::conn::{CloseReason, ConnId, Layered, Sent, TimerKey};
use crate::consumed::Consumed;
use crate::ctx::{Ctx, Presented};
use crate::handler::{Admit, Eof, EventHandler, Tick};
use crate::job::{JobFailed, JobKey, ResolveError};
use crate::layer::{Layer, LayerError, LayerFactory};
use crate::net::{Datagram, OptionRefused, Peer};
use crate::signal::Signal;
use crate::udp::{UdpClosed, UdpError, UdpId};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Instant;

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Runs user code that is for no connection.
    fn call<R>(&mut self, callback: impl FnOnce(&mut H, &mut Ctx<'_, H>) -> R) -> Option<R> {
        let (handler, io, desk) = (&mut self.handler, &mut self.io, &mut self.desk);
        let result = catch_unwind(AssertUnwindSafe(|| callback(handler, &mut Ctx::new(io, desk))));
        self.adopt();
        unless_panic(result).or_else(|| self.panicked())
    }

    /// Runs user code for a connection that has a state.
    #[inline]
    fn call_conn<R>(
        &mut self,
        id: ConnId,
        callback: impl FnOnce(&mut H, &mut Ctx<'_, H>, &mut H::Conn) -> R,
    ) -> Option<R> {
        let state = self.users[id.row()].as_mut()?;
        let (handler, io, desk) = (&mut self.handler, &mut self.io, &mut self.desk);
        let result = catch_unwind(AssertUnwindSafe(|| callback(handler, &mut Ctx::new(io, desk), state)));
        self.adopt();
        unless_panic(result).or_else(|| self.conn_panicked(id))
    }

    /// Lets a test or a tool act as the handler.
    pub(crate) fn act<R>(&mut self, act: impl FnOnce(&mut H, &mut Ctx<'_, H>) -> R) -> R {
        let result = act(&mut self.handler, &mut Ctx::new(&mut self.io, &mut self.desk));
        self.adopt();
        result
    }

    pub(super) fn start_handler(&mut self) -> bool {
        self.call(H::on_start).is_some()
    }

    /// `None` stands for a panic.
    pub(super) fn accept_handler(&mut self, id: ConnId, peer: &Peer) -> Option<Admit<H::Conn>> {
        self.call(|handler, cx| handler.on_accept(cx, id, peer))
    }

    pub(super) fn open_handler(&mut self, id: ConnId) {
        self.call_conn(id, |handler, cx, conn| handler.on_open(cx, id, conn));
    }

    pub(super) fn secured_handler(&mut self, id: ConnId) {
        self.call_conn(id, |handler, cx, conn| handler.on_secured(cx, id, conn));
    }

    /// A layer for a connection. A panic is as good as none.
    pub(super) fn layer_of(&mut self, factory: &dyn LayerFactory) -> Result<Box<dyn Layer>, LayerError> {
        let made = catch_unwind(AssertUnwindSafe(|| factory.accept()));
        unless_panic(made).or_else(|| self.panicked()).unwrap_or(Err(LayerError::PANICKED))
    }

    /// The layer of a connection that is over is not needed any more.
    #[cold]
    pub(super) fn drop_layer(&mut self, layered: Layered) {
        if layered.let_go() {
            self.panicked::<()>();
        }
    }

    /// Presents received bytes where the backend has them.
    #[inline]
    pub(super) fn data_handler(&mut self, id: ConnId, lease: &Lease) -> Option<Consumed> {
        let may_hold = self.backend.has_spare_buffers();
        let data = self.backend.received(lease);
        let state = self.users[id.row()].as_mut()?;
        let (handler, io, desk) = (&mut self.handler, &mut self.io, &mut self.desk);
        io.presented = Presented::in_place(id, data, lease, may_hold);
        let result =
            catch_unwind(AssertUnwindSafe(|| handler.on_data(&mut Ctx::new(io, desk), id, state, data)));
        io.presented.end();
        let len = data.len();
        if !io.shared.is_empty() {
            self.share_forwarded();
        }
        self.adopt();
        self.judge(id, len, unless_panic(result))
    }

    /// Notes with the backend what a callback has forwarded of what it was shown.
    #[cold]
    fn share_forwarded(&mut self) {
        for lease in self.io.shared.drain(..) {
            self.backend.share(&lease);
        }
    }

    /// Presents the inbox.
    pub(super) fn inbox_handler(&mut self, id: ConnId) -> Option<Consumed> {
        let data = self.inboxes[id.row()].unread();
        let state = self.users[id.row()].as_mut()?;
        let (handler, io, desk) = (&mut self.handler, &mut self.io, &mut self.desk);
        io.presented = Presented::copied(id);
        let result =
            catch_unwind(AssertUnwindSafe(|| handler.on_data(&mut Ctx::new(io, desk), id, state, data)));
        io.presented.end();
        let len = data.len();
        self.adopt();
        self.judge(id, len, unless_panic(result))
    }

    pub(super) fn eof_handler(&mut self, id: ConnId) -> Option<Eof> {
        let unread = self.inboxes[id.row()].unread();
        let state = self.users[id.row()].as_mut()?;
        let (handler, io, desk) = (&mut self.handler, &mut self.io, &mut self.desk);
        let result =
            catch_unwind(AssertUnwindSafe(|| handler.on_eof(&mut Ctx::new(io, desk), id, state, unread)));
        self.adopt();
        unless_panic(result).or_else(|| self.conn_panicked(id))
    }

    #[inline]
    pub(super) fn sent_handler(&mut self, id: ConnId, sent: Sent) {
        self.call_conn(id, |handler, cx, conn| handler.on_send_complete(cx, id, conn, sent));
    }

    pub(super) fn writable_handler(&mut self, id: ConnId) {
        self.call_conn(id, |handler, cx, conn| handler.on_writable(cx, id, conn));
    }

    pub(super) fn conn_timer_handler(&mut self, id: ConnId, key: TimerKey) {
        self.call_conn(id, |handler, cx, conn| handler.on_conn_timer(cx, id, conn, key));
    }

    pub(super) fn options_handler(&mut self, id: ConnId, result: Result<(), OptionRefused>) {
        self.call_conn(id, |handler, cx, conn| handler.on_socket_options(cx, id, conn, result));
    }

    pub(super) fn timer_handler(&mut self, key: TimerKey) {
        self.call(|handler, cx| handler.on_timer(cx, key));
    }

    #[inline]
    pub(super) fn tick_handler(&mut self, tick: Tick) {
        self.call(|handler, cx| handler.on_tick(cx, tick));
    }

    pub(super) fn message_handler(&mut self, message: H::Message) {
        self.call(|handler, cx| handler.on_message(cx, message));
    }

    pub(super) fn job_handler(&mut self, key: JobKey, result: Result<H::Message, JobFailed>) {
        self.call(|handler, cx| handler.on_job(cx, key, result));
    }

    pub(super) fn conn_job_handler(
        &mut self,
        id: ConnId,
        key: JobKey,
        result: Result<H::Message, JobFailed>,
    ) {
        self.call_conn(id, |handler, cx, conn| handler.on_conn_job(cx, id, conn, key, result));
    }

    pub(super) fn resolved_handler(&mut self, key: JobKey, result: Result<Vec<SocketAddr>, ResolveError>) {
        self.call(|handler, cx| handler.on_resolved(cx, key, result));
    }

    pub(super) fn shutdown_handler(&mut self, deadline: Instant) {
        self.call(|handler, cx| handler.on_shutdown(cx, deadline));
    }

    /// Presents a datagram where the backend has it.
    #[inline]
    pub(super) fn datagram_handler(&mut self, id: UdpId, lease: &Lease) {
        let datagram = Datagram::parse(self.backend.datagram(lease));
        let (handler, io, desk) = (&mut self.handler, &mut self.io, &mut self.desk);
        let Some(datagram) = io.count_datagram(id, datagram) else { return };
        let result =
            catch_unwind(AssertUnwindSafe(|| handler.on_datagram(&mut Ctx::new(io, desk), id, datagram)));
        self.adopt();
        if unless_panic(result).is_none() {
            self.panicked::<()>();
        }
    }

    /// Presents a datagram that was kept.
    pub(super) fn held_datagram_handler(&mut self, id: UdpId, held: &[u8]) {
        if let Some(datagram) = self.io.count_datagram(id, Datagram::parse(held)) {
            self.call(|handler, cx| handler.on_datagram(cx, id, datagram));
        }
    }

    pub(super) fn udp_error_handler(&mut self, id: UdpId, error: UdpError) {
        self.call(|handler, cx| handler.on_udp_error(cx, id, error));
    }

    pub(super) fn udp_close_handler(&mut self, id: UdpId, reason: UdpClosed) {
        self.call(|handler, cx| handler.on_udp_close(cx, id, reason));
    }

    /// The last of a child that is no longer in the table.
    pub(super) fn child_handler(&mut self, child: ChildId, key: ChildKey, exit: ChildExit) {
        self.call(|handler, cx| handler.on_child(cx, child, key, exit));
    }

    /// A signal has arrived since the last time.
    pub(crate) fn signal_handler(&mut self, signal: Signal) {
        self.io.shard.signals.increment();
        self.call(|handler, cx| handler.on_signal(cx, signal));
    }

    /// The last calls for a connection that is no longer in the table.
    pub(super) fn close_handler(&mut self, id: ConnId, unsent: Option<Sent>, reason: CloseReason) {
        let Some(mut state) = self.users[id.row()].take() else { return };
        if let Some(sent) = unsent {
            self.call(|handler, cx| handler.on_send_complete(cx, id, &mut state, sent));
        }
        self.call(|handler, cx| handler.on_close(cx, id, state, reason));
    }

    /// A claim to have consumed more than there was is as bad as a panic.
    #[inline]
    fn judge(&mut self, id: ConnId, available: usize, answer: Option<Consumed>) -> Option<Consumed> {
        let answer = answer.filter(|consumed| consumed.bytes <= available);
        answer.or_else(|| self.conn_panicked(id))
    }

    #[cold]
    fn conn_panicked<R>(&mut self, id: ConnId) -> Option<R> {
        self.io.terminate(id, CloseReason::HandlerPanicked);
        self.panicked()
    }

    #[cold]
    fn panicked<R>(&mut self) -> Option<R> {
        self.io.shard.handler_panics.increment();
        if self.panic_policy == PanicPolicy::StopWorker {
            self.shutdown.after_panic();
        }
        None
    }
}

/// What a callback returned, if it did. What it panicked with may panic once more when it is dropped.
#[inline]
fn unless_panic<R>(result: thread::Result<R>) -> Option<R> {
    result.map_err(drop_carefully).ok()
}
