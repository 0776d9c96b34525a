//! The museum: each exhibit is found within its limits, as what it says it is, and fails again by its schedule; the
//! same scenario under the protocol that ships fails nowhere.

use std::collections::HashSet;
use std::time::Duration;

use kmem_sim::explore::{Limits, Schedule};
use kmem_sim::museum::{Exhibit, Shown, exhibits, statement};
use kmem_sim::race::Violation;
use kmem_sim::{Mistake, Protocol};

/// An exhibit is found within a minute; in fact within a second.
const MINUTE: Duration = Duration::from_secs(60);
/// Schedules of a twin.
const TWIN: usize = 1000;

fn found(exhibit: &'static Exhibit) -> Shown {
    exhibit.find(&Limits { time: Some(MINUTE), ..Limits::of(100_000, 2004) })
}

fn violation(exhibit: &'static Exhibit) -> Violation {
    found(exhibit).violation.unwrap_or_else(|| panic!("{} is not found", exhibit.name))
}

#[test]
fn each_exhibit_is_found_and_is_what_it_says() {
    for exhibit in exhibits() {
        let violation = violation(exhibit);
        assert!(exhibit.is_shown_by(&violation), "{}: I{}: {}", exhibit.name, violation.invariant, violation.what);
        let steps = violation.steps();
        assert!(steps.len() >= 3, "{}: {steps:#?}", exhibit.name);
        assert!(steps.iter().any(|step| step.fatal), "{}: no step kills: {steps:#?}", exhibit.name);
    }
}

#[test]
fn nothing_of_it_is_in_what_ships() {
    for exhibit in exhibits() {
        let twin = exhibit.twin(&Limits::of(TWIN, 2004));
        if let Some(violation) = twin.violation {
            panic!("{}: {} ({})", exhibit.name, violation.what, violation.finding.schedule);
        }
        assert!(twin.schedules >= 1, "{}", exhibit.name);
    }
}

#[test]
fn the_mistake_is_what_kills() {
    // The same scenario, under the same defences, without the mistake.
    for exhibit in exhibits().filter(|exhibit| exhibit.protocol.mistake.is_some()) {
        let without = Protocol { mistake: None, ..exhibit.protocol };
        let explored = exhibit.scenario.explore(without, &Limits::of(TWIN, 2004));
        let first = explored.findings.first().map(|finding| (&finding.trouble, finding.schedule.to_string()));
        assert_eq!(explored.failures, 0, "{}: {first:?}", exhibit.name);
    }
}

#[test]
fn its_schedule_fails_again() {
    for exhibit in exhibits() {
        let seen = violation(exhibit);
        let schedule: Schedule = seen.finding.schedule.to_string().parse().expect("its own text");
        let again = exhibit.replay(&schedule).unwrap_or_else(|| panic!("{} fails again", exhibit.name));
        assert_eq!((&again.finding.trouble, again.steps()), (&seen.finding.trouble, seen.steps()), "{}", exhibit.name);
    }
}

#[test]
fn there_are_twenty_at_least_and_all_differ() {
    assert!(exhibits().count() >= 20);
    let names: HashSet<_> = exhibits().map(|exhibit| exhibit.name).collect();
    assert_eq!(names.len(), exhibits().count());
    // Two exhibits may be one mistake in two operations.
    let mistakes: HashSet<Option<Mistake>> = exhibits().map(|exhibit| exhibit.protocol.mistake).collect();
    assert!(mistakes.len() >= 20, "{}", mistakes.len());
    for exhibit in exhibits() {
        assert!((2004..2100).contains(&exhibit.year), "{}", exhibit.name);
        assert!(!exhibit.source.is_empty() && !exhibit.wrong.is_empty() && !exhibit.right.is_empty());
    }
}

#[test]
fn invariants_are_quoted_as_they_are() {
    let document = include_str!("../../../docs/invariants.md");
    let document = document.split_whitespace().collect::<Vec<_>>().join(" ");
    for exhibit in exhibits() {
        let number = exhibit.invariant;
        let words = statement(number);
        assert!(!words.is_empty(), "I{number} of {}", exhibit.name);
        assert!(document.contains(&format!("- **I{number}** {words}")), "I{number}: {words}");
    }
}
