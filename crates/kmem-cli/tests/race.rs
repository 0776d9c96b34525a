//! `kmem race`: its text for people and its JSON for scripts.

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
    // Other violations are not the races of 2004, and come after them.
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

fn told(arguments: &[&str]) -> Value {
    serde_json::from_slice(&race(arguments).arg("--json").output().unwrap().stdout).unwrap()
}

#[test]
fn the_list_has_every_scenario_and_one_is_chosen_by_number_or_name() {
    let listed = told(&["--list"]);
    let listed = listed.as_array().unwrap();
    assert!(listed.len() >= 10);
    let text = String::from_utf8(race(&["--list"]).output().unwrap().stdout).unwrap();
    for (scenario, number) in listed.iter().zip(1..) {
        let name = scenario["name"].as_str().unwrap();
        assert_eq!(scenario["number"], number);
        assert!(
            text.contains(&format!("{number:>2}  {name}\n")) && !scenario["threads"].as_array().unwrap().is_empty()
        );
        // Each can be chosen by its number and by its full name.
        for choice in [&number.to_string(), name] {
            let told = told(&["--protocol", "both", "--schedules", "4", "--scenario", choice]);
            assert_eq!(told["scenarios"].as_array().unwrap().len(), 1);
            assert_eq!(told["scenarios"][0]["name"], name);
        }
    }
    let some = "cache is destroyed while a CPU COMES up";
    assert_eq!(told(&["--schedules", "4", "--scenario", some])["scenarios"][0]["name"], listed[1]["name"]);
}

#[test]
fn a_schedule_that_was_printed_fails_again_in_the_same_way_and_not_under_a_defence() {
    let found = told(&["--schedules", "300"]);
    let listed = told(&["--list"]);
    let violations = found["violations"].as_array().unwrap();
    assert!(violations.len() >= 2);
    for violation in violations {
        let place =
            listed.as_array().unwrap().iter().find(|scenario| scenario["name"] == violation["scenario"]).unwrap();
        let (number, schedule) = (place["number"].to_string(), violation["schedule"].as_str().unwrap());
        let replay = ["--scenario", &number, "--replay", schedule];
        let again = told(&replay);
        let seen = &again["violations"][0];
        assert_eq!((&seen["invariant"], &seen["steps"]), (&violation["invariant"], &violation["steps"]));
        assert_eq!(again["schedules"], 1);
        race(&replay).assert().code(1).stdout(contains(format!("the schedule '{schedule}' fails")));
        race(&replay).args(["--protocol", "both"]).assert().success().stdout(contains("without a violation"));
        // The command that is shown can be typed.
        let command = format!("kmem race --protocol 2004 --scenario {number} --replay '{schedule}'");
        race(&["--schedules", "300"]).assert().code(1).stdout(contains(command));
    }
}

#[test]
fn scenarios_and_schedules_that_there_are_not_are_refused() {
    race(&["--scenario", "0"]).assert().code(2);
    race(&["--scenario", "99"]).assert().code(2).stderr(contains("there are"));
    race(&["--scenario", "no such"]).assert().code(2).stderr(contains("--list"));
    race(&["--scenario", "a cache"]).assert().code(2).stderr(contains("scenarios have that in their names"));
    race(&["--replay", "0>1"]).assert().code(2).stderr(contains("--scenario"));
    race(&["--scenario", "1", "--replay", "1 2"]).assert().code(2).stderr(contains("17>1 40>0"));
    race(&["--list", "--protocol", "gate"]).assert().code(2);
}

#[test]
fn help_tells_the_exit_codes_and_nonsense_is_refused() {
    race(&["--help"]).assert().success().stdout(contains("Exit code: 0").and(contains("2004")));
    race(&["--protocol", "1999"]).assert().code(2);
    race(&["--schedules", "0"]).assert().code(2);
}

#[test]
fn the_museum_has_twenty_exhibits_each_found_and_none_in_what_ships() {
    let output = race(&["--museum", "--json"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["complete"], true);
    let exhibits = told["exhibits"].as_array().unwrap();
    assert!(exhibits.len() >= 20);
    for exhibit in exhibits {
        let name = &exhibit["name"];
        assert!(exhibit["seconds"].as_f64().unwrap() < 60.0, "{name}");
        assert!(exhibit["year"].as_u64().unwrap() >= 2004 && exhibit["invariant"].is_u64(), "{name}");
        for text in ["source", "schedule", "statement", "wrong", "right", "before", "what"] {
            assert!(!exhibit[text].as_str().unwrap().is_empty(), "{name}: {text}");
        }
        assert!(exhibit["steps"].as_array().unwrap().len() >= 3, "{name}");
        assert_eq!(exhibit["twin_is_sound"], true, "{name}");
    }
}

#[test]
fn an_exhibit_is_chosen_by_number_or_name_and_fails_again() {
    let listed = told(&["--museum", "--list"]);
    let listed = listed.as_array().unwrap();
    assert!(listed.len() >= 20);
    let text = String::from_utf8(race(&["--museum", "--list"]).output().unwrap().stdout).unwrap();
    assert!(listed.iter().all(|exhibit| text.contains(exhibit["name"].as_str().unwrap())));
    let name = listed[6]["name"].as_str().unwrap();
    let by_name = told(&["--museum", "--exhibit", name]);
    let found = &by_name["exhibits"][0];
    assert_eq!(found["number"], 7);
    let schedule = found["schedule"].as_str().unwrap();
    let again = ["--museum", "--exhibit", "7", "--replay", schedule];
    race(&again).assert().code(1).stdout(contains("walks the CPUs that are online"));
    race(&["--museum", "--exhibit", "7", "--replay", "-"]).assert().success();
    race(&["--museum", "--exhibit", "99"]).assert().code(2).stderr(contains("there are"));
    race(&["--museum", "--replay", "-"]).assert().code(2).stderr(contains("--exhibit"));
    race(&["--exhibit", "7"]).assert().code(2);
    race(&["--museum", "--protocol", "gate"]).assert().code(2);
}

#[test]
fn schedules_are_exported_as_diagrams() {
    let scenario = race(&["--scenario", "1", "--replay", "0>1 10>0", "--mermaid"]).output().unwrap();
    let diagram = String::from_utf8(scenario.stdout).unwrap();
    assert!(diagram.starts_with("sequenceDiagram\n    participant C0 as CPU 0: modprobe minix\n"), "{diagram}");
    assert!(diagram.contains("    rect rgb(") && diagram.contains("the kernel dies here"), "{diagram}");
    assert!(!diagram.replace("#59;", "").contains(';'), "{diagram}");
    let exhibit = race(&["--museum", "--exhibit", "7", "--mermaid"]).output().unwrap();
    assert!(String::from_utf8(exhibit.stdout).unwrap().starts_with("sequenceDiagram\n"));
}

#[test]
fn the_museum_is_written_as_pages() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("museum");
    race(&["--museum", "--report", to.to_str().unwrap()]).assert().success();
    let page = std::fs::read_to_string(to.join("index.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("class=\"loss\"") && page.contains("a tune forgets the gate"));
    let markdown = std::fs::read_to_string(to.join("museum.md")).unwrap();
    assert!(markdown.starts_with("# The museum of races\n") && markdown.matches("```mermaid").count() >= 20);
    std::fs::write(folder.path().join("file"), "").unwrap();
    let no_folder = folder.path().join("file/museum");
    let no_folder = no_folder.to_str().unwrap();
    race(&["--museum", "--report", no_folder]).assert().code(1).stderr(contains("cannot write the museum"));
}
