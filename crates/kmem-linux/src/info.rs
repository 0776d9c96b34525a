//! What there is to know about the allocator of this process.

use kmem_core::cpu::CpuSet;
use kmem_core::pages::GRANULE;
use kmem_core::platform::{PageSource, Topology};
use kmem_core::stats::CacheStats;
use kmem_core::validate::{ValidReport, Violation};

use crate::error::InsideCallback;
use crate::follow::{Unavailable, UnavailableSet};
use crate::instance::existing;
use crate::process::mode::{FallbackReason, Mode};
use crate::start::engine;
use crate::status::{CpuRow, CpuState};

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
    /// Kernel facilities that this process was denied, as far as turns of upkeep have found out.
    pub unavailable: UnavailableSet,
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
/// ```
/// let info = kmem::info();
/// println!("{} on {} CPUs", info.mode, info.possible_cpus);
/// info.unavailable.iter().for_each(|facility| println!("off: {facility}"));
/// ```
///
/// Where there is no memory for it, the figures are those of a machine with one CPU, and the mode says so.
pub fn info() -> Info {
    let version = env!("CARGO_PKG_VERSION");
    match engine() {
        Some(engine) => Info {
            mode: engine.platform().mode(),
            possible_cpus: engine.possible_cpus(),
            online_cpus: engine.platform().allowed_cpus(),
            unavailable: unavailable(engine.platform().lacks_ids()),
            nodes: engine.platform().nodes(),
            page_size: engine.platform().page_size(),
            reservation: engine.heap().window().1 * GRANULE,
            version,
        },
        None => Info {
            mode: Mode::Fallback(FallbackReason::NoMemory),
            possible_cpus: 1,
            online_cpus: CpuSet::of(0),
            unavailable: UnavailableSet::none(),
            nodes: 1,
            page_size: crate::os::page_size(),
            reservation: 0,
            version,
        },
    }
}

fn unavailable(ids: bool) -> UnavailableSet {
    let mut unavailable = crate::upkeep::hold_soon().map_or(UnavailableSet::none(), |work| work.unavailable());
    unavailable.set(Unavailable::Ids, ids);
    unavailable
}

/// Calls `visit` with each CPU that was ever used, or may be: its state and what is cached there now. No lock is held
/// meanwhile.
///
/// ```
/// let mut cached = 0;
/// kmem::cpus(|cpu| cached += cpu.cached_bytes);
/// println!("{cached} bytes are cached on all CPUs");
/// ```
pub fn cpus(mut visit: impl FnMut(&CpuRow)) {
    let Some(engine) = existing() else { return };
    for cpu in 0..engine.possible_cpus() {
        let Some(stats) = engine.cpu_stats(cpu) else { continue };
        let state = CpuState::of(cpu, &stats);
        if state == CpuState::Offline && stats.drained == 0 {
            continue;
        }
        let cached = engine.cached_on(cpu);
        visit(&CpuRow {
            cpu,
            state,
            cached_bytes: cached.bytes as u64,
            cached_objects: cached.objects as u64,
            drained_objects: stats.drained as u64,
        });
    }
}

/// Calls `visit` with the figures of every cache, the general ones first, with no lock held. A cache cannot be
/// destroyed by the call that looks at it.
///
/// ```
/// let mut bytes = 0;
/// kmem::caches(|cache| bytes += cache.bytes);
/// println!("{bytes} bytes of slabs");
/// ```
pub fn caches(mut visit: impl FnMut(&CacheStats<'_>)) {
    if let Some(engine) = existing() {
        engine.for_each_cache(&mut visit);
    }
}

/// Releases all unused memory of every cache and returns the number of bytes released. Waits up to 100 ms for a turn of
/// upkeep in progress.
///
/// # Errors
/// The call came from inside a hotplug callback: no memory was released.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = kmem::Cache::<[u8; 4000]>::new("doc_trim")?;
/// drop(cache.alloc([0; 4000])?);
/// assert!(kmem::trim()? > 0);
/// # Ok(())
/// # }
/// ```
#[cold]
#[doc(alias = "malloc_trim")]
#[doc(alias = "kmem_reap")]
pub fn trim() -> Result<usize, InsideCallback> {
    let Some(engine) = existing() else { return Ok(0) };
    if engine.is_inside_callback() {
        return Err(InsideCallback);
    }
    // What a turn of upkeep has in its hands would be missed.
    let _work = crate::upkeep::hold_soon();
    engine.trim().map_err(|_| InsideCallback)
}

/// Checks that every object of every cache is in exactly one place.
///
/// # Safety
/// No other thread allocates, frees, creates or destroys meanwhile: the check marks what it finds in the bitmaps that
/// they would use.
///
/// # Errors
/// What is wrong. That would be a bug of this crate, or a program that freed twice or wrote through a stale pointer.
///
/// # Examples
/// ```
/// // SAFETY: no other thread is here.
/// let report = unsafe { kmem::validate() }.expect("an allocator in order");
/// println!("{report:?}");
/// ```
pub unsafe fn validate() -> Result<ValidReport, Violation> {
    let Some(engine) = engine() else { return Ok(ValidReport::default()) };
    if engine.is_inside_callback() {
        // A listener called by `hotplug::track_affinity` would wait for itself.
        return Err(Violation::InsideCallback);
    }
    // Nor does upkeep meanwhile.
    let _work = crate::upkeep::hold();
    // SAFETY: passed on.
    unsafe { engine.validate() }
}
