//! Plugins that shall not see the program's symbols: `dlopen` with `RTLD_DEEPBIND`.
//!
//! Such a library, and what comes with it, binds to its own dependencies before the program's, and so to libc's malloc
//! and not to the one that was preloaded. What its host allocated it then frees by libc's `free`, which ends the
//! program. PHP opens each extension so.
//!
//! The flag is there so that a plugin's own copy of some library wins against the program's, and malloc is caught by
//! accident. But where it is kept nothing can be mended afterwards. So `dlopen` is exported, takes the flag out, and
//! *jumps* to the next one (the C library's, or another interposer's): who called stays the caller, by whose RPATH,
//! namespace and `$ORIGIN` the file is looked for. `KMEM_DEEPBIND=keep` leaves the flag in, for programs that rely on
//! the isolation and whose plugins free only what they allocated.
//!
//! # Other namespaces
//! `dlmopen` is left alone. It loads another libc with a malloc of its own, and nobody's preloads. An object that
//! crosses was always a fault of the program; `free` of one that is not ours names the namespaces as a likely reason.

use core::ffi::{CStr, c_char, c_int, c_void};

use kmem_core::sync::{AtomicU32, AtomicUsize, Ordering};
use kmem_linux::os::settings::{self, Setting};

use crate::arch;

const RTLD_DEEPBIND: u32 = 8;
/// For dlsym: the definition that comes after that of the library which asks.
const RTLD_NEXT: *mut c_void = usize::MAX as *mut c_void;

#[link(name = "c")]
unsafe extern "C" {
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// The next `dlopen`, or 0: not looked for yet.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// The flags that are passed on. Stored before [`NEXT`].
static KEPT: AtomicU32 = AtomicU32::new(0);

/// dlopen(3), without `RTLD_DEEPBIND`. Where there is no next one it returns NULL.
///
/// # Safety
/// As in C.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void {
    arch::dlopen_body!(NEXT, KEPT, find)
}

/// The definition of a name that comes after this library's, or null.
pub(crate) fn next(name: &CStr) -> *const () {
    // SAFETY: the name is a string; libc goes by the address that it returns to, which is in here.
    unsafe { dlsym(RTLD_NEXT, name.as_ptr()) }.cast_const().cast()
}

/// Looks for the next `dlopen`, at the first call of ours: constructors of other libraries may come before this one's.
/// Threads that do so at the same time find the same.
#[cold]
extern "C" fn find() -> usize {
    let kept = if settings::word(Setting::Deepbind) == Some("keep") { u32::MAX } else { !RTLD_DEEPBIND };
    KEPT.store(kept, Ordering::Release);
    let next = next(c"dlopen") as usize;
    NEXT.store(next, Ordering::Release);
    next
}
