//! `kmem storm` in each mode: it must find no fault, reach a minimum density, and say so in its JSON.

use std::thread;

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use predicates::str::contains;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

/// Turns glibc's rseq registration off.
const NO_RSEQ: (&str, &str) = ("GLIBC_TUNABLES", "glibc.pthread.rseq=0");

fn storm(arguments: &[&str]) -> Command {
    let mut kmem = Command::new(cargo_bin("kmem"));
    kmem.arg("storm").args(arguments).env_remove("GLIBC_TUNABLES").env_remove("KMEM_RSEQ");
    kmem
}

/// The report of a storm that must find no fault.
fn report(mut kmem: Command) -> Value {
    let output = kmem.output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
    assert_eq!(stderr, "", "not a terminal, so no progress");
    serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{e}: {stdout}"))
}

fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key} is a number in {report:#}"))
}

fn usable_cpus() -> usize {
    sched_getaffinity(None).unwrap().count() as usize
}

/// Two seconds: a tenth of what twenty must reach.
fn check(report: &Value) {
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(report["validate_ok"], true);
    for key in ["lost_objects", "duplicated_objects", "stranded_objects", "corrupt_objects"] {
        assert_eq!(number(report, key), 0, "{key}");
    }
    assert_eq!(number(report, "seconds"), 2);
    assert_eq!(number(report, "seed"), 42);
    assert_eq!(number(report, "threads"), 8);
    assert_eq!(number(report, "modules"), 12);
    assert!(number(report, "caches_created") + number(report, "caches_destroyed") >= 1000, "{report:#}");
    assert_eq!(number(report, "caches_created"), number(report, "caches_destroyed"));
    assert!(number(report, "destroy_busy") > 0);
    assert!(number(report, "allocs") > 10_000);
    assert_eq!(number(report, "allocs"), number(report, "frees"));
    if usable_cpus() > 1 {
        assert!(number(report, "cpu_up") + number(report, "cpu_down") >= 100, "{report:#}");
        assert!(number(report, "cpu_up_canceled") > 0);
        assert_eq!(number(report, "cpu_up"), number(report, "cpu_down"), "all CPUs are up again");
    }
}

#[test]
fn two_seconds_come_out_well() {
    let report = report(storm(&["--seconds", "2", "--threads", "8", "--modules", "12", "--seed", "42", "--json"]));
    check(&report);
}

#[test]
fn two_seconds_without_rseq_come_out_well() {
    let mut kmem = storm(&["--seconds", "2", "--threads", "8", "--modules", "12", "--seed", "0x2a", "--json"]);
    kmem.env(NO_RSEQ.0, NO_RSEQ.1);
    let report = report(kmem);
    assert_eq!(report["mode"], "fallback");
    check(&report);
}

/// On a kernel without concurrency ids this repeats the first test.
#[test]
fn two_seconds_by_concurrency_id_come_out_well() {
    let mut kmem = storm(&["--seconds", "2", "--threads", "8", "--modules", "12", "--seed", "42", "--json"]);
    kmem.env("KMEM_RSEQ", "cid");
    let report = report(kmem);
    assert_ne!(report["mode"], "fallback");
    check(&report);
}

#[test]
fn one_thread_and_one_module_are_a_storm_too() {
    let report = report(storm(&["--seconds", "1", "--threads", "1", "--modules", "1", "--json"]));
    assert_eq!(report["ok"], true, "{report:#}");
    assert!(number(&report, "caches_destroyed") > 0);
}

#[test]
fn more_threads_than_modules_do_not_starve() {
    let report = report(storm(&["--seconds", "1", "--threads", "32", "--modules", "2", "--json"]));
    assert_eq!(report["ok"], true, "{report:#}");
    assert!(number(&report, "caches_destroyed") > 0);
}

