//! A CPU's area: one mapping with a slot for every cache, and beside the slots what only slow paths read.
//!
//! ```text
//! | width | not used | mark (odd) | slot 0 | slot 1 | ... | record 0 | record 1 | ...
//!                                 ^ the area's address
//! ```
//! Slot 0 belongs to no cache and stays disabled: whatever has no class (a large, foreign or NULL pointer) uses it and
//! misses.
//!
//! An area is as *wide* as there are caches, roughly. Most programs have few caches, and areas for all that there may
//! be would be most of what a small program holds if its memory is locked. When there are more, each area is exchanged
//! for a wider one (`widen.rs` of the engine). Sections do not check how wide an area is, so that is done before any
//! thread has the new cache. A thread that finds a cache on the list may look for its slot in an area that is not wide
//! enough yet, and finds it disabled.

use core::ptr::NonNull;

use crate::host::{Host, PageSource};
use crate::meta::{Meta, READABLE};
use crate::sync::{AtomicUsize, Ordering, Zeroed, place_zeroed};

/// No area has more slots than this: bytes are counted without an overflow.
const SLOTS_MAX: usize = isize::MAX as usize / 64;

/// Which slot of an area: the index of its cache in the registry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct SlotIndex(pub u32);

/// The odd word that stands before each magazine and before each area.
pub(super) const MARK: usize = 1;
/// Bytes of a magazine word: those of a machine word, except under a model checker, whose atomics may be larger.
pub(super) const WORD: usize = size_of::<AtomicUsize>();
/// Bytes before slot 0; the last word of them is the mark.
const HEADER: usize = (READABLE * WORD).next_multiple_of(64);

/// Set in what was seen of a cursor that stood where it had stood at the look before. (Cursors are even.)
const STILL: usize = 1;

/// The place of one CPU in one cache, as the fast path sees it. Both are offsets in bytes from the area.
#[repr(C)]
#[derive(Debug)]
pub struct Slot {
    /// Just after the newest object. The commit of every section is a store to it.
    pub cursor: AtomicUsize,
    /// Just after the magazine's last word; 0 if the slot is disabled.
    pub end: AtomicUsize,
}

/// What slow paths note beside a slot. Guarded by the CPU's control.
#[repr(C)]
struct Record {
    /// The magazine's memory (its mark), or 0.
    storage: AtomicUsize,
    /// Objects that fit.
    capacity: AtomicUsize,
    /// Where the cursor was when it was looked at last, and [`STILL`]; 0: not since the slot was enabled.
    seen: AtomicUsize,
}

// SAFETY: two atomics.
unsafe impl Zeroed for Slot {
    fn zeroed() -> Self {
        Self { cursor: Zeroed::zeroed(), end: Zeroed::zeroed() }
    }
}

// SAFETY: three atomics.
unsafe impl Zeroed for Record {
    fn zeroed() -> Self {
        Self { storage: Zeroed::zeroed(), capacity: Zeroed::zeroed(), seen: Zeroed::zeroed() }
    }
}

/// The address of an area. A copy gives no right to it: [`super`] says which thread may read or write what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Area(NonNull<u8>);

impl Area {
    /// Bytes of the mapping of an area of `slots` slots.
    pub const fn bytes(slots: usize) -> usize {
        HEADER + slots * (size_of::<Slot>() + size_of::<Record>())
    }

    /// Slots of an area that is `bytes` long.
    pub(super) const fn slots_in(bytes: usize) -> usize {
        (bytes - HEADER) / (size_of::<Slot>() + size_of::<Record>())
    }

    /// Bytes of the mapping of an area that no slot is ever enabled in: it needs nothing beside the slots.
    const fn bytes_of_empty(slots: usize) -> usize {
        HEADER + slots * size_of::<Slot>()
    }

    /// Maps an area whose slots are all disabled.
    pub fn map<P: PageSource>(source: &P, slots: usize) -> Option<Self> {
        if slots > SLOTS_MAX {
            return None;
        }
        let memory = source.map(Self::bytes(slots))?;
        // SAFETY: the mapping is ours alone, zero, page aligned, and as long as is counted on here.
        unsafe {
            place_zeroed(memory.add(HEADER + slots * size_of::<Slot>()).cast::<Record>(), slots);
            memory.cast().write(slots);
            Some(Self::begin(memory, slots))
        }
    }

