//! Guarded pages: objects of at most a page, each on a page of its own between pages that no access reaches.
//!
//! ```text
//! | guard | object | guard | object | guard | ...
//! ```
//! An object ends where the guard begins (what malloc returns of less than 16 bytes is aligned to 8 for that), and its
//! page is
//! closed when it is freed: a use after free, and an access beyond it, end the program at once, with a report of the
//! place ([`signal`](super::signal)). The page of the object that was freed longest ago is used again first.
//!
//! Which allocations come here:
//!
//! - `KMEM_GUARD=1/N`: one in N, roughly, of those that are in a batch which a slot was refilled with. The fast path
//!   takes no part in it: where a slot misses, as many allocations as a batch has are counted, and the one that missed
//!   comes here when its turn has come.
//! - `KMEM_SECURE=1`: the first of each size, and then one in a thousand.

use kmem_core::sync::{AtomicU32, AtomicUsize, Ordering, Word};

use super::fill;
use super::form::Form;
use super::lock::Locked;
use super::region::Fault;
use super::track::{Mark, Track};
use super::zone::{self, PAGE};
use crate::os::sys::{PROT_NONE, PROT_READ, PROT_WRITE};

/// Pages with an object.
const SLOTS: usize = 512;
const BYTES: usize = (2 * SLOTS + 1) * PAGE;
/// Bytes before an object that a free looks at.
const NEAR: usize = 32;

/// Where the pages begin; 0: there are none.
static BASE: AtomicUsize = AtomicUsize::new(0);
/// One in so many allocations comes here; 0: none by sampling.
static RATE: AtomicUsize = AtomicUsize::new(0);
/// Allocations until the next one.
static LEFT: AtomicUsize = AtomicUsize::new(0);
static CHANCE: AtomicU32 = AtomicU32::new(0x9E37_79B9);

/// What is known of a page.
#[derive(Clone, Copy)]
pub(super) struct Slot {
    pub(super) address: usize,
    pub(super) size: usize,
    pub(super) live: bool,
    reached: bool,
    form: Form,
    pub(super) track: Track,
}

struct Table {
    slots: usize,
    next: usize,
    live: usize,
}

static TABLE: Locked<Table> = Locked::new(Table { slots: 0, next: 0, live: 0 });

/// The word of the lock, for fork.
pub(super) fn word() -> &'static Word {
    &TABLE.word
}

impl Table {
    fn slot(&mut self, index: usize) -> &mut Slot {
        // SAFETY: the table has so many, and is reached under the lock only.
        unsafe { &mut *(self.slots as *mut Slot).add(index) }
    }
}

/// Reserves the pages. `rate`: one allocation in so many comes here, unless it is 0.
pub(super) fn begin(rate: usize) {
    let Some(slots) = zone::map(SLOTS * size_of::<Slot>(), PROT_READ | PROT_WRITE) else { return };
    let Some(base) = zone::map(BYTES, PROT_NONE) else { return };
    TABLE.with(|table| table.slots = slots);
    RATE.store(rate, Ordering::Relaxed);
    LEFT.store(rate, Ordering::Relaxed);
    BASE.store(base, Ordering::Release);
}

/// Whether this allocation, which stands for `weight` of them, is one that comes here.
#[inline]
pub(super) fn is_due(weight: usize) -> bool {
    let rate = RATE.load(Ordering::Relaxed);
    if rate == 0 {
        return false;
    }
    let left = LEFT.load(Ordering::Relaxed);
    if left > weight {
        // Not counted atomically: what is lost only delays the next one.
        LEFT.store(left - weight, Ordering::Relaxed);
        return false;
    }
    // Between half of the rate and half more, so that it does not keep step with the program.
    let chance = CHANCE.load(Ordering::Relaxed).wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    CHANCE.store(chance, Ordering::Relaxed);
    LEFT.store((rate / 2 + (chance >> 8) as usize % rate.max(2)).max(1), Ordering::Relaxed);
    true
}

/// The page that an address is on, or beside, if it is one of these: its number. A guard counts as the page's that is
/// nearer.
pub(super) fn slot_near(address: usize) -> Option<usize> {
    let base = BASE.load(Ordering::Acquire);
    let offset = address.wrapping_sub(base);
    if base == 0 || offset >= BYTES {
        return None;
    }
    let half = PAGE / 2;
    Some((offset.saturating_sub(half) / (2 * PAGE)).min(SLOTS - 1))
}

/// Who is here: sampled objects are few, so that is noted of all of them.
fn mark() -> Mark {
    if RATE.load(Ordering::Relaxed) > 0 { Mark::taken() } else { Mark::now() }
}

fn page(index: usize) -> usize {
    BASE.load(Ordering::Relaxed) + (2 * index + 1) * PAGE
}

