//! Realloc while a profile is on.
//!
//! A large object that becomes longer or shorter counts as a new one, also where it stays in place.

use core::ptr::NonNull;

use kmem_core::classes;
use kmem_core::general::{Extent, stays};
use kmem_core::{AllocError, Engine};

use super::layout::site;
use super::state::{Held, State, may_be_sampled};
use super::watch::freed;
use super::{Of, account};
use crate::general;
use crate::platform::Linux;

/// Realloc while a profile is on, of what has no class in the class map: a large object, or one in a watched granule.
///
/// # Safety
/// As for `Engine::realloc_bytes`.
#[cold]
pub(crate) unsafe fn realloc(
    engine: &'static Engine<Linux>,
    old: NonNull<u8>,
    size: usize,
    align: usize,
) -> Result<NonNull<u8>, AllocError> {
    let address = old.as_ptr() as usize;
    let usable = match engine.extent(address) {
        Ok(Extent::Class(class)) => classes::size_of_class(class),
        // SAFETY: passed on.
        Ok(Extent::Large { .. }) => return unsafe { realloc_large(engine, old, size, align) },
        // SAFETY: passed on; what is no object is refused there.
        _ => return unsafe { engine.realloc_bytes(old, size, align) },
    };
    if address.is_multiple_of(align) && stays(usable, size) {
        return Ok(old);
    }
    let new = general::alloc_aligned(size, align)?;
    // SAFETY: both places are the caller's and at least as long as what is copied; they are different places.
    unsafe {
        new.copy_from_nonoverlapping(old, size.min(usable));
        freed(engine, old);
        engine.free_bytes(old);
    }
    Ok(new)
}

/// # Safety
/// As for [`realloc`]; the object is large.
unsafe fn realloc_large(
    engine: &Engine<Linux>,
    old: NonNull<u8>,
    size: usize,
    align: usize,
) -> Result<NonNull<u8>, AllocError> {
    let address = old.as_ptr() as usize;
    // Taken out before, because the address may be another thread's afterwards.
    let site = if may_be_sampled(address) { Held::take().and_then(|mut held| held.take(address)) } else { None };
    // SAFETY: passed on.
    let new = unsafe { engine.realloc_bytes(old, size, align) };
    if let Some(site) = site {
        match (new, Held::take()) {
            (Err(_), Some(mut held)) => _ = held.note(address, site),
            _ => State::count(site, site::FREED),
        }
    }
    if let Ok(new) = new {
        let of = match engine.extent(new.as_ptr() as usize) {
            Ok(Extent::Class(class)) => Of::Cache(engine.general_cache(class)?),
            _ => Of::Large,
        };
        // SAFETY: the object is the caller's, and as good as new.
        unsafe { account(engine, new, size, of) };
    }
    new
}
