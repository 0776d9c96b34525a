//! What kmem is to reach, held against a result.
//!
//! A target compares kmem with the peers of the same run, for absolute figures are a machine's. It is met, or not, or
//! undecided: where kmem or every peer has no figure. Then it says where one would come from.

mod series;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::allocators::GLIBC;
use crate::figures::Results;
use series::{Against, Series};

/// A target and what came of it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// T1 and so on.
    pub id: String,
    /// What is measured.
    pub what: String,
    /// What is to be reached, in words.
    pub target: String,
    /// Where the figure comes from: a workload, a family of them, or what else would have to run.
    pub source: String,
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

impl Verdict {
    /// `met`, `not met`, or `open`.
    pub fn word(&self) -> &'static str {
        self.met.map_or("open", |met| if met { "met" } else { "not met" })
    }
}

/// A target in words: its number, what is measured, what is to be reached, where the figure comes from, and its unit.
struct Target(&'static str, &'static str, &'static str, &'static str, &'static str);

impl Target {
    fn against(self, series: Series, limit: Option<f64>) -> Verdict {
        let Self(id, what, target, source, unit) = self;
        Verdict {
            id: id.into(),
            what: what.into(),
            target: target.into(),
            source: source.into(),
            unit: unit.into(),
            kmem: series.kmem,
            best_peer: series.best(),
            limit,
            met: series.kmem.zip(limit).map(|(figure, limit)| figure <= limit),
            peers: series.peers,
        }
    }
}

fn best(series: &Series) -> Option<f64> {
    series.best().map(|(_, figure)| figure)
}

/// The least of limits, if all are known.
fn least(limits: &[Option<f64>]) -> Option<f64> {
    limits.iter().copied().collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::min)
}

/// Holds a result against every target, in the order of their numbers.
pub fn judge(results: &Results) -> Vec<Verdict> {
    let all = fast_paths(results).into_iter().chain(heaps(results)).chain(suite(results));
    all.chain(transitions(results)).chain(whole_programs(results)).collect()
}

fn fast_paths(results: &Results) -> [Verdict; 3] {
    let pair = Series::of(results, "pair", "cycles");
    let floor = Series::of(results, "pair", "floor_cycles").least();
    let against_pair = |name| Series { kmem: Series::of(results, name, "cycles").kmem, peers: pair.peers.clone() };
    [
        Target(
            "T1",
            "malloc and free of 64 bytes, one thread",
            "at most 1.15 times two empty calls, and no more than any peer",
            "pair",
            "cycles",
        )
        .against(pair.clone(), least(&[floor.map(|floor| 1.15 * floor), best(&pair)])),
        Target(
            "T2",
            "alloc and free of a Cache<T>, one thread; the peers' malloc and free",
            "at most 0.65 times the best peer",
            "typed_pair",
            "cycles",
        )
        .against(against_pair("typed_pair"), best(&pair).map(|best| 0.65 * best)),
        Target(
            "T3",
            "alloc and free in bulks of 32, per object; the peers' malloc and free",
            "at most 0.2 times the best peer",
            "typed_bulk",
            "cycles",
        )
        .against(against_pair("typed_bulk"), best(&pair).map(|best| 0.2 * best)),
    ]
}

fn heaps(results: &Results) -> [Verdict; 5] {
    let cold = Series::of(results, "cold_heap", "cpu_ns");
    let handover = Series::of(results, "handover", "ns");
    let idle = Series::of(results, "idle_threads", "extra_kib");
    let quarter = idle.least_of(&["jemalloc", "jemalloc-deb"]).map(|figure| 0.25 * figure);
    let [of_cold, of_handover] = [best(&cold).map(|best| 0.9 * best), best(&handover)];
    let of_idle = least(&[quarter, best(&idle)]);
    [
        Target("T4", "cold heap of 64 MB, per object", "at most 0.9 times the best peer", "cold_heap", "ns")
            .against(cold, of_cold),
        Target("T5", "one thread allocates, one frees, per object", "no more than any peer", "handover", "ns")
            .against(handover, of_handover),
        Target(
            "T5",
            "the same: memory beyond the start, at its peak",
            "flat: at most 16 MiB, whatever the number of objects",
            "handover",
            "KiB",
        )
        .against(Series::of(results, "handover", "growth_kib"), Some(16.0 * 1024.0)),
        Target(
            "T6",
            "500 threads that used 2 MB each and are idle: memory kept",
            "at most a quarter of jemalloc's, and no more than any peer's",
            "idle_threads",
            "KiB",
        )
        .against(idle, of_idle),
        Target("T7", "1 object in 1,000 survives: memory kept", "at most 15 % of the peak", "sparse_survivors", "%")
            .against(Series::of(results, "sparse_survivors", "left_percent"), Some(15.0)),
    ]
}

