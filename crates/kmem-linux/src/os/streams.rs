//! glibc's lock of the list of streams, which fork takes *after* the prepare handlers.
//!
//! A thread inside `fflush(NULL)` holds it and waits for a stream, whose holder may wait for memory: had we all our
//! locks by then, three threads would wait in a circle. So it is taken before them; it is recursive, and fork itself
//! resets it in the child. (Where a signal handler forks that interrupted an allocation, libc's own fork waits for it,
//! with or without us.)

use kmem_core::sync::{AtomicU32, Ordering};

use crate::__weak_address as weak;

/// Whether we hold it. Changed by who does.
static HELD: AtomicU32 = AtomicU32::new(0);

macro_rules! call_if_there {
    ($symbol:literal) => {{
        let function = weak!($symbol);
        if !function.is_null() {
            // SAFETY: glibc's function takes nothing and returns nothing.
            unsafe { core::mem::transmute::<*const (), extern "C" fn()>(function)() }
        }
    }};
}

/// Takes it.
pub(crate) fn lock() {
    call_if_there!("_IO_list_lock");
    HELD.store(1, Ordering::Relaxed);
}

/// Frees it, if it was taken in this process.
pub(crate) fn unlock() {
    if HELD.swap(0, Ordering::Relaxed) != 0 {
        call_if_there!("_IO_list_unlock");
    }
}

/// In the child, where libc has made it anew.
pub(crate) fn forget() {
    HELD.store(0, Ordering::Relaxed);
}
