//! loom: the engine under every schedule within stated bounds, weak memory included.
//!
//! ```text
//! cargo test --manifest-path crates/kmem-models/Cargo.toml --release --features loom -- --nocapture
//! ```
//! *What runs.* The engine itself, all of it, with the types of `sync/loom_types.rs`, on the platform of
//! `tests/checked/platform.rs`: virtual CPUs whose sections are a read, then a commit that a fence or another section
//! may forestall. Only the assembly is not here (`tests/rseq_stress` of the crate `kmem-linux` runs it), nor what a
//! platform does with pages. Each model is two or three threads with a few operations each; what comes before and after
//! them is one thread. Machines have one or two CPUs, one node, a window of 6 or 12 granules, and four caches at most
//! or, in one model, the general ones; a set of CPUs is one word.
//!
//! *Bounds.* Each model says how many preemptions a schedule may have: a switch away from a thread that could go on.
//! Waiting costs none. Within the bound loom leaves out schedules that differ only in the order of operations that do
//! not depend on each other. `LOOM_MAX_PREEMPTIONS` sets another bound for all models; each prints how many schedules
//! there were.
//!
//! *What is checked.* No object is handed out twice, none is freed twice, `validate` (I6 to I8), and nothing is left at
//! the end (I10, I26). That nobody sleeps for ever, that lock ranks hold, that every access to what a lock guards is
//! ordered behind the one before, that no atomic is used before it was made or after its memory went back.
//!
//! *What loom weakens.* `SeqCst` counts as `AcqRel` (the engine uses none). An atomic remembers its last seven stores;
//! a thread that loads an older one is not explored. Dependencies of addresses order nothing, which is stricter than
//! any machine. At most five threads. Plain memory (slabs, depots, descriptors) is not tracked by itself, but by way of
//! the locks that guard it. The lock of a CPU's epoch orders its sections behind one another, as the CPU itself does.
//!
//! | model | file |
//! |---|---|
//! | the lock; the gate (I40) | `locks.rs` |
//! | alloc and free against a drain; the same without the fence (I37 to I39) | `slots.rs` |
//! | a slot that is enabled, grows or is tuned meanwhile (I4, I9) | `slots.rs` |
//! | creates, destroys, shrinks, tunes, statistics, first uses against up and down (I11 to I25) | `transitions.rs` |
//! | preparations that fail (I22, I23) | `transitions.rs` |

#[path = "../checked/mod.rs"]
mod checked;

mod explore;
mod locks;
mod proxies;
mod slots;
mod transitions;
