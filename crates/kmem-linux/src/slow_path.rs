//! What allocations and frees do where a section in line missed.

use core::ptr::NonNull;

use kmem_core::cache::CacheDesc;
use kmem_core::platform::Sections;
use kmem_core::{AllocError, Engine};

use crate::platform::Linux;
use crate::process::mode::Mode;
use crate::upkeep;

/// The first thing on a slow path of any kind, with no lock of the engine held: sees to upkeep and to the thread's
/// registration.
#[inline(always)]
pub(crate) fn enter(engine: &'static Engine<Linux>) {
    upkeep::poke(engine);
    engine.platform().slow_path_enter();
}

/// What an alloc in line does where its section missed. In a mode whose sections are not in line it has not tried yet.
///
/// # Safety
/// As for `Engine::alloc`.
#[inline(always)]
pub(crate) unsafe fn alloc_missed(
    engine: &'static Engine<Linux>,
    cache: &CacheDesc,
) -> Result<NonNull<u8>, AllocError> {
    upkeep::poke(engine);
    // SAFETY: passed on.
    unsafe {
        match engine.platform().mode() {
            Mode::Rseq => engine.alloc_slow(cache),
            _ => {
                engine.platform().slow_path_enter();
                engine.alloc(cache)
            }
        }
    }
}

/// The same for a free.
///
/// # Safety
/// As for `Engine::free`.
#[inline(always)]
pub(crate) unsafe fn free_missed(engine: &'static Engine<Linux>, cache: &CacheDesc, object: NonNull<u8>) {
    upkeep::poke(engine);
    // SAFETY: passed on.
    unsafe {
        match engine.platform().mode() {
            Mode::Rseq => engine.free_slow(cache, object),
            _ => {
                engine.platform().slow_path_enter();
                engine.free(cache, object);
            }
        }
    }
}

/// An alloc whose section was made to miss: it has not tried the slot in any mode.
///
/// # Safety
/// As for `Engine::alloc`.
pub(crate) unsafe fn alloc_untried(
    engine: &'static Engine<Linux>,
    cache: &CacheDesc,
) -> Result<NonNull<u8>, AllocError> {
    // SAFETY: the slot is the cache's; the rest is passed on.
    unsafe {
        match engine.platform().pop(engine.table(), cache.slot()) {
            Some(object) => Ok(object),
            None => {
                engine.platform().slow_path_enter();
                engine.alloc(cache)
            }
        }
    }
}

/// The same for a free.
///
/// # Safety
/// As for `Engine::free`.
pub(crate) unsafe fn free_untried(engine: &'static Engine<Linux>, cache: &CacheDesc, object: NonNull<u8>) {
    // SAFETY: passed on.
    unsafe {
        if !engine.platform().push(engine.table(), cache.slot(), object) {
            enter(engine);
            engine.free(cache, object);
        }
    }
}
