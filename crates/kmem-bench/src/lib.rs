//! Allocators measured side by side: what `kmem bench` does.
//!
//! A *workload* is one thing that programs do with memory; a *run* of it is one fresh process, with an allocator in
//! `LD_PRELOAD`, which reports its own *figures*. The allocators take turns, A B C, B C A, so that other activity on
//! the machine affects all of them; a figure is the median of the runs, with their minimum and maximum. A run that
//! crashes or does not end is reported as such, and the others continue.
//!
//! | file | what it is |
//! |---|---|
//! | `workloads/` (C) | the programs that are measured: one idea a file, compiled when this crate is built |
//! | [`catalogue`] | the workloads: names, what they do, what is compared |
//! | [`programs`] | real programs as workloads; `redis` talks to the one that is a server |
//! | [`caches`] | typed caches as workloads: kmem only, in a process of its own |
//! | [`allocators`] | what is measured, and where the libraries are; [`peers`] builds those that come as source |
//! | [`plan`] | what is measured, and how long |
//! | [`measure`] | the turns; `runs` makes one run, `child` is one process, `cpuset` lets a process lose a CPU |
//! | [`executables`] | writes the C programs to where they can run |
//! | [`figures`] | the result, as it is stored |
//! | [`targets`] | the targets, and whether a result meets them |
//! | [`report`] | the result for people: text, Markdown, a page with plots; CSV |
//! | [`charts`] | pages and charts, of `kmem storm --report` too; [`terminal`] wraps lines |

pub mod allocators;
pub mod caches;
pub mod catalogue;
pub mod charts;
mod child;
pub mod cpuset;
pub mod executables;
pub mod figures;
mod machine;
pub mod measure;
pub mod peers;
pub mod plan;
pub mod programs;
mod redis;
pub mod report;
mod runs;
pub mod targets;
pub mod terminal;
