//! What the data structures ask of the world outside: pages, a place to sleep, time, and which CPUs and nodes there
//! are.
//!
//! The rest of what an embedder implements, and all of it in one list, is in [`platform`](crate::platform).
//!
//! Every method may be called from any slow path: none may allocate from the engine.

mod cpu_set;
mod pages;

pub(crate) use cpu_set::AtomicCpuSet;
pub use cpu_set::{CpuSet, MAX_CPUS};
pub use pages::{CommitError, MoveError, PageSource, Window};

use crate::sync::Park;

/// All that the data structures need.
pub trait Host: PageSource + Park + Topology + Clock + Send + Sync + Sized + 'static {}

impl<T: PageSource + Park + Topology + Clock + Send + Sync + Sized + 'static> Host for T {}

/// Which CPUs and nodes there may be.
pub trait Topology {
    /// CPU ids are below this number, for ever.
    fn possible_cpus(&self) -> usize;
    /// CPUs that count as online when the engine is made.
    fn initial_cpus(&self) -> CpuSet;
    /// Node ids are below this number; at least 1.
    fn nodes(&self) -> usize;
    /// The node of a CPU: a hint (any value is mapped into range).
    fn node_of(&self, cpu: usize) -> usize;
}

/// Time since some fixed point.
pub trait Clock {
    /// Nanoseconds.
    fn now(&self) -> u64;

    /// Whole seconds of the same clock, by which slabs are dated. They may lag, where that makes them cheaper to read.
    fn seconds(&self) -> u32 {
        (self.now() / 1_000_000_000) as u32
    }
}
