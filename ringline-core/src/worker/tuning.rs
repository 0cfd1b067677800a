//! Options of open connections on their way to the kernel.

use super::Worker;
use crate::backend::Backend;
use crate::conn::tuning::Step;
use crate::conn::{Belated, ConnId};
use crate::handler::EventHandler;
use crate::net::{OptionRefused, Setting};
use crate::op::{Outcome, Tag};

impl<H: EventHandler, B: Backend> Worker<H, B> {
    /// Goes on with the options of a connection, if there are any.
    #[inline]
    pub(super) fn tune_if_asked(&mut self, id: ConnId) {
        if self.io.conns.get(id).is_some_and(|conn| conn.tuning.is_some()) {
            self.tune(id);
        }
    }

    /// Has the next option of a connection set, and tells the handler of what is over.
    #[cold]
    pub(super) fn tune(&mut self, id: ConnId) {
        while let Some(conn) = self.io.conns.get_mut(id).filter(|conn| conn.phase.is_active()) {
            let Some(tuning) = &mut conn.tuning else { return };
            match tuning.step() {
                Step::Wait => {
                    if tuning.is_empty() {
                        conn.tuning = None;
                    }
                    return;
                }
                Step::Tell(result) => self.tell_options(id, result),
                Step::Set(setting) => {
                    if let Err(setting) = self.push_option(id, setting) {
                        self.option_did_not_fit(id, *setting);
                    }
                    return;
                }
            }
        }
    }

    fn option_did_not_fit(&mut self, id: ConnId, setting: Setting) {
        if let Some(tuning) = self.io.conns.get_mut(id).and_then(|conn| conn.tuning.as_mut()) {
            tuning.put_back(setting);
        }
        self.io.shard.submissions_full.increment();
        self.io.note(id);
    }

    /// An option was set or refused.
    #[cold]
    pub(super) fn option_set(&mut self, tag: Tag, outcome: &Outcome) {
        let Some((id, conn)) = self.io.conns.find_mut(tag) else {
            return self.io.shard.completions_stale.increment();
        };
        conn.ops.set_option = false;
        let errno = if let Outcome::Failed { errno } = outcome { Some(*errno) } else { None };
        let refused = conn.tuning.as_mut().and_then(|tuning| tuning.landed(errno));
        // It may be all that the end of the connection has waited for.
        self.io.mark(id);
        self.io.note(id);
        if let Some(refused) = refused {
            self.option_refused(id, refused);
        }
    }

    fn option_refused(&mut self, id: ConnId, refused: OptionRefused) {
        self.io.shard.options_refused.increment();
        self.tell_options(id, Err(refused));
    }

    /// A connection whose end has begun hears of nothing but its sends and its end.
    pub(super) fn tell_options(&mut self, id: ConnId, result: Result<(), OptionRefused>) {
        if self.io.is_open(id) {
            self.options_handler(id, result);
        } else {
            self.tell_later(id, Belated::Options(result));
        }
    }
}
