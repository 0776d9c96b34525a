//! `kmem race`: what a person and a script get of it.

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

fn race(arguments: &[&str]) -> Command {
    let mut kmem = Command::new(cargo_bin("kmem"));
    kmem.arg("race").args(arguments);
    kmem
}

#[test]
fn the_races_of_2004_are_listed_and_fail_the_command() {
    let output = race(&["--protocol", "2004", "--schedules", "400", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["protocol"], "2004");
    assert!(told["schedules"].as_u64().unwrap() >= 1000);
    let violations = told["violations"].as_array().unwrap();
    for (violation, race) in violations.iter().zip([1, 2]) {
        assert_eq!(violation["race"], race);
        let steps = violation["steps"].as_array().unwrap();
        let last = steps.last().unwrap();
        assert!(
            last["text"].as_str().unwrap().contains("array[1] of \"minix_inode\" is NULL: the kernel dies here"),
            "{last}"
        );
        assert_eq!(last["cpu"], if race == 1 { 2 } else { 1 });
    }
    // What else is wrong is no race of the seed, and comes behind them.
    assert!(violations[2..].iter().all(|violation| violation["race"].is_null() && violation["invariant"].is_u64()));
}

#[test]
fn a_defence_is_enough() {
    for protocol in ["gate", "listed", "both"] {
        race(&["--protocol", protocol, "--schedules", "200"])
            .assert()
            .success()
            .stdout(contains(format!("Protocol {protocol}: ")).and(contains("no violation")));
    }
}

#[test]
fn a_person_gets_columns() {
    race(&["--schedules", "200"]).assert().code(1).stdout(
        contains("Race 1: ")
            .and(contains("Race 2: "))
            .and(contains("CPU 0: rmmod minix"))
            .and(contains("array[1] is NULL")),
    );
}

#[test]
fn the_seed_decides() {
    let run = |seed: &str| {
        let output = race(&["--schedules", "300", "--seed", seed, "--json"]).output().unwrap();
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        (told["scenarios"].clone(), told["violations"].clone())
    };
    assert_eq!(run("7"), run("0x7"));
}

#[test]
fn help_tells_the_exit_codes_and_nonsense_is_refused() {
    race(&["--help"]).assert().success().stdout(contains("Exit code: 0").and(contains("2004")));
    race(&["--protocol", "1999"]).assert().code(2);
    race(&["--schedules", "0"]).assert().code(2);
}
