//! Large objects of the checked heap: each in a mapping of its own, between guards.
//!
//! ```text
//! | guard, 1 MiB | before the object | object | guard, 1 MiB |
//! ```
//! What is freed loses its memory at once, and keeps its address space for a while: an access ends the program, and no
//! other object is where the address leads. The table of all of them is kept elsewhere.

use super::fill;
use super::form::Form;
use super::lock::Locked;
use super::region::Fault;
use super::track::{Mark, Track};
use super::zone::{self, PAGE};
use crate::os::sys::{self, PROT_NONE, PROT_READ, PROT_WRITE};

/// Bytes of the guards before and after an object, where there is address space for them.
const GUARD: usize = (1 << 20) + PAGE;
/// Most objects that the table holds, a power of two.
const ENTRIES: usize = 1 << 16;
/// Freed objects whose address space is kept.
const KEPT: usize = 64;
/// Bytes before an object that are looked at.
const NEAR: usize = 32;

const NEVER: usize = 0;

/// A large object: `address` is [`NEVER`] where there is none.
#[derive(Clone, Copy)]
#[repr(C)]
struct Entry {
    address: usize,
    size: usize,
    base: usize,
    len: usize,
    is_free: usize,
    reached: usize,
    form: Form,
    track: Track,
}

struct Table {
    entries: usize,
    count: usize,
    /// Addresses of freed objects, in a ring.
    kept: [usize; KEPT],
    at: usize,
    bytes: usize,
}

static TABLE: Locked<Table> = Locked::new(Table { entries: 0, count: 0, kept: [0; KEPT], at: 0, bytes: 0 });

/// The word of the lock, for fork.
pub(super) fn word() -> &'static kmem_core::sync::Word {
    &TABLE.word
}

impl Table {
    fn entry(&mut self, index: usize) -> &mut Entry {
        // SAFETY: the table has so many entries, and is reached under the lock only.
        unsafe { &mut *(self.entries as *mut Entry).add(index % ENTRIES) }
    }

    fn place_of(address: usize) -> usize {
        (address / PAGE).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40
    }

    /// The entry of an object that begins at `address`.
    fn find(&mut self, address: usize) -> Option<&mut Entry> {
        if self.entries == 0 || address == NEVER {
            return None;
        }
        let first = Self::place_of(address);
        let found = (first..first + ENTRIES).find_map(|index| match self.entry(index).address {
            NEVER => Some(None),
            there if there == address => Some(Some(index)),
            _ => None,
        })??;
        Some(self.entry(found))
    }

    /// Forgets an object; returns the mapping that it had. Others move up to its place, so that all entries from the
    /// one where an object would stand first to the one where it stands are in use.
    fn forget(&mut self, address: usize) -> (usize, usize) {
        let Some(entry) = self.find(address) else { return (0, 0) };
        let ended = (entry.base, entry.len);
        let mut hole = (core::ptr::from_mut(entry) as usize - self.entries) / size_of::<Entry>();
        let mut at = hole;
        loop {
            at = (at + 1) % ENTRIES;
            let entry = *self.entry(at);
            if entry.address == NEVER {
                break;
            }
            let from_home = |place: usize| place.wrapping_sub(Self::place_of(entry.address)) % ENTRIES;
            if from_home(hole) < from_home(at) {
                *self.entry(hole) = entry;
                hole = at;
            }
        }
        self.entry(hole).address = NEVER;
        self.count -= 1;
        ended
    }

    fn add(&mut self, new: Entry) -> bool {
        if self.entries == 0 {
            match zone::map(ENTRIES * size_of::<Entry>(), PROT_READ | PROT_WRITE) {
                Some(entries) => self.entries = entries,
                None => return false,
            }
        }
        if self.count >= ENTRIES / 4 * 3 {
            return false;
        }
        let first = Self::place_of(new.address);
        let place = (first..first + ENTRIES).find(|index| self.entry(*index).address == NEVER);
        place.is_some_and(|index| {
            *self.entry(index) = new;
            self.count += 1;
            true
        })
    }
}

/// Memory for `size` bytes, aligned to `align`.
pub(super) fn alloc(size: usize, align: usize) -> Option<usize> {
    let own = size.checked_add(align.max(PAGE))?.checked_next_multiple_of(PAGE)?;
    let own = if align <= PAGE { size.max(1).next_multiple_of(PAGE) } else { own };
    let (guard, base) = [GUARD, PAGE].iter().find_map(|guard| {
        let len = own.checked_add(2 * guard)?;
        zone::map(len, PROT_NONE).map(|base| (*guard, base))
    })?;
    let end = base + guard + own;
    let address = (end - size) & !(align.max(16) - 1);
    let track = Track::allocated(Mark::now());
    // SAFETY: the mapping is new.
    unsafe {
        let (len, form) = (own + 2 * guard, Form::Malloc);
        let entry = Entry { address, size, base, len, is_free: 0, reached: 0, form, track };
        if !zone::open(base + guard, own) || !TABLE.with(|table| table.add(entry)) {
            let _ = sys::munmap(base, own + 2 * guard);
            return None;
        }
        surround(address, size, end, base + guard);
    }
    TABLE.with(|table| table.bytes += size);
    Some(address)
}

