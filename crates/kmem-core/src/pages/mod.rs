//! The page heap: runs of granules out of one window of address space.
//!
//! A *granule* is 16 KiB, the unit in which slabs and large objects are placed. For each granule of the window there
//! are
//! - one byte in the **class map**, which names the general cache whose slab covers it, and is all that `free(p)`
//!   reads, and
//! - one entry in the **granule table**, which leads slow paths to the slab, or to the length of a large run.
//!
//! Runs are freed with no allocator lock held but the heap's own (I34). Free runs are kept by length, those that were
//! purged (*clean*) apart from those that still hold memory (*dirty*); neighbours are merged through the table. Fresh
//! granules come from the bottom of the untouched rest of the window, committed in steps of 2 MiB.

mod bounds;
mod census;
mod credit;
mod growth;
mod heap;
mod mix;
mod moving;
mod purge;
mod runs;
pub(crate) mod state;
pub(crate) mod table;

pub use census::{LARGE_SIZES, LargeStats};
pub use state::{PageHeap, PageStats};
pub(crate) use state::{Run, Use};
pub(crate) use table::Owner;
pub use table::{CLASS_STEP, GRANULE, GRANULE_SHIFT};
