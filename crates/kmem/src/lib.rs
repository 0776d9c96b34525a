//! A slab allocator whose per-CPU caches stay correct while CPUs come and go.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! struct Inode { number: u64 }
//!
//! let inodes: kmem::Cache<Inode> = kmem::Cache::builder("doc_inode").align(64).build()?;
//! let inode = inodes.alloc(Inode { number: 1 })?;
//! assert_eq!(inode.number, 1);
//! drop(inode);
//! inodes.destroy().map_err(|busy| busy.to_string())?;
//! # Ok(())
//! # }
//! ```
//!
//! - [`Cache`]: objects of one type, created and destroyed at any time, by any thread. [`StaticCache`]: one that lives
//!   in a `static`.
//! - [`ObjectCache`]: objects that stay constructed between uses.
//! - [`Kmalloc`]: the global allocator.
//! - [`RawCache`]: a cache of a size and an alignment known at run time.
//! - [`cpus`], [`set_cpu_policy`], [`set_upkeep`], [`trim`]: CPUs and memory are looked after by themselves; these say
//!   how, and what there is. [`status`]: the same for other processes.
//! - [`hotplug`]: CPUs that go and come by name, and who wants to know.
//!
//! Freeing on another thread or another CPU than the one that allocated is ordinary and costs the same. Nothing is kept
//! per thread, so threads end without work. After `fork` both processes go on, also where a signal handler forks; `std::process::Command`
//! forks, or spawns, and what `pre_exec` is given may allocate. A child that runs on its parent's thread (`vfork`, `clone`
//! with `CLONE_VM`) must not, unless the crate `kmem-malloc` is linked in, which brings these functions. Nothing else of this may be called in a
//! signal handler.
//!
//! The crate is `no_std`; its engine is `kmem-core`, its home is Linux on x86-64 (`kmem-linux`).
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
pub use kmem_core::stats::CacheStats;
#[doc(inline)]
pub use kmem_core::validate::{ValidReport, Violation};
#[doc(inline)]
pub use kmem_core::{AllocError, CreateError, TuneError};
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
pub use kmem_linux::{DestroyError, FallbackReason, InsideCallback, Mode, RawCache, general, hotplug, status};
pub use static_cache::{StaticCache, StaticCacheError};
