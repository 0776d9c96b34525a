//! CPUs that go and come, driven by an embedder: the transitions of the engine and who wants to know of them.
//!
//! A process needs none of this: a CPU is adopted when a thread first misses there. [`cpu_down`] takes a CPU out of use
//! whatever the kernel does with it: what is cached there goes to the depot, threads that still run there are served
//! from it, and the CPU stays down until [`cpu_up`].
//!
//! Where slots go by concurrency id (`KMEM_RSEQ=cid`) an id stands for each CPU here, whichever CPU the kernel means:
//! who drives real CPUs has no use for that mode.
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

use crate::instance::existing;
use crate::start::engine;
use crate::upkeep;

/// CPU ids are below this; not all of them need exist.
///
/// ```
/// assert!(kmem::hotplug::online().iter().all(|cpu| cpu < kmem::hotplug::possible()));
/// ```
pub fn possible() -> usize {
    engine().map_or(1, |engine| engine.possible_cpus())
}

/// The CPUs on which magazines may be at this moment.
///
/// ```
/// println!("{} CPUs are in use", kmem::hotplug::online().len());
/// ```
pub fn online() -> CpuSet {
    engine().map_or(CpuSet::of(0), |engine| engine.online_cpus())
}

/// Brings a CPU up: prepare, online; or canceled, if memory or a listener says no.
///
/// # Errors
/// See [`HotplugError`]; the CPU is as it was.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cpu = kmem::hotplug::possible() - 1;
/// if kmem::hotplug::cpu_down(cpu).is_ok() {
///     kmem::hotplug::cpu_up(cpu)?;
///     assert!(kmem::hotplug::online().contains(cpu));
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias = "cpuhp_online")]
pub fn cpu_up(cpu: usize) -> Result<(), HotplugError> {
    engine().ok_or(HotplugError::NoMemory { cpu })?.cpu_up(cpu)
}

/// Takes a CPU down, until [`cpu_up`].
///
/// # Errors
/// See [`HotplugError`]; the CPU is as it was. The last CPU stays.
///
/// # Examples
/// ```
/// let cpu = kmem::hotplug::possible() - 1;
/// match kmem::hotplug::cpu_down(cpu) {
///     Ok(()) => assert!(!kmem::hotplug::online().contains(cpu)),
///     Err(error) => println!("it stays: {error}"),
/// }
/// ```
#[doc(alias = "membarrier")]
#[doc(alias = "cpuhp_offline")]
pub fn cpu_down(cpu: usize) -> Result<(), HotplugError> {
    engine().ok_or(HotplugError::NoMemory { cpu })?.cpu_down(cpu)
}

/// Takes down the CPUs that no thread of the process may run on by now, and brings up those that came back, on this
/// thread, with all listeners. Does nothing inside a hotplug callback, nor while a turn of upkeep lasts longer than a
/// tenth of a second.
///
/// Only a program with listeners needs to call this, as often as it wants to hear of its CPUs. Upkeep runs on a thread
/// that is not the program's, and in the middle of allocations, and runs no code of the program's: once the program has
/// [subscribed](subscribe) it empties what CPUs cache that left, but leaves the transition to this function.
///
/// ```
/// struct Log;
/// impl kmem::hotplug::Listener for Log {
///     fn event(&self, event: kmem::hotplug::Event, cpu: usize) -> Result<(), kmem::hotplug::Refused> {
///         println!("CPU {cpu}: {event:?}");
///         Ok(())
///     }
/// }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// kmem::hotplug::subscribe(&Log)?;
/// kmem::hotplug::track_affinity();
/// # Ok(())
/// # }
/// ```
#[doc(alias = "sched_getaffinity")]
pub fn track_affinity() {
    upkeep::track_affinity();
}

/// Adds a listener, for ever. It is called with the gate held: it may allocate and free, but every transition, create,
/// destroy or shrink inside it is refused.
///
/// It is called on threads that call [`cpu_up`], [`cpu_down`] or [`track_affinity`], and on no other. From now on CPUs
/// come and go by these calls only.
///
/// # Errors
/// There are 16 already, or a listener asked.
///
/// # Examples
/// See [`track_affinity`].
pub fn subscribe(listener: &'static dyn Listener) -> Result<(), SubscribeError> {
    engine().ok_or(SubscribeError::NoMemory)?.subscribe(listener)
}

/// Whether the calling thread is inside a hotplug callback, in which most calls are refused.
///
/// ```
/// assert!(!kmem::hotplug::is_inside_callback());
/// ```
pub fn is_inside_callback() -> bool {
    existing().is_some_and(|engine| engine.is_inside_callback())
}
