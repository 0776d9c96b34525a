//! The engine of kmem: a slab allocator whose per-CPU caches stay correct while CPUs come and go.
//!
//! The engine knows nothing of an operating system. It is generic over a [`platform::Platform`], which gives it
//! CPU-local sections, a fence, pages, parking and a clock; Linux user space, bare metal and the virtual CPUs of
//! `kmem-sim` are such platforms. It has no dependency, needs no `alloc`, and never allocates from itself.
//!
//! The floors, each of which uses only those below:
//!
//! | module | what it holds |
//! |---|---|
//! | [`engine`] | the allocator, put together: all that an embedder calls |
//! | [`cache`] | what a cache is, and the registry of all |
//! | [`cpu`] | CPU states, the gate, who may iterate CPUs, stopping them |
//! | [`percpu`] | areas, slots, magazines, taking a CPU's magazines away |
//! | `depot` | full and empty magazines that travel between CPUs |
//! | [`slab`] | layout, out-of-band bitmaps, partial and empty slabs |
//! | [`pages`] | runs of pages, and which class a page belongs to |
//! | [`meta`] | memory for descriptors, areas and magazines |
//! | [`platform`] | the traits that a home of the engine implements |
//! | [`sync`] | the only module that names atomics and cells; locks and their ranks |
#![cfg_attr(not(test), no_std)]

pub mod cache;
pub mod classes;
pub mod cpu;
mod depot;
pub mod engine;
pub mod error;
pub mod hint;
pub mod meta;
pub mod pages;
pub mod percpu;
pub mod platform;
pub mod slab;
pub mod sync;

pub use engine::{Config, Decayed, Engine, Population, general, stats, validate};
pub use error::{AllocError, CreateError, DestroyError, HotplugError, SubscribeError, TuneError};
