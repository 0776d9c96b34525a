//! The four corners: with neither defence the races of 2004 are found; with either alone, or with both, nothing is. And
//! the fence.
//!
//! A checker that cannot fail proves nothing, so each test that must find nothing has a twin, on the same scenarios,
//! that must find something.

use kmem_sim::Protocol;
use kmem_sim::catalogue::{FENCE, NO_FENCE, SCENARIOS};
use kmem_sim::explore::{Broken, Explored, Limits, Trouble};
use kmem_sim::race::{Report, race};
use kmem_sim::scenario::Scenario;

/// Schedules of each scenario.
const EACH: usize = 3000;

fn explored(protocol: Protocol) -> Report {
    race(protocol, &SCENARIOS, &Limits::of(EACH, 2004), |_| ())
}

#[track_caller]
fn nothing_is_found(protocol: Protocol) {
    let report = explored(protocol);
    if let Some(violation) = report.violations.first() {
        panic!(
            "{}: {} ({})\n{:#?}",
            violation.scenario.name,
            violation.what,
            violation.finding.schedule,
            violation.steps()
        );
    }
    assert!(report.schedules() >= 10_000, "{}", report.schedules());
    // They include every run without a preemption and, except for the longest scenario, every run with one.
    let complete = |(_, explored): &&(&str, Explored)| explored.all_with_preemptions >= Some(1);
    assert!(report.scenarios.iter().filter(complete).count() + 1 >= SCENARIOS.len());
}

#[test]
fn without_any_defence_both_races_are_found() {
    let report = explored(Protocol::Y2004);
    let races: Vec<_> = report.violations.iter().filter_map(|violation| violation.race).collect();
    assert_eq!(races, [1, 2]);
    for violation in &report.violations[..2] {
        assert!(violation.finding.after <= 1000, "a race of one preemption is found early");
        assert!(violation.finding.schedule.turns.len() <= 3, "its schedule is short: {}", violation.finding.schedule);
    }
}

#[test]
fn the_gate_alone_suffices() {
    nothing_is_found(Protocol::GATE);
}

#[test]
fn keeping_dying_caches_listed_suffices() {
    nothing_is_found(Protocol::LISTED);
}

#[test]
fn both_together_hold() {
    nothing_is_found(Protocol::BOTH);
}

fn doubled(explored: &Explored) -> bool {
    let twice = |trouble: &Trouble| matches!(trouble, Trouble::Broken(Broken { invariant: 7, text }) if text.contains("handed out twice"));
    explored.findings.iter().any(|finding| twice(&finding.trouble))
}

#[test]
fn without_the_fence_an_object_is_handed_out_twice() {
    let explore = |scenario: &Scenario| scenario.explore(Protocol::BOTH, &Limits::of(EACH, 2004));
    assert!(doubled(&explore(&NO_FENCE)));
    let with = explore(&FENCE);
    assert_eq!(with.failures, 0);
    assert!(with.all_with_preemptions >= Some(2));
}