fn suite(results: &Results) -> [Verdict; 2] {
    let suite = |figure| Series::geometric(results, "suite", figure, Against::BestOfEach);
    [
        Target(
            "T8",
            "time of the suite, against the best allocator of each test (geometric mean)",
            "less than 1.05",
            "the family suite",
            "ratio",
        )
        .against(suite(None), Some(1.05)),
        Target(
            "T9",
            "peak memory of the suite, against the least of each test (geometric mean)",
            "less than 1.18",
            "the family suite",
            "ratio",
        )
        .against(suite(Some("peak_kib")), Some(1.18)),
    ]
}

fn transitions(results: &Results) -> [Verdict; 7] {
    let left = Series::of(results, "leave_cpu", "resident_kib");
    let of_left = best(&left);
    let create = |figure| Series::of(results, "create_destroy", figure);
    let alone = create("few_cpu_ns").kmem;
    [
        Target(
            "T10",
            "a CPU leaves: memory cached for it a second later, without traffic, as kmem tells it (KMEM_UPKEEP=always)",
            "none",
            "leave_cpu",
            "bytes",
        )
        .against(Series::of(results, "leave_cpu", "cached_bytes"), Some(0.0)),
        Target(
            "T10",
            "the same: memory of the whole process that is still resident",
            "no more than any peer's",
            "leave_cpu",
            "KiB",
        )
        .against(left, of_left),
        Target(
            "T11",
            "the slowest 1 in 10,000 allocations beside a storm of transitions, against calm; kmem only",
            "at most 5",
            "storm",
            "ratio",
        )
        .against(Series::of(results, "storm", "ratio"), Some(5.0)),
        Target(
            "T12",
            "create, use and destroy a cache beside 6,000; kmem only",
            "at most 20 us",
            "create_destroy",
            "ns",
        )
        .against(create("cpu_ns"), Some(20_000.0)),
        Target(
            "T12",
            "the same, against creating and destroying beside none",
            "independent of their number: at most 1.25 times",
            "create_destroy",
            "ns",
        )
        .against(create("cpu_ns"), alone.map(|alone| 1.25 * alone)),
        Target(
            "T13",
            "the storm: objects that were lost, doubled, stranded or corrupt; kmem only",
            "none",
            "storm",
            "objects",
        )
        .against(Series::of(results, "storm", "faults"), Some(0.0)),
        Target(
            "T14",
            "the engine on bare metal, under real interrupts and CPUs that stop",
            "the same storm passes",
            "no workload: it needs a kernel of its own, which is not built yet",
            "objects",
        )
        .against(Series::none(), None),
    ]
}

fn whole_programs(results: &Results) -> [Verdict; 3] {
    let starts = ["none_ns", "ns"].map(|figure| Series::of(results, "start_program", figure));
    let [idle, allocating] = starts.map(|start| {
        let limit = start.least_of(&[GLIBC]).map(|glibc| 1.15 * glibc);
        (start, limit)
    });
    let programs = Series::geometric(results, "program", None, Against::Glibc);
    let of_programs = best(&programs);
    [
        Target(
            "T15",
            "start and end of a program that does nothing",
            "at most 1.15 times glibc",
            "start_program",
            "ns",
        )
        .against(idle.0, idle.1),
        Target("T15", "the same of one that allocates once", "at most 1.15 times glibc", "start_program", "ns")
            .against(allocating.0, allocating.1),
        Target(
            "T16",
            "processor time of real programs, against glibc (geometric mean)",
            "no more than any peer",
            "the family program",
            "ratio",
        )
        .against(programs, of_programs),
    ]
}
