//! The museum: races and faults of slab allocators and of CPU hotplug, each as one thing that this engine does as it
//! was done there, and the schedule that it dies of.
//!
//! An exhibit is a protocol with a [`Mistake`](kmem_core::cpu::Mistake), which the engine repeats, and a scenario. The
//! explorer finds the schedule; nothing of it is written down. The same scenario under the protocol that ships is the
//! exhibit's *twin*, in which nothing is found: so it is the mistake that kills, and not the scenario.
//!
//! Some exhibits keep a defence that the place of the mistake did not have, and some do without one. The gate would
//! hide a walk over the wrong CPUs, so such a walk is shown where only the listing of dying caches stands. Each exhibit
//! says which protocol it is shown under.

mod invariants;
mod of_2004;
mod undo;
mod waits;
mod walks;

use std::time::Instant;

use crate::Protocol;
use crate::explore::{Limits, Schedule};
use crate::race::Violation;
use crate::scenario::Scenario;
use crate::story::Voice;

pub use invariants::statement;

/// An exhibit.
#[derive(Clone, Copy, Debug)]
pub struct Exhibit {
    /// What is shown, in a few words.
    pub name: &'static str,
    /// When it was mended, or found if it was not.
    pub year: u16,
    /// Where it was.
    pub source: &'static str,
    /// The number of the invariant that it breaks, in docs/invariants.md.
    pub invariant: u8,
    /// As what the explorer sees it, if not as the invariant itself: a wait for ever is I40 whatever the cause, a slot
    /// that does not exist I1. One of these, first seen.
    pub seen_as: &'static [u8],
    /// What was wrong.
    pub wrong: &'static str,
    /// What the engine does instead.
    pub right: &'static str,
    /// The step that kills, in words; `None` where the engine reports none: it dies of the order of 2004 alone, or of a
    /// thread that sleeps for ever.
    pub slip: Option<&'static str>,
    /// What it is shown under.
    pub protocol: Protocol,
    /// What the threads do.
    pub scenario: Scenario,
}

/// An exhibit, found.
#[derive(Clone, Debug)]
pub struct Shown {
    /// The violation; `None` if the limits were too narrow.
    pub violation: Option<Violation>,
    /// Schedules that were run.
    pub schedules: usize,
    /// Seconds that it took.
    pub seconds: f64,
}

/// All exhibits, by room.
pub static ROOMS: [(&str, &[Exhibit]); 4] = [
    ("The order of 2004", &of_2004::EXHIBITS),
    ("The wrong CPUs, or at the wrong time", &walks::EXHIBITS),
    ("Rollbacks", &undo::EXHIBITS),
    ("Waits and fences", &waits::EXHIBITS),
];

/// All exhibits, in the order of their numbers, which begin at 1.
pub fn exhibits() -> impl Iterator<Item = &'static Exhibit> {
    ROOMS.iter().flat_map(|(_, exhibits)| exhibits.iter())
}

impl Exhibit {
    fn voice(&self) -> Voice {
        Voice { slip: self.slip, ..Voice::of(self.protocol) }
    }

    /// Whether a violation is what the exhibit shows.
    pub fn is_shown_by(&self, violation: &Violation) -> bool {
        violation.invariant == self.invariant || self.seen_as.contains(&violation.invariant)
    }

    /// Looks for the schedule, up to `limits`.
    pub fn find(&'static self, limits: &Limits) -> Shown {
        let begun = Instant::now();
        let mut explored = self.scenario.explore(self.protocol, &Limits { until_found: true, ..*limits });
        let violation = explored.findings.pop().map(|finding| Violation::new(&self.scenario, self.voice(), finding));
        Shown { violation, schedules: explored.schedules, seconds: begun.elapsed().as_secs_f64() }
    }

    /// Explores the twin: the same scenario under the protocol that ships. Returns what is found, and the number of
    /// schedules.
    pub fn twin(&'static self, limits: &Limits) -> Shown {
        let begun = Instant::now();
        let mut explored = self.scenario.explore(Protocol::BOTH, limits);
        let voice = Voice::of(Protocol::BOTH);
        let violation = explored.findings.pop().map(|finding| Violation::new(&self.scenario, voice, finding));
        Shown { violation, schedules: explored.schedules, seconds: begun.elapsed().as_secs_f64() }
    }

    /// Replays one schedule, under the exhibit's own protocol.
    pub fn replay(&'static self, schedule: &Schedule) -> Option<Violation> {
        let finding = self.scenario.replay(self.protocol, schedule)?;
        Some(Violation::new(&self.scenario, self.voice(), finding))
    }
}
