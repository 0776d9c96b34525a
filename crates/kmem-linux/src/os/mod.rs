//! The operating system: system calls, memory, CPUs, and what libc says.
//!
//! | file | what it holds |
//! |---|---|
//! | [`sys`], `descriptors` | all system calls |
//! | [`libc`] | what libc says of itself |
//! | `kernel` | kernels that break a promise |
//! | `streams` | libc's lock of the list of streams, for fork |
//! | `environment`, [`settings`], `profile_setting` | what the process was started with; variables that kmem goes by |
//! | `pages`, `huge`, `geometry` | address space and memory; which of it may be huge pages; the sizes that both go by |
//! | `text` | numbers as text |
//! | `bootstrap` | memory for the first tables |
//! | `topology` | CPUs and nodes |
//! | [`fault`] | refusals of the kernel, for tests |

pub(crate) mod bootstrap;
pub(crate) mod descriptors;
pub(crate) mod environment;
pub mod fault;
pub(crate) mod geometry;
pub(crate) mod huge;
pub(crate) mod kernel;
pub mod libc;
pub(crate) mod pages;
pub(crate) mod profile_setting;
pub mod settings;
pub(crate) mod streams;
pub mod sys;
pub(crate) mod text;
pub(crate) mod topology;

pub use geometry::page as page_size;
