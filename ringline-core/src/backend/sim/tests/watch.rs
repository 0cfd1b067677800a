//! Simulated processes: that their ends are reported, and each fault by itself.

use super::{Fault, Faults, Kind, Rig, errno};
use crate::backend::Wait;
use crate::child::{ChildExit, Part};
use crate::op::{Op, Outcome};

impl Rig {
    fn start(&mut self) -> Part {
        self.sim.company().start("child".into(), Vec::new()).unwrap()
    }

    fn watch(&mut self, row: u32, part: Part) {
        self.push(Kind::Child, row, Op::Poll { descriptor: part.descriptor() });
    }
}

#[test]
fn a_watch_sleeps_until_its_process_has_ended() {
    let mut rig = Rig::calm();
    let (first, second) = (rig.start(), rig.start());
    rig.watch(0, first);
    rig.watch(1, second);
    assert!(rig.turn(Wait::Forever).is_empty() && rig.sim.is_idle());
    rig.sim.company().end(second, ChildExit::Code(1));
    assert!(!rig.sim.is_idle(), "there is something to report");
    let completion = rig.one();
    assert_eq!(completion.tag.row, 1);
    assert!(matches!(completion.outcome, Outcome::Done) && !completion.more);
    assert!(rig.turn(Wait::Forever).is_empty() && rig.sim.is_idle());
}

#[test]
fn a_watch_is_cancelled() {
    for fault in [None, Some(Fault::CancelMisses), Some(Fault::CancelFirst)] {
        let mut rig = Rig::calm();
        let part = rig.start();
        rig.watch(0, part);
        rig.enter(Wait::No);
        rig.sim.set_faults(fault.map_or(Faults::none(), |fault| Faults::none().with(fault, 1000)));
        rig.cancel(Kind::CancelChild, 0, Kind::Child);
        let completions = [rig.one(), rig.one()];
        let watch = completions.iter().find(|completion| completion.tag.kind == Kind::Child).unwrap();
        assert_eq!(errno(watch), libc::ECANCELED);
        rig.sim.company().end(part, ChildExit::Code(0));
        assert!(rig.turn(Wait::Forever).is_empty(), "nobody watches any more");
    }
}

#[test]
fn watches_that_fail() {
    let mut rig = Rig::new(Faults::none().with(Fault::PollFails, 1000));
    let part = rig.start();
    let mut seen = Vec::new();
    for _ in 0..40 {
        rig.watch(0, part);
        seen.push(errno(&rig.one()));
    }
    assert!(seen.contains(&libc::ENOMEM) && seen.contains(&libc::ECANCELED));
}

#[test]
fn watches_that_report_too_early() {
    let mut rig = Rig::new(Faults::none().with(Fault::PollEarly, 1000));
    let part = rig.start();
    rig.watch(0, part);
    assert!(matches!(rig.one().outcome, Outcome::Done));
    assert!(!rig.sim.company().is_over(part.descriptor()));
}

#[test]
#[should_panic(expected = "at rest every child was collected or let go, but 1 were not")]
fn a_child_that_nobody_collects() {
    let mut rig = Rig::calm();
    let part = rig.start();
    rig.sim.company().end(part, ChildExit::Code(0));
    rig.sim.assert_at_rest(&[]);
}
