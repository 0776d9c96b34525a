//! What kmem is to reach, held against a result.
//!
//! A target compares kmem with the peers of the same run, for absolute figures are a machine's. It is met, or not, or
//! undecided: where kmem or every peer has no figure.

use serde::{Deserialize, Serialize};

use crate::allocators::{GLIBC, KMEM, KMEM_FALLBACK};
use crate::figures::{Outcome, Results, geometric_mean};

/// A target and what came of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// T1 and so on.
    pub id: String,
    /// What is measured.
    pub what: String,
    /// What is to be reached, in words.
    pub target: String,
    /// kmem's figure.
    pub kmem: Option<f64>,
    /// What the figures are: ns, KiB, a ratio.
    pub unit: String,
    /// The least figure of a peer, and whose it is.
    pub best_peer: Option<(String, f64)>,
    /// Every peer's figure.
    pub peers: Vec<(String, f64)>,
    /// The figure that kmem must not exceed.
    pub limit: Option<f64>,
    /// kmem's figure is within the limit; none where either is unknown.
    pub met: Option<bool>,
}

/// Holds a result against every target.
pub fn judge(results: &Results) -> Vec<Verdict> {
    let pair = Series::of(results, "pair", "cycles");
    let floor = results.outcome("pair").and_then(|pair| pair.median(KMEM, "floor_cycles"));
    let best = |series: &Series| series.best().map(|(_, figure)| figure);
    let least =
        |limits: &[Option<f64>]| limits.iter().copied().collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::min);
    let mut verdicts = Vec::new();
    let mut add = |id: &str, what: &str, target: &str, unit: &str, series: Series, limit: Option<f64>| {
        verdicts.push(series.verdict(id, what, target, unit, limit));
    };

    add(
        "T1",
        "malloc and free of 64 bytes, one thread",
        "at most 1.15 times two empty calls, and no more than any peer",
        "cycles",
        pair.clone(),
        least(&[floor.map(|floor| 1.15 * floor), best(&pair)]),
    );
    let against_pair = |name| Series { kmem: Series::of(results, name, "cycles").kmem, peers: pair.peers.clone() };
    add(
        "T2",
        "alloc and free of a Cache<T>, one thread; the peers' malloc and free",
        "at most 0.65 times the best peer",
        "cycles",
        against_pair("typed_pair"),
        best(&pair).map(|best| 0.65 * best),
    );
    add(
        "T3",
        "alloc and free in bulks of 32, per object; the peers' malloc and free",
        "at most 0.2 times the best peer",
        "cycles",
        against_pair("typed_bulk"),
        best(&pair).map(|best| 0.2 * best),
    );
    let cold = Series::of(results, "cold_heap", "cpu_ns");
    let limit = best(&cold).map(|best| 0.9 * best);
    add("T4", "cold heap of 64 MB, per object", "at most 0.9 times the best peer", "ns", cold, limit);
    let handover = Series::of(results, "handover", "ns");
    let limit = best(&handover);
    add("T5", "one thread allocates, one frees, per object", "no more than any peer", "ns", handover, limit);
    let growth = Series::of(results, "handover", "growth_kib");
    add(
        "T5",
        "the same: memory beyond the start, at its peak",
        "flat: at most 16 MiB, whatever the number of objects",
        "KiB",
        growth,
        Some(16.0 * 1024.0),
    );
    let idle = Series::of(results, "idle_threads", "extra_kib");
    let quarter = idle.least_of(&["jemalloc", "jemalloc-deb"]).map(|figure| 0.25 * figure);
    let limit = least(&[quarter, best(&idle)]);
    add(
        "T6",
        "500 threads that used 2 MB each and are idle: memory kept",
        "at most a quarter of jemalloc's, and no more than any peer's",
        "KiB",
        idle,
        limit,
    );
    let sparse = Series::of(results, "sparse_survivors", "left_percent");
    add("T7", "1 object in 1,000 survives: memory kept", "at most 15 % of the peak", "%", sparse, Some(15.0));
    let suite = |figure| Series::geometric(results, "suite", figure, Against::BestOfEach);
    add(
        "T8",
        "time of the suite, against the best allocator of each test (geometric mean)",
        "less than 1.05",
        "ratio",
        suite(None),
        Some(1.05),
    );
    add(
        "T9",
        "peak memory of the suite, against the least of each test (geometric mean)",
        "less than 1.18",
        "ratio",
        suite(Some("peak_kib")),
        Some(1.18),
    );
    let create = |figure| Series::of(results, "create_destroy", figure);
    add("T12", "create, use and destroy a cache beside 6,000", "at most 20 us", "ns", create("cpu_ns"), Some(20_000.0));
    let alone = create("few_cpu_ns").kmem;
    add(
        "T12",
        "the same, against creating and destroying beside none",
        "independent of their number: at most 1.25 times",
        "ns",
        create("cpu_ns"),
        alone.map(|alone| 1.25 * alone),
    );
    let start = Series::of(results, "start_program", "ns");
    let limit = start.least_of(&[GLIBC]).map(|glibc| 1.15 * glibc);
    add("T15", "start and end of a program that does nothing", "at most 1.15 times glibc", "ns", start, limit);
    let programs = Series::geometric(results, "program", None, Against::Glibc);
    let limit = best(&programs);
    add(
        "T16",
        "processor time of real programs, against glibc (geometric mean)",
        "no more than any peer",
        "ratio",
        programs,
        limit,
    );
    verdicts
}

