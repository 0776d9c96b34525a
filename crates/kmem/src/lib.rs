#![doc = include_str!("../README.md")]
//! ## Where to find what
//!
//! - [`Kmalloc`]: the global allocator.
//! - [`Cache`]: objects of one type, created and destroyed at any time, by any thread. [`StaticCache`]: a cache that
//!   lives in a `static`. [`Bulk`]: many objects at once.
//! - [`ObjectCache`]: objects that stay constructed between uses.
//! - [`Account`]: a limit in bytes over caches.
//! - [`RawCache`]: a cache of a size and an alignment that are known at run time.
//! - [`set_upkeep`] and [`set_cpu_policy`] configure how kmem releases memory and follows CPUs; [`trim`] releases all
//!   that no object needs.
//! - [`info()`], [`memory()`], [`caches`], [`cpus`]: the mode and its reason, memory by its use, figures of each cache,
//!   what is cached on each CPU.
//! - [`hotplug`]: takes CPUs down and up explicitly, and subscribes to these transitions.
//! - [`status`]: reads what another process on kmem publishes.
#![no_std]
#![deny(unreachable_pub, missing_debug_implementations)]

#[cfg(feature = "allocator-api2")]
mod allocator;
mod bulk;
mod cache;
mod cache_box;
mod constructed;
mod kmalloc;
mod static_cache;

pub use bulk::Bulk;
pub use cache::{Builder, Cache};
pub use cache_box::CacheBox;
pub use constructed::{ConstructedBuilder, Object, ObjectCache};
pub use kmalloc::Kmalloc;
#[doc(inline)]
pub use kmem_core::account::{AccountStats, Beyond};
#[doc(inline)]
pub use kmem_core::stats::CacheStats;
#[doc(inline)]
pub use kmem_core::validate::{ValidReport, Violation};
#[doc(inline)]
pub use kmem_core::{AccountError, AllocError, CreateError, Shortage, TuneError, Tuning};
#[doc(inline)]
pub use kmem_linux::account::{Account, AccountBuilder, accounts};
#[doc(hidden)]
pub use kmem_linux::control;
#[doc(inline)]
pub use kmem_linux::follow::{Unavailable, UnavailableSet};
#[doc(inline)]
pub use kmem_linux::info::{Info, caches, cpus, info, trim, validate};
#[doc(inline)]
pub use kmem_linux::memory::{Memory, memory};
#[doc(inline)]
pub use kmem_linux::policy::{CpuPolicy, cpu_policy, set_cpu_policy};
#[doc(inline)]
pub use kmem_linux::upkeep::{Upkeep, set_upkeep, upkeep};
#[doc(inline)]
pub use kmem_linux::{DestroyError, FallbackReason, InsideCallback, Mode, RawCache, general, hotplug, profile, status};
pub use static_cache::{StaticCache, StaticCacheError};