/// Memory on a page of its own; `None`: it is too long, or there is no page.
pub(super) fn alloc(size: usize, align: usize) -> Option<usize> {
    if BASE.load(Ordering::Acquire) == 0 || size == 0 || size > PAGE || align > PAGE {
        return None;
    }
    let mark = mark();
    TABLE.with(|table| {
        if table.live >= SLOTS {
            return None;
        }
        let next = table.next;
        let index = (next..next + SLOTS).map(|index| index % SLOTS).find(|index| !table.slot(*index).live)?;
        // SAFETY: the page is no object's. It reads as zero.
        if !unsafe { zone::open(page(index), PAGE) } {
            return None;
        }
        let end = page(index) + PAGE;
        let align = if size < 16 && align < 16 { 8 } else { align.max(16) };
        let address = (end - size) & !(align - 1);
        // SAFETY: the page is open, and this thread's.
        unsafe {
            fill::put_around(page(index).max(address - NEAR.min(address)), address);
            fill::put_around(address + size, end);
        }
        table.next = index + 1;
        table.live += 1;
        let (form, track) = (Form::Malloc, Track::allocated(mark));
        *table.slot(index) = Slot { address, size, live: true, reached: false, form, track };
        Some(address)
    })
}

/// What is at an address, if it is on one of these pages.
fn find(table: &mut Table, address: usize) -> Option<Result<usize, Fault>> {
    let index = slot_near(address)?;
    let slot = *table.slot(index);
    Some(match (slot.address == address, slot.live) {
        (true, true) => Ok(index),
        (true, false) if address != 0 => Err(Fault::Free),
        (false, true) if address.wrapping_sub(slot.address) < slot.size => Err(Fault::Inside(slot.address)),
        _ => Err(Fault::NotAnObject),
    })
}

/// Frees an object; `None`: it is on none of these pages.
pub(super) fn free(address: usize, size: Option<usize>) -> Option<Result<(), Fault>> {
    slot_near(address)?;
    let mark = mark();
    TABLE.with(|table| {
        let index = match find(table, address)? {
            Ok(index) => index,
            Err(fault) => return Some(Err(fault)),
        };
        let slot = *table.slot(index);
        if size.is_some_and(|size| size != slot.size) {
            return Some(Err(Fault::Size(size.unwrap_or(0))));
        }
        if slot.form != Form::Malloc {
            return Some(Err(Fault::Form(slot.form)));
        }
        // SAFETY: the object is live, and the caller's; its page is open.
        unsafe {
            let end = page(index) + PAGE;
            if let Some(at) = fill::spoilt_around(address + slot.size, end) {
                return Some(Err(Fault::After(at)));
            }
            if let Some(at) = fill::spoilt_around(page(index).max(address - NEAR), address) {
                return Some(Err(Fault::Before(at)));
            }
            // Its memory goes with it: what reads it later finds nothing.
            if !zone::reset(page(index), PAGE) {
                core::ptr::write_bytes(page(index) as *mut u8, 0, PAGE);
            }
        }
        table.slot(index).live = false;
        table.slot(index).track.freed(mark);
        table.live -= 1;
        Some(Ok(()))
    })
}

/// Bytes of an object; `None`: it is on none of these pages.
pub(super) fn size(address: usize) -> Option<Result<usize, Fault>> {
    slot_near(address)?;
    TABLE.with(|table| find(table, address).map(|found| found.map(|index| table.slot(index).size)))
}

/// As [`Region::turn`](super::region::Region::turn).
pub(super) fn turn(address: usize, from: Form, to: Form) -> Option<Form> {
    TABLE.with(|table| {
        let index = find(table, address)?.ok()?;
        let slot = table.slot(index);
        let found = slot.form;
        if found == from {
            slot.form = to;
        }
        Some(found)
    })
}

/// What is known of the page that an address is on or beside.
pub(super) fn covering(address: usize) -> Option<Slot> {
    let index = slot_near(address)?;
    TABLE.with(|table| Some(*table.slot(index)).filter(|slot| slot.address != 0))
}

/// Notes that a search found the live object that an address is in; returns it where it was not found before.
pub(super) fn reach(address: usize) -> Option<(usize, usize)> {
    let index = slot_near(address)?;
    TABLE.with(|table| {
        let slot = table.slot(index);
        let found = slot.live && !slot.reached && address.wrapping_sub(slot.address) < slot.size;
        slot.reached |= found;
        found.then_some((slot.address, slot.size))
    })
}

/// Where the pages are, and how long: nowhere, if there are none.
pub(super) fn pages() -> (usize, usize) {
    let base = BASE.load(Ordering::Relaxed);
    (base, if base == 0 { 0 } else { BYTES })
}

/// The same for the table of what is on them.
pub(super) fn table() -> (usize, usize) {
    TABLE.with(|table| (table.slots, if table.slots == 0 { 0 } else { SLOTS * size_of::<Slot>() }))
}

/// Calls `visit` with each live object, as [`Region::for_each_live`](super::region::Region::for_each_live).
pub(super) fn for_each_live(mut visit: impl FnMut(usize, usize, bool, Mark)) {
    if BASE.load(Ordering::Acquire) == 0 {
        return;
    }
    for index in 0..SLOTS {
        let slot = TABLE.with(|table| *table.slot(index));
        if slot.live {
            visit(slot.address, slot.size, slot.reached, slot.track.allocated);
        }
    }
}
