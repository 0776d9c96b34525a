//! The malloc family.
//!
//! Errors are those of glibc's manual: NULL and ENOMEM where memory ends or a size overflows, EINVAL for an alignment
//! that is none. `free` leaves errno alone. Every address is aligned to 16. A pointer that is foreign, or not aligned
//! as memory is, ends the program at once with a message that shows it; one into the middle of an object, or to one
//! that is free, does so when it comes back to its slab, `realloc` or `free`.

use core::ffi::{c_int, c_void};
use core::ptr::{NonNull, null_mut};

use kmem_core::AllocError;
use kmem_linux::os::page_size;
use kmem_linux::{checks, general};

const ENOMEM: c_int = 12;
const EINVAL: c_int = 22;
/// Larger objects cannot be: differences of their pointers would overflow.
const SIZE_MAX: usize = isize::MAX as usize;

#[link(name = "c")]
unsafe extern "C" {
    safe fn __errno_location() -> *mut c_int;
}

// What glibc calls them inside. Programs that bring a malloc of their own over glibc's, and shims that count, call
// these.
also! {
    malloc: __libc_malloc;
    free: __libc_free cfree;
    calloc: __libc_calloc;
    realloc: __libc_realloc;
    memalign: __libc_memalign;
    valloc: __libc_valloc;
    pvalloc: __libc_pvalloc;
    posix_memalign: __posix_memalign;
}

pub(crate) fn set_errno(error: c_int) {
    // SAFETY: libc gives the address of the calling thread's own errno.
    unsafe { __errno_location().write(error) }
}

/// NULL and errno, or the address.
#[inline(always)]
fn answer(memory: Result<NonNull<u8>, AllocError>) -> *mut c_void {
    match memory {
        Ok(address) => address.as_ptr().cast(),
        Err(_) => fail(ENOMEM),
    }
}

#[cold]
#[inline(never)]
pub(crate) fn fail(error: c_int) -> *mut c_void {
    set_errno(error);
    null_mut()
}

fn aligned(size: usize, align: usize) -> *mut c_void {
    if size > SIZE_MAX { fail(ENOMEM) } else { answer(general::alloc_aligned(size, align)) }
}

/// malloc(3). The fast path is [`kmem_linux::rseq::entry`]'s.
///
/// # Safety
/// As in C.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    kmem_linux::__entry_alloc!(malloc_by_id)
}

/// The same by concurrency id.
#[unsafe(naked)]
unsafe extern "C" fn malloc_by_id(size: usize) -> *mut c_void {
    kmem_linux::__entry_alloc_by_id!(malloc_counted)
}

/// The same while a profile counts.
#[unsafe(naked)]
unsafe extern "C" fn malloc_counted(size: usize) -> *mut c_void {
    kmem_linux::__entry_alloc_counted!(malloc_slow)
}

/// The same, where the slot of the CPU has no object, or there is no slot yet, or the size has no class.
#[inline(never)]
extern "C" fn malloc_slow(size: usize) -> *mut c_void {
    answer(general::alloc_missed(size))
}

/// free(3).
///
/// # Safety
/// As in C.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(address: *mut c_void) {
    kmem_linux::__entry_free!(free_by_id)
}

/// The same by concurrency id.
///
/// # Safety
/// As for [`free`].
#[unsafe(naked)]
unsafe extern "C" fn free_by_id(address: *mut c_void) {
    kmem_linux::__entry_free_by_id!(free_slow)
}

/// The same, where the slot of the CPU takes no object, or the address has no class.
///
/// # Safety
/// As for [`free`].
#[inline(never)]
unsafe extern "C" fn free_slow(address: *mut c_void) {
    if let Some(address) = NonNull::new(address.cast()) {
        // SAFETY: the caller's promise.
        unsafe { general::free_missed(address) }
    }
}

/// calloc(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        Some(bytes) => answer(general::alloc_zeroed(bytes, general::MIN_ALIGN)),
        None => fail(ENOMEM),
    }
}

/// realloc(3). As in glibc, size 0 frees and returns NULL.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(address: *mut c_void, size: usize) -> *mut c_void {
    let Some(old) = NonNull::new(address.cast()) else {
        return answer(general::alloc(size));
    };
    // SAFETY: the caller's promise.
    unsafe {
        if size == 0 {
            free(address);
            return null_mut();
        }
        answer(general::realloc(old, size))
    }
}

/// reallocarray(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reallocarray(address: *mut c_void, count: usize, size: usize) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: passed on.
        Some(bytes) => unsafe { realloc(address, bytes) },
        None => fail(ENOMEM),
    }
}

/// posix_memalign(3): the error is the answer. Where memory ends errno says so too, as in glibc; an alignment that is
/// refused leaves it alone.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(place: *mut *mut c_void, align: usize, size: usize) -> c_int {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<usize>()) {
        return EINVAL;
    }
    let memory = aligned(size, align);
    if memory.is_null() {
        return ENOMEM;
    }
    // SAFETY: the caller's promise.
    unsafe { place.write(memory) };
    0
}

/// aligned_alloc(3): any power of two, any size.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    if align.is_power_of_two() { aligned(size, align) } else { fail(EINVAL) }
}

/// memalign(3): an alignment that is no power of two is rounded up to one, as in glibc.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    match align.checked_next_power_of_two() {
        Some(align) => aligned(size, align),
        None => fail(EINVAL),
    }
}

/// valloc(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn valloc(size: usize) -> *mut c_void {
    aligned(size, page_size())
}

/// pvalloc(3): whole pages, at least one.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pvalloc(size: usize) -> *mut c_void {
    match size.max(1).checked_next_multiple_of(page_size()) {
        Some(size) => aligned(size, page_size()),
        None => fail(ENOMEM),
    }
}

/// malloc_usable_size(3).
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(address: *mut c_void) -> usize {
    NonNull::new(address.cast()).map_or(0, general::usable_size)
}

/// free_sized of C23.
///
/// The size is not used, except where memory is checked: memory that realloc left in place is of a larger class than
/// its size says.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_sized(address: *mut c_void, size: usize) {
    checks::check_size(address.cast(), size);
    // SAFETY: passed on.
    unsafe { free(address) }
}

/// free_aligned_sized of C23.
///
/// # Safety
/// As in C.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_aligned_sized(address: *mut c_void, _align: usize, size: usize) {
    checks::check_size(address.cast(), size);
    // SAFETY: passed on.
    unsafe { free(address) }
}
