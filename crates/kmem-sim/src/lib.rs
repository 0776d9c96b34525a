//! A home for the engine of kmem in which everything can be made to happen: virtual CPUs, failing memory, and every
//! order of steps.
//!
//! | module | what it is |
//! |---|---|
//! | [`fake`] | the platform: virtual CPUs, modelled sections and fences, injected failures |
//! | `guarded` | which pages of the window are committed, for the platform and for the address sanitizer |
//! | `sleepers` | threads that sleep until they are woken |
//! | [`explore`] | runs the threads of a scenario one at a time, in one order after the other, and looks for what must not be |
//! | [`scenario`] | what a scenario is, how it is run once, and what must hold at its end |
//! | [`catalogue`] | the scenarios: creates and destroys against CPUs that come and go |
//! | [`race`] | all of them under one protocol |
//! | [`story`] | a schedule in words, CPU by CPU |
//! | [`tsan_lock`] | a lock that the thread sanitizer sees |
//!
//! It is a crate of its own, and not a feature of the engine, because cargo unites features: a command that explores
//! would put the explorer, and std with it, into the preload library that is built beside it.

pub mod catalogue;
pub mod explore;
pub mod fake;
mod guarded;
pub mod race;
pub mod scenario;
mod sleepers;
pub mod story;
pub mod tsan_lock;

pub use kmem_core::cpu::Protocol;
