//! What glibc adds to malloc(3), where a program would otherwise get glibc's own with harm.
//!
//! That is `malloc_trim` alone: programs call it to become small, and glibc's would leave our memory where it is. The
//! others (`mallopt`, `mallinfo`, `mallinfo2`, `malloc_info`, `malloc_stats`) look at glibc's own heap, which they find
//! empty, and change nothing of ours; so they are left to it.

use core::ffi::c_int;

/// malloc_trim(3): gives all memory back that nobody uses, in every cache, on every CPU, the free pages of slabs that
/// are in use included. Answers 1 if any went back, else 0. Nothing is kept for later, whatever `pad` says.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_trim(_pad: usize) -> c_int {
    c_int::from(kmem::trim() > 0)
}
