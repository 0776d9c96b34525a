//! The affinity tracker: which CPUs this process may run on, and what becomes of those that it may not.
//!
//! | file | what it holds |
//! |---|---|
//! | `affinity` | CPUs that left are taken down, and what if a thread runs there all the same |
//! | `threads` | which CPUs each thread of the process may run on |
//! | `cpu_budget` | for how many CPUs it is worth to cache: allowed CPUs, quota, threads |
//! | `pressure` | whether memory is short |
//! | `cgroup` | where the files of the process's control groups are |
//! | `hints` | what wakes the upkeep thread before its period is over |
//! | `unavailable` | what the kernel refuses, and so is off |
//!
//! # The truth of the moment
//! A thread's affinity mask, as the kernel returns it, has the CPUs that are online, in the process's cpuset, and
//! chosen by its owner (taskset): whatever takes a CPU away shows there. So the masks are asked once a turn, and
//! nothing else is believed; events of the kernel and writes to cpuset files only make a turn come early. And
//! correctness does not depend on any of it: a thread that runs on a CPU which we hold to be gone brings it up again.

mod affinity;
mod cgroup;
mod cpu_budget;
mod hints;
mod pressure;
pub(crate) mod threads;
mod unavailable;

pub(crate) use affinity::{AffinityTracker, On, is_gone};
pub(crate) use cpu_budget::CpuBudget;
pub(crate) use hints::Hints;
pub(crate) use pressure::Pressure;
pub use unavailable::{Unavailable, UnavailableSet};