    /// Maps an area whose slots are all disabled and remain so.
    pub(super) fn map_empty<P: PageSource>(source: &P, slots: usize) -> Option<Self> {
        let memory = source.map(Self::bytes_of_empty(slots))?;
        // SAFETY: as above. It is of no width: no thread finds a slot there to enable.
        Some(unsafe { Self::begin(memory, slots) })
    }

    /// # Safety
    /// The memory is the caller's alone, zero, aligned to a page, and has room for so many slots.
    unsafe fn begin(memory: NonNull<u8>, slots: usize) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            memory.add(HEADER - WORD).cast().write(AtomicUsize::new(MARK));
            place_zeroed(memory.add(HEADER).cast::<Slot>(), slots);
            Self(memory.add(HEADER))
        }
    }

    /// Unmaps the area.
    ///
    /// # Safety
    /// The area is one of [`map`](Self::map); no section, drain or statistics reader can reach it from here on (I36).
    pub unsafe fn unmap<P: PageSource>(self, source: &P) {
        // SAFETY: no thread uses the area.
        unsafe { source.unmap(self.0.sub(HEADER), Self::bytes(self.width())) }
    }

    /// # Safety
    /// The area is one of [`map_empty`](Self::map_empty) with as many slots; else as for [`unmap`](Self::unmap).
    pub(super) unsafe fn unmap_empty<P: PageSource>(self, source: &P, slots: usize) {
        // SAFETY: no thread uses the area.
        unsafe { source.unmap(self.0.sub(HEADER), Self::bytes_of_empty(slots)) }
    }

    /// How many slots the area has.
    ///
    /// # Safety
    /// The area is mapped.
    pub(crate) unsafe fn width(self) -> usize {
        // SAFETY: the word was written when the area was mapped, and is not written again.
        unsafe { self.0.sub(HEADER).cast().read() }
    }

    /// An area with `width` slots, to which the content of this one's slots was moved; this one is to be
    /// [unmapped](Self::unmap). `None` if there is no memory; then this one is as it was.
    ///
    /// # Safety
    /// The area is private, as for [`section::take`](super::section::take); `width` is more than this one's.
    pub(crate) unsafe fn widened<P: PageSource>(self, source: &P, width: usize) -> Option<Self> {
        let wide = Self::map(source, width)?;
        // Offsets are from the area, and magazines stay where they are.
        let moved = |offset: usize| self.address().wrapping_add(offset).wrapping_sub(wide.address());
        // SAFETY: both areas are private.
        unsafe {
            for index in 0..self.width() {
                let slot = SlotIndex(index as u32);
                if !self.is_enabled(slot) {
                    continue;
                }
                let (from, to) = (self.slot(slot), wide.slot(slot));
                to.cursor.store(moved(from.cursor.load(Ordering::Relaxed)), Ordering::Relaxed);
                to.end.store(moved(from.end.load(Ordering::Relaxed)), Ordering::Relaxed);
                let (from, to) = (self.record(slot), wide.record(slot));
                to.storage.store(from.storage.load(Ordering::Relaxed), Ordering::Relaxed);
                to.capacity.store(from.capacity.load(Ordering::Relaxed), Ordering::Relaxed);
                // Where the cursor was when it was looked at is an offset as well; it counts as not looked at.
            }
        }
        Some(wide)
    }

    /// The address.
    pub fn address(self) -> usize {
        self.0.as_ptr() as usize
    }

    pub(super) fn as_ptr(self) -> *mut u8 {
        self.0.as_ptr()
    }

    /// # Safety
    /// `address` is that of a mapped area.
    pub(super) unsafe fn from_ptr(address: *mut u8) -> Self {
        // SAFETY: areas are never at address 0.
        Self(unsafe { NonNull::new_unchecked(address) })
    }

    /// A slot of the area.
    ///
    /// # Safety
    /// The area stays mapped while the result is used, and `slot` is below its number of slots.
    pub unsafe fn slot<'a>(self, slot: SlotIndex) -> &'a Slot {
        // SAFETY: slots stand at the area's address, as many as the caller says.
        unsafe { self.0.cast::<Slot>().add(slot.0 as usize).as_ref() }
    }

    /// # Safety
    /// As for [`slot`](Self::slot).
    unsafe fn record<'a>(self, slot: SlotIndex) -> &'a Record {
        // SAFETY: the records stand behind the slots, as many as there are slots.
        unsafe { self.0.add(self.width() * size_of::<Slot>()).cast::<Record>().add(slot.0 as usize).as_ref() }
    }

    /// The magazine word at `offset` bytes from the area.
    ///
    /// # Safety
    /// `offset` was read from a slot of the area (its cursor, its end, or a word between mark and end), whose magazine
    /// is mapped.
    pub(super) unsafe fn word<'a>(self, offset: usize) -> &'a AtomicUsize {
        // SAFETY: the caller's offset leads to a word of a magazine, or to the mark.
        unsafe { &*(self.address().wrapping_add(offset) as *const AtomicUsize) }
    }

    /// Whether the slot has a magazine. A slot for which the area is not wide enough has none.
    ///
    /// # Safety
    /// The area stays mapped while the result is used; the caller holds the CPU's control.
    pub unsafe fn is_enabled(self, slot: SlotIndex) -> bool {
        // SAFETY: the slot is one of the area's.
        unsafe { (slot.0 as usize) < self.width() && self.slot(slot).end.load(Ordering::Relaxed) != 0 }
    }

    /// How many objects the slot's magazine holds: exact if the area is private, otherwise of a moment.
    ///
    /// # Safety
    /// As for [`is_enabled`](Self::is_enabled).
    pub unsafe fn count(self, slot: SlotIndex) -> usize {
        // SAFETY: the caller's promise.
        unsafe {
            if !self.is_enabled(slot) {
                return 0;
            }
            let first = self.record(slot).storage.load(Ordering::Relaxed) + WORD;
            let cursor = self.slot(slot).cursor.load(Ordering::Acquire);
            self.address().wrapping_add(cursor).wrapping_sub(first) / WORD
        }
    }

    /// Objects that fit into the slot's magazine; 0 if the slot is disabled.
    ///
    /// # Safety
    /// As for [`is_enabled`](Self::is_enabled).
    pub unsafe fn capacity(self, slot: SlotIndex) -> usize {
        // SAFETY: the caller's promise; an enabled slot is one of the area's.
        unsafe { if self.is_enabled(slot) { self.record(slot).capacity.load(Ordering::Relaxed) } else { 0 } }
    }

    /// Whether the last [`look`](Self::look) found the slot still, and it has been so since.
    ///
    /// # Safety
    /// As for [`is_enabled`](Self::is_enabled).
    pub unsafe fn is_still(self, slot: SlotIndex) -> bool {
        // SAFETY: the caller's promise; an enabled slot is one of the area's.
        unsafe {
            self.is_enabled(slot)
                && self.record(slot).seen.load(Ordering::Relaxed)
                    == self.slot(slot).cursor.load(Ordering::Relaxed) | STILL
        }
    }

    /// Notes where the slot's cursor is, and returns whether the slot is enabled and still: its cursor is where the
    /// previous look saw it.
    ///
    /// # Safety
    /// As for [`is_enabled`](Self::is_enabled).
    pub unsafe fn look(self, slot: SlotIndex) -> bool {
        // SAFETY: the caller's promise; an enabled slot is one of the area's.
        unsafe {
            if !self.is_enabled(slot) {
                return false;
            }
            let cursor = self.slot(slot).cursor.load(Ordering::Relaxed);
            let seen = &self.record(slot).seen;
            let still = seen.load(Ordering::Relaxed) & !STILL == cursor;
            seen.store(if still { cursor | STILL } else { cursor }, Ordering::Relaxed);
            still
        }
    }

    /// Gives a disabled slot a magazine for `capacity` objects. Needs no fence: see [`super`].
    ///
    /// Sections may read the mark and the words before it, [`READABLE`] in all, and ignore these. There are so many:
    /// the metadata arena's chunks begin with a header of that length, and no magazine is a mapping of its own.
    ///
    /// Returns `false`, and leaves the slot disabled, if there is no metadata or the area is not wide enough.
    ///
    /// # Safety
    /// The caller holds the CPU's control; the area is mapped; the slot is disabled, or the area is private.
    pub unsafe fn enable<P: Host>(self, slot: SlotIndex, capacity: usize, meta: &Meta, platform: &P) -> bool {
        // SAFETY: the area is mapped.
        if slot.0 as usize >= unsafe { self.width() } {
            return false;
        }
        let Some(storage) = meta.alloc(platform, (capacity + 1) * WORD) else {
            return false;
        };
        // SAFETY: the storage is ours and has a word for the mark and one for each object; slot and record are in the
        // area.
        unsafe {
            place_zeroed(storage.cast::<AtomicUsize>(), capacity + 1);
            storage.cast().write(AtomicUsize::new(MARK));
            let first = storage.as_ptr() as usize + WORD;
            let record = self.record(slot);
            record.storage.store(storage.as_ptr() as usize, Ordering::Relaxed);
            record.capacity.store(capacity, Ordering::Relaxed);
            record.seen.store(0, Ordering::Relaxed);
            let slot = self.slot(slot);
            slot.cursor.store(first.wrapping_sub(self.address()), Ordering::Release);
            slot.end.store((first + capacity * WORD).wrapping_sub(self.address()), Ordering::Release);
        }
        true
    }

    /// Disables an empty slot of a private area, if it is enabled, and frees the magazine.
    ///
    /// # Safety
    /// The area is private, as for [`section::take`](super::section::take); the magazine is empty.
    pub unsafe fn disable<P: Host>(self, slot: SlotIndex, meta: &Meta, platform: &P) {
        // SAFETY: the area is private, so no section uses the storage that is freed; an enabled slot is one of its.
        unsafe {
            if !self.is_enabled(slot) {
                return;
            }
            debug_assert_eq!(self.count(slot), 0, "only an empty slot is disabled (I6)");
            let record = self.record(slot);
            let slot = self.slot(slot);
            slot.cursor.store(0, Ordering::Relaxed);
            slot.end.store(0, Ordering::Relaxed);
            record.seen.store(0, Ordering::Relaxed);
            let capacity = record.capacity.swap(0, Ordering::Relaxed);
            if let Some(storage) = NonNull::new(record.storage.swap(0, Ordering::Relaxed) as *mut u8) {
                meta.free(platform, storage, (capacity + 1) * WORD);
            }
        }
    }

    /// Gives an enabled slot of a private area a magazine for `capacity` objects, at least as many as are in it now,
    /// and moves them there. Without memory the slot stays as it is, and the result is `false`.
    ///
    /// # Safety
    /// The area is private, as for [`section::take`](super::section::take); the slot is enabled.
    pub unsafe fn resize<P: Host>(self, slot: SlotIndex, capacity: usize, meta: &Meta, platform: &P) -> bool {
        // SAFETY: the area is private; both storages are ours and long enough.
        unsafe {
            let count = self.count(slot);
            let record = self.record(slot);
            let (old, had) = (record.storage.load(Ordering::Relaxed), record.capacity.load(Ordering::Relaxed));
            debug_assert!(capacity >= count, "the objects have a place in the new magazine (I9)");
            let Some(storage) = NonNull::new(old as *mut u8) else { return false };
            if !self.enable(slot, capacity, meta, platform) {
                return false;
            }
            let first = self.slot(slot).cursor.load(Ordering::Relaxed);
            let objects = storage.cast::<AtomicUsize>().add(1);
            for index in 0..count {
                self.word(first.wrapping_add(index * WORD))
                    .store(objects.add(index).as_ref().load(Ordering::Relaxed), Ordering::Relaxed);
            }
            self.slot(slot).cursor.store(first.wrapping_add(count * WORD), Ordering::Relaxed);
            meta.free(platform, storage, (had + 1) * WORD);
        }
        true
    }

    /// Calls `visit` with each object in the slot of an area that no thread changes meanwhile.
    ///
    /// # Safety
    /// The area is private, as for [`section::take`](super::section::take), or the whole allocator is quiescent.
    pub unsafe fn for_each(self, slot: SlotIndex, mut visit: impl FnMut(usize)) {
        // SAFETY: the words between the storage's mark and the cursor are the magazine's objects.
        unsafe {
            let count = self.count(slot);
            let cursor = self.slot(slot).cursor.load(Ordering::Acquire);
            for back in 1..=count {
                visit(self.word(cursor.wrapping_sub(back * WORD)).load(Ordering::Relaxed));
            }
        }
    }
}

/// Where what is: see [`outline`](crate::engine::outline).
pub(crate) mod at {
    use core::mem::offset_of;

    use super::*;

    pub(crate) const BEFORE: usize = HEADER;
    pub(crate) const SLOT_SIZE: usize = size_of::<Slot>();
    pub(crate) const CURSOR: usize = offset_of!(Slot, cursor);
    pub(crate) const END: usize = offset_of!(Slot, end);
    pub(crate) const RECORD_SIZE: usize = size_of::<Record>();
    pub(crate) const STORAGE: usize = offset_of!(Record, storage);
    pub(crate) const CAPACITY: usize = offset_of!(Record, capacity);
}
