//! What the fast path needs: a few words in one cache line.
//!
//! A section needs the thread's rseq area (its CPU number is there, and there the section is bound) and the table.
//!
//! - `offset` leads from the thread pointer to the area in use, libc's or our own, which is the same distance in every
//!   thread, since both are static thread-local storage. `use_area` stores it, once.
//! - `table` is the entry of CPU 0. [`publish`] stores it, once.
//!
//! One load each, and no more: the CPU number, the table's entry, the slot are loads that wait for one another, and
//! with one link more in that chain (an offset of our area plus a distance) a pair of malloc and free took half as long
//! again, for each pop waits for the push before it.
//!
//! # Before there is a table
//! The dynamic linker calls `malloc` before any constructor, and then there is nothing to load. No instruction is spent
//! on it: a size below `small` has a class, an address within `granules` is ours, and both are 0 until everything is
//! published, so that the tests that malloc and free make anyway send a thread that comes too early to the slow path,
//! which makes the engine. An object or a cache comes from a published engine. Where there is none, callers ask
//! [`is_published`].
//!
//! [`publish`] stores the table first and these words last, with release, so who sees one of them with acquire sees the
//! table and the offset. (On x86-64 every load has acquire; on arm64 [`entry`](super::entry) asks for it.) Where our
//! own area is registered a thread's CPU number becomes valid by its own registration, which comes after it has seen
//! [`is_published`].
//!
//! These words are there twice, for sections that go by CPU number and for those that go by concurrency id, and a
//! process uses one of the two. So the choice costs the ordinary sections nothing.

use kmem_core::classes;
use kmem_core::pages::{CLASS_STEP, GRANULE_SHIFT, PageHeap};
use kmem_core::percpu::CpuTable;
use kmem_core::sync::{AtomicPtr, AtomicU8, AtomicUsize, Ordering};

use super::thread_data::{self, RseqArea};

/// What sections and [`entry`](super::entry) load, in one cache line.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Hot {
    /// Sizes below this have a class that is looked up by 16 bytes, sizes below `general` one that is looked up by 128;
    /// 0 before publication.
    small: AtomicUsize,
    offset: AtomicUsize,
    table: AtomicPtr<AtomicPtr<u8>>,
    general: AtomicUsize,
    /// Number of the window's first granule, counted from address 0, and how many of its granules have a byte in the
    /// class map: as many as were ever handed out, or some more.
    first: AtomicUsize,
    granules: AtomicUsize,
    /// Where the byte of the granule at address 0 would be.
    classes: AtomicPtr<AtomicU8>,
    /// What sections in line go by: the same as `table`, or, while a profile counts what is allocated, a table in which
    /// every CPU has the empty area.
    in_line: AtomicPtr<AtomicPtr<u8>>,
}

const _: () = assert!(size_of::<Hot>() == 64, "one cache line");

/// Where templates find the fields of [`Hot`], and those of the area of a thread.
#[doc(hidden)]
pub mod at {
    use core::mem::offset_of;

    use super::{Hot, RseqArea};

    pub const OFFSET: usize = offset_of!(Hot, offset);
    pub const TABLE: usize = offset_of!(Hot, table);
    pub const SMALL: usize = offset_of!(Hot, small);
    pub const GENERAL: usize = offset_of!(Hot, general);
    pub const FIRST: usize = offset_of!(Hot, first);
    pub const GRANULES: usize = offset_of!(Hot, granules);
    pub const CLASSES: usize = offset_of!(Hot, classes);
    pub const IN_LINE: usize = offset_of!(Hot, in_line);
    pub const CPU_ID: usize = offset_of!(RseqArea, cpu_id);
    pub const RSEQ_CS: usize = offset_of!(RseqArea, rseq_cs);
    pub const MM_CID: usize = offset_of!(RseqArea, mm_cid);
}

impl Hot {
    /// Words before anything is published: every section misses.
    const fn nothing() -> Self {
        Self {
            small: AtomicUsize::new(0),
            offset: AtomicUsize::new(0),
            table: AtomicPtr::new(core::ptr::null_mut()),
            general: AtomicUsize::new(0),
            first: AtomicUsize::new(0),
            granules: AtomicUsize::new(0),
            classes: AtomicPtr::new(core::ptr::null_mut()),
            in_line: AtomicPtr::new(core::ptr::null_mut()),
        }
    }

    /// The rseq area of the calling thread that sections by these words go by.
    ///
    /// # Safety
    /// They were told which one that is.
    pub(super) unsafe fn area<'a>(&self) -> &'a RseqArea {
        // SAFETY: our area and libc's are static thread-local storage; the offset leads to one of them.
        unsafe { thread_data::area_at(self.offset.load(Ordering::Relaxed)) }
    }
}

/// The one of this program or shared object.
pub static HOT: Hot = Hot::nothing();

/// The one for sections by concurrency id, which are in use where slots go by that (`ids`). Then [`HOT`]
/// has a table, an offset that leads to our own area, which is never registered, and nothing else: so all that goes by
/// CPU number misses.
pub static HOT_BY_ID: Hot = Hot::nothing();

