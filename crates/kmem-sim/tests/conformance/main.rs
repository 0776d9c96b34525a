//! Every run of the explorer is a path of the model that is proved: see docs/proof.md.
//!
//! [`path`] turns what happened in a run into actions of the model, which `proof/export.py` writes down from the same
//! table that the solver proves. A run with an event taken out is no path, and neither is a run with a mistake in this
//! protocol.

#[rustfmt::skip]
mod actions;
mod path;

use std::cell::{Cell, RefCell};

use kmem_core::platform::CpuStep;
use kmem_sim::Protocol;
use kmem_sim::catalogue::SCENARIOS;
use kmem_sim::explore::event::{CacheEvent, Event, What};
use kmem_sim::explore::{Explored, Limits};
use kmem_sim::museum;
use kmem_sim::scenario::Scenario;
use path::{Path, Stuck};

/// Schedules of each scenario.
const EACH: usize = 1500;

/// A run, and where it leads.
type Followed = (Vec<Event>, Result<Path, Stuck>);

thread_local! {
    /// What is watched: the scenario's CPUs and whether there is a gate.
    static WATCHED: Cell<(&'static [usize], bool)> = const { Cell::new((&[], true)) };
    static RUNS: RefCell<Vec<Followed>> = const { RefCell::new(Vec::new()) };
}

fn watch(events: &[Event]) {
    let (online, gate) = WATCHED.get();
    RUNS.with_borrow_mut(|runs| runs.push((events.to_vec(), Path::of(events, online, gate))));
}

fn runs(scenario: &Scenario, protocol: Protocol, schedules: usize) -> Vec<Followed> {
    WATCHED.set((scenario.online, protocol.gate));
    let limits = Limits { watch: Some(watch), ..Limits::of(schedules, 2004) };
    let Explored { failures, .. } = scenario.explore(protocol, &limits);
    assert_eq!(failures, 0, "{}", scenario.name);
    RUNS.take()
}

fn told(events: &[Event]) -> String {
    let line = |(number, event): (usize, &Event)| format!("{number:3} thread {} {:?}\n", event.thread, event.what);
    events.iter().enumerate().map(line).collect()
}

fn all_are_paths(protocol: Protocol) {
    for scenario in &SCENARIOS {
        let runs = runs(scenario, protocol, EACH);
        assert!(runs.len() >= EACH / 10, "{}: {} schedules", scenario.name, runs.len());
        for (events, path) in runs {
            let path = path.unwrap_or_else(|stuck| panic!("{}: {stuck:?}\n{}", scenario.name, told(&events)));
            assert!(path.is_over(), "{}:\n{}", scenario.name, told(&events));
        }
    }
}

#[test]
fn every_run_is_a_path_of_the_model() {
    all_are_paths(Protocol::BOTH);
}

#[test]
fn every_run_without_the_gate_is_a_path_of_the_model() {
    all_are_paths(Protocol::LISTED);
}

/// Whether the model must notice that the event is missing. It is not told of the rest, or another thread may do the
/// same: a slot may be enabled at any miss, and what one drain leaves another drains.
fn is_needed(what: What) -> bool {
    match what {
        What::Cache { did, .. } => matches!(
            did,
            CacheEvent::Listed | CacheEvent::Dying | CacheEvent::Drained | CacheEvent::Revived | CacheEvent::Unlisted
        ),
        What::Cpu { did, .. } => did != CpuStep::Prepared,
        _ => false,
    }
}

#[test]
fn a_run_with_an_event_taken_out_is_none() {
    let mut taken_out = 0;
    for scenario in &SCENARIOS {
        let (events, _) = runs(scenario, Protocol::BOTH, 1).remove(0);
        for at in (0..events.len()).filter(|at| is_needed(events[*at].what)) {
            let mut rest = events.clone();
            rest.remove(at);
            let followed = Path::of(&rest, scenario.online, true).is_ok_and(|path| path.is_over());
            assert!(!followed, "{} without event {at}:\n{}", scenario.name, told(&events));
            taken_out += 1;
        }
    }
    assert!(taken_out >= 80, "{taken_out}");
}

/// Mistakes in what the model is of, and the action at which a run that dies of one leaves the model.
const MISTAKES: [(&str, &str); 6] = [
    ("a destroy drains the CPUs that are online", "the same CPUs"),
    ("a shrink walks online instead of possible CPUs", "the same CPUs"),
    ("a destroy drains, and then shuts the door", "the same CPUs"),
    ("a cancel empties the CPU before it takes it offline", "enable_created"),
    ("a cancel leaves what was made", "visit"),
    ("a cancel counts on a whole preparation", "begin_walk"),
];

#[test]
fn a_run_with_a_mistake_is_none() {
    for (name, action) in MISTAKES {
        let exhibit = museum::exhibits().find(|exhibit| exhibit.name == name).expect("an exhibit of this name");
        let shown = exhibit.find(&Limits { until_found: true, ..Limits::of(EACH, 2004) });
        let events = shown.violation.expect("it is found").finding.events;
        let stuck = Path::of(&events, exhibit.scenario.online, exhibit.protocol.gate).err();
        assert_eq!(stuck.map(|stuck| stuck.action), Some(action), "{name}:\n{}", told(&events));
    }
}
