//! The global allocator.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};

use kmem_core::AllocError;
use kmem_core::classes::class_of_aligned;

use crate::general;

/// kmem as the global allocator of a Rust program.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: kmem::Kmalloc = kmem::Kmalloc;
///
/// let words: Vec<String> = (0..100).map(|n| n.to_string()).collect();
/// assert_eq!(words.concat().len(), 190);
/// ```
///
/// Alignments of any power of two are served. With the feature `allocator-api2` it is also an `Allocator` of that
/// crate.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kmalloc;

fn or_null(memory: Result<NonNull<u8>, AllocError>) -> *mut u8 {
    memory.map_or(null_mut(), NonNull::as_ptr)
}

// SAFETY: memory is the caller's alone until it is given back (I7), aligned and as large as asked; nothing here
// unwinds.
unsafe impl GlobalAlloc for Kmalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        or_null(general::alloc_aligned(layout.size(), layout.align()))
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        or_null(general::alloc_zeroed(layout.size(), layout.align()))
    }

    #[inline]
    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        // SAFETY: the caller gives what `alloc` or `realloc` answered for this layout, whose class is therefore the
        // memory's.
        unsafe { general::free_sized(NonNull::new_unchecked(address), layout.size(), layout.align()) }
    }

    #[inline]
    unsafe fn realloc(&self, address: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let class = class_of_aligned(size, layout.align());
        // In place only within a class: `dealloc` finds the class by the size.
        if class.is_some() && class == class_of_aligned(layout.size(), layout.align()) {
            return address;
        }
        // SAFETY: the caller's memory is at least as long as its layout; the new one is another.
        unsafe {
            let Ok(new) = general::alloc_aligned(size, layout.align()) else {
                return null_mut();
            };
            new.as_ptr().copy_from_nonoverlapping(address, layout.size().min(size));
            self.dealloc(address, layout);
            new.as_ptr()
        }
    }
}

#[cfg(feature = "allocator-api2")]
// SAFETY: as for `GlobalAlloc`; copies of `Kmalloc` are the same allocator.
unsafe impl allocator_api2::alloc::Allocator for Kmalloc {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, allocator_api2::alloc::AllocError> {
        if layout.size() == 0 {
            let dangling = NonNull::new(layout.align() as *mut u8).ok_or(allocator_api2::alloc::AllocError)?;
            return Ok(NonNull::slice_from_raw_parts(dangling, 0));
        }
        let memory =
            general::alloc_aligned(layout.size(), layout.align()).map_err(|_| allocator_api2::alloc::AllocError)?;
        Ok(NonNull::slice_from_raw_parts(memory, layout.size()))
    }

    unsafe fn deallocate(&self, address: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller gives what `allocate` answered for this layout.
            unsafe { general::free_sized(address, layout.size(), layout.align()) }
        }
    }
}
