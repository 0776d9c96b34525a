//! What allocations and frees do where a section in line missed.

use core::ptr::NonNull;

use kmem_core::cache::CacheDesc;
use kmem_core::platform::Sections;
use kmem_core::{AllocError, Engine};

use crate::platform::Linux;
use crate::process::mode::Mode;
use crate::profile::{self, Of};
use crate::upkeep;

/// The first thing on a slow path of any kind, with no lock of the engine held: sees to upkeep and to the thread's
/// registration.
#[inline(always)]
pub(crate) fn enter(engine: &'static Engine<Linux>) {
    upkeep::poke(engine);
    engine.platform().slow_path_enter();
}

/// What an alloc in line does where its section missed. In a mode whose sections are not in line it has not tried yet.
/// `size` is what was asked for.
///
/// # Safety
/// As for `Engine::alloc`.
#[inline(always)]
pub(crate) unsafe fn alloc_missed(
    engine: &'static Engine<Linux>,
    cache: &CacheDesc,
    size: usize,
) -> Result<NonNull<u8>, AllocError> {
    if profile::is_on() {
        // SAFETY: passed on.
        return unsafe { alloc_counted(engine, cache, size) };
    }
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
    if profile::is_on() {
        // SAFETY: passed on.
        return unsafe { free_counted(engine, cache, object) };
    }
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

/// An alloc while a profile is on, which made the section in line miss: it has not tried the slot yet.
///
/// # Safety
/// As for `Engine::alloc`.
#[cold]
#[inline(never)]
unsafe fn alloc_counted(
    engine: &'static Engine<Linux>,
    cache: &CacheDesc,
    size: usize,
) -> Result<NonNull<u8>, AllocError> {
    upkeep::poke(engine);
    // SAFETY: the slot is the cache's; the object is new.
    unsafe {
        let object = match engine.platform().pop(engine.table(), cache.slot()) {
            Some(object) => object,
            None => {
                engine.platform().slow_path_enter();
                engine.alloc(cache)?
            }
        };
        profile::account(engine, object, size, Of::Cache(cache));
        Ok(object)
    }
}

/// The same for a free.
///
/// # Safety
/// As for `Engine::free`.
#[cold]
#[inline(never)]
unsafe fn free_counted(engine: &'static Engine<Linux>, cache: &CacheDesc, object: NonNull<u8>) {
    profile::freed(engine, object);
    // SAFETY: passed on.
    unsafe {
        if !engine.platform().push(engine.table(), cache.slot(), object) {
            enter(engine);
            engine.free(cache, object);
        }
    }
}

/// Frees memory by its address alone.
///
/// # Safety
/// As for `Engine::free_bytes`.
#[inline(always)]
pub(crate) unsafe fn free_bytes(engine: &'static Engine<Linux>, address: NonNull<u8>) {
    if profile::is_on() {
        // SAFETY: passed on.
        return unsafe { free_bytes_counted(engine, address) };
    }
    // SAFETY: passed on.
    unsafe { engine.free_bytes(address) };
}

/// The same while a profile is on.
///
/// # Safety
/// As for `Engine::free_bytes`.
#[cold]
#[inline(never)]
unsafe fn free_bytes_counted(engine: &'static Engine<Linux>, address: NonNull<u8>) {
    profile::freed(engine, address);
    // SAFETY: passed on.
    unsafe { engine.free_bytes(address) };
}

/// The same content in memory of `size` bytes.
///
/// # Safety
/// As for `Engine::realloc_bytes`.
#[inline(always)]
pub(crate) unsafe fn realloc_bytes(
    engine: &'static Engine<Linux>,
    old: NonNull<u8>,
    size: usize,
    align: usize,
) -> Result<NonNull<u8>, AllocError> {
    // SAFETY: passed on.
    unsafe {
        if profile::is_on() {
            return profile::realloc(engine, old, size, align);
        }
        engine.realloc_bytes(old, size, align)
    }
}
