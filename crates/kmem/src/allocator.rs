//! The global allocator as an `Allocator` of the crate allocator-api2.

use core::alloc::Layout;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use kmem_linux::general;

use crate::Kmalloc;

/// Memory of `layout.size()` bytes, or the error of this interface.
fn slice_of(memory: Result<NonNull<u8>, kmem_core::AllocError>, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
    memory.map(|memory| NonNull::slice_from_raw_parts(memory, layout.size())).map_err(|_| AllocError)
}

/// Memory for a layout without bytes: an aligned address is all there is to it.
fn nothing(layout: Layout) -> NonNull<[u8]> {
    let aligned = core::ptr::without_provenance_mut(layout.align());
    // An alignment is not 0.
    NonNull::slice_from_raw_parts(NonNull::new(aligned).unwrap_or(NonNull::dangling()), 0)
}

/// # Safety
/// As for `Allocator::grow` and `Allocator::shrink`.
unsafe fn resize(address: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
    match (old.size(), new.size()) {
        (0, _) => Kmalloc.allocate(new),
        (_, 0) => {
            // SAFETY: the memory is the caller's, who gives it up.
            unsafe { Kmalloc.deallocate(address, old) };
            Ok(nothing(new))
        }
        // SAFETY: the memory is that of `allocate` or of this, for this layout.
        _ => slice_of(unsafe { general::realloc_sized(address, old, new) }, new),
    }
}

// SAFETY: as for `GlobalAlloc`; copies of `Kmalloc` are the same allocator.
unsafe impl Allocator for Kmalloc {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        match layout.size() {
            0 => Ok(nothing(layout)),
            size => slice_of(general::alloc_aligned(size, layout.align()), layout),
        }
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        match layout.size() {
            0 => Ok(nothing(layout)),
            size => slice_of(general::alloc_zeroed(size, layout.align()), layout),
        }
    }

    unsafe fn deallocate(&self, address: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller gives what this answered for this layout.
            unsafe { general::free_sized(address, layout.size(), layout.align()) }
        }
    }

    unsafe fn grow(&self, address: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on.
        unsafe { resize(address, old, new) }
    }

    unsafe fn grow_zeroed(&self, address: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on; the memory is the caller's, and as long as the new layout says.
        unsafe {
            let grown = resize(address, old, new)?;
            grown.cast::<u8>().add(old.size()).write_bytes(0, new.size() - old.size());
            Ok(grown)
        }
    }

    unsafe fn shrink(&self, address: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: passed on.
        unsafe { resize(address, old, new) }
    }
}
