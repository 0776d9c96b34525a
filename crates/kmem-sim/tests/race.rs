//! The explorer itself: it can replay what it finds, and describes it in the terms of the kernel of 2004.

use kmem_sim::Protocol;
use kmem_sim::catalogue::SCENARIOS;
use kmem_sim::explore::{Fault, Finding, Limits, Trouble};
use kmem_sim::scenario::Scenario;
use kmem_sim::story::{self, Voice};

/// The scenarios of race 1 and race 2.
fn of(race: u8) -> (&'static Scenario, Finding) {
    let scenario = &SCENARIOS[usize::from(race) - 1];
    let explored = scenario.explore(Protocol::Y2004, &Limits::of(1000, 1));
    let is = |finding: &Finding| matches!(finding.trouble, Trouble::Fault(Fault::NoSlot { race: found, .. }) if found == race);
    (scenario, explored.findings.into_iter().find(is).expect("the race is found"))
}

fn told(scenario: &Scenario, finding: &Finding) -> Vec<(usize, String)> {
    story::tell(scenario, &Voice::of(Protocol::Y2004), &finding.events)
        .into_iter()
        .map(|line| (line.cpu, line.text))
        .collect()
}

/// `text` is said on `cpu`, after what was looked for before.
#[track_caller]
fn next(steps: &mut std::slice::Iter<'_, (usize, String)>, cpu: usize, text: &str) {
    assert!(steps.any(|(on, said)| *on == cpu && said.contains(text)), "CPU {cpu}: {text}");
}

#[test]
fn race_1_is_told_as_the_seed_tells_it() {
    let (scenario, finding) = of(1);
    let steps = told(scenario, &finding);
    let mut at = steps.iter();
    next(&mut at, 1, "is offline; its CPU_DEAD is still to come");
    next(&mut at, 0, "array[1] is NULL");
    next(&mut at, 0, "is on the list of caches");
    next(
        &mut at,
        2,
        "CPU_DEAD of CPU 1 finds \"minix_inode\" on the list; array[1] of \"minix_inode\" is NULL: the kernel dies here",
    );
    assert!(at.next().is_none(), "the story ends there");
}

#[test]
fn race_2_is_told_as_the_seed_tells_it() {
    let (scenario, finding) = of(2);
    let steps = told(scenario, &finding);
    let mut at = steps.iter();
    next(&mut at, 0, "is off the list of caches");
    next(&mut at, 2, "is not on it, so its array[1] stays NULL");
    next(&mut at, 1, "is online");
    next(&mut at, 0, "drain_cpu_caches interrupts the CPUs that are online (0, 1, 2)");
    next(&mut at, 1, "do_drain; array[1] of \"minix_inode\" is NULL: the kernel dies here");
    assert!(at.next().is_none(), "the story ends there");
}

#[test]
fn a_schedule_that_fails_fails_again() {
    for race in [1, 2] {
        let (scenario, finding) = of(race);
        let schedule = finding.schedule.to_string().parse().expect("its own text");
        let again = scenario.replay(Protocol::Y2004, &schedule).expect("it fails again");
        assert_eq!((&again.trouble, &again.events), (&finding.trouble, &finding.events));
        assert!(scenario.replay(Protocol::Y2004, &Default::default()).is_none(), "and without its turns it does not");
    }
}

#[test]
fn the_same_seed_explores_the_same() {
    let explore = |seed| {
        let explored = SCENARIOS[5].explore(Protocol::Y2004, &Limits::of(1500, seed));
        explored.findings.iter().map(|finding| (finding.after, finding.schedule.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(explore(1), explore(1));
    assert!(!explore(1).is_empty());
}

/// A thread that ran on CPU 1 while it was offline checked whether it could bring it up, and did so after another
/// thread had brought it up and taken it down explicitly: the CPU did not stay down. Exploration finds this, under the
/// gate too.
#[test]
fn a_cpu_that_is_taken_down_stays_down() {
    let scenario = SCENARIOS
        .iter()
        .find(|scenario| scenario.name.starts_with("a busy cache is not destroyed while"))
        .expect("it is in the catalogue");
    for protocol in [Protocol::LISTED, Protocol::BOTH] {
        let explored = scenario.explore(protocol, &Limits::of(2000, 1));
        assert_eq!(
            explored.failures,
            0,
            "{:?}",
            explored.findings.first().map(|finding| (&finding.trouble, finding.schedule.to_string()))
        );
    }
}
