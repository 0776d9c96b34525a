//! What a home of the engine implements: seven small traits, and [`Platform`] for all of them together.
//!
//! | trait | on Linux | on bare metal | in `kmem-sim` |
//! |---|---|---|---|
//! | [`Sections`] | restartable sequences, or a try-lock a CPU | interrupts off | modelled aborts |
//! | [`Sections::fence`] | membarrier | IPI | an epoch a CPU |
//! | [`PageSource`] | one reserved range, mmap | physical memory | the test's memory, with injected failures |
//! | [`Park`] | futex | spinning | yielding |
//! | [`Topology`], [`Clock`] | system calls | tables | fields |
//! | [`Observer`] | probes for tracers | nothing | who runs next |
//! | [`Defences`] | nothing | nothing | without what |
//!
//! Each trait is defined beside the types that it speaks of; this is the one place that lists all of them. Every method
//! may be called from any slow path: none may allocate from the engine.

pub use crate::cache::{CacheStep, CpuStep, Event, Observer, Place, SlotStep, Step};
pub use crate::cpu::Defences;
pub use crate::host::{Clock, CommitError, Host, MoveError, PageSource, Topology, Window};
pub use crate::percpu::Sections;
pub use crate::sync::{LockStep, Park};

/// All that the engine needs of its home.
pub trait Platform: Host + Sections + Defences + Observer {}

impl<T: Host + Sections + Defences + Observer> Platform for T {}