/// # Safety
/// The memory is the caller's.
unsafe fn surround(address: usize, size: usize, end: usize, begin: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        fill::put_around(begin.max(address - NEAR), address);
        fill::put_around(address + size, end.min(address + size + PAGE));
    }
}

/// # Safety
/// The entry is that of a live object.
unsafe fn check(entry: &Entry) -> Result<(), Fault> {
    let guard = if entry.len > 2 * GUARD { GUARD } else { PAGE };
    let (begin, end) = (entry.base + guard, entry.base + entry.len - guard);
    let (from, to) = (entry.address + entry.size, end.min(entry.address + entry.size + PAGE));
    // SAFETY: what is between the guards may be read.
    unsafe {
        if let Some(at) = fill::spoilt_around(from, to) {
            return Err(Fault::After(at));
        }
        match fill::spoilt_around(begin.max(entry.address - NEAR), entry.address) {
            Some(at) => Err(Fault::Before(at)),
            None => Ok(()),
        }
    }
}

/// Frees a large object; `Ok(false)`: there was never one there.
pub(super) fn free(address: usize, size: Option<usize>) -> Result<bool, Fault> {
    let mark = Mark::now();
    let out = TABLE.with(|table| {
        let Some(entry) = table.find(address) else { return Ok(None) };
        if entry.is_free != 0 {
            return Err(Fault::Free);
        }
        if let Some(size) = size.filter(|size| *size != entry.size) {
            return Err(Fault::Size(size));
        }
        if entry.form != Form::Malloc {
            return Err(Fault::Form(entry.form));
        }
        // SAFETY: the object is live, and the caller's.
        unsafe {
            check(entry)?;
            entry.is_free = 1;
            entry.track.freed(mark);
            let _ = zone::reset(entry.base, entry.len);
        }
        table.bytes -= table.find(address).map_or(0, |entry| entry.size);
        let at = table.at;
        let out = core::mem::replace(&mut table.kept[at], address);
        table.at = (at + 1) % KEPT;
        Ok(Some(table.forget(out)))
    })?;
    if let Some((base, len)) = out.filter(|(_, len)| *len > 0) {
        // SAFETY: the object was freed, and its address space is no longer kept.
        let _ = unsafe { sys::munmap(base, len) };
    }
    Ok(out.is_some())
}

/// Bytes of the large object at `address`; `None` where there was never one.
pub(super) fn size(address: usize) -> Option<Result<usize, Fault>> {
    TABLE.with(|table| {
        let entry = table.find(address)?;
        // SAFETY: the object is live, if it is not free.
        Some(if entry.is_free != 0 { Err(Fault::Free) } else { unsafe { check(entry) }.map(|()| entry.size) })
    })
}

/// As [`Region::turn`](super::region::Region::turn).
pub(super) fn turn(address: usize, from: Form, to: Form) -> Option<Form> {
    TABLE.with(|table| {
        let entry = table.find(address).filter(|entry| entry.is_free == 0)?;
        let found = entry.form;
        if found == from {
            entry.form = to;
        }
        Some(found)
    })
}

/// The object that is at an address, or whose guards are: where it begins, its size, and whether it is free.
pub(super) fn covering(address: usize) -> Option<(usize, usize, bool, Track)> {
    TABLE.with(|table| {
        if table.entries == 0 {
            return None;
        }
        (0..ENTRIES).find_map(|index| {
            let entry = *table.entry(index);
            let inside = entry.address != NEVER && address.wrapping_sub(entry.base) < entry.len;
            inside.then_some((entry.address, entry.size, entry.is_free != 0, entry.track))
        })
    })
}

/// Where the table is, and how long: nowhere, if there is none.
pub(super) fn table() -> (usize, usize) {
    TABLE.with(|table| (table.entries, if table.entries == 0 { 0 } else { ENTRIES * size_of::<Entry>() }))
}

/// Whether a search found the object that begins at an address.
pub(super) fn is_reached(address: usize) -> bool {
    TABLE.with(|table| table.find(address).is_some_and(|entry| entry.reached != 0))
}

/// Notes that a search found the live object that begins at an address; returns it where it was not found before.
pub(super) fn reach(address: usize) -> Option<(usize, usize)> {
    TABLE.with(|table| {
        let entry = table.find(address).filter(|entry| entry.is_free == 0 && entry.reached == 0)?;
        entry.reached = 1;
        Some((entry.address, entry.size))
    })
}

/// Calls `visit` with each live object, as [`Region::for_each_live`](super::region::Region::for_each_live).
pub(super) fn for_each_live(mut visit: impl FnMut(usize, usize, bool, Mark)) {
    TABLE.with(|table| {
        for index in 0..table.entries.min(ENTRIES) {
            let entry = *table.entry(index);
            if entry.address != NEVER && entry.is_free == 0 {
                visit(entry.address, entry.size, entry.reached != 0, entry.track.allocated);
            }
        }
    });
}

/// How many bytes are in use, and in how many objects, freed ones whose address space is kept included.
pub(super) fn in_use() -> (usize, usize) {
    TABLE.with(|table| (table.bytes, table.count))
}
