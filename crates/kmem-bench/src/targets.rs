//! What kmem is to reach, and whether a result does.
//!
//! A target compares kmem with the peers of the same run, because absolute figures depend on the machine. It is met, or
//! not met, or open if kmem or every peer has no figure. An open target says where its figure would come from.

mod series;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::allocators::GLIBC;
use crate::figures::Results;
use series::{Against, Series};

/// A target, and whether it is met.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// T1 and so on.
    pub id: String,
    /// What is measured.
    pub what: String,
    /// The target, in words.
    pub target: String,
    /// Where the figure comes from: a workload, a family of them, or something else that would have to run.
    pub source: String,
    /// kmem's figure.
    pub kmem: Option<f64>,
    /// The unit of the figures: ns, KiB, a ratio.
    pub unit: String,
    /// The name and figure of the best peer.
    pub best_peer: Option<(String, f64)>,
    /// Every peer's figure.
    pub peers: Vec<(String, f64)>,
    /// The figure that kmem must not exceed.
    pub limit: Option<f64>,
    /// Whether kmem's figure is within the limit; none if either is unknown.
    pub met: Option<bool>,
}

impl Verdict {
    /// `met`, `not met`, or `open`.
    pub fn word(&self) -> &'static str {
        self.met.map_or("open", |met| if met { "met" } else { "not met" })
    }
}

/// A target in words; the fields are those of [`Verdict`].
struct Target {
    id: &'static str,
    what: &'static str,
    target: &'static str,
    source: &'static str,
    unit: &'static str,
}

