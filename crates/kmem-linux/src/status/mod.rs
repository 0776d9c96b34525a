//! The status page: what a process publishes of itself, for another one to read at any time without stopping it.
//!
//! It is a file in memory (memfd) named `kmem-page`, mapped here and shared. A reader of the same user finds it among
//! the descriptors of the thread named `kmem` (`/proc/PID/task/TID/fd`), or, where there is no such thread, by its name
//! in `/proc/PID/maps`, and reads it through `/proc/PID/mem`, which asks for the right to trace. The upkeep writes it,
//! a turn at a time. [`Snapshot`] reads it.
//!
//! # Layout
//! Words of eight bytes, in the machine's order ([`layout`]): a header that says where its tables are and how long
//! their rows are, then a row a CPU, a row for each length of large objects, and a row a cache. A reader goes by that,
//! so rows and headers may grow; the version changes when something that exists changes its meaning.
//!
//! # More caches than rows
//! A cache has the row of its index, and a turn writes only words that changed. Where an index is beyond the table, the
//! page is made anew with twice the rows, and the old one goes: a reader looks for the page each time. So a process
//! with few caches has a short page.
//!
//! # How old it is
//! A turn walks caches, slots and large objects, and nothing is counted for it on a fast path. A program that stopped
//! is therefore on the page exactly after one more turn of the thread, half a second at most. (The walk of large
//! objects takes a hundredth of the time at most, so that in a heap of many gigabytes their table is some seconds old.)
//!
//! # Reading while it is written
//! The sequence is odd while the page is being written, and another number afterwards. A reader looks at the sequence,
//! copies the page, and looks again; it takes the copy if the sequence was the same even number each time, in the copy
//! too; else it copies again.
//!
//! # Who may do what to it
//! The file is sealed once it is mapped: it keeps its length, and is written only through this one mapping (Linux 5.1;
//! before, a process with the right to trace this one could). So a process never meets a page that was made shorter
//! under it. A reader has no such promise, because a page that it finds may be anybody's: it looks at no more than
//! [`LONGEST`](layout::LONGEST) bytes, copies before it believes, and [`Snapshot`] refuses tables that reach beyond the
//! copy.
//!
//! # Fork
//! The mapping is not inherited. A child makes a page of its own when it first takes a turn.

mod caches;
pub mod layout;
pub mod note;
mod snapshot;
mod writer;

pub use caches::{FIGURES, figures};
pub use kmem_core::outline;
pub use snapshot::{CpuRow, CpuState, LargeRow, Snapshot, Unreadable};
pub(crate) use writer::{StatusPage, Turn};
