//! Explores scenarios of the catalogue under one protocol, for `kmem race`.

use std::sync::atomic::Ordering;

use crate::Protocol;
use crate::explore::{Explored, Fault, Finding, Limits, Schedule, Trouble};
use crate::scenario::Scenario;
use crate::story::{self, Line, Voice};

/// A violation of an invariant under a protocol.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which of the two races of 2004 it is, if it is one of them.
    pub race: Option<u8>,
    /// The invariant that does not hold, by its number in docs/invariants.md.
    pub invariant: u8,
    /// What is wrong, in a sentence.
    pub what: String,
    /// The scenario in which it was found.
    pub scenario: &'static Scenario,
    /// The schedule, and after how many schedules of the scenario it was found.
    pub finding: Finding,
    voice: Voice,
}

impl Violation {
    pub(crate) fn new(scenario: &'static Scenario, voice: Voice, finding: Finding) -> Self {
        let (race, invariant, what) = match &finding.trouble {
            Trouble::Fault(Fault::NoSlot { cache, cpu, .. }) if voice.slip.is_some() => {
                (None, 1, format!("{cache} has nothing for CPU {cpu} where it is needed"))
            }
            Trouble::Fault(Fault::NoSlot { race, cache, cpu }) => {
                let (invariant, when) =
                    if *race == 1 { (11, "was being created") } else { (14, "was being destroyed") };
                (
                    Some(*race),
                    invariant,
                    format!(
                        "CPU {cpu} changed its state while {cache} {when}; array[{cpu}] of {cache} is NULL where it is needed"
                    ),
                )
            }
            Trouble::Fault(Fault::Deadlock) => (None, 40, "every thread waits for another".into()),
            Trouble::Fault(Fault::Endless) => (None, 40, "the threads never end".into()),
            Trouble::Fault(Fault::UseAfterFree) => (None, 19, "a cache is used after its memory was released".into()),
            Trouble::Fault(Fault::BadFree) => (None, 7, "an object was freed that is not in use".into()),
            Trouble::Fault(Fault::Panic(text)) if text.contains("lock order") => (None, 29, text.clone()),
            Trouble::Fault(Fault::Panic(text)) => (None, 0, format!("a thread panicked: {text}")),
            Trouble::Broken(broken) => (None, broken.invariant, broken.text.clone()),
        };
        Self { race, invariant, what, scenario, finding, voice }
    }

    /// The state at the beginning, in words.
    pub fn opening(&self) -> String {
        story::opening(self.scenario, &self.voice)
    }

    /// The steps that lead to it, in words.
    pub fn steps(&self) -> Vec<Line> {
        story::tell(self.scenario, &self.voice, &self.finding.events)
    }
}

/// The result for a protocol.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What was explored of each scenario.
    pub scenarios: Vec<(&'static str, Explored)>,
    /// One of each kind, the races of 2004 first.
    pub violations: Vec<Violation>,
    /// Whether `stop` of the limits became true before everything was explored.
    pub stopped: bool,
}

impl Report {
    /// Schedules of all scenarios.
    pub fn schedules(&self) -> usize {
        self.scenarios.iter().map(|(_, explored)| explored.schedules).sum()
    }
}

/// Explores `scenarios` under `protocol`, each up to `limits`, and calls `begins` before each.
pub fn race(
    protocol: Protocol,
    scenarios: &'static [Scenario],
    limits: &Limits,
    mut begins: impl FnMut(&'static Scenario),
) -> Report {
    let mut report = Report::default();
    for scenario in scenarios {
        begins(scenario);
        let mut explored = scenario.explore(protocol, limits);
        for finding in std::mem::take(&mut explored.findings) {
            let violation = Violation::new(scenario, Voice::of(protocol), finding);
            let same = |other: &Violation| {
                other.race == violation.race && (violation.race.is_some() || other.invariant == violation.invariant)
            };
            if !report.violations.iter().any(same) {
                report.violations.push(violation);
            }
        }
        report.scenarios.push((scenario.name, explored));
        if limits.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            report.stopped = true;
            break;
        }
    }
    report.violations.sort_by_key(|violation| (violation.race.unwrap_or(u8::MAX), violation.invariant));
    report
}

/// Replays one schedule of a scenario under `protocol`, which need not be the one that it was found under.
pub fn replay(protocol: Protocol, scenario: &'static Scenario, schedule: &Schedule) -> Option<Violation> {
    scenario.replay(protocol, schedule).map(|finding| Violation::new(scenario, Voice::of(protocol), finding))
}
