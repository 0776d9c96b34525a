//! The allocator kmem on Linux: what the crates `kmem` and `kmem-malloc` are built on.
//!
//! Programs use those. Its one feature is `secure` (see [`checks`]), and it needs Rust 1.88 or newer. It reads
//! `KMEM_RSEQ`, `KMEM_UPKEEP`, `KMEM_CPUS`, `KMEM_HUGE`, `KMEM_SECURE`, `KMEM_DEBUG`, `KMEM_GUARD` and `KMEM_LEAKS`
//! from the environment. In the repository, `docs/tuning.md` has their values, `docs/rseq.md` explains the sections and
//! the fence, and `docs/invariants.md` lists what comments cite as I1 to I45.
//!
//! # The floors, each of which uses only those below it
//!
//! | module | what it holds |
//! |---|---|
//! | [`start`] | the engine, made at the first miss, and what happens when the program starts |
//! | [`general`], [`raw`], [`account`], [`hotplug`] | memory of any size; caches; limits over them; CPUs by name |
//! | [`info`], [`memory`] | what there is to know |
//! | [`profile`] | which callers allocated what is held, by samples |
//! | `slow_path`, `fork` | what allocations do that miss; the fork handlers |
//! | [`upkeep`] | turns: who takes them, and what is done in one |
//! | [`control`] | what another process asks of this one |
//! | [`status`] | the status page, which other processes read |
//! | [`follow`] | which CPUs the process may use, and how much it is worth to cache |
//! | [`policy`] | what the program asked for |
//! | [`checks`] | the checked heap, which serves instead of caches where it is asked for |
//! | `probes` | where tracers can hook in |
//! | [`instance`] | the one engine of this program or shared object |
//! | [`platform`] | [`Linux`], the platform of that engine |
//! | [`process`] | which kind of section the process has; registrations, the fallback, threads that are lent |
//! | [`rseq`] | sections as restartable sequences, and their fence |
//! | [`stack`] | the calls that led to a place |
//! | [`os`] | system calls, memory, CPUs, what libc says |
//! | `arch` | what differs from processor to processor |
//!
//! # Order of events
//! ```text
//! any time      entry::...                   before publish they miss
//! once          Linux::discover()            then the engine is made over it, with its CpuTable
//! once          linux.publish(&table)        from here on rseq::pop, rseq::push, ... may run, and fast paths hit
//! each miss     linux.slow_path_enter()      first of all, with no lock held: registers the thread in OwnRseq
//! fork          streams::forget() in the child, beside what the engine does
//! vfork         lend, vfork, take_back (in the parent)
//! ```
//! Nothing here allocates from the engine, calls a function of libc that allocates (except once a thread, in
//! `slow_path_enter`), or touches `errno`. One engine a program or shared object: the words that fast paths load exist
//! once. Two shared objects with an engine each keep apart.
#![no_std]
#![deny(unreachable_pub, missing_debug_implementations)]

#[cfg(test)]
extern crate std;

pub mod account;
mod arch;
pub mod checks;
pub mod control;
mod error;
pub mod follow;
mod fork;
pub mod general;
pub mod hotplug;
pub mod info;
pub mod instance;
pub mod memory;
pub mod os;
pub mod platform;
pub mod policy;
mod probes;
pub mod process;
pub mod profile;
pub mod raw;
pub mod rseq;
mod slow_path;
pub mod stack;
pub mod start;
pub mod status;
pub mod upkeep;
mod watched;

pub use account::Account;
pub use error::{DestroyError, InsideCallback};
pub use fork::is_registered as fork_handlers_are_registered;
pub use instance::existing;
pub use platform::Linux;
pub use process::mode::{FallbackReason, Mode};
pub use raw::RawCache;
pub use start::engine;

#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")
)))]
compile_error!(
    "kmem is written for Linux on x86-64, arm64 and RISC-V with 64 bits: see the module `arch` of kmem-linux"
);
