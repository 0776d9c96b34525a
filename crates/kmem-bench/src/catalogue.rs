//! The workloads.

use crate::programs::{self, Program};

/// One thing that programs do with memory.
pub struct Workload {
    /// As `--only` names it.
    pub name: &'static str,
    /// What it does, in one line.
    pub about: &'static str,
    /// What one operation is.
    pub unit: &'static str,
    /// The figure by which allocators are compared.
    pub compared: &'static str,
    /// Where it belongs.
    pub family: Family,
    /// What is run.
    pub kind: Kind,
}

/// The purpose of a workload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Each tests one property of an allocator; most have a target of their own.
    Core,
    /// Features that only kmem has.
    Own,
    /// Workloads like those of public benchmark suites, judged together.
    Suite,
    /// Real programs, judged together.
    Program,
}

impl Family {
    /// As results name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Own => "own",
            Self::Suite => "suite",
            Self::Program => "program",
        }
    }
}

/// What is run.
pub enum Kind {
    /// The C workload of the same name.
    C,
    /// The C workload, and again with a preloaded library whose malloc and free do nothing, for the figures `floor_*`.
    Floored,
    /// A C workload that mostly waits and of which only memory is compared, so several allocators run at once, as long
    /// as each has this many MiB.
    Waiting(u64),
    /// The C workload that starts other processes, which are the ones that run on the allocator.
    Starting,
    /// The C workload, in a process that loses a CPU.
    Leaving,
    /// The workload of [`caches`](crate::caches) of the same name; kmem only.
    Caches,
    /// `kmem storm --latency`; kmem only.
    Storm,
    /// A real program.
    Program(&'static Program),
}

/// One thread, compared by processor time, which other processes do not disturb.
const fn core(name: &'static str, unit: &'static str, about: &'static str) -> Workload {
    Workload { name, about, unit, compared: "cpu_ns", family: Family::Core, kind: Kind::C }
}

/// Several threads, compared by elapsed time, because waiting for each other counts.
const fn threads(name: &'static str, unit: &'static str, about: &'static str) -> Workload {
    Workload { name, about, unit, compared: "ns", family: Family::Core, kind: Kind::C }
}

/// One of a public suite.
const fn suite(name: &'static str, unit: &'static str, compared: &'static str, about: &'static str) -> Workload {
    Workload { name, about, unit, compared, family: Family::Suite, kind: Kind::C }
}

const fn waiting(name: &'static str, compared: &'static str, mib: u64, about: &'static str) -> Workload {
    Workload { name, about, unit: "run", compared, family: Family::Core, kind: Kind::Waiting(mib) }
}

const fn caches(name: &'static str, unit: &'static str, compared: &'static str, about: &'static str) -> Workload {
    Workload { name, about, unit, compared, family: Family::Own, kind: Kind::Caches }
}

const fn program(program: &'static Program) -> Workload {
    let (name, about) = (program.name, program.about);
    Workload { name, about, unit: "run", compared: "cpu_ns", family: Family::Program, kind: Kind::Program(program) }
}

/// All of them, in the order in which they run.
pub const ALL: &[Workload] = &[
    Workload {
        name: "pair",
        about: "malloc and free of 64 bytes, repeatedly",
        unit: "pair",
        compared: "cycles",
        family: Family::Core,
        kind: Kind::Floored,
    },
    core("burst_lifo", "object", "1,000 objects of 64 bytes, freed in the reverse order"),
    core("burst_fifo", "object", "1,000 objects of 64 bytes, freed in the same order"),
    core("random_sizes", "object", "4,096 objects of 8 to 2,048 bytes, replaced at random"),
    core("random_lifetimes", "object", "objects of 16 to 512 bytes that live 1 to 65,535 turns"),
    core("cold_heap", "object", "a heap of 64 MB: 256 random objects freed, 256 allocated and touched"),
    threads("handover", "object", "one thread allocates, one frees; 64 bytes, 512 at a time"),
    threads("handover_many", "object", "the same with as many threads of each kind as there are CPUs"),
    threads("threads_end", "thread", "threads that start, allocate 128 objects, leave half to others, and end"),
    waiting(
        "idle_threads",
        "extra_kib",
        2500,
        "500 threads (quick: 100) allocate 2 MB each, free it, and idle: memory kept",
    ),
    waiting("sparse_survivors", "left_percent", 500, "2 M objects of 128 bytes, 1 in 1,000 survives: memory kept"),
    core("realloc_growth", "realloc", "16 buffers grow in turn to 1 MiB, by half each time"),
    core("large_objects", "object", "24 objects of 64 KiB to 4 MiB, replaced at random, each page written"),
    core("larger_objects", "object", "the same with objects of 1 to 32 MiB"),
    Workload {
        name: "start_program",
        about: "start and end of a program that allocates once (none_ns: that does nothing)",
        unit: "program",
        compared: "ns",
        family: Family::Core,
        kind: Kind::Starting,
    },
    Workload {
        name: "leave_cpu",
        about: "16 MiB of small objects freed on a CPU that the process then loses: resident a second later \
                (kmem: KMEM_UPKEEP=always)",
        unit: "run",
        compared: "resident_kib",
        family: Family::Core,
        kind: Kind::Leaving,
    },
    Workload {
        name: "storm",
        about: "CPUs go down and up, caches come and go: the slowest 1 in 10,000 allocations, against calm",
        unit: "run",
        compared: "ratio",
        family: Family::Own,
        kind: Kind::Storm,
    },
    caches("typed_pair", "pair", "cycles", "alloc and free of a Cache<T> of 64 bytes"),
    caches("typed_bulk", "object", "cycles", "alloc_bulk and free_bulk of 32 objects of 64 bytes"),
    caches(
        "create_destroy",
        "cache",
        "cpu_ns",
        "create, use and destroy a cache while 6,000 others exist (few_ns: none)",
    ),
    suite("larson", "object", "ns", "random objects are replaced; sets pass from thread to thread (as larson does)"),
    suite("sh6", "object", "ns", "batches of small objects on every CPU, some of which stay longer (as sh6bench does)"),
    suite("sh8", "object", "ns", "the same, half of them freed by other threads (as sh8bench does)"),
    suite("xmalloc", "object", "ns", "arrays of objects that always go to another thread (as xmalloc-test does)"),
    suite("mstress", "object", "ns", "growing sets of very different objects, some exchanged (as mstress does)"),
    suite("rptest", "object", "ns", "sizes evenly spread over 16 bytes to 16 KiB, a third exchanged (as rptest does)"),
    suite("blocks", "object", "cpu_ns", "blocks of one size after another, one thread (as glibc-simple does)"),
    suite("blocks_threads", "object", "ns", "the same on every CPU (as glibc-thread does)"),
    suite("alloc_test", "object", "cpu_ns", "a table of 131,072 random objects, one thread (as alloc-test does)"),
    suite("alloc_test_threads", "object", "ns", "the same on every CPU"),
    suite(
        "cache_scratch",
        "object",
        "ns",
        "objects of one cache line, given to different threads (as cache-scratch does)",
    ),
    suite("cache_thrash", "object", "ns", "tiny objects of different threads, written often (as cache-thrash does)"),
    suite("continued_fraction", "object", "cpu_ns", "millions of small numbers, each an object (as cfrac does)"),
    suite("minimise", "function", "cpu_ns", "lists of cubes that are merged, of Boolean functions (as espresso does)"),
    program(&programs::ALL[0]),
    program(&programs::ALL[1]),
    program(&programs::ALL[2]),
    program(&programs::ALL[3]),
    program(&programs::ALL[4]),
    program(&programs::ALL[5]),
    program(&programs::ALL[6]),
    program(&programs::ALL[7]),
    program(&programs::ALL[8]),
];
