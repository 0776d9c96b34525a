//! Granules with live samples of general caches are *watched*: a free there takes the slow path, which looks whether it
//! is the free of a sample.
//!
//! The class map says 0 for a watched granule, so every free in it misses, and most are of neighbours. Where a sample
//! lives long among objects that come and go that may be every other free of a program. So the classes that the map no
//! longer says are in a table here, by which the free of a neighbour finds its slot at once ([`quick`](super::quick)).
//! It is a table of one entry for each remainder: a granule whose entry is another's has none, and its neighbours are
//! freed by way of the heap.
//!
//! ```text
//! an entry        granule << 8 | class; 0: none
//! ```
//! A sample keeps its slab, and so the granule's class, from changing, and the entry is struck out before the sample is
//! freed. So an entry that a thread finds for the granule of a live object says that object's class. This fails where
//! the free of a sample goes unnoticed: in a signal handler that interrupted the holder of the lock. Then the table is
//! no longer used by this profile.

use core::ptr::{NonNull, null_mut};

use kmem_core::Engine;
use kmem_core::pages::{CLASS_STEP, GRANULE_SHIFT};
use kmem_core::sync::{AtomicPtr, AtomicU64, Ordering};

use super::layout::site;
use super::state::{Held, State, may_be_sampled};
use crate::os::pages;
use crate::platform::Linux;

/// Entries of the table: for 8,192 samples that live, 4 GiB at the usual rate.
const LEN: usize = 1 << 13;

/// The table; null: it is not in use.
static TABLE: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());
/// Its mapping, which stays.
static MAPPING: AtomicPtr<AtomicU64> = AtomicPtr::new(null_mut());

/// An entry of a table that is one of the two.
fn entry_of(table: &AtomicPtr<AtomicU64>, granule: usize) -> Option<&'static AtomicU64> {
    // SAFETY: the mapping has so many entries, and stays.
    NonNull::new(table.load(Ordering::Acquire)).map(|table| unsafe { table.add(granule % LEN).as_ref() })
}

/// Puts an empty table into use; `false`: there is no memory. The caller holds the lock.
pub(super) fn prepare() -> bool {
    if MAPPING.load(Ordering::Relaxed).is_null() {
        let Some(memory) = pages::map(LEN * size_of::<AtomicU64>()) else { return false };
        MAPPING.store(memory.as_ptr().cast(), Ordering::Release);
    }
    for granule in 0..LEN {
        entry_of(&MAPPING, granule).inspect(|entry| entry.store(0, Ordering::Relaxed));
    }
    TABLE.store(MAPPING.load(Ordering::Relaxed), Ordering::Release);
    true
}

/// No longer uses the table. Needs no lock.
pub(super) fn forget() {
    TABLE.store(null_mut(), Ordering::Release);
}

/// The class of the granule at this address, if it is watched and has an entry.
#[inline]
pub(super) fn class_at(address: usize) -> Option<u8> {
    let granule = address >> GRANULE_SHIFT;
    let entry = entry_of(&TABLE, granule)?.load(Ordering::Relaxed);
    (entry >> 8 == granule as u64).then_some(entry as u8)
}

/// Enters a granule, if its place is free. The caller holds the lock.
fn note(address: usize, class: u8) {
    let granule = address >> GRANULE_SHIFT;
    if let Some(entry) = entry_of(&MAPPING, granule)
        && entry.load(Ordering::Relaxed) == 0
    {
        entry.store((granule << 8) as u64 | u64::from(class), Ordering::Relaxed);
    }
}

/// Strikes it out. The caller holds the lock.
fn strike(address: usize) {
    let granule = address >> GRANULE_SHIFT;
    if let Some(entry) = entry_of(&MAPPING, granule)
        && entry.load(Ordering::Relaxed) >> 8 == granule as u64
    {
        entry.store(0, Ordering::Relaxed);
    }
}

/// To be called before an object is freed, by slow paths, while a profile is on.
#[inline]
pub(crate) fn freed(engine: &Engine<Linux>, object: NonNull<u8>) {
    if may_be_sampled(object.as_ptr() as usize) {
        take_out(engine, object.as_ptr() as usize);
    }
}

#[cold]
#[inline(never)]
fn take_out(engine: &Engine<Linux>, address: usize) {
    let Some(mut held) = Held::take() else { return forget() };
    let Some(site) = held.take(address) else { return };
    State::count(site, site::FREED);
    let class = State::word(site, site::CLASS);
    if class != 0 {
        end(&mut held, engine, address, class as u8);
    }
}

fn granule_key(address: usize) -> usize {
    (address >> GRANULE_SHIFT) << 1 | 1
}

/// Lets frees in the granule of a live sample of a general cache miss. If that cannot be noted, it is not done, and the
/// free of the sample may go unnoticed.
pub(super) fn begin(state: &mut State, engine: &Engine<Linux>, address: usize, class: u8) {
    let samples = state.live.get(granule_key(address)).unwrap_or(0);
    if state.live.set(granule_key(address), samples + 1) {
        set_class(engine, address, 0);
        note(address, class);
    } else {
        state.take(address);
    }
}

/// The opposite, when the sample is about to be freed.
fn end(state: &mut State, engine: &Engine<Linux>, address: usize, class: u8) {
    match state.live.get(granule_key(address)) {
        Some(samples) if samples > 1 => _ = state.live.set(granule_key(address), samples - 1),
        Some(_) => {
            state.live.take(granule_key(address));
            strike(address);
            set_class(engine, address, class);
        }
        None => {}
    }
}

/// Sets what the class map says of the granule in which a live object of this general cache begins (or 0). The object
/// keeps its slab, and so the granule's class, from changing meanwhile.
pub(super) fn set_class(engine: &Engine<Linux>, address: usize, class: u8) {
    let granule = (address - engine.heap().window().0) >> GRANULE_SHIFT;
    // SAFETY: the heap handed out the granule, so it has a byte.
    unsafe { engine.heap().class_map().add(granule).as_ref() }.store(class * CLASS_STEP, Ordering::Relaxed);
}
