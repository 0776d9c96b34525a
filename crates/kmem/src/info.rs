//! What there is to know about the allocator of this process.

use kmem_core::cpu::CpuSet;
use kmem_core::pages::GRANULE;
use kmem_core::platform::{PageSource, Topology};
use kmem_core::stats::CacheStats;
use kmem_core::validate::{ValidReport, Violation};

use crate::follow::{Lack, Lacks};
use crate::linux::{Mode, Why};
use crate::runtime::{engine, existing};

/// How the allocator runs here.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Info {
    /// How sections are kept apart, and why so.
    pub mode: Mode,
    /// CPU ids are below this.
    pub possible_cpus: usize,
    /// CPUs that the calling thread may run on, or as many concurrency ids where these stand for CPUs.
    pub online_cpus: CpuSet,
    /// What cannot be had, as far as turns of upkeep found it out.
    pub lacks: Lacks,
    /// Nodes.
    pub nodes: usize,
    /// Bytes of a page.
    pub page_size: usize,
    /// Bytes of address space for objects.
    pub reservation: usize,
    /// The version of this crate.
    pub version: &'static str,
}

/// How the allocator runs here. The first call may make it.
///
/// Where there is no memory for it, the figures are those of a machine with one CPU, and the mode says so.
pub fn info() -> Info {
    let version = env!("CARGO_PKG_VERSION");
    match engine() {
        Some(engine) => Info {
            mode: engine.platform().mode(),
            possible_cpus: engine.possible_cpus(),
            online_cpus: engine.platform().allowed_cpus(),
            lacks: lacks(engine.platform().lacks_ids()),
            nodes: engine.platform().nodes(),
            page_size: engine.platform().page_size(),
            reservation: engine.heap().window().1 * GRANULE,
            version,
        },
        None => Info {
            mode: Mode::Fallback(Why::NoMemory),
            possible_cpus: 1,
            online_cpus: CpuSet::of(0),
            lacks: Lacks::none(),
            nodes: 1,
            page_size: 4096,
            reservation: 0,
            version,
        },
    }
}

fn lacks(ids: bool) -> Lacks {
    let mut lacks = crate::upkeep::hold_soon().map_or(Lacks::none(), |work| work.lacks());
    lacks.set(Lack::Ids, ids);
    lacks
}

/// Calls `visit` with the figures of every cache, the general ones first, with no lock held. A cache cannot be destroyed by
/// the call that looks at it.
pub fn caches(mut visit: impl FnMut(&CacheStats<'_>)) {
    if let Some(engine) = existing() {
        engine.for_each_cache(&mut visit);
    }
}

/// Gives back all memory that nobody uses, in all caches, and answers how many bytes; 0 inside a hotplug callback. Waits
/// for a turn of upkeep that is under way, for up to a tenth of a second.
#[cold]
pub fn trim() -> usize {
    let Some(engine) = existing().filter(|engine| !engine.is_inside_callback()) else { return 0 };
    // What a turn of upkeep has in its hands would be missed.
    let _work = crate::upkeep::hold_soon();
    engine.trim().unwrap_or(0)
}

/// Checks that every object of every cache is in exactly one place.
///
/// # Safety
/// No other thread allocates, frees, creates or destroys meanwhile: the check marks what it finds in the bitmaps that
/// they would use.
///
/// # Errors
/// What is wrong. That would be a bug of this crate, or a program that freed twice or wrote through a stale pointer.
pub unsafe fn validate() -> Result<ValidReport, Violation> {
    let Some(engine) = engine() else { return Ok(ValidReport::default()) };
    if engine.is_inside_callback() {
        // Who is called by `hotplug::follow` would wait for himself.
        return Err(Violation::InsideCallback);
    }
    // Nor does upkeep meanwhile.
    let _work = crate::upkeep::hold();
    // SAFETY: passed on.
    unsafe { engine.validate() }
}
