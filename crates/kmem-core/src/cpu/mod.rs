//! CPUs come and go: their states, the gate that serialises transitions against whoever needs a stable set of CPUs, and
//! the transitions.
//!
//! Two defences stand between the caches and the CPUs, each sufficient alone:
//! 1. **The gate.** A transition holds its write side, create, destroy and shrink hold its read side. Whatever iterates
//!    CPUs asks for an [`OnlineCpus`], which only a holder of the gate has (I35).
//! 2. **A dying cache stays listed, and its slots cannot be enabled.** So a CPU that goes down during a destroy still
//!    finds the cache and drains its slot, and one that comes up cannot give it a new one (I14, I15).
//!
//! A simulator can take either away, or both: see [`Protocol`].

mod control;
mod gate;
mod listener;
mod protocol;
mod proxy;
mod state;
mod stop;

pub use crate::host::{AtomicCpuSet, CpuSet, MAX_CPUS};
pub use control::{Control, CpuControl, Cpus};
pub use gate::{Gate, InsideCallback, OnlineCpus, ReadGuard, WriteGuard};
pub use listener::{Event, Listener, Refused};
pub(crate) use listener::{Listeners, MAX_LISTENERS};
pub use protocol::{Defences, Protocol};
pub use proxy::Question;
pub use state::{CpuEvent, CpuState};
pub(crate) use stop::Stopped;
