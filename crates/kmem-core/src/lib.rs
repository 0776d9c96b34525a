//! The engine of kmem: a slab allocator whose per-CPU caches stay correct while CPUs come and go.
//!
//! The engine knows nothing of an operating system. It is generic over a [`platform::Platform`], which gives it
//! CPU-local sections, a fence, pages, parking and a clock; Linux user space, bare metal and the virtual CPUs of
//! `kmem-sim` are such platforms. It has no dependency and no features, reads no environment variable, needs no
//! `alloc`, and never allocates from itself. Rust 1.88 or newer.
//!
//! In the repository, `docs/porting.md` says what a platform must guarantee, with `examples/static_memory.rs` for an
//! example; `docs/design.md` has the theory; and `docs/invariants.md` lists what comments cite as I1 to I45.
//!
//! # Floors
//!
//! Each module uses only those below it. (A slab names its cache and a cache has its slabs, so these two are one
//! floor.) `tests/floors.py` reads this table, and holds every import against it.
//!
//! | module | what it holds |
//! |---|---|
//! | `internals` | what tests of this workspace reach inside of, by a feature that no other crate needs |
//! | [`engine`] | the allocator, put together: all that an embedder calls |
//! | [`platform`] | the traits that a home of the engine implements, in one list |
//! | [`cache`], [`slab`] | what a cache is, and the registry of all; slabs: layout, bitmaps, the lists of a node |
//! | [`cpu`] | CPU states, the gate, who may iterate CPUs, stopping them |
//! | [`percpu`] | areas, slots, the table of areas; what sections are |
//! | `depot` | full and empty magazines that travel between CPUs |
//! | [`account`] | limits in bytes over caches |
//! | [`classes`] | the size classes |
//! | [`pages`] | runs of pages, and which class a page belongs to |
//! | `meta` | memory for descriptors, areas and magazines |
//! | `batch` | a few objects in the hands of one thread |
//! | `host` | the traits that the data structures ask for: pages, time, CPU numbers |
//! | [`sync`] | the only module that names atomics and cells; locks, their ranks, and what they sleep by |
//! | [`error`], [`hint`] | what can go wrong; paths that are seldom taken |
#![cfg_attr(not(test), no_std)]
#![warn(missing_debug_implementations)]
// With the feature, what it offers counts as reached.
#![cfg_attr(feature = "internals", warn(unreachable_pub))]

pub mod account;
mod batch;
pub mod cache;
pub mod classes;
pub mod cpu;
mod depot;
pub mod engine;
pub mod error;
pub mod hint;
mod host;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod meta;
pub mod pages;
pub mod percpu;
pub mod platform;
pub mod slab;
pub mod sync;

pub use engine::{Config, Decayed, Engine, Population, Tuned, Tuning, general, outline, stats, validate};
pub use error::{
    AccountError, AllocError, CreateError, DestroyError, HotplugError, Shortage, SubscribeError, TuneError,
};
