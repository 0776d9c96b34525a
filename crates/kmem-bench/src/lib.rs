//! Allocators measured side by side: what `kmem bench` does.
//!
//! A *workload* is one thing that programs do with memory; a *run* of it is one fresh process, which an allocator
//! serves by `LD_PRELOAD`, and which tells its own *figures*. The allocators take turns, A B C, B C A, so that whatever the
//! machine does meanwhile happens to all of them; a figure is the median of the runs, with the least and the greatest
//! beside it. A run that crashes or never ends is reported as that, and the others go on.
//!
//! | file | what it is |
//! |---|---|
//! | `workloads/` (C) | the programs that are measured: one idea a file, compiled when this crate is built |
//! | [`catalogue`] | the workloads: names, what they do, what is compared |
//! | [`programs`] | real programs as workloads; `redis` talks to the one that is a server |
//! | [`caches`] | typed caches as workloads: kmem only, in a process of its own |
//! | [`allocators`] | who is measured, and where the libraries are; [`peers`] builds those that come as sources |
//! | [`plan`] | what is measured, and how long |
//! | [`measure`] | the turns; `runs` is how one is made, `child` is one process, `cpuset` where a CPU can leave one |
//! | [`executables`] | puts the C programs where they can run |
//! | [`figures`] | the result, as it is written and read |
//! | [`targets`] | what is to be reached, held against a result |
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
