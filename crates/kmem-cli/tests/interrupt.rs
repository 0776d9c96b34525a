//! Ctrl-C: a storm, `kmem follow`, `kmem bench` and `kmem race` end soon and report what they have.

mod filled;

use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use filled::Filled;

const STOPPED: Option<i32> = Some(130);
/// Far less than the time that was asked for.
const SOON: Duration = Duration::from_secs(20);

fn begun(arguments: &[&str]) -> Child {
    let mut kmem = Command::new(cargo_bin("kmem"));
    kmem.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    kmem.spawn().unwrap()
}

/// Interrupts the command after a while, and returns its output.
fn interrupted(child: Child) -> Output {
    sleep(Duration::from_millis(1500));
    let begun = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(begun.elapsed() < SOON, "took {:?}", begun.elapsed());
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_storm_reports_what_it_did_until_then() {
    let output = interrupted(begun(&["storm", "--seconds", "600", "--threads", "2", "--json"]));
    assert_eq!(output.status.code(), STOPPED, "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["ok"], true);
    assert!(report["allocs"].as_u64().unwrap() > 0 && report["elapsed_seconds"].as_f64().unwrap() < 60.0, "{report}");
}

#[test]
fn a_storm_says_to_a_person_that_it_was_ended() {
    // The measurement after the storm is left out as well.
    let output = interrupted(begun(&["storm", "--seconds", "600", "--threads", "2", "--latency"]));
    assert_eq!(output.status.code(), STOPPED);
    assert!(text(&output.stdout).contains("Ctrl-C ended it after"), "{}", text(&output.stdout));
}

#[test]
fn a_bench_reports_the_workloads_that_were_finished() {
    let folder = tempfile::tempdir().unwrap();
    let mut kmem = Command::new(cargo_bin("kmem"));
    kmem.args(["bench", "--quick", "--runs", "1000", "--only", "pair,blocks", "--allocators", "glibc", "--json"]);
    kmem.env("XDG_CACHE_HOME", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = interrupted(kmem.spawn().unwrap());
    assert_eq!(output.status.code(), STOPPED, "{}", text(&output.stderr));
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["stopped"], true);
    assert!(result["workloads"].as_array().unwrap().len() < 2, "{result}");
}

#[test]
fn a_race_reports_the_schedules_that_were_run() {
    let output = interrupted(begun(&["race", "--protocol", "both", "--schedules", "10000000", "--json"]));
    assert_eq!(output.status.code(), STOPPED, "{}", text(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["stopped"], told["violations"].as_array().unwrap().len()), (&Value::Bool(true), 0));
    assert!(told["schedules"].as_u64().unwrap() > 0, "{told}");
}

#[test]
fn following_ends_with_a_sentence() {
    let filled = Filled::start("interrupt", &[("KMEM_UPKEEP", "always")]);
    let output = interrupted(begun(&["follow", &filled.pid().to_string()]));
    assert_eq!(output.status.code(), STOPPED, "{}", text(&output.stderr));
    let (lines, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(lines.matches("seconds").count(), 1, "one head where there is no terminal: {lines}");
    assert!(lines.lines().count() > 1 && lines.lines().all(|line| line.len() <= 60), "{lines}");
    assert!(said.starts_with("kmem follow: stopped after ") && said.ends_with("drained\n"), "{said}");
}
