//! CPUs come and go: their states, the gate that serialises transitions against threads that need a stable set of CPUs,
//! and stopping a CPU.
//!
//! Two defences stand between the caches and the CPUs, each sufficient alone:
//! 1. **The gate.** A transition holds its write side; create, destroy and shrink hold its read side. A function that
//!    iterates CPUs asks for an `OnlineCpus`, which only a holder of the gate has (I35).
//! 2. **A dying cache stays listed, and its slots cannot be enabled.** So a CPU that goes down during a destroy still
//!    finds the cache and drains its slot, and one that comes up cannot give it a new one (I14, I15).
//!
//! A simulator can take either away, or both, and ask for [mistakes](Mistake) of others: see [`Defences`].

pub(crate) mod control;
mod defences;
pub(crate) mod gate;
mod listener;
mod mistake;
pub(crate) mod proxy;
pub(crate) mod state;
mod stop;

pub(crate) use crate::host::AtomicCpuSet;
pub use crate::host::{CpuSet, MAX_CPUS};
pub(crate) use control::{Control, CpuControl, Cpus};
pub use defences::Defences;
pub(crate) use gate::{Gate, OnlineCpus, ReadGuard, WriteGuard};
pub use listener::{Event, Listener, Refused};
pub(crate) use listener::{Listeners, MAX_LISTENERS};
pub use mistake::Mistake;
pub(crate) use state::CpuEvent;
pub use state::CpuState;
pub(crate) use stop::Stopped;
