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

use super::heap::{AROUND, CACHES, Heap, LEAD, NAMED, PACKED_MAX, heap_if_on};
use super::options::Options;
use super::region::{Fault, Region, Shape};
use super::zone::{PAGE, REGIONS};
use super::{report, zone};
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
        region.begin(cache.name(), shape);
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

/// A cache that is about to be destroyed, and that its region no longer serves: the index of its slot may be another's
/// as soon as it is gone.
pub(crate) struct Leaving {
    slot: u32,
    /// The number of its region; 0: it was not checked.
    region: u8,
}

/// Begins to destroy a cache, of which no other thread takes or frees objects; `Err`: so many keep it from that, which
/// are named on standard error.
#[cold]
pub(crate) fn begin_destroy(cache: &CacheDesc) -> Result<Leaving, usize> {
    let slot = cache.slot().0;
    let Some((heap, region)) = region_of(cache) else { return Ok(Leaving { slot, region: 0 }) };
    let (live, mut digits) = (region.in_use().0, [0; 20]);
    if live == 0 {
        heap.region_of[slot as usize].store(0, Ordering::Release);
        return Ok(Leaving { slot, region: region.index as u8 });
    }
    if !Options::chosen().is_secure() {
        sys::report(&["kmem: BUG ", cache.name(), ": destroyed with ", decimal(live, &mut digits), " objects in use"]);
        let mut shown = 0;
        region.for_each_live(|address, size, _, mark| {
            if shown < 8 {
                report::live(address, size, mark);
            }
            shown += 1;
        });
    }
    Err(live)
}

impl Leaving {
    /// The cache stays: its region serves it again.
    #[cold]
    pub(crate) fn stays(self) {
        if let Some(heap) = heap_if_on()
            && self.region != 0
        {
            heap.region_of[self.slot as usize].store(self.region, Ordering::Release);
        }
    }

    /// The cache is gone: its region may serve another.
    #[cold]
    pub(crate) fn ends(self) {
        // What could not be emptied serves no other cache.
        if let Some(region) = heap_if_on().and_then(|heap| heap.region(self.region.into()))
            && self.region != 0
            && region.end()
        {
            region.give_up();
        }
    }
}
