//! Slots, the objects that go through them, and who has which.

use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};

use kmem_core::internals::Request;
use kmem_core::percpu::{Area, CpuTable, READABLE, SlotIndex};
use kmem_core::platform::{PageSource, Topology};
use kmem_linux::Linux;

pub const OBJECTS: usize = 256;
pub const SLOTS: u32 = 4;
pub const CAPACITY: usize = 24;
const WORD: usize = size_of::<usize>();

pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % bound
    }
}

/// Who holds a CPU's lock may take its area away.
pub struct Control {
    pub area: Area,
    storage: Vec<NonNull<u8>>,
}

pub struct World {
    pub linux: Linux,
    pub table: CpuTable,
    pub cpus: Vec<usize>,
    pub controls: Vec<Mutex<Control>>,
    in_hands: Vec<AtomicU32>,
    /// Whether somebody is on a CPU whose area is withdrawn.
    pub requests: Vec<Request>,
    pub stop: AtomicBool,
    pub count: Counts,
}

#[derive(Default)]
pub struct Counts {
    pub duplicates: AtomicUsize,
    pub operations: AtomicUsize,
    pub hits: AtomicUsize,
    pub drains: AtomicUsize,
    pub reported: AtomicUsize,
}

// SAFETY: areas and storage are mappings that live for ever; who may touch them is what this test is about.
unsafe impl Sync for World {}

pub fn object(index: usize) -> usize {
    (index + 1) * 16
}

/// What this process can have.
pub fn discover() -> Linux {
    // SAFETY: nothing that it goes by changes while a process of this test runs, and there is no engine.
    unsafe { Linux::discover() }
}

impl World {
    pub fn make() -> Self {
        let linux = discover();
        let table =
            CpuTable::map(&linux, linux.possible_cpus(), SLOTS as usize + 1, SLOTS as usize + 1).expect("a table");
        let cpus: Vec<usize> = linux.initial_cpus().iter().collect();
        let control = |cpu: &usize| {
            let area = Area::map(&linux, SLOTS as usize + 1).expect("an area");
            let storage = (0..=SLOTS).map(|_| linux.map(4096).expect("a magazine")).collect();
            let control = Control { area, storage };
            (1..=SLOTS).for_each(|slot| control.enable(SlotIndex(slot)));
            // SAFETY: nobody else knows the table yet; the area is never unmapped.
            unsafe { table.publish(*cpu, area) };
            Mutex::new(control)
        };
        let controls = cpus.iter().map(control).collect();
        let in_hands = (0..OBJECTS).map(|_| AtomicU32::new(1)).collect();
        let requests = cpus.iter().map(|_| Request::new()).collect();
        let (stop, count) = (AtomicBool::new(false), Counts::default());
        Self { linux, table, cpus, controls, in_hands, requests, stop, count }
    }

    fn flag(&self, object: usize) -> &AtomicU32 {
        &self.in_hands[object / 16 - 1]
    }

    pub fn took(&self, object: usize) {
        if self.flag(object).swap(1, Ordering::AcqRel) != 0 {
            self.count.duplicates.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn gives(&self, object: usize) {
        self.flag(object).store(0, Ordering::Release);
    }

    pub fn keeps(&self, object: usize) {
        self.flag(object).store(1, Ordering::Release);
    }
}

impl Control {
    /// As the engine does it: the cursor, then the end; no fence.
    pub fn enable(&self, slot: SlotIndex) {
        let storage = self.storage[slot.0 as usize];
        // The mark has words before it that a section may read.
        let first = storage.as_ptr() as usize + READABLE * WORD;
        // SAFETY: the storage is a page, the slot is in the area.
        unsafe {
            storage.cast::<usize>().add(READABLE - 1).write(1);
            let place = self.area.slot(slot);
            place.cursor.store(first.wrapping_sub(self.area.address()), Ordering::Release);
            place.end.store((first + CAPACITY * WORD).wrapping_sub(self.area.address()), Ordering::Release);
        }
    }

    pub fn disable(&self, slot: SlotIndex) {
        // SAFETY: the area is private and the slot empty.
        let place = unsafe { self.area.slot(slot) };
        place.cursor.store(0, Ordering::Relaxed);
        place.end.store(0, Ordering::Relaxed);
    }

    pub fn is_enabled(&self, slot: SlotIndex) -> bool {
        // SAFETY: the slot is in the area.
        unsafe { self.area.is_enabled(slot) }
    }
}
