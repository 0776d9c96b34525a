//! `TABLE[cpu]`: which area a section on a CPU works on.
//!
//! The table has an entry for every possible CPU, and two before them, for the numbers -1 and -2 that a thread without
//! a CPU number carries. An entry is the CPU's area, or the empty area while the CPU is offline, stopped or not
//! populated. Entries are written only under the CPU's control; they are read inside sections.

use core::fmt;
use core::ptr::NonNull;

use super::area::{Area, SlotIndex};
use crate::host::PageSource;
use crate::sync::{AtomicPtr, AtomicUsize, MODEL, Ordering};

/// Entries before CPU 0.
const BEFORE: usize = 2;
/// The least bytes of a table. Sections index by the CPU number of the moment, without a check: if some CPUs were
/// hidden from the platform, their numbers still lead to the empty area. (In a model there is no assembly.)
const TABLE_MIN: usize = if MODEL { 1 } else { 4096 };
/// The least slots of an area at first: those of two pages. Enough for programs that use general caches and a hundred
/// of their own.
const FIRST_WIDTH: usize = Area::slots_in(8192);

/// The areas that sections use, by CPU.
pub struct CpuTable {
    /// The entry of CPU 0.
    entries: NonNull<AtomicPtr<u8>>,
    cpus: usize,
    /// Slots of the empty area: there are never more caches.
    slots: usize,
    /// How wide a new area is. Changed by creates, before they look for areas that are not as wide.
    width: AtomicUsize,
    /// All areas are at least so wide.
    sure: AtomicUsize,
    empty: Area,
}

// SAFETY: the entries are atomics in a mapping that lives as long as the table.
unsafe impl Send for CpuTable {}
// SAFETY: as above.
unsafe impl Sync for CpuTable {}

impl fmt::Debug for CpuTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuTable").field("cpus", &self.cpus).field("slots", &self.slots).finish_non_exhaustive()
    }
}

impl CpuTable {
    const fn bytes(cpus: usize) -> usize {
        let bytes = cpus.saturating_add(BEFORE).saturating_mul(size_of::<AtomicPtr<u8>>());
        if bytes < TABLE_MIN { TABLE_MIN } else { bytes }
    }

    /// A table for `cpus` CPUs and areas of up to `slots` slots, of which the first `from_start` are in each from the
    /// start. Every CPU has the empty area.
    pub fn map<P: PageSource>(source: &P, cpus: usize, slots: usize, from_start: usize) -> Option<Self> {
        let empty = Area::map_empty(source, slots)?;
        let Some(memory) = source.map(Self::bytes(cpus)) else {
            // SAFETY: the area was just made, and no other thread knows it.
            unsafe { empty.unmap_empty(source, slots) };
            return None;
        };
        let first = memory.cast::<AtomicPtr<u8>>();
        for index in 0..Self::bytes(cpus) / size_of::<AtomicPtr<u8>>() {
            // SAFETY: the mapping has room for as many entries.
            unsafe { first.add(index).write(AtomicPtr::new(empty.as_ptr())) };
        }
        // SAFETY: there are `BEFORE` entries before that of CPU 0.
        let entries = unsafe { first.add(BEFORE) };
        let width = from_start.max(FIRST_WIDTH).min(slots);
        Some(Self { entries, cpus, slots, width: AtomicUsize::new(width), sure: AtomicUsize::new(width), empty })
    }

    /// Unmaps the table.
    ///
    /// # Safety
    /// No section runs from here on.
    pub unsafe fn unmap<P: PageSource>(&self, source: &P) {
        // SAFETY: the mappings are those of `map`.
        unsafe {
            source.unmap(self.entries.sub(BEFORE).cast(), Self::bytes(self.cpus));
            self.empty.unmap_empty(source, self.slots);
        }
    }

    /// How many slots an area may have: indexes of caches are below this.
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// How many slots a new area has. Asked under the CPU's control.
    pub(crate) fn width(&self) -> usize {
        self.width.load(Ordering::Relaxed)
    }

    /// How wide areas have to be for a slot, from here on; `None` if all are wide enough.
    pub(crate) fn widen_for(&self, slot: SlotIndex) -> Option<usize> {
        let least = slot.0 as usize + 1;
        if least <= self.sure.load(Ordering::Acquire) {
            return None;
        }
        let width = least.next_power_of_two().saturating_mul(2).min(self.slots);
        self.width.fetch_max(width, Ordering::Relaxed);
        Some(width)
    }

    /// Notes that every area is at least so wide.
    pub(crate) fn are_as_wide(&self, width: usize) {
        self.sure.fetch_max(width, Ordering::Release);
    }

    /// CPU ids are below this.
    pub fn cpus(&self) -> usize {
        self.cpus
    }

    /// The area in which every slot is disabled.
    pub fn empty(&self) -> Area {
        self.empty
    }

    /// The entry of CPU 0, for sections in assembly. Entries -1 and -2 exist.
    pub fn entries(&self) -> NonNull<AtomicPtr<u8>> {
        self.entries
    }

    fn entry(&self, cpu: usize) -> &AtomicPtr<u8> {
        assert!(cpu < self.cpus);
        // SAFETY: the id is in range.
        unsafe { self.entries.add(cpu).as_ref() }
    }

    /// The area of a CPU. An id out of range has the empty area (I5).
    pub fn get(&self, cpu: usize) -> Area {
        if cpu >= self.cpus {
            return self.empty;
        }
        // SAFETY: entries are addresses of mapped areas.
        unsafe { Area::from_ptr(self.entry(cpu).load(Ordering::Acquire)) }
    }

    /// Lets sections on `cpu` use `area`.
    ///
    /// # Safety
    /// The caller holds the CPU's control (or is the only one that writes its entry). The area has as many slots as the
    /// table says, and stays mapped until it was withdrawn and the CPU fenced (I36).
    pub unsafe fn publish(&self, cpu: usize, area: Area) {
        self.entry(cpu).store(area.as_ptr(), Ordering::Release);
    }

    /// Makes sections on `cpu` that begin from now on miss. Those that began before end with the fence.
    ///
    /// # Safety
    /// The caller holds the CPU's control, or is the only one that writes its entry.
    pub unsafe fn withdraw(&self, cpu: usize) {
        // SAFETY: the caller's promise; the empty area lives as long as the table.
        unsafe { self.publish(cpu, self.empty) };
    }
}
