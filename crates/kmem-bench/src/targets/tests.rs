use std::collections::BTreeMap;

use super::*;
use crate::figures::{Figure, Machine, Measured, Outcome, Served};

/// Figures of one workload: (allocator, figure, value).
fn outcome(name: &str, family: &str, values: &[(&str, &str, f64)]) -> Outcome {
    let mut results: Vec<Served> = Vec::new();
    for &(allocator, figure, value) in values {
        let figure = (figure.to_string(), Figure::of(vec![value]).unwrap());
        match results.iter_mut().find(|served| served.allocator == allocator) {
            Some(served) => drop(served.figures.insert(figure.0, figure.1)),
            None => {
                results.push(Served { allocator: allocator.into(), failed: None, figures: BTreeMap::from([figure]) })
            }
        }
    }
    let [name, family] = [name, family].map(String::from);
    Outcome { name, about: String::new(), unit: String::new(), compared: "ns".into(), family, skipped: None, results }
}

fn results(workloads: Vec<Outcome>) -> Results {
    let text = String::new;
    let machine = Machine {
        processor: text(),
        cpus: 1,
        memory_mib: 1,
        kernel: text(),
        transparent_huge_pages: text(),
        kmem_mode: text(),
    };
    let measured = |name: &str| Measured { name: name.into(), version: text(), how: text(), missing: None };
    Results { machine, quick: true, stopped: false, allocators: ["kmem", "glibc", "b"].map(measured).into(), workloads }
}

fn first(id: &str, results: &Results) -> Verdict {
    judge(results).into_iter().find(|verdict| verdict.id == id).unwrap()
}

#[test]
fn a_pair_is_held_against_the_floor_and_the_best_peer() {
    let pair = |kmem, b| {
        let values =
            [("kmem", "cycles", kmem), ("kmem", "floor_cycles", 10.0), ("glibc", "cycles", 30.0), ("b", "cycles", b)];
        first("T1", &results(vec![outcome("pair", "core", &values)]))
    };
    assert_eq!(pair(11.4, 20.0).met, Some(true));
    assert_eq!(pair(11.6, 20.0).met, Some(false), "above the floor");
    let beaten = pair(11.4, 11.0);
    assert_eq!((beaten.met, beaten.best_peer), (Some(false), Some(("b".into(), 11.0))));
}

#[test]
fn without_figures_a_target_is_undecided() {
    assert!(judge(&results(vec![])).iter().all(|verdict| verdict.met.is_none()));
}

#[test]
fn a_suite_is_held_against_the_best_of_each_test() {
    let test = |name, kmem, b| {
        outcome(name, "suite", &[("glibc", "ns", 100.0), ("kmem", "ns", kmem), ("b", "ns", b), ("b", "peak_kib", 1.0)])
    };
    let verdict = first("T8", &results(vec![test("p", 50.0, 25.0), test("q", 10.0, 20.0)]));
    assert!((verdict.kmem.unwrap() - 2.0_f64.sqrt()).abs() < 1e-9, "twice the best, and the best");
    assert_eq!(verdict.met, Some(false));
    let memory = first("T9", &results(vec![test("p", 50.0, 25.0)]));
    assert_eq!((memory.met, memory.best_peer), (None, Some(("b".into(), 1.0))));
}

#[test]
fn programs_count_by_their_geometric_mean_and_a_failure_disqualifies() {
    let program =
        |name, kmem, b| outcome(name, "program", &[("glibc", "ns", 100.0), ("kmem", "ns", kmem), ("b", "ns", b)]);
    let mut all = results(vec![program("p", 200.0, 90.0), program("q", 50.0, 90.0)]);
    let verdict = first("T16", &all);
    assert!((verdict.kmem.unwrap() - 1.0).abs() < 1e-9 && verdict.met == Some(false));
    all.workloads[1].results[2].failed = Some("signal 11".into());
    let verdict = first("T16", &all);
    assert_eq!((verdict.met, verdict.peers.len()), (Some(true), 1));
}

#[test]
fn what_a_cpu_leaves_behind_is_told_and_compared() {
    let left = |cached| {
        let values = [("kmem", "cached_bytes", cached), ("kmem", "resident_kib", 10.0), ("b", "resident_kib", 20.0)];
        let all = results(vec![outcome("leave_cpu", "core", &values)]);
        judge(&all).into_iter().filter(|verdict| verdict.id == "T10").map(|verdict| verdict.met).collect::<Vec<_>>()
    };
    assert_eq!(left(0.0), [Some(true), Some(true)]);
    assert_eq!(left(64.0), [Some(false), Some(true)]);
}

#[test]
fn every_target_has_a_row_that_says_where_its_figure_is_from() {
    let verdicts = judge(&results(vec![]));
    for number in 1..=16 {
        let id = format!("T{number}");
        assert!(verdicts.iter().any(|verdict| verdict.id == id && !verdict.source.is_empty()), "{id}");
    }
}
