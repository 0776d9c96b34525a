//! A thread that lends its thread-local data to a child: vfork, and clone with CLONE_VM.
//!
//! Such a child is another task of the kernel's with the memory, the thread pointer and so the rseq area of the thread
//! that made it. The kernel has no area registered for it, and aborts none of its sections. But the area holds the
//! number of the CPU that the parent was on: the child's sections would hit, unprotected, a slot that other threads
//! use.
//!
//! # What the parent does
//! It ends its registration before it makes the child (`lend`). The kernel writes -1 as the CPU number then, and
//! whichever of the two allocates or frees misses; slow paths serve it. Running again, the parent registers anew
//! (`take_back`). Where our own area is in use, its state is `Closed` meanwhile, so that the child's slow paths do
//! not register it for the child. Where sections are not restartable nothing is registered, and the child is a thread
//! like any other, on a hint of the parent's.
//!
//! That is two system calls of some hundred nanoseconds each, where a child that ends at once takes fourteen thousand.
//! The child could spare them by writing -1 itself, which works on kernels that write the number each time that a
//! thread runs again. It is not done: from Linux 6.19 on a number that has not changed need not be written again, and
//! where the kernel was given more than 32 bytes, or is asked to check (`rseq_debug`), it ends a process that wrote to
//! one of its fields. Ending a registration and making it again is what every kernel since 4.18 allows at any time.
//!
//! # Where the kernel refuses
//! A seccomp filter may refuse the call by an error. If it refuses the first, the thread stays as it was, and the child
//! must not allocate. If it refuses the second, the thread is no longer registered and misses from then on. A filter
//! that kills for the call would kill the program that such a child executes too, since libc makes it when a program
//! starts.
//!
//! # What else a child must not do
//! Start a thread or take a turn of upkeep: both would be the child's, and be gone with it. `is_lent` says so. Locks
//! of the engine are words in shared memory, which child and threads of the parent wait for as threads do. A child that
//! is killed while it holds one leaves it held, as with any malloc.
//!
//! A handler that runs in the parent between the two finds an area that is not registered, and misses. One that leaves
//! by longjmp there leaves the thread so.

use kmem_core::sync::Ordering;

use super::mode::Mode;
use super::registration::{self, GivenUp};
use crate::os::libc::{self, LibcArea};
use crate::os::sys;
use crate::rseq::thread_data::{self, RseqArea};

/// To be given to [`Linux::take_back`](crate::Linux::take_back). It travels through assembly, in one register.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct Lent {
    given_up: GivenUp,
    /// The thread is a child itself, and lends what it was lent.
    nested: bool,
}

impl Lent {
    /// What a thread lends where there is no engine.
    pub const NOTHING: Self = Self { given_up: GivenUp::Nothing, nested: true };
}

/// To be called before the calling thread makes a child that shares its memory and its thread pointer.
pub(crate) fn lend(mode: Mode) -> Lent {
    let nested = set_lent(true);
    let given_up = match mode {
        Mode::Rseq | Mode::Cid => libc::rseq_area().map_or(GivenUp::Nothing, end_registration),
        Mode::OwnRseq => registration::lend(),
        Mode::Fallback(_) => GivenUp::Nothing,
    };
    Lent { given_up, nested }
}

/// To be called when the child has executed a program or ended, or could not be made: the thread is as before.
///
/// # Safety
/// `lent` is what [`lend`] returned to the calling thread, which has not taken it back since.
pub(crate) unsafe fn take_back(mode: Mode, lent: Lent) {
    match mode {
        Mode::Rseq | Mode::Cid => {
            if let (GivenUp::Registration, Some(libc)) = (lent.given_up, libc::rseq_area()) {
                // SAFETY: it is this thread's, and was registered with this length. A refusal leaves a thread that
                // misses.
                let _ = unsafe { sys::rseq_register(area(libc).cast(), libc.registered()) };
            }
        }
        // SAFETY: passed on.
        Mode::OwnRseq => unsafe { registration::take_back(lent.given_up) },
        Mode::Fallback(_) => {}
    }
    set_lent(lent.nested);
}

/// Whether the caller may be a child that runs on the data of a thread, or that thread while it has one.
pub(crate) fn is_lent() -> bool {
    // SAFETY: the block is the calling thread's own.
    unsafe { (*thread_data::block()).lent.get() }
}

/// Says so of the calling thread, and returns what was said before.
fn set_lent(lent: bool) -> bool {
    // SAFETY: as above.
    unsafe { (*thread_data::block()).lent.replace(lent) }
}

/// libc's area of the calling thread.
fn area(libc: LibcArea) -> *mut RseqArea {
    // SAFETY: libc says that the area is there, in each thread.
    core::ptr::from_ref(unsafe { thread_data::area_at(libc.offset) }).cast_mut()
}

fn end_registration(libc: LibcArea) -> GivenUp {
    let area = area(libc);
    // SAFETY: the area is the calling thread's and stays where it is. It is registered if it has a CPU number, and what
    // is registered is registered anew by `take_back`.
    unsafe {
        let is_registered = (*area).cpu_id.load(Ordering::Relaxed) as i32 >= 0;
        if is_registered && sys::rseq_unregister(area.cast(), libc.registered()).is_ok() {
            GivenUp::Registration
        } else {
            GivenUp::Nothing
        }
    }
}
