//! The two maps over the window: a byte a granule for the fast path, an entry a granule for the slow ones.
//!
//! A byte of the class map is a class times [`CLASS_STEP`]. Both maps stand in the window's *head*, before the first
//! granule that serves: a terabyte of window has 64 MiB of class map and 1 GiB of granule table. They are committed as
//! the heap grows, so a process has of them (in memory, and in all that limits and locks count) what its heap needs:
//! the bytes and entries of granules below the *reach* exist. The fast path asks for nothing else than whether an
//! address is below it, which the page source is [told](PageSource::reaches).
//!
//! An entry is written only by the owner of its granules (for free runs the holder of the heap's lock, otherwise the
//! run's owner), and read without a lock by a thread that frees an object: the object is live, so its granule's entry
//! cannot change meanwhile. A wild pointer reads some entry, harmlessly, and is refused.

use core::ptr::NonNull;

use crate::host::{CommitError, PageSource};
use crate::sync::{AtomicU8, AtomicU32, AtomicUsize, MODEL, Ordering, Zeroed, place_zeroed};

/// log2 of a granule's bytes. Few granules make a slab in a model, for each has atomics of its own.
pub const GRANULE_SHIFT: u32 = if MODEL { 16 } else { 14 };
/// Bytes of a granule.
pub const GRANULE: usize = 1 << GRANULE_SHIFT;

/// What a class is multiplied by in the class map: with it, `free` reaches the slot of 16 bytes by one address scaled
/// by 8, and spends no instruction on a product.
pub const CLASS_STEP: u8 = 2;

/// What covers a granule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Nothing that was handed out.
    None,
    /// The slab whose descriptor is here.
    Slab(NonNull<u8>),
    /// The first granule of a large object, and its length in granules.
    Large(usize),
    /// A further granule of a large object.
    LargeTail,
}

pub(super) const KIND_NONE: u32 = 0;
pub(super) const KIND_DIRTY: u32 = 1;
pub(super) const KIND_CLEAN: u32 = 2;
pub(super) const KIND_RAW: u32 = 7;
/// A further granule of a free run: its last one, or stale inner ones.
pub(super) const KIND_INNER: u32 = 3;
pub(super) const KIND_SLAB: u32 = 4;
pub(super) const KIND_LARGE: u32 = 5;
const KIND_LARGE_TAIL: u32 = 6;
/// A window has at most so many granules (2 TiB), less one.
const LEN_BITS: u32 = 27;
/// Bits of a free run's age, above its length and below its kind.
const AGE_BITS: u32 = 2;
/// The oldest that a run is known to be.
pub(super) const AGE_MAX: u32 = (1 << AGE_BITS) - 1;
const KIND_SHIFT: u32 = LEN_BITS + AGE_BITS;

/// One granule. Free runs use the links; slabs keep their descriptor's address in `next`.
#[repr(C)]
pub(super) struct Entry {
    kind_len: AtomicU32,
    pub(super) prev: AtomicU32,
    pub(super) next: AtomicUsize,
}

// SAFETY: three atomics.
unsafe impl Zeroed for Entry {
    fn zeroed() -> Self {
        Self { kind_len: AtomicU32::new(0), prev: AtomicU32::new(0), next: AtomicUsize::new(0) }
    }
}

impl Entry {
    pub(super) fn kind(&self) -> u32 {
        self.kind_len.load(Ordering::Acquire) >> KIND_SHIFT
    }

    pub(super) fn len(&self) -> usize {
        (self.kind_len.load(Ordering::Acquire) & ((1 << LEN_BITS) - 1)) as usize
    }

    pub(super) fn set(&self, kind: u32, len: usize) {
        self.kind_len.store(kind << KIND_SHIFT | len as u32, Ordering::Release);
    }

    /// Periods of decay that a free run has seen.
    pub(super) fn age(&self) -> u32 {
        self.kind_len.load(Ordering::Acquire) >> LEN_BITS & AGE_MAX
    }

    pub(super) fn set_age(&self, age: u32) {
        let others = self.kind_len.load(Ordering::Relaxed) & !(AGE_MAX << LEN_BITS);
        self.kind_len.store(others | age << LEN_BITS, Ordering::Release);
    }
}

/// Granules whose bytes and entries are committed at a time, at least: a page and 64 KiB, for 64 MiB of window.
const GRANULES_A_STEP: usize = 4096;

/// The maps of a window.
pub(crate) struct Maps {
    /// Address of granule 0, the first that serves.
    pub(super) base: usize,
    pub(super) granules: usize,
    classes: NonNull<AtomicU8>,
    entries: NonNull<Entry>,
    /// The bytes and entries of granules below this exist. Moved on under the heap's lock.
    reach: AtomicUsize,
    /// Granules whose bytes exist: more than those of entries, if there was no memory for these. Changed under the
    /// heap's lock.
    bytes: AtomicUsize,
}

// SAFETY: both maps are atomics in the window, which is there as long as this.
unsafe impl Send for Maps {}
// SAFETY: as above.
unsafe impl Sync for Maps {}

/// Commits the elements from number `from` to `to` of a map that begins at `map`.
///
/// # Safety
/// They are in the window and nothing else is, elements before `from` were committed by this, in steps of which all but
/// the last are whole pages, and nobody uses the others yet.
unsafe fn lengthen<P: PageSource, T: Zeroed>(
    source: &P,
    map: NonNull<T>,
    from: usize,
    to: usize,
) -> Result<(), CommitError> {
    let (at, end) = (from * size_of::<T>(), (to * size_of::<T>()).next_multiple_of(source.page_size()));
    // SAFETY: the caller's promise; just committed, so zero.
    unsafe {
        source.commit(map.as_ptr().addr() + at, end - at)?;
        place_zeroed(map.add(from), to - from);
    }
    Ok(())
}

