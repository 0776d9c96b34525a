//! A simulated platform for the engine of kmem, in which anything can be provoked: virtual CPUs, failing memory, and
//! every order of steps.
//!
//! | module | what it is |
//! |---|---|
//! | [`fake`] | the platform: virtual CPUs, sections and fences, injected failures |
//! | `guarded` | which pages of the window are committed, for the platform and for the address sanitizer |
//! | `modelled` | a section in two halves, between which anything may happen |
//! | `sleepers` | threads that sleep until another thread wakes them |
//! | [`explore`] | runs the threads of a scenario one at a time, in one order after another, and looks for violations |
//! | [`scenario`] | what a scenario is, how it is run once, and what must hold at its end |
//! | [`catalogue`] | the scenarios: creates and destroys while CPUs go down and come up |
//! | `protocol` | which defences of the engine are on, and which mistake it repeats |
//! | [`race`] | all of them under one protocol |
//! | [`museum`] | mistakes of others, each with the scenario that it dies of |
//! | [`story`] | a schedule in words, with a column per CPU |
//! | [`tsan_lock`] | a lock that the thread sanitizer sees |
//!
//! It is a crate of its own, and not a feature of the engine, because cargo unifies features: a command that explores
//! would put the explorer, and std with it, into the preload library that is built in the same workspace.

#![deny(unreachable_pub)]

pub mod catalogue;
pub mod explore;
pub mod fake;
mod guarded;
mod modelled;
pub mod museum;
mod protocol;
pub mod race;
pub mod scenario;
mod sleepers;
pub mod story;
pub mod tsan_lock;

pub use kmem_core::cpu::Mistake;
pub use protocol::Protocol;
