//! Watched memory: what slow paths do while memory is [checked](crate::checks) or a [profile] is on.
//!
//! Slow paths look at one word, [`is_on`], and leave for here. So a process that asks for neither pays for one test,
//! and keeps nothing on its stack for the sake of those that do. At first the word says yes, because only making the
//! engine tells what is asked for.
//!
//! What is here is out of line, and may use more of its caller's stack than the other slow paths: a report has the
//! stacks of those who allocated and freed.

use core::ptr::NonNull;

use kmem_core::cache::CacheDesc;
use kmem_core::classes::MIN_ALIGN;
use kmem_core::general::Fresh;
use kmem_core::sync::{AtomicU32, Ordering};
use kmem_core::{AllocError, Engine};

use crate::platform::Linux;
use crate::profile::{self, Of};
use crate::rseq::hot::class_at;
use crate::start::engine;
use crate::{checks, slow_path, upkeep};

/// Bits for [`set`]: nobody knows yet; memory is checked; a profile is on.
const UNKNOWN: u32 = 1;
pub(crate) const CHECKED: u32 = 2;
pub(crate) const COUNTED: u32 = 4;

static ON: AtomicU32 = AtomicU32::new(UNKNOWN);

/// Whether anything watches.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Acquire) != 0
}

/// From here on slow paths look.
pub(crate) fn set(bit: u32) {
    ON.fetch_or(bit, Ordering::Release);
}

/// They no longer do.
pub(crate) fn clear(bit: u32) {
    ON.fetch_and(!bit, Ordering::Release);
}

/// The engine was made, and what is asked for is known.
pub(crate) fn is_known() {
    clear(UNKNOWN);
}

/// An object of a class.
#[cold]
#[inline(never)]
pub(crate) fn alloc(class: u8, size: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
    if !checks::are_on()
        && let Some(object) = profile::pop(class)
    {
        return Ok(object);
    }
    alloc_slowly(class, size, align)
}

/// The same by way of the engine. Apart, so that what is above keeps nothing on the stack.
#[inline(never)]
fn alloc_slowly(class: u8, size: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
    let engine = engine().ok_or(AllocError)?;
    if checks::are_on()
        && let Some(checked) = checks::alloc(Some(class), size, align)
    {
        return checked;
    }
    let cache = engine.general_cache(class)?;
    // SAFETY: general caches live for ever.
    unsafe {
        if profile::is_on() { alloc_counted(engine, cache, size) } else { slow_path::alloc_missed(engine, cache) }
    }
}

/// Large memory, if it is checked; `None`: it is not.
#[cold]
#[inline(never)]
pub(crate) fn alloc_checked(class: Option<u8>, size: usize, align: usize) -> Option<Result<Fresh, AllocError>> {
    engine()?;
    let checked = if checks::are_on() { checks::alloc(class, size, align) } else { None };
    checked.map(|checked| checked.map(|address| Fresh { address, zero: checks::is_zero() }))
}

/// Counts new memory that was taken past the slots, if a profile is on.
///
/// # Safety
/// It is the caller's, and as new.
#[cold]
#[inline(never)]
pub(crate) unsafe fn account(engine: &'static Engine<Linux>, fresh: NonNull<u8>, size: usize, of: Of<'_>) {
    if profile::is_on() {
        // SAFETY: passed on.
        unsafe { profile::account(engine, fresh, size, of) };
    }
}

/// Frees memory, which is said to have so many bytes if its caller said that.
///
/// # Safety
/// As for `general::free`.
#[cold]
#[inline(never)]
pub(crate) unsafe fn free(address: NonNull<u8>, said: Option<usize>) {
    // SAFETY: passed on.
    unsafe {
        if checks::are_on() || !profile::is_on() || !profile::push(address) {
            free_slowly(address, said);
        }
    }
}

/// The same by way of the engine.
///
/// # Safety
/// As for [`free`].
#[inline(never)]
unsafe fn free_slowly(address: NonNull<u8>, said: Option<usize>) {
    let Some(engine) = engine() else { return };
    if checks::are_on() && checks::free(address, said) {
        return;
    }
    let class = class_at(address.as_ptr() as usize);
    let is_object = class != 0 && (address.as_ptr() as usize).is_multiple_of(MIN_ALIGN);
    // An object that has its class in the class map is no sample of a profile, whose granules have none there.
    // SAFETY: passed on; a general cache lives for ever, and what has its class is its object.
    unsafe {
        match if is_object { engine.general_cache(class) } else { Err(AllocError) } {
            Ok(cache) => slow_path::free_missed(engine, cache, address),
            Err(_) => {
                slow_path::enter(engine);
                if profile::is_on() {
                    profile::freed(engine, address);
                }
                engine.free_bytes(address);
            }
        }
    }
}

/// The same content in memory of `size` bytes.
///
/// # Safety
/// As for `Engine::realloc_bytes`.
#[cold]
#[inline(never)]
pub(crate) unsafe fn realloc(old: NonNull<u8>, size: usize, align: usize) -> Result<NonNull<u8>, AllocError> {
    let engine = engine().ok_or(AllocError)?;
    if checks::are_on()
        && let Some(moved) = checks::realloc(old, size, align)
    {
        return moved;
    }
    // SAFETY: passed on.
    let moved = unsafe {
        if profile::is_on() {
            profile::realloc(engine, old, size, align)
        } else {
            engine.realloc_bytes(old, size, align)
        }
    };
    // So that neither is a jump at the end, behind which the compiler's unwind information is wrong (.ci/sections).
    core::hint::black_box(moved)
}

/// An object of a named cache.
///
/// # Safety
/// As for `Engine::alloc`.
#[cold]
#[inline(never)]
pub(crate) unsafe fn alloc_in(cache: &CacheDesc) -> Result<NonNull<u8>, AllocError> {
    let engine = engine().ok_or(AllocError)?;
    if checks::are_on()
        && let Some(checked) = checks::alloc_in(cache)
    {
        return checked;
    }
    // SAFETY: passed on.
    unsafe {
        if profile::is_on() {
            return alloc_counted(engine, cache, cache.object_size());
        }
        slow_path::alloc_missed(engine, cache)
    }
}

/// Frees an object of a named cache.
///
/// # Safety
/// As for `Engine::free`.
#[cold]
#[inline(never)]
pub(crate) unsafe fn free_in(cache: &CacheDesc, object: NonNull<u8>) {
    let Some(engine) = engine() else { return };
    if checks::are_on() && checks::free_in(cache, object) {
        return;
    }
    // SAFETY: passed on.
    unsafe {
        if profile::is_on() {
            return free_counted(engine, cache, object);
        }
        slow_path::free_missed(engine, cache, object);
    }
}

/// An alloc while a profile is on, which made the section in line miss: it has not tried the slot yet.
///
/// # Safety
/// As for `Engine::alloc`.
unsafe fn alloc_counted(
    engine: &'static Engine<Linux>,
    cache: &CacheDesc,
    size: usize,
) -> Result<NonNull<u8>, AllocError> {
    upkeep::poke(engine);
    // SAFETY: the slot is the cache's; the object is new.
    unsafe {
        let object = slow_path::alloc_untried(engine, cache)?;
        profile::account(engine, object, size, Of::Cache(cache));
        Ok(object)
    }
}

/// The same for a free.
///
/// # Safety
/// As for `Engine::free`.
unsafe fn free_counted(engine: &'static Engine<Linux>, cache: &CacheDesc, object: NonNull<u8>) {
    profile::freed(engine, object);
    // SAFETY: passed on.
    unsafe { slow_path::free_untried(engine, cache, object) }
}
