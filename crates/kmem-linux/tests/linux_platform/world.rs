//! A platform with slots, and what tells whether they work.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};

use kmem_core::percpu::{Area, CpuTable, READABLE, SlotIndex};
use kmem_core::platform::{PageSource, Sections, Topology};
use kmem_linux::{Linux, Mode, rseq};

pub const SLOT: SlotIndex = SlotIndex(1);
const SLOTS: usize = 2;
pub const CAPACITY: usize = 16;
const WORD: usize = size_of::<usize>();

/// What this process can have.
pub fn discover() -> Linux {
    // SAFETY: a case discovers before it runs sections, or after, where nothing has changed; no platform of these tests
    // is published beside another's engine.
    unsafe { Linux::discover() }
}

/// A platform whose every CPU has an area with one enabled slot.
pub fn world() -> (&'static Linux, &'static CpuTable) {
    let linux: &Linux = Box::leak(Box::new(discover()));
    let table: &CpuTable =
        Box::leak(Box::new(CpuTable::map(linux, linux.possible_cpus(), SLOTS, SLOTS).expect("a table")));
    for cpu in 0..linux.possible_cpus() {
        let area = Area::map(linux, SLOTS).expect("an area");
        let storage = linux.map(4096).expect("a magazine");
        // SAFETY: the area is private, the storage a page of ours.
        unsafe {
            // The mark has words before it that a section may read.
            storage.cast::<usize>().add(READABLE - 1).write(1);
            let first = storage.as_ptr() as usize + READABLE * WORD;
            let slot = area.slot(SLOT);
            slot.cursor.store(first.wrapping_sub(area.address()), Ordering::Release);
            slot.end.store((first + CAPACITY * WORD).wrapping_sub(area.address()), Ordering::Release);
        }
        // SAFETY: nobody else knows the table yet; area and magazine are never unmapped.
        unsafe { table.publish(cpu, area) };
    }
    (linux, table)
}

/// What [`entry_alloc`] answers where it cannot serve.
pub const SLOW: usize = 48;
/// Frees that [`entry_free`] could not do.
pub static SLOW_FREES: AtomicUsize = AtomicUsize::new(0);

extern "C" fn slow_alloc(_size: usize) -> *mut u8 {
    SLOW as *mut u8
}

extern "C" fn slow_free(_address: *mut u8) {
    SLOW_FREES.fetch_add(1, Ordering::Relaxed);
}

#[unsafe(naked)]
pub unsafe extern "C" fn entry_alloc(_size: usize) -> *mut u8 {
    kmem_linux::__entry_alloc!(entry_alloc_by_id)
}

#[unsafe(naked)]
unsafe extern "C" fn entry_alloc_by_id(_size: usize) -> *mut u8 {
    kmem_linux::__entry_alloc_by_id!(slow_alloc)
}

#[unsafe(naked)]
pub unsafe extern "C" fn entry_free(_address: *mut u8) {
    kmem_linux::__entry_free!(entry_free_by_id)
}

#[unsafe(naked)]
unsafe extern "C" fn entry_free_by_id(_address: *mut u8) {
    kmem_linux::__entry_free_by_id!(slow_free)
}

/// Whether a pair of put and take in line works on this thread; tried a few times, since the thread may move between
/// the two.
pub fn hits() -> bool {
    let object = NonNull::new(64 as *mut u8).expect("not null");
    // SAFETY: the slot is in the table, and the objects are numbers that nobody dereferences.
    (0..100).any(|_| unsafe { rseq::push(SLOT, object) && rseq::pop(SLOT).is_some() })
}

/// Whether sections in line can hit.
pub fn inline(linux: &Linux) -> bool {
    matches!(linux.mode(), Mode::Rseq | Mode::OwnRseq)
}

/// The same through the platform, which knows the mode.
pub fn hits_through(linux: &Linux, table: &CpuTable) -> bool {
    let object = NonNull::new(64 as *mut u8).expect("not null");
    // SAFETY: as in `hits`.
    (0..100).any(|_| unsafe { linux.push(table, SLOT, object) && linux.pop(table, SLOT).is_some() })
}

/// Whether what the platform puts is what [`entry_alloc`] takes. (1 byte has the class of the slot.)
pub fn entry_hits(linux: &Linux, table: &CpuTable) -> bool {
    let object = NonNull::new(64 as *mut u8).expect("not null");
    // SAFETY: as in `hits`.
    (0..100).any(|_| unsafe {
        let hit = linux.push(table, SLOT, object) && entry_alloc(1) == object.as_ptr();
        if !hit {
            linux.pop(table, SLOT);
        }
        hit
    })
}
