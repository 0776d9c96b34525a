//! CPUs that go and come, driven by an embedder: the transitions of the engine and who wants to know of them.
//!
//! A process needs none of this: a CPU is adopted when a thread first misses there. [`cpu_down`] takes a CPU out of use
//! whatever the kernel does with it: what is cached there goes to the depot, threads that still run there are served
//! from it, and the CPU stays down until [`cpu_up`].
//!
//! Where slots go by concurrency id (`KMEM_RSEQ=cid`) an id stands for each CPU here, whichever CPU the kernel means: who
//! drives real CPUs has no use for that mode.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! if kmem::hotplug::online().len() > 1 {
//!     let cpu = kmem::hotplug::online().iter().next().unwrap();
//!     kmem::hotplug::cpu_down(cpu)?;
//!     let still_works = Box::new(1);
//!     kmem::hotplug::cpu_up(cpu)?;
//! }
//! # Ok(())
//! # }
//! ```

pub use kmem_core::cpu::{CpuSet, Event, Listener, Refused};
pub use kmem_core::{HotplugError, SubscribeError};

use crate::runtime::engine;

/// CPU ids are below this; not all of them need exist.
pub fn possible() -> usize {
    engine().map_or(1, |engine| engine.possible_cpus())
}

/// The CPUs on which magazines may be at this moment.
pub fn online() -> CpuSet {
    engine().map_or(CpuSet::of(0), |engine| engine.online_cpus())
}

/// Brings a CPU up: prepare, online; or canceled, if memory or a listener says no.
///
/// # Errors
/// See [`HotplugError`]; the CPU is as it was.
pub fn cpu_up(cpu: usize) -> Result<(), HotplugError> {
    engine().ok_or(HotplugError::NoMemory { cpu })?.cpu_up(cpu)
}

/// Takes a CPU down, until [`cpu_up`].
///
/// # Errors
/// See [`HotplugError`]; the CPU is as it was. The last CPU stays.
pub fn cpu_down(cpu: usize) -> Result<(), HotplugError> {
    engine().ok_or(HotplugError::NoMemory { cpu })?.cpu_down(cpu)
}

/// Adds a listener, for ever. It is called with the gate held: it may allocate and free, but every transition, create,
/// destroy or shrink inside it is refused.
///
/// # Errors
/// There are 16 already, or a listener asked.
pub fn subscribe(listener: &'static dyn Listener) -> Result<(), SubscribeError> {
    engine().ok_or(SubscribeError::NoMemory)?.subscribe(listener)
}
