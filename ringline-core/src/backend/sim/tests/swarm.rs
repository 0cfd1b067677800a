//! Many peers, many seeds: the echo server under every mix of faults.

use super::echo::Echo;
use super::{Fault, Faults, LISTENER, PeerId};
use crate::backend::Backend;
use crate::backend::sim::Sim;
use crate::backend::sim::random::Random;

/// Turns in which peers come and behave as they like.
const TURNS: u32 = 300;
/// Turns by which everybody must be served.
const TURNS_MAX: u32 = 30_000;
const PEERS: usize = 6;

/// What one peer has in mind.
#[derive(Debug)]
struct Plan {
    peer: PeerId,
    total: usize,
    written: usize,
    read: usize,
    has_ended: bool,
    /// Goes away without a farewell, or the server was told to break it off.
    is_rude: bool,
}

impl Plan {
    fn byte(&self, at: usize) -> u8 {
        (at as u8).wrapping_mul(31).wrapping_add(self.peer.0 as u8)
    }

    fn write(&mut self, sim: &mut Sim, limit: usize) {
        let end = self.total.min(self.written.saturating_add(limit));
        let bytes: Vec<_> = (self.written..end).map(|at| self.byte(at)).collect();
        self.written += sim.write(self.peer, &bytes);
    }

    fn read(&mut self, sim: &mut Sim, limit: usize) {
        for byte in sim.read_at_most(self.peer, limit) {
            assert_eq!(byte, self.byte(self.read), "byte {} of {:?}", self.read, self.peer);
            self.read += 1;
        }
    }

    fn end(&mut self, sim: &mut Sim) {
        if self.written == self.total && !self.has_ended {
            sim.end(self.peer);
            self.has_ended = true;
        }
    }
}

/// Says which seed it was, should it fail.
struct Blame<'a>(u64, &'a Faults);

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {} with {:?}", self.0, self.1);
        }
    }
}

/// One seed.
struct Run {
    echo: Echo,
    plans: Vec<Plan>,
    random: Random,
}

impl Run {
    fn new(seed: u64, faults: Faults) -> Self {
        let echo = Echo::new(Sim::new(seed, faults));
        Self { echo, plans: Vec::new(), random: Random::new(!seed) }
    }

    fn play(&mut self) {
        for _ in 0..TURNS {
            self.act();
            self.echo.turn();
        }
        self.echo.sleeps = true;
        let mut turns = 0;
        let mut slept = false;
        while self.plans.iter().any(|plan| self.echo.sim.is_open(plan.peer)) {
            let acted = self.act_all();
            turns += 1;
            assert!(turns < TURNS_MAX, "somebody is never served: {:#?}", self.plans);
            assert!(acted || !slept, "everybody waits: {:#?}", self.plans);
            slept = self.echo.turn();
        }
        self.act_all();
        while !self.echo.turn() {}
        self.echo.sim.assert_at_rest(&[Echo::ACCEPT]);
        self.judge();
    }

    /// Some peer does something.
    fn act(&mut self) {
        if self.plans.len() < PEERS && self.random.below(20) == 0 {
            let peer = self.echo.sim.connect(LISTENER);
            let total = self.random.below(3000) as usize;
            let plan = Plan { peer, total, written: 0, read: 0, has_ended: false, is_rude: false };
            self.plans.push(plan);
        }
        let Self { echo, plans, random } = self;
        let limit = 1 + random.below(400) as usize;
        for plan in plans {
            match random.below(200) {
                0..30 => plan.write(&mut echo.sim, limit),
                30..60 => plan.read(&mut echo.sim, limit),
                60..62 => plan.end(&mut echo.sim),
                62 if !plan.is_rude && plan.peer.0 % 3 == 0 => {
                    plan.is_rude = true;
                    match random.below(3) {
                        0 => echo.sim.reset(plan.peer),
                        1 => echo.sim.close(plan.peer),
                        _ => echo.abort(echo.sim.address(plan.peer)),
                    }
                }
                _ => {}
            }
        }
    }

    /// Every peer does what it can; false if nobody could do anything.
    fn act_all(&mut self) -> bool {
        let mut acted = false;
        for plan in &mut self.plans {
            let before = (plan.written, plan.read, plan.has_ended);
            plan.write(&mut self.echo.sim, usize::MAX);
            plan.end(&mut self.echo.sim);
            plan.read(&mut self.echo.sim, usize::MAX);
            acted |= before != (plan.written, plan.read, plan.has_ended);
        }
        acted
    }

    /// Whoever behaved and was not hit has got everything back, and a proper end.
    fn judge(&self) {
        for plan in &self.plans {
            let sim = &self.echo.sim;
            if !plan.is_rude && !sim.is_broken(plan.peer) {
                assert_eq!((plan.read, plan.written), (plan.total, plan.total), "{plan:?}");
                assert!(sim.saw_eof(plan.peer) && !sim.saw_reset(plan.peer), "{plan:?}");
            }
        }
    }
}

#[test]
fn every_mix_of_faults_is_survived_and_every_fault_happens() {
    let mut struck = [0; Fault::ALL.len()];
    let (mut overflows, mut starved) = (0, 0);
    for seed in 0..400 {
        let faults = if seed % 8 == 0 { Faults::hostile() } else { Faults::random(seed) };
        let _blame = Blame(seed, &faults);
        let mut run = Run::new(seed, faults.clone());
        run.play();
        for (count, fault) in struck.iter_mut().zip(Fault::ALL) {
            *count += run.echo.sim.struck(*fault);
        }
        overflows += run.echo.sim.overflows();
        starved += run.echo.sim.starved();
    }
    // These servers connect to nobody, set no options, and have neither datagram sockets nor children.
    let of_others = [
        Fault::NoSocket,
        Fault::ConnectRefused,
        Fault::ConnectUnreachable,
        Fault::ConnectUnanswered,
        Fault::BindFails,
        Fault::OptionRefused,
        Fault::DatagramLost,
        Fault::DatagramDoubled,
        Fault::DatagramOvertakes,
        Fault::DatagramFails,
        Fault::RunRefused,
        Fault::PollFails,
        Fault::PollEarly,
    ];
    for (count, fault) in struck.into_iter().zip(Fault::ALL).filter(|(_, fault)| !of_others.contains(fault)) {
        assert!(count > 0, "{fault:?} never happened");
    }
    assert!(overflows > 0 && starved > 0);
}

#[test]
fn a_calm_kernel_breaks_nothing() {
    for seed in 0..20 {
        let mut run = Run::new(seed, Faults::none());
        run.play();
        assert!(Fault::ALL.iter().all(|&fault| run.echo.sim.struck(fault) == 0));
        assert!(run.plans.iter().all(|plan| plan.is_rude || plan.read == plan.total));
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let record = |seed| {
        let mut run = Run::new(seed, Faults::hostile());
        run.echo.sim.enable_trace();
        let mut text = String::new();
        for _ in 0..TURNS {
            run.act();
            run.echo.turn();
            text.push_str(&run.echo.sim.trace());
        }
        (text, run.echo.sim.time_ms())
    };
    assert_eq!(record(11), record(11));
    assert_ne!(record(11), record(12));
}