impl Maps {
    /// The maps of a window of `len` bytes from `start` on, of which nothing is committed.
    pub(super) fn of<P: PageSource>(source: &P, start: usize, len: usize) -> Option<Self> {
        let (each, page) = (size_of::<AtomicU8>() + size_of::<Entry>(), source.page_size());
        let all = len >> GRANULE_SHIFT;
        // The bytes may leave some of a page in front of the table, and the first granule begins a page.
        let head = ((all * each + page).next_multiple_of(page.max(GRANULE)) / GRANULE).min(all);
        let granules = (all - head).min((1 << LEN_BITS) - 1);
        let table = start + (granules * size_of::<AtomicU8>()).next_multiple_of(page);
        Some(Self {
            base: start + (head << GRANULE_SHIFT),
            granules,
            classes: NonNull::new(start as *mut AtomicU8)?,
            entries: NonNull::new(table as *mut Entry)?,
            reach: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
        })
    }

    /// Makes sure that the bytes and entries of all granules below `granule` exist. Called with the heap's lock held.
    #[cold]
    pub(super) fn extend<P: PageSource>(&self, source: &P, granule: usize) -> Result<(), CommitError> {
        let reach = self.reach.load(Ordering::Relaxed);
        if granule <= reach {
            return Ok(());
        }
        let next = granule.next_multiple_of(GRANULES_A_STEP.max(source.page_size())).min(self.granules);
        let bytes = self.bytes.load(Ordering::Relaxed);
        if bytes < next {
            // SAFETY: that part of the head holds nothing else, and no thread looks beyond the reach.
            unsafe { lengthen(source, self.classes, bytes, next)? };
            self.bytes.store(next, Ordering::Relaxed);
        }
        // SAFETY: as above.
        unsafe { lengthen(source, self.entries, reach, next)? };
        self.reach.store(next, Ordering::Release);
        // SAFETY: the class map is committed so far, and the caller holds the heap's lock.
        unsafe { source.reaches(next) };
        Ok(())
    }

    /// Whether the granule has an entry.
    pub(super) fn reaches(&self, granule: usize) -> bool {
        granule < self.reach.load(Ordering::Acquire)
    }

    pub(super) fn entry(&self, granule: usize) -> &Entry {
        assert!(self.reaches(granule), "a granule that the heap has not grown to");
        // SAFETY: entries below the reach are committed; zero is a valid entry.
        unsafe { self.entries.add(granule).as_ref() }
    }

    /// The granule of an address, if it is in the window and the heap has grown to it.
    pub(super) fn granule_of(&self, address: usize) -> Option<usize> {
        let granule = address.wrapping_sub(self.base) >> GRANULE_SHIFT;
        self.reaches(granule).then_some(granule)
    }

    pub(super) fn address_of(&self, granule: usize) -> usize {
        self.base + (granule << GRANULE_SHIFT)
    }

    pub(super) fn classes(&self) -> NonNull<AtomicU8> {
        self.classes
    }

    pub(super) fn reach(&self) -> usize {
        self.reach.load(Ordering::Acquire)
    }

    pub(super) fn set_class(&self, first: usize, len: usize, class: u8) {
        for granule in first..first + len {
            assert!(self.reaches(granule), "a granule that the heap has not grown to");
            // SAFETY: bytes below the reach are committed.
            unsafe { self.classes.add(granule).as_ref() }.store(class * CLASS_STEP, Ordering::Relaxed);
        }
    }

    pub(super) fn owner(&self, address: usize) -> Owner {
        let Some(granule) = self.granule_of(address) else {
            return Owner::None;
        };
        let entry = self.entry(granule);
        match entry.kind() {
            KIND_SLAB => NonNull::new(entry.next.load(Ordering::Relaxed) as *mut u8).map_or(Owner::None, Owner::Slab),
            KIND_LARGE => Owner::Large(entry.len()),
            KIND_LARGE_TAIL => Owner::LargeTail,
            _ => Owner::None,
        }
    }

    pub(super) fn set_slab(&self, first: usize, len: usize, slab: NonNull<u8>) {
        for granule in first..first + len {
            let entry = self.entry(granule);
            entry.next.store(slab.as_ptr() as usize, Ordering::Relaxed);
            entry.set(KIND_SLAB, len);
        }
    }

    pub(super) fn set_large(&self, first: usize, len: usize) {
        self.entry(first).set(KIND_LARGE, len);
        for granule in first + 1..first + len {
            self.entry(granule).set(KIND_LARGE_TAIL, 0);
        }
    }
}

/// Where what is: see [`outline`](crate::engine::outline).
pub(crate) mod at {
    use core::mem::offset_of;

    use super::*;

    pub(crate) const BASE: usize = offset_of!(Maps, base);
    pub(crate) const GRANULES: usize = offset_of!(Maps, granules);
    pub(crate) const ENTRIES: usize = offset_of!(Maps, entries);
    pub(crate) const REACH: usize = offset_of!(Maps, reach);
    pub(crate) const ENTRY_SIZE: usize = size_of::<Entry>();
    pub(crate) const ENTRY_KIND: usize = offset_of!(Entry, kind_len);
    pub(crate) const KIND_SHIFT_BITS: usize = KIND_SHIFT as usize;
    pub(crate) const LEN_MASK: usize = (1 << LEN_BITS) - 1;
    pub(crate) const LARGE: usize = KIND_LARGE as usize;
    pub(crate) const FIRSTS: usize =
        1 << KIND_SLAB | 1 << KIND_LARGE | 1 << KIND_DIRTY | 1 << KIND_CLEAN | 1 << KIND_RAW;
}
