//! `TABLE[cpu]`: which area a section on a CPU works on.
//!
//! The table has an entry for every possible CPU and two before them, for the numbers -1 and -2 that a thread without a
//! CPU number carries. An entry is the CPU's area, or the empty area while the CPU is offline, stopped or not
//! populated. Entries are written only by who holds the CPU's control; they are read inside sections.

use core::ptr::NonNull;

use super::area::Area;
use crate::platform::PageSource;
use crate::sync::{AtomicPtr, MODEL, Ordering};

/// Entries before CPU 0.
const BEFORE: usize = 2;
/// Bytes of a table, at least. Sections index by the CPU number of the moment, without a test: should somebody have
/// hidden CPUs from the platform, their numbers lead to the empty area all the same. (In a model there is no assembly.)
const LEAST: usize = if MODEL { 1 } else { 4096 };

/// The areas that sections use, by CPU.
pub struct CpuTable {
    /// The entry of CPU 0.
    entries: NonNull<AtomicPtr<u8>>,
    cpus: usize,
    slots: usize,
    empty: Area,
}

// SAFETY: the entries are atomics in a mapping that lives as long as the table.
unsafe impl Send for CpuTable {}
// SAFETY: as above.
unsafe impl Sync for CpuTable {}

impl CpuTable {
    const fn bytes(cpus: usize) -> usize {
        let bytes = cpus.saturating_add(BEFORE).saturating_mul(size_of::<AtomicPtr<u8>>());
        if bytes < LEAST { LEAST } else { bytes }
    }

    /// A table for `cpus` CPUs and areas of `slots` slots, in which every CPU has the empty area.
    pub fn map<P: PageSource>(source: &P, cpus: usize, slots: usize) -> Option<Self> {
        let empty = Area::map(source, slots)?;
        let Some(memory) = source.map(Self::bytes(cpus)) else {
            // SAFETY: the area was just made and nobody knows it.
            unsafe { empty.unmap(source, slots) };
            return None;
        };
        let first = memory.cast::<AtomicPtr<u8>>();
        for index in 0..Self::bytes(cpus) / size_of::<AtomicPtr<u8>>() {
            // SAFETY: the mapping has room for as many entries.
            unsafe { first.add(index).write(AtomicPtr::new(empty.as_ptr())) };
        }
        // SAFETY: there are `BEFORE` entries before that of CPU 0.
        let entries = unsafe { first.add(BEFORE) };
        Some(Self { entries, cpus, slots, empty })
    }

    /// Gives the table back.
    ///
    /// # Safety
    /// No section can run any more.
    pub unsafe fn unmap<P: PageSource>(&self, source: &P) {
        // SAFETY: the mappings are those of `map`.
        unsafe {
            source.unmap(self.entries.sub(BEFORE).cast(), Self::bytes(self.cpus));
            self.empty.unmap(source, self.slots);
        }
    }

    /// How many slots each area has.
    pub fn slots(&self) -> usize {
        self.slots
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

    /// Lets sections on `cpu` that begin from now on miss. Those that began before end with the fence.
    ///
    /// # Safety
    /// The caller holds the CPU's control, or is the only one that writes its entry.
    pub unsafe fn withdraw(&self, cpu: usize) {
        // SAFETY: passed on; the empty area lives as long as the table.
        unsafe { self.publish(cpu, self.empty) };
    }
}
