//! What stands around objects and in free slots, and who looks at it when.
//!
//! ```text
//! a free      what is in the object's own slot, after it and before it; within 32 bytes of it, what is in the slots
//!             beside its own: around objects that live, and in what is free
//! an alloc    the whole of the slot that it is handed; of a long one two lines of each page, and now and then all
//! ```
//! All of it happens under the region's lock: what stands in a slot beside changes with it held only.

use super::super::fill;
use super::super::options::Options;
use super::super::zone::PAGE;
use super::Fault;
use super::books::{Books, FRESH, Known, LIVE};
use super::layout::{Layout, Slot};

/// Bytes beside an object that a free looks at.
const NEAR: usize = 32;
/// Bytes at both ends of a page that are looked at where a slot is long.
const LINE: usize = 64;

/// Writes what stands around an object.
///
/// # Safety
/// The slot at `begin` is the caller's, and open.
pub(super) unsafe fn surround(layout: &Layout, begin: usize, address: usize, size: usize) {
    let (end, slot_end) = (address + size, begin + layout.own);
    // SAFETY: the caller's promise.
    unsafe {
        fill::put_around(begin.max(address.saturating_sub(NEAR)), address);
        fill::put_around(end, slot_end);
        if end < slot_end {
            (end as *mut u8).write(fill::first_after());
        }
    }
}

/// Looks at what stands around an object, in its slot.
///
/// # Safety
/// The object is live, and the lock is held.
pub(super) unsafe fn check_around(layout: &Layout, begin: usize, address: usize, size: usize) -> Result<(), Fault> {
    let (from, end) = (address + size, begin + layout.own);
    // SAFETY: the caller's promise.
    unsafe {
        if from < end && (from as *const u8).read() != fill::first_after() {
            return Err(Fault::After(from));
        }
        if let Some(at) = fill::spoilt_around(from + 1, end) {
            return Err(Fault::After(at));
        }
        match fill::spoilt_around(begin.max(address.saturating_sub(NEAR)), address) {
            Some(at) => Err(Fault::Before(at)),
            None => Ok(()),
        }
    }
}

/// Looks at what lies near a slot, in slots beside it: the surroundings of live ones, and all of those that are free.
///
/// # Safety
/// As for `check_around`.
pub(super) unsafe fn check_near(layout: &Layout, books: &Books, slot: Slot, options: Options) -> Result<(), Fault> {
    if layout.paged {
        return Ok(());
    }
    let begin = layout.begin(slot);
    let (place, reach) = (slot.place(), if layout.own >= NEAR { 1 } else { NEAR / 16 });
    for other in place.saturating_sub(reach)..(place + reach + 1).min(layout.slots) {
        if other == place {
            continue;
        }
        let other_slot = Slot::new(slot.group(), other);
        let (start, known) = (layout.begin(other_slot), books.known(other_slot));
        let from = start.max(begin.saturating_sub(NEAR));
        let to = (start + layout.own).min(begin + layout.own + NEAR);
        let beside = if other < place { Fault::Before } else { Fault::After };
        // SAFETY: the slots are of one group, which is open, because one of its is live.
        let found = unsafe {
            match known.state() {
                LIVE => {
                    let end = start + known.offset() + known.size();
                    fill::spoilt_around(from.max(end + 1), to).map(beside)
                }
                _ if known.is_closed() => None,
                FRESH => fill::spoilt_fill(from, to, 0).map(beside),
                _ => options.spoilt_free(from, to, start + layout.own).map(Fault::Stale),
            }
        };
        if let Some(fault) = found {
            return Err(fault);
        }
    }
    Ok(())
}

/// Looks at a slot that is free, before it is handed out.
///
/// # Safety
/// The slot is the caller's, free, and open.
pub(super) unsafe fn check_free(
    layout: &Layout,
    begin: usize,
    known: Known,
    thoroughly: bool,
    options: Options,
) -> Result<(), Fault> {
    let end = begin + layout.own;
    // SAFETY: the caller's promise.
    let spoilt = unsafe {
        match known.state() {
            // Long slots that nothing was taken of are not read.
            FRESH if layout.own > PAGE => None,
            FRESH => fill::spoilt_fill(begin, end, 0),
            _ if layout.own > PAGE && !thoroughly => (begin..end).step_by(PAGE).find_map(|page| {
                options
                    .spoilt_free(page, page + LINE, end)
                    .or_else(|| options.spoilt_free(page + PAGE - LINE, page + PAGE, end))
            }),
            _ => options.spoilt_free(begin, end, end),
        }
    };
    spoilt.map_or(Ok(()), |at| Err(Fault::Stale(at)))
}
