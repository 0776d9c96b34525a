//! `kmem info`: what the engine reports about itself on this machine.

use assert_cmd::Command;
use assert_cmd::cargo::cargo_bin;
use predicates::prelude::*;
use predicates::str::contains;
use serde_json::Value;

fn info(arguments: &[&str]) -> Command {
    let mut kmem = Command::new(cargo_bin("kmem"));
    kmem.arg("info").args(arguments).env_remove("GLIBC_TUNABLES").env_remove("KMEM_RSEQ");
    kmem
}

fn json(mut kmem: Command) -> Value {
    let output = kmem.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_document_has_every_key() {
    let told = json(info(&["--json"]));
    assert!(["rseq", "cid", "fallback"].contains(&told["mode"].as_str().unwrap()));
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    let page_size = told["page_size"].as_u64().unwrap();
    assert!(page_size.is_power_of_two() && page_size >= 4096);
    let online = told["online_cpus"].as_u64().unwrap();
    assert!(online >= 1 && online <= told["possible_cpus"].as_u64().unwrap());
    assert!(told["nodes"].as_u64().unwrap() >= 1);
    assert!(told["reservation"].as_u64().unwrap() >= 1 << 20);
    assert_eq!(told["mode"] == "fallback", told["fallback_because"].is_string());
}

#[test]
fn without_rseq_it_says_why() {
    let mut kmem = info(&["--json"]);
    kmem.env("GLIBC_TUNABLES", "glibc.pthread.rseq=0");
    let told = json(kmem);
    assert_eq!(told["mode"], "fallback");
    assert!(!told["fallback_because"].as_str().unwrap().is_empty());
}

#[test]
fn concurrency_ids_are_had_or_it_says_why_not() {
    let told = |tunable: &str| {
        let mut kmem = info(&["--json"]);
        kmem.env("KMEM_RSEQ", "cid").env("GLIBC_TUNABLES", tunable);
        json(kmem)
    };
    let (with, without) = (told(""), told("glibc.pthread.rseq=0"));
    let lacks_ids = |told: &Value| told["off"].as_array().unwrap().iter().any(|off| off["what"] == "cid");
    // The kernel may have no such field.
    assert_eq!(with["mode"] == "cid", !lacks_ids(&with), "{with:#}");
    assert_eq!(without["mode"], "fallback");
    assert!(lacks_ids(&without), "{without:#}");
    assert_eq!(json(info(&["--json"]))["off"].as_array().unwrap().len(), 0, "nobody asked");
    let mut kmem = info(&[]);
    kmem.env("KMEM_RSEQ", "cid").env("GLIBC_TUNABLES", "glibc.pthread.rseq=0");
    kmem.assert().success().stdout(contains("off").and(contains("cid: KMEM_RSEQ=cid needs Linux 6.3")));
}

#[test]
fn a_person_gets_a_table() {
    info(&[]).assert().success().stdout(contains("mode").and(contains("online CPUs")).and(contains("reservation")));
}

#[test]
fn help_names_the_commands() {
    Command::new(cargo_bin("kmem"))
        .arg("--help")
        .assert()
        .success()
        .stdout(contains("run").and(contains("storm")).and(contains("info")).and(contains("ten seconds")));
}
