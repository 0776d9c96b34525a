//! The global allocator.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};

use kmem_core::AllocError;

use kmem_linux::general;

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
        // SAFETY: as for `dealloc`; the caller promises that the new layout is one.
        unsafe {
            let new = Layout::from_size_align_unchecked(size, layout.align());
            or_null(general::realloc_sized(NonNull::new_unchecked(address), layout, new))
        }
    }
}
