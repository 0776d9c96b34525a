//! fork, one thread at a time under musl ([`kmem_linux::process::turn`]); elsewhere it is the C library's.
//!
//! Only the preload library exports it: a static program has one `fork`, and could not call the C library's by any
//! name. So the function has another name here, and `build.rs` adds to the shared library, and to that alone, an object
//! whose `fork` calls it, and whose constructor has the C library's looked for. What a shared library exports rustc
//! tells the linker by a list of the names in the crates, and names in that list are patterns: [`listed`] puts one
//! there that only `fork` matches.

use core::ffi::{c_int, c_void};

use kmem_core::sync::{AtomicPtr, Ordering};
use kmem_linux::process::turn::{self, Fork};

use crate::c::set_errno;
use crate::plugin::next;

/// The next `fork`, the C library's or another interposer's; null: not looked for yet.
static NEXT: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
/// `_Fork`; null under glibc, whose `fork` needs no turns.
static BARE: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

// Names by which the object calls the two, and which nothing outside the library sees.
core::arch::global_asm!(
    ".globl kmem_fork, kmem_fork_find",
    ".hidden kmem_fork, kmem_fork_find",
    ".set kmem_fork, {fork}",
    ".set kmem_fork_find, {find}",
    fork = sym fork,
    find = sym find,
);

/// Exported under a name that no program has, so that rustc lists it (see the head of this module).
#[unsafe(export_name = "f[o]rk")]
pub extern "C" fn listed() {}

/// fork(2).
///
/// # Safety
/// As in C.
unsafe extern "C" fn fork() -> c_int {
    const ENOSYS: c_int = 38;
    if NEXT.load(Ordering::Acquire).is_null() && of_glibc().is_null() {
        find();
    }
    let next = NEXT.load(Ordering::Acquire).cast_const().cast::<()>();
    let [whole, bare] = [if next.is_null() { of_glibc() } else { next }, BARE.load(Ordering::Acquire).cast()]
        // SAFETY: the functions have this signature in every C library; null is none.
        .map(|function| unsafe { core::mem::transmute::<*const (), Option<Fork>>(function) });
    let Some(whole) = whole else {
        set_errno(ENOSYS);
        return -1;
    };
    // SAFETY: they are the C library's.
    unsafe { turn::fork(whole, bare) }
}

/// glibc's `fork` by a name that needs no look-up, for the time before constructors; null elsewhere.
fn of_glibc() -> *const () {
    kmem_linux::__weak_address!("__fork")
}

/// Looks for the C library's functions, when the library is loaded: a signal handler that forks must not.
#[cold]
extern "C" fn find() {
    if of_glibc().is_null() {
        BARE.store(next(c"_Fork").cast_mut().cast(), Ordering::Release);
    }
    NEXT.store(next(c"fork").cast_mut().cast(), Ordering::Release);
}
