#![doc = include_str!("../README.md")]
//! ## Where to find what
//!
//! - [`Kmalloc`]: the global allocator.
//! - [`Cache`]: objects of one type, created and destroyed at any time, by any thread. [`StaticCache`]: a cache that
//!   lives in a `static`. [`Bulk`]: many objects at once.
//! - [`ObjectCache`]: objects that stay constructed between uses.
//! - [`RawCache`]: a cache of a size and an alignment that are known at run time.
//! - [`set_upkeep`] and [`set_cpu_policy`] configure how kmem releases memory and follows CPUs; [`trim`] releases all
//!   that no object needs.
//! - [`info()`], [`memory()`], [`caches`], [`cpus`]: the mode and its reason, memory by its use, figures of each cache,
//!   what is cached on each CPU.
//! - [`hotplug`]: takes CPUs down and up explicitly, and subscribes to these transitions.
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(feature = "allocator-api2")]
mod allocator;
mod boxed;
mod bulk;
mod busy;
mod cache;
mod constructed;
mod control;
mod follow;
#[doc(hidden)]
pub mod fork;
pub mod general;
pub mod hotplug;
mod info;
mod kmalloc;
#[doc(hidden)]
pub mod linux;
mod memory;
pub mod page;
mod raw;
#[doc(hidden)]
pub mod runtime;
mod static_cache;
mod upkeep;

pub use boxed::Box;
pub use bulk::Bulk;
pub use busy::Busy;
pub use cache::{Builder, Cache};
pub use constructed::{ConstructedBuilder, Object, ObjectCache};
pub use control::{CpuPolicy, cpu_policy, cpus, set_cpu_policy};
pub use follow::{Lack, Lacks};
pub use info::{Info, caches, info, trim, validate};
pub use kmalloc::Kmalloc;
pub use kmem_core::stats::CacheStats;
pub use kmem_core::validate::{ValidReport, Violation};
pub use kmem_core::{AllocError, CreateError, TuneError};
pub use linux::{Mode, Why};
pub use memory::{Memory, memory};
pub use raw::RawCache;
pub use static_cache::{StaticCache, UseError};
pub use upkeep::{Upkeep, set_upkeep, upkeep};
