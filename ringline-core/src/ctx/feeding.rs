//! Who is not read because the outbox of another connection is high.
//!
//! Invariant: while a connection waits, it is on the list of each outbox that it waits for, once.

use super::Io;
use crate::conn::{ConnId, Deadline, Obstacle};

/// For how many of those who wait for an outbox there is room from the first on.
const FEEDERS_MIN: usize = 4;

impl Io {
    /// Has `source` wait until the outbox of `to` is down again.
    pub(super) fn feed(&mut self, source: ConnId, to: ConnId) {
        if source == to {
            // An outbox holds its own connection's reading anyway.
            return;
        }
        let Some(fed) = self.conns.get_mut(to) else { return };
        // Who waits is shown nothing, so it can only be on the list since this very callback: as the last.
        if fed.fed_by.last() == Some(&source) {
            return;
        }
        if fed.fed_by.len() == fed.fed_by.capacity() {
            self.forget_feeders(to);
        }
        let Some(fed) = self.conns.get_mut(to) else { return };
        fed.fed_by.push(source);
        if let Some(feeding) = self.conns.get_mut(source) {
            feeding.feeds += 1;
            feeding.obstacles.add(Obstacle::Feeding);
            feeding.watch.stop(Deadline::Read);
            self.mark(source);
        }
    }

    /// Takes those who are gone off the list of a connection, so that one which stays high for ever does not
    /// remember all that ever waited for it; and makes room, so that this happens seldom.
    #[cold]
    fn forget_feeders(&mut self, id: ConnId) {
        let Some(mut feeders) = self.conns.get_mut(id).map(|conn| std::mem::take(&mut conn.fed_by)) else {
            return;
        };
        feeders.retain(|source| self.conns.get(*source).is_some());
        feeders.reserve(feeders.len().max(FEEDERS_MIN));
        if let Some(conn) = self.conns.get_mut(id) {
            conn.fed_by = feeders;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{Faults, World};
    use crate::{Admit, Config, ConnId, Consumed, Ctx, EventHandler, Peer};

    /// Sends everything on to the first connection that there was.
    struct Funnel(Option<ConnId>);

    impl EventHandler for Funnel {
        type Conn = ();
        type Message = ();

        fn on_accept(&mut self, _: &mut Ctx<'_, Self>, id: ConnId, _: &Peer) -> Admit<()> {
            self.0.get_or_insert(id);
            Admit::Accept(())
        }

        fn on_data(&mut self, cx: &mut Ctx<'_, Self>, _: ConnId, (): &mut (), data: &[u8]) -> Consumed {
            let to = self.0.expect("somebody was accepted");
            for part in data.chunks(1000) {
                let _ = cx.forward(to, part);
            }
            Consumed::all(data)
        }
    }

    #[test]
    fn who_waits_for_a_target_is_listed_once_and_forgotten_when_gone() {
        let mut faults = Faults::none();
        faults.send_buffer_bytes = 100;
        let builder = Config::builder().outbox_low_bytes(1000).outbox_high_bytes(2000);
        let mut world = World::simulated(&builder.build().unwrap(), 1, faults, Funnel(None));
        let _deaf = world.connect();
        assert!(world.run_until(|world| world.handler().0.is_some()));
        let target = world.handler().0.unwrap();
        for round in 1..=200 {
            let peer = world.connect();
            world.write_all(peer, &[7; 8000]);
            assert!(world.run_until(|world| world.metrics().bytes_received == round * 8000));
            world.reset(peer);
            assert!(world.run_until(|world| world.metrics().connections_closed == round));
            let listed = world.act(|_, cx| cx.io.conns.get(target).unwrap().fed_by.len());
            assert!((1..=8).contains(&listed), "round {round}: {listed} wait, and one could");
        }
    }
}