/// What a ratio is to.
#[derive(Clone, Copy)]
enum Against {
    Glibc,
    /// The least of all, kmem's too.
    BestOfEach,
}

impl Against {
    fn base(self, outcome: &Outcome, figure: &str) -> Option<f64> {
        match self {
            Self::Glibc => outcome.median(GLIBC, figure),
            Self::BestOfEach => {
                let all = outcome.results.iter().filter(|served| served.allocator != KMEM_FALLBACK);
                all.filter_map(|served| served.figure(figure)).map(|figure| figure.median).reduce(f64::min)
            }
        }
    }
}

/// One figure of kmem and of everybody else.
#[derive(Clone)]
struct Series {
    kmem: Option<f64>,
    peers: Vec<(String, f64)>,
}

impl Series {
    fn of(results: &Results, workload: &str, figure: &str) -> Self {
        let outcome = results.outcome(workload);
        Self::each(results, |allocator| outcome?.median(allocator, figure))
    }

    fn each(results: &Results, figure: impl Fn(&str) -> Option<f64>) -> Self {
        let peers = results.present().map(|allocator| allocator.name.clone());
        let peers = peers.filter(|name| name != KMEM && name != KMEM_FALLBACK);
        Self { kmem: figure(KMEM), peers: peers.filter_map(|name| Some((name.clone(), figure(&name)?))).collect() }
    }

    /// Geometric means over a family, of this figure or of the one that each workload is compared by. An allocator that
    /// failed in one of them has none.
    fn geometric(results: &Results, family: &str, figure: Option<&str>, against: Against) -> Self {
        let of_family = |outcome: &&Outcome| outcome.family == family && !outcome.results.is_empty();
        let outcomes: Vec<_> = results.workloads.iter().filter(of_family).collect();
        Self::each(results, |allocator| {
            let ratio = |outcome: &&Outcome| {
                let figure = figure.unwrap_or(&outcome.compared);
                Some(outcome.median(allocator, figure)? / against.base(outcome, figure)?)
            };
            geometric_mean(&outcomes.iter().map(ratio).collect::<Option<Vec<f64>>>()?)
        })
    }

    fn best(&self) -> Option<(String, f64)> {
        self.peers.iter().min_by(|a, b| a.1.total_cmp(&b.1)).cloned()
    }

    fn least_of(&self, names: &[&str]) -> Option<f64> {
        let named = self.peers.iter().filter(|(name, _)| names.contains(&name.as_str()));
        named.map(|(_, figure)| *figure).reduce(f64::min)
    }

    fn verdict(self, id: &str, what: &str, target: &str, unit: &str, limit: Option<f64>) -> Verdict {
        Verdict {
            id: id.into(),
            what: what.into(),
            target: target.into(),
            kmem: self.kmem,
            unit: unit.into(),
            best_peer: self.best(),
            limit,
            met: self.kmem.zip(limit).map(|(figure, limit)| figure <= limit),
            peers: self.peers,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::figures::{Figure, Machine, Measured, Served};

    /// Figures of one workload: (allocator, figure, value).
    fn outcome(name: &str, family: &str, values: &[(&str, &str, f64)]) -> Outcome {
        let mut results: Vec<Served> = Vec::new();
        for &(allocator, figure, value) in values {
            let figure = (figure.to_string(), Figure::of(vec![value]).unwrap());
            match results.iter_mut().find(|served| served.allocator == allocator) {
                Some(served) => drop(served.figures.insert(figure.0, figure.1)),
                None => results.push(Served {
                    allocator: allocator.into(),
                    failed: None,
                    figures: BTreeMap::from([figure]),
                }),
            }
        }
        let [name, family] = [name, family].map(String::from);
        Outcome {
            name,
            about: String::new(),
            unit: String::new(),
            compared: "ns".into(),
            family,
            skipped: None,
            results,
        }
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
            date: text(),
        };
        let measured = |name: &str| Measured { name: name.into(), version: text(), how: text(), missing: None };
        Results { machine, quick: true, allocators: ["kmem", "glibc", "b"].map(measured).into(), workloads }
    }

    fn first(id: &str, results: &Results) -> Verdict {
        judge(results).into_iter().find(|verdict| verdict.id == id).unwrap()
    }

    #[test]
    fn a_pair_is_held_against_the_floor_and_the_best_peer() {
        let pair = |kmem, b| {
            let values = [
                ("kmem", "cycles", kmem),
                ("kmem", "floor_cycles", 10.0),
                ("glibc", "cycles", 30.0),
                ("b", "cycles", b),
            ];
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
            outcome(
                name,
                "suite",
                &[("glibc", "ns", 100.0), ("kmem", "ns", kmem), ("b", "ns", b), ("b", "peak_kib", 1.0)],
            )
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
}