/// Lets sections by CPU number use the area at `offset` from the thread pointer in each thread (`None`: our own).
/// Called once, before any section runs.
pub(crate) fn use_area(offset: Option<usize>) {
    HOT.offset.store(offset.unwrap_or_else(thread_data::own_offset), Ordering::Release);
}

/// Lets sections by concurrency id use the area at `offset`, libc's, and those by CPU number none. As [`use_area`].
pub(crate) fn use_ids(offset: usize) {
    HOT_BY_ID.offset.store(offset, Ordering::Release);
    use_area(None);
}

/// Lets [`class_at`] know the heap's window and class map, and those entries that go by `hot`.
///
/// # Safety
/// The heap lives for ever. Called once, after [`publish`], and before others use the heap.
pub unsafe fn publish_classes(heap: &PageHeap, hot: &Hot) {
    let first = heap.window().0 >> GRANULE_SHIFT;
    hot.classes.store(heap.class_map().as_ptr().wrapping_sub(first), Ordering::Release);
    hot.first.store(first, Ordering::Release);
    hot.granules.store(heap.reach(), Ordering::Release);
}

/// Lets them know that the class map is longer now. Called under the heap's lock. Before there is a class map nothing
/// happens: [`publish_classes`] asks.
///
/// # Safety
/// The class map is that of the heap that was published, and has so many bytes.
pub(crate) unsafe fn reaches(granules: usize, hot: &Hot) {
    if !hot.classes.load(Ordering::Relaxed).is_null() {
        hot.granules.store(granules, Ordering::Release);
    }
}

/// Lets sections use `table`, and those entries that go by `hot`.
///
/// # Safety
/// The table lives for ever, and has an entry for every number that the kernel may write into the area for the
/// sections that go by `hot`. Called once, by one thread, after `use_area` or `use_ids`.
pub unsafe fn publish(table: &CpuTable, hot: &Hot) {
    HOT.in_line.store(table.entries().as_ptr(), Ordering::Release);
    HOT.table.store(table.entries().as_ptr(), Ordering::Release);
    hot.table.store(table.entries().as_ptr(), Ordering::Release);
    hot.general.store(classes::SMALL + 1, Ordering::Release);
    hot.small.store(classes::FINE_MAX + 1, Ordering::Release);
}

/// Makes every pop miss, and every push in line: `nowhere` is a table in which every CPU has the empty area. Or, with
/// `None`, lets them hit again. malloc and its kin look up no class meanwhile; free goes on as always.
///
/// # Safety
/// `table` is the one that was published for `hot`; `nowhere` has as many entries, also before CPU 0, and lives for
/// ever.
pub(crate) unsafe fn miss_allocations(nowhere: Option<*mut AtomicPtr<u8>>, table: &CpuTable, hot: &Hot) {
    let known = nowhere.is_none();
    hot.general.store(if known { classes::SMALL + 1 } else { 0 }, Ordering::Release);
    hot.small.store(if known { classes::FINE_MAX + 1 } else { 0 }, Ordering::Release);
    HOT.in_line.store(nowhere.unwrap_or(table.entries().as_ptr()), Ordering::Release);
}

/// Whether `publish` was called; if so, the table and where the areas are is seen too.
#[inline(always)]
pub fn is_published() -> bool {
    !HOT.table.load(Ordering::Acquire).is_null()
}

/// The table that was published: the entry of CPU 0.
#[inline(always)]
pub(crate) fn table() -> *const AtomicPtr<u8> {
    HOT.table.load(Ordering::Relaxed)
}

/// The class of the general object at `address`; 0 for all else (large, foreign, null, of a named cache).
#[inline(always)]
pub fn class_at(address: usize) -> u8 {
    // The look-up waits for the address alone; that it is in the window is found out beside it.
    let granule = address >> GRANULE_SHIFT;
    if granule.wrapping_sub(HOT.first.load(Ordering::Relaxed)) >= HOT.granules.load(Ordering::Relaxed) {
        return class_by_id(granule);
    }
    // SAFETY: the map has a byte for each of these granules. A thread that frees an object got it after the map was
    // published, and after it reached so far.
    unsafe { (*HOT.classes.load(Ordering::Relaxed).wrapping_add(granule)).load(Ordering::Relaxed) / CLASS_STEP }
}

/// The same where slots go by concurrency id.
#[cold]
fn class_by_id(granule: usize) -> u8 {
    if granule.wrapping_sub(HOT_BY_ID.first.load(Ordering::Relaxed)) >= HOT_BY_ID.granules.load(Ordering::Relaxed) {
        return 0;
    }
    // SAFETY: as in `class_at`.
    unsafe { (*HOT_BY_ID.classes.load(Ordering::Relaxed).wrapping_add(granule)).load(Ordering::Relaxed) / CLASS_STEP }
}

/// libc's area of the calling thread, by which sections by concurrency id go. Called after `use_ids`.
pub(crate) fn area_by_id<'a>() -> &'a RseqArea {
    // SAFETY: the offset is that of libc's area.
    unsafe { HOT_BY_ID.area() }
}