impl Target {
    fn against(self, series: Series, limit: Option<f64>) -> Verdict {
        let Self { id, what, target, source, unit } = self;
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

/// The lowest of the limits, if all are known.
fn least(limits: &[Option<f64>]) -> Option<f64> {
    limits.iter().copied().collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::min)
}

/// Compares a result with every target, in the order of their numbers.
pub fn judge(results: &Results) -> Vec<Verdict> {
    let all = fast_paths(results).into_iter().chain(heaps(results)).chain(suite(results));
    all.chain(transitions(results)).chain(whole_programs(results)).collect()
}

fn fast_paths(results: &Results) -> [Verdict; 3] {
    let pair = Series::of(results, "pair", "cycles");
    let floor = Series::of(results, "pair", "floor_cycles").least();
    let against_pair = |name| Series { kmem: Series::of(results, name, "cycles").kmem, peers: pair.peers.clone() };
    [
        Target {
            id: "T1",
            what: "malloc and free of 64 bytes, one thread",
            target: "at most 1.15 times two empty calls, and no more than any peer",
            source: "pair",
            unit: "cycles",
        }
        .against(pair.clone(), least(&[floor.map(|floor| 1.15 * floor), best(&pair)])),
        Target {
            id: "T2",
            what: "alloc and free of a Cache<T>, one thread; the peers' malloc and free",
            target: "at most 0.65 times the best peer",
            source: "typed_pair",
            unit: "cycles",
        }
        .against(against_pair("typed_pair"), best(&pair).map(|best| 0.65 * best)),
        Target {
            id: "T3",
            what: "alloc and free in bulks of 32, per object; the peers' malloc and free",
            target: "at most 0.2 times the best peer",
            source: "typed_bulk",
            unit: "cycles",
        }
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
        Target {
            id: "T4",
            what: "cold heap of 64 MB, per object",
            target: "at most 0.9 times the best peer",
            source: "cold_heap",
            unit: "ns",
        }
        .against(cold, of_cold),
        Target {
            id: "T5",
            what: "one thread allocates, one frees, per object",
            target: "no more than any peer",
            source: "handover",
            unit: "ns",
        }
        .against(handover, of_handover),
        Target {
            id: "T5",
            what: "the same: memory beyond the start, at its peak",
            target: "flat: at most 16 MiB, whatever the number of objects",
            source: "handover",
            unit: "KiB",
        }
        .against(Series::of(results, "handover", "growth_kib"), Some(16.0 * 1024.0)),
        Target {
            id: "T6",
            what: "500 threads that used 2 MB each and are idle: memory kept",
            target: "at most a quarter of jemalloc's, and no more than any peer's",
            source: "idle_threads",
            unit: "KiB",
        }
        .against(idle, of_idle),
        Target {
            id: "T7",
            what: "1 object in 1,000 survives: memory kept",
            target: "at most 15 % of the peak",
            source: "sparse_survivors",
            unit: "%",
        }
        .against(Series::of(results, "sparse_survivors", "left_percent"), Some(15.0)),
    ]
}

fn suite(results: &Results) -> [Verdict; 2] {
    let suite = |figure| Series::geometric(results, "suite", figure, Against::BestOfEach);
    [
        Target {
            id: "T8",
            what: "time of the suite, against the best allocator of each test (geometric mean)",
            target: "less than 1.05",
            source: "the family suite",
            unit: "ratio",
        }
        .against(suite(None), Some(1.05)),
        Target {
            id: "T9",
            what: "peak memory of the suite, against the least of each test (geometric mean)",
            target: "less than 1.18",
            source: "the family suite",
            unit: "ratio",
        }
        .against(suite(Some("peak_kib")), Some(1.18)),
    ]
}

fn transitions(results: &Results) -> [Verdict; 7] {
    let left = Series::of(results, "leave_cpu", "resident_kib");
    let of_left = best(&left);
    let create = |figure| Series::of(results, "create_destroy", figure);
    let alone = create("few_cpu_ns").kmem;
    [
        Target {
            id: "T10",
            what: "a CPU goes away: memory cached for it a second later, without traffic, as kmem reports it \
                   (KMEM_UPKEEP=always)",
            target: "none",
            source: "leave_cpu",
            unit: "bytes",
        }
        .against(Series::of(results, "leave_cpu", "cached_bytes"), Some(0.0)),
        Target {
            id: "T10",
            what: "the same: memory of the whole process that is still resident",
            target: "no more than any peer's",
            source: "leave_cpu",
            unit: "KiB",
        }
        .against(left, of_left),
        Target {
            id: "T11",
            what: "the slowest 1 in 10,000 allocations beside a storm of transitions, against calm; kmem only",
            target: "at most 5",
            source: "storm",
            unit: "ratio",
        }
        .against(Series::of(results, "storm", "ratio"), Some(5.0)),
        Target {
            id: "T12",
            what: "create, use and destroy a cache while 6,000 others exist; kmem only",
            target: "at most 20 us",
            source: "create_destroy",
            unit: "ns",
        }
        .against(create("cpu_ns"), Some(20_000.0)),
        Target {
            id: "T12",
            what: "the same, compared with creating and destroying while no other exists",
            target: "independent of their number: at most 1.25 times",
            source: "create_destroy",
            unit: "ns",
        }
        .against(create("cpu_ns"), alone.map(|alone| 1.25 * alone)),
        Target {
            id: "T13",
            what: "the storm: objects that were lost, doubled, stranded or corrupt; kmem only",
            target: "none",
            source: "storm",
            unit: "objects",
        }
        .against(Series::of(results, "storm", "faults"), Some(0.0)),
        Target {
            id: "T14",
            what: "the engine on bare metal, under real interrupts and CPUs that stop",
            target: "the same storm passes",
            source: "no workload: it needs a kernel of its own, which is not built yet",
            unit: "objects",
        }
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
        Target {
            id: "T15",
            what: "start and end of a program that does nothing",
            target: "at most 1.15 times glibc",
            source: "start_program",
            unit: "ns",
        }
        .against(idle.0, idle.1),
        Target {
            id: "T15",
            what: "the same of one that allocates once",
            target: "at most 1.15 times glibc",
            source: "start_program",
            unit: "ns",
        }
        .against(allocating.0, allocating.1),
        Target {
            id: "T16",
            what: "processor time of real programs, against glibc (geometric mean)",
            target: "no more than any peer",
            source: "the family program",
            unit: "ratio",
        }
        .against(programs, of_programs),
    ]
}
