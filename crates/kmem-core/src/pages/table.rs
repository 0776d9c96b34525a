//! The two maps over the window: a byte a granule for the fast path, an entry a granule for the slow ones.
//!
//! A byte of the class map is a class times [`CLASS_STEP`]. It is one mapping, since the fast path reads it without asking how far the heap has grown; a terabyte of
//! window has 16 MiB of it. The granule table, sixteen times as long, stands in the window's own first granules and is
//! committed as the heap grows: entries below its *reach* exist.
//!
//! An entry is written only by who owns its granules (the heap's lock for free runs, the run's owner else), and read
//! without a lock by whoever frees an object: the object is live, so its granule's entry cannot change meanwhile. A
//! wild pointer reads some entry, harmlessly, and is refused.

use core::ptr::NonNull;

use crate::platform::{CommitError, PageSource};
use crate::sync::{AtomicU8, AtomicU32, AtomicUsize, Ordering, Zeroed, place_zeroed};

/// log2 of a granule's bytes.
pub const GRANULE_SHIFT: u32 = 16;
/// Bytes of a granule.
pub const GRANULE: usize = 1 << GRANULE_SHIFT;

/// What a class is multiplied by in the class map: with it, `free` reaches the slot of 16 bytes by one address scaled by
/// 8, and spends no instruction on a product.
pub const CLASS_STEP: u8 = 2;
const _: () = assert!(crate::classes::CLASSES * CLASS_STEP as usize <= u8::MAX as usize);

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
/// A window has at most so many granules (8 TiB), less one.
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

/// Entries committed at a time: 64 KiB, for 256 MiB of window.
const STEP: usize = 4096;

/// The maps of a window.
pub(crate) struct Maps {
    pub(super) base: usize,
    pub(super) granules: usize,
    classes: NonNull<AtomicU8>,
    /// Entries below this exist. Moved on under the heap's lock.
    reach: AtomicUsize,
}

// SAFETY: both maps are atomics in mappings that live as long as this.
unsafe impl Send for Maps {}
// SAFETY: as above.
unsafe impl Sync for Maps {}

impl Maps {
    pub(super) fn map<P: PageSource>(source: &P, base: usize, len: usize) -> Option<Self> {
        let granules = (len >> GRANULE_SHIFT).min((1 << LEN_BITS) - 1);
        let classes = source.map(granules * size_of::<AtomicU8>())?.cast();
        // SAFETY: the mapping is zero, ours alone, and has a byte for each granule.
        unsafe { place_zeroed::<AtomicU8>(classes, granules) };
        Some(Self { base, granules, classes, reach: AtomicUsize::new(0) })
    }

    /// # Safety
    /// Nobody uses the maps any more.
    pub(crate) unsafe fn unmap<P: PageSource>(&self, source: &P) {
        // SAFETY: the mapping is that of `map`; the table is the window's.
        unsafe { source.unmap(self.classes.cast(), self.granules * size_of::<AtomicU8>()) }
    }

    /// The window's granules in which the table stands.
    pub(super) fn table_granules(&self) -> usize {
        (self.granules * size_of::<Entry>()).div_ceil(GRANULE)
    }

    /// Sees to it that the entries of all granules below `granule` exist. Called with the heap's lock held.
    pub(super) fn extend<P: PageSource>(&self, source: &P, granule: usize) -> Result<(), CommitError> {
        let reach = self.reach.load(Ordering::Relaxed);
        if granule <= reach {
            return Ok(());
        }
        let next = granule.next_multiple_of(STEP).min(self.granules);
        let (at, end) = (reach * size_of::<Entry>(), (next * size_of::<Entry>()).next_multiple_of(source.page_size()));
        // SAFETY: the table's granules hold nothing else, and what is behind its reach was not committed before (steps
        // are whole pages).
        unsafe { source.commit(self.base + at, end - at)? };
        if let Some(first) = NonNull::new((self.base + at) as *mut Entry) {
            // SAFETY: just committed, so zero, and nobody looks behind the reach.
            unsafe { place_zeroed(first, next - reach) };
        }
        self.reach.store(next, Ordering::Release);
        Ok(())
    }

    /// Whether the granule has an entry.
    pub(super) fn reaches(&self, granule: usize) -> bool {
        granule < self.reach.load(Ordering::Acquire)
    }

    pub(super) fn entry(&self, granule: usize) -> &Entry {
        assert!(self.reaches(granule), "a granule that the heap has not grown to");
        // SAFETY: entries below the reach are committed; zero is a valid entry.
        unsafe { &*(self.base as *const Entry).add(granule) }
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

    pub(super) fn set_class(&self, first: usize, len: usize, class: u8) {
        for granule in first..first + len {
            assert!(granule < self.granules);
            // SAFETY: the map has a byte for each granule.
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
