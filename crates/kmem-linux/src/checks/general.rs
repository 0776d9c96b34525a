//! Memory without a name: what malloc and its like get here, and what becomes of it.
//!
//! An address is looked for in this order: on the pages of the [`pool`], in a [`region`], which tells by the address
//! alone, and in the table of [`large`] objects. What is found nowhere is the engine's.

use core::ptr::NonNull;

use kmem_core::AllocError;
use kmem_core::classes;
use kmem_core::slab::FreeError;

use super::heap::{Heap, heap_if_on};
use super::options::Options;
use super::region::{self, Fault, LIVE};
use super::{are_on, form, large, pool, report, zone};

/// Allocations that a miss stands for: about a batch.
const WEIGHT: usize = 32;

/// Memory for a request of this class (`None`: a large one); `None` where such requests are not checked.
#[cold]
#[inline(never)]
pub(crate) fn alloc(class: Option<u8>, size: usize, align: usize) -> Option<Result<NonNull<u8>, AllocError>> {
    let options = Options::chosen();
    // Each miss stands for a batch of the slot.
    if pool::is_due(WEIGHT)
        && let Some(address) = pool::alloc(size, align)
    {
        return NonNull::new(address as *mut u8).map(Ok);
    }
    let heap = heap_if_on()?;
    heap.covers(class, options).then(|| take(heap, size, align, options).ok_or(AllocError))
}

fn take(heap: &Heap, size: usize, align: usize, options: Options) -> Option<NonNull<u8>> {
    if !align.is_power_of_two() {
        return None;
    }
    let address = match heap.region_for(size, align, options) {
        Some(region)
            if options.is_secure()
                && region.is_sampled()
                && let Some(address) = pool::alloc(size, align) =>
        {
            return NonNull::new(address as *mut u8);
        }
        Some(region) => match region.alloc(size, align, options) {
            Ok(address) => address,
            Err(fault) => report::fault("malloc", 0, fault),
        },
        None => None,
    };
    let address = address.or_else(|| {
        large::alloc(size, align).inspect(|address| {
            // SAFETY: the memory was just taken.
            unsafe { options.fill_new(*address, size) }
        })
    })?;
    if options.traces() {
        report::trace(" alloc ", address, size);
    }
    NonNull::new(address as *mut u8)
}

/// Whether memory of [`alloc`] reads as zero.
pub(crate) fn is_zero() -> bool {
    Options::chosen().fills_with_zero()
}

/// Frees memory of the checked heap; `false`: it is none of it. `size`: what the caller says that it has.
#[cold]
#[inline(never)]
pub(crate) fn free(address: NonNull<u8>, size: Option<usize>) -> bool {
    let at = address.as_ptr() as usize;
    if Options::chosen().traces()
        && let Some(Ok(size)) = size_of_live(at)
    {
        report::trace(" free ", at, size);
    }
    let freed = match (pool::free(at, size), zone::region_of(at)) {
        (Some(freed), _) => freed.map(|()| true),
        (None, Some(index)) => match heap_if_on().and_then(|heap| heap.region(index)) {
            Some(region) => region.free(at, size, Options::chosen()).map(|()| true),
            None => Err(Fault::NotAnObject),
        },
        (None, None) => large::free(at, size),
    };
    match freed {
        Ok(done) => done,
        Err(fault) => report::fault("free", at, fault),
    }
}

/// Bytes that were asked for at an address of the checked heap; `None`: it is none of it.
#[cold]
#[inline(never)]
pub(crate) fn usable_size(address: NonNull<u8>) -> Option<usize> {
    let at = address.as_ptr() as usize;
    match size_of_live(at) {
        Some(Ok(size)) => Some(size),
        Some(Err(fault)) => report::fault("malloc_usable_size", at, fault),
        None => None,
    }
}

/// Says that a pointer was freed that is no live object, and ends the program.
#[cold]
pub(crate) fn bad_free(object: usize, error: FreeError) -> ! {
    let fault = match error {
        FreeError::NotAnObject => Fault::NotAnObject,
        FreeError::DoubleFree => Fault::Free,
    };
    report::fault("free", object, fault)
}

/// Says that an address is nothing of kmem's, and ends the program, where all memory is hardened.
#[cold]
pub(crate) fn refuse(what: &str, address: NonNull<u8>) {
    if Options::chosen().is_secure() {
        report::fault(what, address.as_ptr() as usize, Fault::NotAnObject);
    }
}

/// Ends the program where an object of the checked heap has not this size, which its deleter says.
#[cold]
#[inline(never)]
pub fn check_size(address: *mut u8, size: usize) {
    let at = address as usize;
    if are_on()
        && let Some(Ok(has)) = size_of_live(at)
        && has != size
    {
        report::fault("delete", at, Fault::Size(size));
    }
}

fn size_of_live(at: usize) -> Option<Result<usize, Fault>> {
    if let Some(found) = pool::size(at) {
        return Some(found);
    }
    let Some(index) = zone::region_of(at) else { return large::size(at) };
    let found = heap_if_on().and_then(|heap| heap.region(index)).and_then(|region| region.look(at));
    Some(match found {
        Some((begin, known)) if known.state() == LIVE && begin == at => Ok(known.size()),
        Some((begin, known)) if known.state() == LIVE => Err(Fault::Inside(begin)),
        Some((begin, known)) if known.state() != region::FRESH && begin == at => Err(Fault::Free),
        _ => Err(Fault::NotAnObject),
    })
}

/// Memory of the checked heap with another size; `None`: it is none of it.
#[cold]
#[inline(never)]
pub(crate) fn realloc(address: NonNull<u8>, size: usize, align: usize) -> Option<Result<NonNull<u8>, AllocError>> {
    let (options, at) = (Options::chosen(), address.as_ptr() as usize);
    let old = match size_of_live(at)? {
        Ok(old) => old,
        Err(fault) => report::fault("realloc", at, fault),
    };
    form::refuse_others("realloc", at);
    if let Some(region) = zone::region_of(at).and_then(|index| heap_if_on()?.region(index)) {
        match region.resize(at, size, options) {
            Ok(true) if at.is_multiple_of(align) => return Some(Ok(address)),
            Ok(_) => {}
            Err(fault) => report::fault("realloc", at, fault),
        }
    }
    let new = match heap_if_on().filter(|heap| heap.covers(classes::class_of_aligned(size, align), options)) {
        Some(heap) => take(heap, size, align, options),
        None => crate::general::alloc_aligned(size, align).ok(),
    };
    let Some(new) = new else { return Some(Err(AllocError)) };
    // SAFETY: both are live objects of at least so many bytes, the caller's.
    unsafe { new.copy_from_nonoverlapping(address, old.min(size)) };
    free(address, None);
    Some(Ok(new))
}