/// The slowest 1 in 10,000 allocations beside a storm take a few microseconds, those of an interrupt. One that waited
/// for a transition or a destroy to end would take many times as long. The bounds allow for a busy machine and an
/// unoptimised build.
#[test]
fn a_bystander_does_not_wait_for_the_storm() {
    let report = report(storm(&["--seconds", "1", "--latency", "--json"]));
    assert_eq!(report["ok"], true, "{report:#}");
    let latency = &report["latency_ns"];
    assert!(number(&latency["workers"], "samples") > 0, "{report:#}");
    if usable_cpus() == 1 {
        assert!(latency["bystanders"].is_null(), "{report:#}");
        return;
    }
    let bystanders = &latency["bystanders"];
    assert!(number(bystanders, "transitions") > 100 && number(bystanders, "caches_destroyed") > 100, "{report:#}");
    for leg in ["calm", "storm"] {
        let figures = ["p50", "p99", "p99_9", "p99_99", "max"].map(|key| number(&bystanders[leg], key));
        assert!(figures.is_sorted() && figures[0] > 0, "{report:#}");
        assert!(number(&bystanders[leg], "samples") > 100_000, "{report:#}");
    }
    let ratio = bystanders["ratio_p99_99"].as_f64().unwrap();
    let slowest = number(&bystanders["storm"], "p99_99");
    assert!(ratio <= 5.0 || slowest <= 60_000, "{ratio} times calm, {slowest} ns: {report:#}");
}

#[test]
fn on_one_cpu_the_storm_says_that_none_can_go_down() {
    // A child inherits the CPU affinity of the thread that starts it.
    let report = thread::spawn(|| {
        let all = sched_getaffinity(None).unwrap();
        let first = (0..CpuSet::MAX_CPU).find(|&cpu| all.is_set(cpu)).unwrap();
        let mut one = CpuSet::new();
        one.set(first);
        sched_setaffinity(None, &one).unwrap();
        report(storm(&["--seconds", "1", "--json"]))
    });
    let report = report.join().unwrap();
    assert_eq!(report["ok"], true, "{report:#}");
    assert_eq!(number(&report, "cpu_down"), 0);
    assert!(report["notes"][0].as_str().unwrap().contains("last CPU cannot go down"), "{report:#}");
    assert!(number(&report, "allocs") > 0);
}

#[test]
fn a_person_gets_a_table() {
    storm(&["--seconds", "1", "--seed", "7"])
        .assert()
        .success()
        .stderr("")
        .stdout(contains("seed 7\nMode: ").and(contains("caches created")).and(contains("stranded")))
        .stdout(contains("\nOK: ").and(contains("\u{1b}[").not()))
        .stdout(predicate::function(|table: &str| table.lines().all(|line| line.chars().count() <= 80)));
}

#[test]
fn the_page_shows_what_happened_and_needs_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("storm.html");
    let report = report(storm(&["--seconds", "1", "--json", "--report", page.to_str().unwrap()]));
    assert_eq!(report["ok"], true, "{report:#}");
    let page = std::fs::read_to_string(page).unwrap();
    for elsewhere in ["http://", "https://", "src=", "href=", "url(", "@import", "<script"] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    assert_eq!(page.matches("<div class=\"plot\"").count(), if usable_cpus() > 1 { 5 } else { 4 });
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    for word in ["seconds since the storm began", "KiB", "CPU ", "99.99 %", "prefers-color-scheme: dark"] {
        assert!(page.contains(word), "{word}");
    }
    // The lines show recorded figures: each has a point for most of the 150 bins of the storm.
    let lines: Vec<usize> =
        page.lines().filter(|line| line.starts_with("<polyline")).map(|line| line.matches(',').count()).collect();
    assert_eq!(lines.len(), 5, "caches, and four of latency");
    assert!(lines.iter().all(|&points| points > 30), "{lines:?}");
    if usable_cpus() > 1 {
        let stretches = |state| page.matches(&format!("<rect class=\"{state}\"")).count();
        assert!(stretches("online") > 30 && stretches("gone") > 30 && stretches("draining") > 0, "{page}");
    }
}

#[test]
fn a_page_that_cannot_be_written_is_said_before_the_storm() {
    storm(&["--seconds", "3600", "--report", "/nowhere/storm.html"])
        .assert()
        .code(2)
        .stdout("")
        .stderr(contains("/nowhere/storm.html").and(contains("directory that exists")));
}

#[test]
fn senseless_values_are_named_with_the_remedy() {
    for (option, value) in [
        ("--threads", "0"),
        ("--threads", "100000"),
        ("--seconds", "0"),
        ("--seconds", "soon"),
        ("--modules", "0"),
        ("--seed", "0xyz"),
    ] {
        storm(&[&format!("{option}={value}")])
            .assert()
            .code(2)
            .stdout("")
            .stderr(contains(value).and(contains(option)).and(contains("needed: ").or(contains("copy it"))));
    }
}
