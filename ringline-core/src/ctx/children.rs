//! Child processes that the handler asks for.
//!
//! Starting one is the one thing that a callback does at once, because only then can it be told what
//! is wrong. Everything later comes from the worker's ring.

use super::{Ctx, Io};
use crate::child::{
    AtShutdown, ChildCommand, ChildId, ChildKey, Ends, KillError, NotSpawned, SpawnError, Spawned,
};
use crate::conn::{AdoptError, Conn, ConnId, WriteEnd};
use crate::handler::EventHandler;
use crate::net::Family;
use crate::signal::Signal;
use std::os::fd::OwnedFd;

impl<H: EventHandler> Ctx<'_, H> {
    /// Starts a program. When it has ended, [`on_child`](EventHandler::on_child) is called once with `key`.
    /// Its connections are open when [`on_open`](EventHandler::on_open) is called for them, in a later turn.
    ///
    /// **This blocks** until the kernel has loaded the program: a fraction of a millisecond as a rule, some
    /// milliseconds on a busy machine, longer from a slow disk. The memory of this process is not copied for
    /// it, however much there is. A server for which that is too long starts its children in
    /// [`on_start`](EventHandler::on_start), or on a worker that serves nobody.
    ///
    /// # Errors
    ///
    /// A [`SpawnError`]; the command comes back.
    ///
    /// # Examples
    ///
    /// ```
    /// use ringline_core::{ChildCommand, ChildKey, Ctx, EventHandler};
    ///
    /// fn count_words<H: EventHandler<Conn = ()>>(cx: &mut Ctx<'_, H>, text: &[u8]) {
    ///     let command = ChildCommand::new("wc").arg("-w").connection(());
    ///     match cx.spawn(command, ChildKey(1)) {
    ///         Ok(spawned) => {
    ///             // The text is sent in `on_open` of `spawned.conn`, and `shutdown_write` ends it.
    ///             # let _ = (spawned, text);
    ///         }
    ///         Err(refused) => eprintln!("{refused}"),
    ///     }
    /// }
    /// ```
    pub fn spawn(
        &mut self,
        command: ChildCommand<H::Conn>,
        key: ChildKey,
    ) -> Result<Spawned, NotSpawned<H::Conn>> {
        let mut command = Box::new(command);
        match self.io.spawn(&mut command, key) {
            Ok((child, ends)) => {
                let (state, stderr_state) = command.take_states();
                let conn = self.connect_child(ends.stdio.zip(state), WriteEnd::Open);
                let stderr = self.connect_child(ends.stderr.zip(stderr_state), WriteEnd::Ended);
                Ok(Spawned { child, conn, stderr })
            }
            Err(error) => Err(NotSpawned { error, command }),
        }
    }

    /// Makes a connection of our end. A child is no stranger: it gets no deadlines, and one that must get
    /// rid of its output before it reads on is read whatever waits to be sent.
    fn connect_child(&mut self, end: Option<(OwnedFd, H::Conn)>, write_end: WriteEnd) -> Option<ConnId> {
        let (socket, state) = end?;
        let conn = Conn { write_end, reads_on: true, ..Conn::adopted(socket, Family::Unix) };
        Some(self.take_in(conn, state))
    }

    /// Sends a signal to a child. It reaches this child or nobody: never a stranger that has got the
    /// child's number since.
    ///
    /// # Errors
    ///
    /// [`KillError::Gone`] for one that has ended, and what else the system has to say.
    pub fn kill(&mut self, child: ChildId, signal: Signal) -> Result<(), KillError> {
        let child = self.io.children.get(child).ok_or(KillError::Gone)?;
        child.process.signal(signal.number()).map_err(KillError::from_errno)
    }

    /// Lets a child go: it runs on, [`on_child`](EventHandler::on_child) is not called for it, and when it
    /// has ended, it is collected all the same. False if it has ended.
    pub fn detach(&mut self, child: ChildId) -> bool {
        self.io.let_go(child)
    }

    /// Whether a child has not ended, as far as the worker knows.
    pub fn is_running(&self, child: ChildId) -> bool {
        self.io.children.get(child).is_some_and(|child| !child.is_leaving)
    }

    /// The number of a child's process, for a log; `None` if it has ended. Once it has, the number may
    /// be that of another process: [`kill`](Self::kill) does not go by it.
    pub fn process_number(&self, child: ChildId) -> Option<u32> {
        self.io.children.get(child).and_then(|child| child.process.number())
    }

    /// How many children this worker has.
    pub fn children(&self) -> usize {
        self.io.children.live()
    }
}

impl Io {
    fn spawn<C>(
        &mut self,
        command: &mut ChildCommand<C>,
        key: ChildKey,
    ) -> Result<(ChildId, Ends), SpawnError> {
        match self.check_room(command.connections()) {
            Ok(()) if self.children.is_full() => {
                self.shard.children_refused.increment();
                return Err(SpawnError::Full { limit: self.children.limit() });
            }
            Ok(()) => {}
            Err(AdoptError::Full { limit }) => return Err(SpawnError::ConnectionsFull { limit }),
            Err(_) => return Err(SpawnError::ShuttingDown),
        }
        let started = command
            .make_ends()
            .map_err(|error| SpawnError::from_system(error, command.program(), None))
            .and_then(|ends| self.children.start(command, key).map(|child| (child, ends)));
        match &started {
            Ok(_) => {
                self.shard.children_spawned.increment();
                self.shard.children_active.add(1);
                self.mark_children();
            }
            Err(_) => self.shard.children_failed.increment(),
        }
        started
    }

    /// Has the children looked after with the next flush.
    pub(crate) fn mark_children(&mut self) {
        if !std::mem::replace(&mut self.children.is_marked, true) {
            self.dirty.push(ConnId::NOBODY);
        }
    }

    /// Stops waiting for a child; false if there is nothing to stop.
    pub(crate) fn let_go(&mut self, id: ChildId) -> bool {
        let Some(child) = self.children.get_mut(id) else { return false };
        if std::mem::replace(&mut child.is_leaving, true) {
            return false;
        }
        // However soon the worker ends.
        child.at_shutdown = AtShutdown::Detach;
        self.children.restless.push(id.row());
        self.mark_children();
        true
    }
}
