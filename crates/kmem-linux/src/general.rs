//! Memory of any size: the fast paths of a global allocator and of `malloc`, and their slow paths.
//!
//! A size is a class by one look-up, a class is a slot, and a slot is one section. Freed memory finds its class in the
//! class map, by address alone; a caller that knows the size it asked for ([`free_sized`]) skips the map where the size
//! [tells](classes::class_told_by) the class.

use core::alloc::Layout;
use core::ptr::NonNull;

use kmem_core::AllocError;
use kmem_core::classes::{self, SMALL_CLASSES};
use kmem_core::general::{Fresh, stays};
use kmem_core::hint::cold_path;
use kmem_core::percpu::SlotIndex;

use crate::instance::existing;
use crate::profile::Of;
use crate::rseq::hot::{self, class_at};
use crate::start::engine;
use crate::{checks, rseq, slow_path, upkeep, watched};

/// Bytes that every address is aligned to at least.
pub const MIN_ALIGN: usize = classes::MIN_ALIGN;
/// What a request is served by that names no alignment, if memory is checked: less than 16 bytes may end where a guard
/// begins.
const PLAIN_ALIGN: usize = 8;

/// Memory of at least `size` bytes, aligned to 16. Size 0 counts as 1.
///
/// # Errors
/// There is no memory.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kmem::general;
///
/// let memory = general::alloc(100)?;
/// // SAFETY: the memory is ours, at least 100 bytes long, and not used after it was freed.
/// unsafe {
///     memory.write_bytes(1, 100);
///     general::free(memory);
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias = "malloc")]
#[inline(always)]
pub fn alloc(size: usize) -> Result<NonNull<u8>, AllocError> {
    match classes::class_of(size) {
        Some(class) => alloc_class(class, size, MIN_ALIGN),
        None => alloc_large(size, MIN_ALIGN).map(|fresh| fresh.address),
    }
}

/// What [`alloc`] does where the slot has no object, or the size no class.
///
/// # Errors
/// There is no memory.
#[inline]
pub fn alloc_missed(size: usize) -> Result<NonNull<u8>, AllocError> {
    match classes::class_of(size) {
        Some(class) => alloc_slow(class, size, PLAIN_ALIGN),
        None => alloc_large(size, MIN_ALIGN).map(|fresh| fresh.address),
    }
}

/// Memory of at least `size` bytes, aligned to `align`, a power of two (for another number the alignment is anyone's
/// guess).
///
/// # Errors
/// There is no memory.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = kmem::general::alloc_aligned(100, 4096)?;
/// assert_eq!(memory.as_ptr().addr() % 4096, 0);
/// // SAFETY: the memory is ours, and not used afterwards.
/// unsafe { kmem::general::free_sized(memory, 100, 4096) };
/// # Ok(())
/// # }
/// ```
#[doc(alias = "aligned_alloc")]
#[doc(alias = "posix_memalign")]
#[inline]
pub fn alloc_aligned(size: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
    match classes::class_of_aligned(size, align) {
        Some(class) => alloc_class(class, size, align),
        None => alloc_large(size, align).map(|fresh| fresh.address),
    }
}

/// Memory of at least `size` bytes that reads as zero.
///
/// # Errors
/// There is no memory.
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = kmem::general::alloc_zeroed(100, 16)?;
/// // SAFETY: the memory is ours, at least 100 bytes long, and not used after it was freed.
/// unsafe {
///     assert_eq!(memory.add(99).read(), 0);
///     kmem::general::free(memory);
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias = "calloc")]
#[inline]
pub fn alloc_zeroed(size: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
    let fresh = match classes::class_of_aligned(size, align) {
        Some(class) if class as usize <= SMALL_CLASSES => {
            Fresh { address: alloc_class(class, size, align)?, zero: false }
        }
        Some(class) => alloc_for_zeros(class, size, align)?,
        None => alloc_large(size, align)?,
    };
    if !fresh.zero {
        // SAFETY: the memory is ours and has at least `size` bytes.
        unsafe { fresh.address.write_bytes(0, size) };
    }
    Ok(fresh.address)
}

