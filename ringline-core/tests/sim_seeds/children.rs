//! Children of the handler and sockets that it adopts, and what a run does with its children.

use crate::chaos::{Account, Badge, Chaos};
use crate::dice::Dice;
use ringline_core::signal::Signal;
use ringline_core::testing::{SimulatedChild, World};
use ringline_core::{
    AdoptError, AtShutdown, ChildCommand, ChildExit, ChildId, ChildKey, ConnId, Ctx, KillError, NotAdopted,
    SendError, SpawnError,
};
use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::rc::Rc;

/// How many children a worker may have at a time.
pub(crate) const CHILDREN_MAX: u32 = 3;

/// What the handler knows of its children.
#[derive(Debug, Default)]
pub(crate) struct Offspring {
    /// Those that it waits for, each with its key and what becomes of it at the end.
    pub(crate) running: BTreeMap<ChildId, (ChildKey, AtShutdown)>,
    ids: Vec<ChildId>,
    keys: u64,
    pub(crate) ended: u64,
    pub(crate) detached: u64,
}

impl Offspring {
    /// Leaves all of them alone from now on.
    pub(crate) fn forget(&mut self) {
        self.ids.clear();
    }
}

impl Chaos {
    /// Something that any callback may do about a child.
    pub(crate) fn breed(&mut self, cx: &mut Ctx<'_, Self>) {
        match self.dice.below(8) {
            0..5 => self.spawn(cx),
            5..7 => self.kill_one(cx),
            _ if self.dice.chance(300) => self.detach_one(cx),
            _ => assert!(cx.children() <= CHILDREN_MAX as usize),
        }
    }

    fn spawn(&mut self, cx: &mut Ctx<'_, Self>) {
        let rules = [AtShutdown::Terminate, AtShutdown::Wait, AtShutdown::Kill, AtShutdown::Detach];
        let rule = rules[self.dice.below(rules.len())];
        let key = ChildKey(self.offspring.keys);
        match cx.spawn(ChildCommand::new("child").at_shutdown(rule), key) {
            Ok(spawned) => {
                assert!(!self.is_ending, "no child after the end has begun");
                assert!((spawned.conn, spawned.stderr) == (None, None));
                let before = self.offspring.running.insert(spawned.child, (key, rule));
                assert!(before.is_none() && !self.offspring.ids.contains(&spawned.child), "ids are unique");
                self.offspring.ids.push(spawned.child);
                self.offspring.keys += 1;
                assert!(cx.is_running(spawned.child));
            }
            Err(refused) => match refused.error {
                SpawnError::Full { limit } => {
                    assert_eq!((limit, cx.children()), (CHILDREN_MAX, CHILDREN_MAX as usize));
                }
                SpawnError::ShuttingDown => {}
                error => panic!("{error}"),
            },
        }
    }

    fn any_child(&mut self) -> Option<ChildId> {
        let count = self.offspring.ids.len();
        (count > 0).then(|| self.offspring.ids[self.dice.below(count)])
    }

    fn kill_one(&mut self, cx: &mut Ctx<'_, Self>) {
        let Some(child) = self.any_child() else { return };
        let signals = [Signal::Terminate, Signal::User1, Signal::Kill];
        let killed = cx.kill(child, signals[self.dice.below(signals.len())]);
        if self.waits_for(child) {
            assert_eq!(killed, Ok(()), "whoever was not told of takes signals");
        } else {
            // One that was let go may be on its way out still.
            assert!(matches!(killed, Ok(()) | Err(KillError::Gone)));
        }
    }

    /// Whether the worker waits for a child: at a shutdown it lets some go by itself.
    fn waits_for(&self, child: ChildId) -> bool {
        let rule = self.offspring.running.get(&child).map(|(_, rule)| *rule);
        rule.is_some_and(|rule| !self.is_ending || rule != AtShutdown::Detach)
    }

    fn detach_one(&mut self, cx: &mut Ctx<'_, Self>) {
        let Some(child) = self.any_child() else { return };
        let was_running = self.waits_for(child);
        assert_eq!(cx.is_running(child), was_running);
        assert_eq!(cx.detach(child), was_running);
        if was_running && self.offspring.running.remove(&child).is_some() {
            self.offspring.detached += 1;
        }
    }

    /// A child has ended.
    pub(crate) fn child_ended(&mut self, cx: &mut Ctx<'_, Self>, child: ChildId, key: ChildKey) {
        let known = self.offspring.running.remove(&child).map(|(key, _)| key);
        assert_eq!(known, Some(key), "each child is told of once, with its key, unless it was let go");
        assert!(!cx.is_running(child));
        assert_eq!(cx.kill(child, Signal::Kill), Err(KillError::Gone));
        self.offspring.ended += 1;
    }

    /// Whoever is left when the worker has ended was let go by it.
    pub(crate) fn check_children(&self) {
        for (key, rule) in self.offspring.running.values() {
            assert_eq!(*rule, AtShutdown::Detach, "{key:?} was never told of");
        }
    }

    /// Makes a connection of a socket from elsewhere.
    pub(crate) fn adopt(&mut self, cx: &mut Ctx<'_, Self>) {
        let (ours, _) = UnixStream::pair().expect("a pair of sockets");
        let badge = Badge::default();
        match cx.adopt(ours.into(), Rc::clone(&badge)) {
            Ok(id) => {
                assert!(!self.is_ending, "no connection after the end has begun");
                badge.set(Some(id));
                self.note_own(id);
                self.cover_own(cx, id);
                assert_eq!(cx.send(id, b"early"), Err(SendError::Closing));
            }
            Err(NotAdopted { error, state, .. }) => {
                assert!(Rc::ptr_eq(&state, &badge), "the state comes back");
                assert!(matches!(error, AdoptError::Full { .. } | AdoptError::ShuttingDown), "{error}");
            }
        }
    }

    /// A connection that the handler has asked for.
    pub(crate) fn note_own(&mut self, id: ConnId) {
        let mut account = Account::default();
        account.had.add(&self.choice);
        assert!(self.accounts.insert(id, account).is_none(), "ids are unique");
        self.ids.push(id);
    }
}

/// The run's side: who plays the children.
#[derive(Debug, Default)]
pub(crate) struct Cast {
    playing: Vec<SimulatedChild>,
}

impl Cast {
    /// Lets new children on, and now and then one off.
    pub(crate) fn step(&mut self, world: &mut World<Chaos>, dice: &mut Dice) {
        while let Some(child) = world.spawned() {
            if dice.chance(300) {
                world.endure(&child);
            }
            self.playing.push(child);
        }
        if !self.playing.is_empty() && dice.chance(150) {
            let child = self.playing.swap_remove(dice.below(self.playing.len()));
            world.end_child(&child, ChildExit::Code(dice.below(3) as i32));
        }
    }
}
