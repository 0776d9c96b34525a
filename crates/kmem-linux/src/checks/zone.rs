//! Address space of the checked heap: a zone of regions, and a table for what is known of their slots.
//!
//! ```text
//! zone   | region of class 0 | region of class 1 | ... | regions of named caches ...
//! books  | words of region 0 | words of region 1 | ...
//! tracks | who allocated and freed the slots of region 0 | ...        if that is wanted
//! ```
//! All are reserved when the process starts, and nothing of them may be touched. A region opens from its beginning as
//! its slots are wanted, and so do its books. Caches never share address space: an address has belonged to one class
//! or cache, and to no other, as long as that one exists. The books lie in a mapping of their own, between pages that
//! no access reaches, so that no overflow of an object writes to them.

use kmem_core::sync::{AtomicUsize, Ordering};

use crate::os::sys::{self, MAP_NORESERVE, MAP_PRIVATE_ANON, PROT_NONE, PROT_READ, PROT_WRITE};

/// Bytes of a page: where the kernel has others, nothing is checked.
pub(super) const PAGE: usize = 4096;
/// Regions of the zone: those of the classes, and those of named caches.
pub(super) const REGIONS: usize = 256;
/// log2 of the bytes of a region, the first that there is address space for.
const SHIFTS: [u32; 4] = [35, 33, 31, 28];
/// Bytes of books for each slot of 16 bytes: its word, and its part of what is known of a group.
const BOOKS_A_SLOT: usize = 16;
/// Bytes of tracks for each slot.
const TRACK: usize = size_of::<super::track::Track>();

static BASE: AtomicUsize = AtomicUsize::new(0);
static SHIFT: AtomicUsize = AtomicUsize::new(0);
static BOOKS: AtomicUsize = AtomicUsize::new(0);
/// Where all of it ends.
static END: AtomicUsize = AtomicUsize::new(0);
static TRACKS: AtomicUsize = AtomicUsize::new(0);

/// Reserves them; `false` where there is no address space for them.
pub(super) fn reserve(tracks: bool) -> bool {
    SHIFTS.iter().any(|shift| {
        let zone = REGIONS << shift;
        let books = zone / 16 * BOOKS_A_SLOT;
        let all = zone + books + if tracks { zone / 16 * TRACK } else { 0 };
        // At most half of what there is: the program needs some, and may have little by a limit.
        let Some(base) = map(2 * all, PROT_NONE) else { return false };
        // SAFETY: the second half of the new mapping.
        let _ = unsafe { sys::munmap(base + all, all) };
        BOOKS.store(base + zone, Ordering::Relaxed);
        TRACKS.store(if tracks { base + zone + books } else { 0 }, Ordering::Relaxed);
        END.store(base + all, Ordering::Relaxed);
        SHIFT.store(*shift as usize, Ordering::Relaxed);
        BASE.store(base, Ordering::Release);
        true
    })
}

/// The region that an address is in.
#[inline]
pub(super) fn region_of(address: usize) -> Option<usize> {
    let base = BASE.load(Ordering::Relaxed);
    let region = address.wrapping_sub(base) >> SHIFT.load(Ordering::Relaxed);
    (base != 0 && region < REGIONS).then_some(region)
}

/// Where a region begins, and how long it is.
pub(super) fn region(index: usize) -> (usize, usize) {
    let shift = SHIFT.load(Ordering::Relaxed);
    (BASE.load(Ordering::Relaxed) + (index << shift), 1 << shift)
}

/// Where the books of a region begin, and how long they are.
pub(super) fn books(index: usize) -> (usize, usize) {
    let len = (1 << SHIFT.load(Ordering::Relaxed)) / 16 * BOOKS_A_SLOT;
    (BOOKS.load(Ordering::Relaxed) + index * len, len)
}

/// Where the tracks of a region begin; 0: there are none.
pub(super) fn tracks(index: usize) -> usize {
    let len = (1 << SHIFT.load(Ordering::Relaxed)) / 16 * TRACK;
    match TRACKS.load(Ordering::Relaxed) {
        0 => 0,
        tracks => tracks + index * len,
    }
}

/// Where all of this is, and how long.
pub(super) fn all() -> (usize, usize) {
    let base = BASE.load(Ordering::Relaxed);
    (base, END.load(Ordering::Relaxed) - base)
}

/// Ends what a region and its books hold, so that it can be another cache's; `false`: the kernel refused some of it.
///
/// # Safety
/// The region is not in use.
pub(super) unsafe fn recycle(index: usize) -> bool {
    let ((at, len), (books, books_len)) = (region(index), self::books(index));
    // SAFETY: the caller's promise.
    unsafe {
        reset(at, len) && reset(books, books_len) && (tracks(index) == 0 || reset(tracks(index), len / 16 * TRACK))
    }
}

/// A new mapping, for which no memory is set aside.
pub(super) fn map(len: usize, prot: usize) -> Option<usize> {
    // SAFETY: a new mapping covers no other.
    unsafe { sys::mmap(0, len, prot, MAP_PRIVATE_ANON | MAP_NORESERVE) }.ok()
}

/// Lets pages be used; `false` where there is no memory for them, or there are too many mappings.
///
/// # Safety
/// The pages are the checked heap's.
pub(super) unsafe fn open(at: usize, len: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { sys::mprotect(at, len, PROT_READ | PROT_WRITE) }.is_ok()
}

/// Ends what pages hold, and lets no access reach them, without a mapping more (Linux 6.13); `false`: refused.
///
/// # Safety
/// The pages are the checked heap's, and hold nothing that is needed.
pub(super) unsafe fn close(at: usize, len: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { sys::madvise_guard(at, len, true) }.is_ok()
}

/// Undoes [`close`]: the pages read as zero.
///
/// # Safety
/// As for `close`.
pub(super) unsafe fn reopen(at: usize, len: usize) -> bool {
    // SAFETY: the caller's promise. A sandbox may know neither kind of advice, and allow new mappings.
    unsafe { sys::madvise_guard(at, len, false).is_ok() || (reset(at, len) && open(at, len)) }
}

/// Releases all of a range to the system, so that it is as [`reserve`] left it; `false`: refused.
///
/// # Safety
/// The range is the checked heap's, and not in use.
pub(super) unsafe fn reset(at: usize, len: usize) -> bool {
    const MAP_FIXED: usize = 0x10;
    // SAFETY: the caller's promise: what is replaced is a mapping of ours.
    unsafe { sys::mmap(at, len, PROT_NONE, MAP_PRIVATE_ANON | MAP_NORESERVE | MAP_FIXED) }.is_ok()
}
