//! Caches that have names, each with a region of its own.
//!
//! A cache is taken over when it is created, if its name is among those that are checked, its objects are of at most
//! 128 KiB, and it has no constructor (constructed objects keep their content between uses, so free memory tells
//! nothing). From then on its objects come from here: the engine knows the cache, and has no object of it, so none of
//! its slots is ever enabled. A region serves another cache after its own was destroyed.

use core::alloc::Layout;
use core::ptr::NonNull;

use kmem_core::AllocError;
use kmem_core::cache::CacheDesc;
use kmem_core::sync::Ordering;

use super::options::Options;
use super::region::{Fault, Region, Shape};
use super::zone::{PAGE, REGIONS};
use super::{AROUND, CACHES, Heap, LEAD, NAMED, PACKED_MAX, heap_if_on, report, zone};
use crate::os::sys;
use crate::os::text::decimal;

/// Bytes of the largest objects.
const LARGEST: usize = 128 << 10;

/// Takes a new cache over, if it is to be checked.
#[cold]
pub(crate) fn adopt(cache: &CacheDesc, layout: Layout) {
    let (Some(heap), options) = (heap_if_on(), Options::chosen()) else { return };
    let slot = cache.slot().0 as usize;
    if slot >= CACHES || layout.size() > LARGEST || layout.align() > PAGE || !options.cover(cache.name()) {
        return;
    }
    let lead = if options.has_red_zones() { LEAD.max(layout.align()) } else { 0 };
    let own = (layout.size() + lead + AROUND).next_multiple_of(layout.align().max(16));
    let shape = if own <= PACKED_MAX {
        Shape { own, paged: false, lead, patient: options.is_patient() }
    } else {
        let own = (layout.size() + layout.align().max(16) - 16).next_multiple_of(PAGE);
        Shape { own, paged: true, lead: 0, patient: options.is_patient() }
    };
    let free = (NAMED..REGIONS)
        .find(|index| heap.region_or_new(*index, cache.name(), shape).is_some_and(|region| region.claim()));
    let Some(index) = free else { return };
    if let Some(region) = heap.region(index) {
        // SAFETY: the region was claimed, and no other thread looks at it before the cache is known to it.
        unsafe { region.renew(cache.name(), shape) };
        heap.region_of[slot].store(index as u8, Ordering::Release);
    }
}

fn region_of(cache: &CacheDesc) -> Option<(&'static Heap, &'static Region)> {
    let heap = heap_if_on()?;
    match heap.region_of.get(cache.slot().0 as usize)?.load(Ordering::Acquire) {
        0 => None,
        index => Some((heap, heap.region(index.into())?)),
    }
}

/// Whether the objects of a cache come from here.
pub(crate) fn covers(cache: &CacheDesc) -> bool {
    region_of(cache).is_some()
}

/// An object of a cache; `None`: the cache is not checked.
#[cold]
#[inline(never)]
pub(crate) fn alloc_in(cache: &CacheDesc) -> Option<Result<NonNull<u8>, AllocError>> {
    let (_, region) = region_of(cache)?;
    let (size, align) = (cache.object_size(), cache.layout().align);
    let options = Options::chosen();
    Some(match region.alloc(size, align, options) {
        Ok(address) => {
            if options.traces() {
                report::trace(" alloc ", address.unwrap_or(0), size);
            }
            address.and_then(|address| NonNull::new(address as *mut u8)).ok_or(AllocError)
        }
        Err(fault) => report::fault("alloc", 0, fault),
    })
}

/// Frees an object of a cache; `false`: the cache is not checked.
#[cold]
#[inline(never)]
pub(crate) fn free_in(cache: &CacheDesc, object: NonNull<u8>) -> bool {
    let at = object.as_ptr() as usize;
    let of = region_of(cache).map(|(_, region)| region);
    let there = zone::region_of(at);
    let freed = match (of, there) {
        (Some(region), Some(index)) if region.index == index => {
            if Options::chosen().traces() {
                report::trace(" free ", at, cache.object_size());
            }
            region.free(at, None, Options::chosen())
        }
        (None, None) => return false,
        (Some(_), None) => Err(Fault::NotAnObject),
        _ => Err(Fault::OtherCache),
    };
    if let Err(fault) = freed {
        report::fault("free", at, fault);
    }
    true
}

/// How many objects of a checked cache are in use; 0 where it is not checked.
pub(crate) fn live_in(cache: &CacheDesc) -> usize {
    region_of(cache).map_or(0, |(_, region)| region.in_use().0)
}

/// How many objects of a checked cache keep it from being destroyed: they are named on standard error.
#[cold]
pub(crate) fn begin_destroy(cache: &CacheDesc) -> usize {
    let Some((_, region)) = region_of(cache) else { return 0 };
    let (live, mut digits) = (region.in_use().0, [0; 20]);
    if live > 0 && !Options::chosen().is_secure() {
        sys::report(&["kmem: BUG ", cache.name(), ": destroyed with ", decimal(live, &mut digits), " objects in use"]);
        let mut shown = 0;
        region.for_each_live(|address, size, _, mark| {
            if shown < 8 {
                report::live(address, size, mark);
            }
            shown += 1;
        });
    }
    live
}

/// Lets the region of a cache that is gone serve another: the index of its slot is what it was.
#[cold]
pub(crate) fn end_destroy(slot: u32) {
    let Some(heap) = heap_if_on() else { return };
    let Some(entry) = heap.region_of.get(slot as usize) else { return };
    let index = entry.swap(0, Ordering::AcqRel) as usize;
    if index != 0
        && let Some(region) = heap.region(index)
    {
        // SAFETY: no object of the cache is in use, and the cache is gone.
        unsafe { zone::recycle(index) };
        region.give_up();
    }
}
