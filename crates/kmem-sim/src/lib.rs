//! A home for the engine of kmem in which everything can be made to happen: virtual CPUs and failing memory.
//!
//! It is a crate of its own, and not a feature of the engine, because cargo unites features: a command that uses it would put it, and std with it, into the preload
//! library that is built beside it.

pub mod fake;