/// Frees memory. An address that is none of ours ends the program with a message.
///
/// # Safety
/// The memory is the caller's and not used afterwards.
///
/// # Examples
/// See [`alloc`].
#[inline(always)]
pub unsafe fn free(address: NonNull<u8>) {
    // An address that is not aligned cannot be an object's, and an odd one in a magazine would hide all that lies below
    // it.
    if !(address.as_ptr() as usize).is_multiple_of(MIN_ALIGN) {
        // SAFETY: passed on; it is refused there.
        return unsafe { free_missed(address) };
    }
    let class = class_at(address.as_ptr() as usize);
    // By the published table, and not by the one for sections in line, which miss while a profile is on: the free of a
    // sample misses by its class.
    // SAFETY: what has a class is an object of an engine that was published; the slot is that of its own cache.
    if class == 0 || !unsafe { rseq::given::push(hot::table(), SlotIndex(u32::from(class)), address) } {
        // SAFETY: passed on.
        unsafe { free_missed(address) }
    }
}

/// Frees memory whose size and alignment are those of its allocation, or of the [`realloc_sized`] that it went through
/// last: the class map is not read where these tell the class.
///
/// # Safety
/// As for [`free`]; size and alignment are those.
///
/// # Examples
/// See [`alloc_aligned`].
#[inline(always)]
pub unsafe fn free_sized(address: NonNull<u8>, size: usize, align: usize) {
    let Some(class) = classes::class_told_by(size, align) else {
        // SAFETY: passed on.
        return unsafe { free_large(address, size) };
    };
    // SAFETY: as in `free`: what such a size was asked for is an object of its class.
    if !unsafe { rseq::push(SlotIndex(u32::from(class)), address) } {
        // SAFETY: passed on.
        unsafe { free_missed_sized(address, size) }
    }
}

/// The same content in memory of `size` bytes, in place where that is possible.
///
/// # Errors
/// There is no memory; the old memory is as it was.
///
/// # Safety
/// As for [`free`].
///
/// # Examples
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kmem::general;
///
/// let memory = general::alloc(10)?;
/// // SAFETY: the memory is ours, as long as it was asked for, and not used after it was freed.
/// unsafe {
///     memory.write(7);
///     let longer = general::realloc(memory, 10_000)?;
///     assert_eq!(longer.read(), 7);
///     general::free(longer);
/// }
/// # Ok(())
/// # }
/// ```
pub unsafe fn realloc(address: NonNull<u8>, size: usize) -> Result<NonNull<u8>, AllocError> {
    let class = class_at(address.as_ptr() as usize);
    if class == 0 || !(address.as_ptr() as usize).is_multiple_of(MIN_ALIGN) {
        // SAFETY: passed on.
        return unsafe { realloc_bytes(address, size, MIN_ALIGN) };
    }
    let usable = classes::size_of_class(class);
    if stays(usable, size) {
        return Ok(address);
    }
    let new = alloc(size)?;
    // SAFETY: both places are the caller's and at least as long as what is copied; they are different places.
    unsafe {
        new.copy_from_nonoverlapping(address, size.min(usable));
        free(address);
    }
    Ok(new)
}

