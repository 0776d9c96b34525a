//! vfork and clone: children that run on a thread of their parent's.
//!
//! A child of `vfork` shares the memory and the stack of the thread that called it, which waits until the child
//! executes a program or ends. POSIX lets the child do next to nothing; programs allocate all the same. So the thread
//! lends itself before ([`kmem_linux::process::lent`]) and takes itself back afterwards, and the child needs nothing.
//!
//! # The return address
//! The child returns from `vfork` first, and calls other functions, which overwrite the stack where the parent's return
//! address was. So it is in a register across the system call, as in every libc, and each of the two pushes it for
//! itself. What was lent is in another; the kernel keeps both.
//!
//! # clone
//! `clone` of the C library with CLONE_VM and without CLONE_SETTLS gives the child the caller's thread pointer as well.
//! With CLONE_VFORK the caller waits, as above. Without, the two run side by side on one thread's data: the caller does
//! not take itself back, so that neither of them hits from then on. (errno and all else that is a thread's own is
//! theirs together, as with any malloc.) The system call made directly passes by unseen; a child that was made so must
//! not allocate.

use core::arch::naked_asm;
use core::ffi::{c_int, c_void};

use kmem_linux::process::lent::Lent;

use crate::arch;
use crate::c::set_errno;

/// The calling thread makes itself ready for a child that runs on it.
extern "C" fn lend() -> Lent {
    kmem_linux::engine().map_or(Lent::NOTHING, |engine| engine.platform().lend())
}

/// The calling thread is as it was before [`lend`].
///
/// # Safety
/// `lend` has returned `lent` to this thread, which has not taken it back since.
unsafe fn take_back(lent: Lent) {
    if let Some(engine) = kmem_linux::existing() {
        // SAFETY: passed on. (Where there was no engine then, nothing was lent.)
        unsafe { engine.platform().take_back(lent) };
    }
}

/// The end of `vfork` in the parent. `answer` is the kernel's: a process, or an error below zero.
///
/// # Safety
/// As for [`take_back`].
unsafe extern "C" fn in_parent(lent: Lent, answer: isize) -> c_int {
    // SAFETY: passed on.
    unsafe { take_back(lent) };
    if answer < 0 {
        set_errno(-answer as c_int);
        return -1;
    }
    answer as c_int
}

/// vfork(2). The child may allocate and free.
///
/// # Safety
/// As in C: the child leaves the frame of its caller by executing a program or by `_exit` only.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn vfork() -> c_int {
    arch::vfork_body!(lend, in_parent)
}

/// vfork(2) by glibc's other name.
///
/// # Safety
/// As for [`vfork`].
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vfork() -> c_int {
    naked_asm!(".cfi_startproc", arch::jump!("{vfork}"), ".cfi_endproc", vfork = sym vfork)
}

/// What a child begins with.
#[cfg(target_env = "gnu")]
type Begin = unsafe extern "C" fn(*mut c_void) -> c_int;

/// `clone` as the C library has it. C passes the last three arguments only where the flags ask for them.
#[cfg(target_env = "gnu")]
type Clone = unsafe extern "C" fn(
    Option<Begin>,
    *mut c_void,
    c_int,
    *mut c_void,
    parent_tid: *mut c_int,
    tls: *mut c_void,
    child_tid: *mut c_int,
) -> c_int;

/// The C library's `clone`: by glibc's other name, or the next of this name, as under musl.
#[cfg(target_env = "gnu")]
fn next_clone() -> Option<Clone> {
    let mut next = kmem_linux::__weak_address!("__clone");
    if next.is_null() {
        next = crate::plugin::next(c"clone");
    }
    // SAFETY: the function has this signature in every C library; null is none.
    unsafe { core::mem::transmute::<*const (), Option<Clone>>(next) }
}

/// clone(2) as the C library has it. A child that shares memory and thread pointer with its caller may allocate and
/// free.
///
/// C passes the last three arguments only where the flags ask for them. What stands in their place else is passed on
/// unread; all seven have places that can be read in any case.
///
/// # Safety
/// As in C.
#[cfg(target_env = "gnu")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clone(
    begin: Option<Begin>,
    stack: *mut c_void,
    flags: c_int,
    argument: *mut c_void,
    parent_tid: *mut c_int,
    tls: *mut c_void,
    child_tid: *mut c_int,
) -> c_int {
    const ENOSYS: c_int = 38;
    const CLONE_VM: c_int = 0x100;
    const CLONE_VFORK: c_int = 0x4000;
    const CLONE_SETTLS: c_int = 0x8_0000;
    let Some(next) = next_clone() else {
        set_errno(ENOSYS);
        return -1;
    };
    let lent = (flags & (CLONE_VM | CLONE_SETTLS) == CLONE_VM).then(|| lend());
    // SAFETY: the caller's promise.
    let child = unsafe { next(begin, stack, flags, argument, parent_tid, tls, child_tid) };
    if let Some(lent) = lent
        && (flags & CLONE_VFORK != 0 || child < 0)
    {
        // SAFETY: it was lent above.
        unsafe { take_back(lent) };
    }
    child
}
