//! What most allocations and frees need that were made to miss: the slot, tried at once.
//!
//! The entry points of malloc count by themselves ([`entry`]), and free goes by the class map. What is in line (calloc,
//! realloc, the global allocator of Rust) misses while a profile is on, and comes here first, before the slow path asks
//! for the engine. Here as there the slot is that of a class, and the table the published one, so that this misses in a
//! process whose sections do not go by CPU number.

use core::ptr::NonNull;

use kmem_core::classes::{MIN_ALIGN, size_of_class};
use kmem_core::percpu::SlotIndex;

use super::state::may_be_sampled;
use super::watch;
use crate::rseq::{self, entry, hot, thread_data};

/// An object of a class, counted; `None`, and nothing has changed, if a sample is due or the slot has no object.
#[inline]
pub(crate) fn pop(class: u8) -> Option<NonNull<u8>> {
    let size = size_of_class(class) as u32;
    // SAFETY: the block lives as long as the thread, whose own it is.
    let block = unsafe { &*thread_data::block() };
    if !entry::counts_for(block.session.get()) || block.left.get() <= size {
        return None;
    }
    // SAFETY: a profile is on, so there is a table; the slot of a class is its general cache's, which lives for ever,
    // or has no cache yet: a miss (I3).
    let object = unsafe { rseq::given::pop(hot::table(), SlotIndex(u32::from(class))) }?;
    // A signal handler may have counted meanwhile.
    block.left.set(block.left.get().saturating_sub(size));
    Some(object)
}

/// Frees an object of a class that is no sample; `false`, and nothing has changed, if it is another, may be one, or the
/// slot takes none.
///
/// # Safety
/// As for `general::free`.
#[inline]
pub(crate) unsafe fn push(object: NonNull<u8>) -> bool {
    let address = object.as_ptr() as usize;
    let class = match hot::class_at(address) {
        // A granule without live samples of general caches, or none of a general cache.
        0 => watch::class_at(address).filter(|_| !may_be_sampled(address)),
        class => Some(class),
    };
    // SAFETY: what has a class is an object of it, and its engine was published; the rest is passed on.
    class.is_some_and(|class| unsafe {
        address.is_multiple_of(MIN_ALIGN) && rseq::given::push(hot::table(), SlotIndex(u32::from(class)), object)
    })
}