/// The same for memory that is freed by [`free_sized`]: `old` is the layout by which it would, `new` that by which it
/// will.
///
/// The new layout tells a class, or none:
/// ```text
/// it tells one     the memory must be of that class: the old stays if its layout told the same, else it is copied
/// it tells none    the free will ask the address, so any memory serves that is long enough and aligned: the old,
///                  made longer or shorter where it lies; its pages, moved; a copy
/// ```
/// Memory whose layout tells a class is an object of that class, whichever way it came about; so what was said of it
/// when it was allocated holds after any number of these.
///
/// # Safety
/// As for [`free_sized`], with `old`.
pub unsafe fn realloc_sized(address: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<u8>, AllocError> {
    if checks::are_on() {
        // SAFETY: passed on; what is checked is freed by its address.
        return unsafe { watched::realloc(address, new.size(), new.align()) };
    }
    let Some(class) = classes::class_told_by(new.size(), new.align()) else {
        // SAFETY: passed on.
        return unsafe { realloc_bytes(address, new.size(), new.align()) };
    };
    if classes::class_told_by(old.size(), old.align()) == Some(class) {
        return Ok(address);
    }
    let other = alloc_class(class, new.size(), new.align())?;
    // SAFETY: both places are the caller's and at least as long as what is copied; they are different places.
    unsafe {
        other.copy_from_nonoverlapping(address, old.size().min(new.size()));
        free_sized(address, old.size(), old.align());
    }
    Ok(other)
}

/// Bytes usable at an address of ours; 0 for others. Any address may be asked about, also of memory that is freed
/// meanwhile.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let memory = kmem::general::alloc(100)?;
/// assert!(kmem::general::usable_size(memory) >= 100);
/// // SAFETY: the memory is ours, and not used afterwards.
/// unsafe { kmem::general::free(memory) };
/// # Ok(())
/// # }
/// ```
#[doc(alias = "malloc_usable_size")]
#[inline]
pub fn usable_size(address: NonNull<u8>) -> usize {
    match class_at(address.as_ptr() as usize) {
        0 => usable_size_slow(address),
        class => classes::size_of_class(class),
    }
}

#[inline(never)]
fn usable_size_slow(address: NonNull<u8>) -> usize {
    let Some(engine) = engine() else { return 0 };
    if checks::are_on()
        && let Some(size) = checks::usable_size(address)
    {
        return size;
    }
    let size = engine.usable_size(address.as_ptr() as usize);
    if size == 0 && checks::are_on() {
        checks::refuse("malloc_usable_size", address);
    }
    size
}

/// Whether moving what is at `address` to memory of [`alloc_packed`] helps to empty a slab, so that its memory can be
/// released: the slab has fewer objects in use than those of its cache have on average. O(1), but takes a lock. `false`
/// for large memory, for what is not kmem's, and where memory is checked.
///
/// # Safety
/// The memory is the caller's, or none of kmem's: not freed before or meanwhile.
///
/// # Examples
/// ```
/// use kmem::general;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut all: Vec<_> = (0..20_000).map(|_| general::alloc(64)).collect::<Result<_, _>>()?;
/// // SAFETY: the memory is ours, 64 bytes each, and not used after it was freed.
/// unsafe {
///     (0..all.len()).filter(|i| i % 4 > 0).for_each(|i| general::free(all[i]));
///     let mut kept = 0;
///     all.retain(|_| (kept % 4 == 0, kept += 1).0);
///     for place in &mut all {
///         if general::worth_moving(*place) {
///             let moved = general::alloc_packed(64)?;
///             moved.copy_from_nonoverlapping(*place, 64);
///             general::free_packed(*place);
///             *place = moved;
///         }
///     }
///     all.into_iter().for_each(|place| general::free(place));
/// }
/// # Ok(())
/// # }
/// ```
#[doc(alias = "je_get_defrag_hint")]
pub unsafe fn worth_moving(address: NonNull<u8>) -> bool {
    // SAFETY: passed on.
    existing().is_some_and(|engine| unsafe { engine.worth_moving(address.as_ptr() as usize) })
}

/// Memory as of [`alloc`], on a slab that is densely used: the new place of what is [worth moving](worth_moving). Costs
/// two locks, where [`alloc`] ordinarily takes none.
///
/// # Errors
/// There is no memory.
///
/// # Examples
/// See [`worth_moving`].
#[inline(never)]
pub fn alloc_packed(size: usize) -> Result<NonNull<u8>, AllocError> {
    match (classes::class_of(size), engine()) {
        (Some(class), Some(engine)) if !watched::is_on() => {
            slow_path::enter(engine);
            // SAFETY: general caches live for ever.
            unsafe { engine.alloc_packed(engine.general_cache(class)?) }
        }
        _ => alloc(size),
    }
}

/// Frees memory to its slab at once, for the old place of what was [worth moving](worth_moving).
///
/// # Safety
/// As for [`free`].
///
/// # Examples
/// See [`worth_moving`].
#[inline(never)]
pub unsafe fn free_packed(address: NonNull<u8>) {
    // SAFETY: passed on.
    unsafe {
        match engine() {
            Some(engine) if !watched::is_on() => {
                slow_path::enter(engine);
                engine.free_packed(address);
            }
            _ => free(address),
        }
    }
}

#[inline(always)]
fn alloc_class(class: u8, size: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
    if hot::is_published()
        // SAFETY: the slot of a class is its general cache's, which lives for ever, or has no cache yet: a miss (I3).
        && let Some(object) = unsafe { rseq::pop(SlotIndex(u32::from(class))) }
    {
        return Ok(object);
    }
    cold_path();
    alloc_slow(class, size, align)
}

#[inline(never)]
fn alloc_slow(class: u8, size: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
    if watched::is_on() {
        return watched::alloc(class, size, align);
    }
    let engine = engine().ok_or(AllocError)?;
    // SAFETY: general caches live for ever.
    unsafe { slow_path::alloc_missed(engine, engine.general_cache(class)?) }
}

/// The same content in memory of `size` bytes, which was no object of a class, or will be none.
///
/// # Safety
/// As for [`realloc`].
#[inline(never)]
unsafe fn realloc_bytes(address: NonNull<u8>, size: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
    // SAFETY: passed on.
    unsafe {
        if watched::is_on() {
            return watched::realloc(address, size, align);
        }
        let engine = engine().ok_or(AllocError)?;
        slow_path::enter(engine);
        engine.realloc_bytes(address, size, align)
    }
}

/// An object of a class of which it counts whether it reads as zero.
#[inline(never)]
fn alloc_for_zeros(class: u8, size: usize, align: usize) -> Result<Fresh, AllocError> {
    if watched::is_on()
        && let Some(checked) = watched::alloc_checked(Some(class), size, align)
    {
        return checked;
    }
    let engine = engine().ok_or(AllocError)?;
    slow_path::enter(engine);
    let cache = engine.general_cache(class)?;
    // SAFETY: general caches live for ever; the object is new.
    unsafe {
        let fresh = engine.alloc_for_zeros(cache)?;
        if watched::is_on() {
            watched::account(engine, fresh.address, size, Of::Cache(cache));
        }
        Ok(fresh)
    }
}

#[inline(never)]
fn alloc_large(size: usize, align: usize) -> Result<Fresh, AllocError> {
    if watched::is_on()
        && let Some(checked) = watched::alloc_checked(None, size, align)
    {
        return checked;
    }
    let engine = engine().ok_or(AllocError)?;
    upkeep::poke(engine);
    let fresh = engine.alloc_large(size, align)?;
    if watched::is_on() {
        // SAFETY: the object is new.
        unsafe { watched::account(engine, fresh.address, size, Of::Large) };
    }
    Ok(fresh)
}

/// [`free_sized`] where the size tells no class.
///
/// # Safety
/// As for [`free_sized`].
#[inline(always)]
unsafe fn free_large(address: NonNull<u8>, size: usize) {
    // SAFETY: passed on.
    unsafe { if class_at(address.as_ptr() as usize) == 0 { free_missed_sized(address, size) } else { free(address) } }
}

/// [`free_missed`] of memory that is said to have so many bytes, which is looked at where memory is checked.
///
/// # Safety
/// As for [`free_sized`].
#[inline(never)]
pub unsafe fn free_missed_sized(address: NonNull<u8>, size: usize) {
    // SAFETY: passed on.
    unsafe { if watched::is_on() { watched::free(address, Some(size)) } else { free_missed(address) } }
}

/// What [`free`] does where the slot takes no object, or the address has no class.
///
/// # Safety
/// As for [`free`].
#[inline(never)]
pub unsafe fn free_missed(address: NonNull<u8>) {
    if watched::is_on() {
        // SAFETY: passed on.
        return unsafe { watched::free(address, None) };
    }
    let Some(engine) = engine() else { return };
    let class = class_at(address.as_ptr() as usize);
    // SAFETY: passed on; a general cache lives for ever, and what has its class is its object.
    unsafe {
        if class == 0 || !(address.as_ptr() as usize).is_multiple_of(MIN_ALIGN) {
            slow_path::enter(engine);
            return engine.free_bytes(address);
        }
        match engine.general_cache(class) {
            Ok(cache) => slow_path::free_missed(engine, cache, address),
            Err(_) => engine.free_bytes(address),
        }
    }
}
