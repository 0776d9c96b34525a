//! Faults that the processor finds: an access to a page that is closed.
//!
//! A handler of SIGSEGV says what the address belongs to, and hands on to the handler that was there before, or to the
//! default action, which ends the program. It is set when the program starts; a program that sets its own afterwards
//! has that, and may call this one, which it replaced.

use core::ffi::{c_int, c_void};

use kmem_core::sync::{AtomicUsize, Ordering};

use super::report;
use crate::os::sys;

/// Bytes of `siginfo_t` before the reason, and before the address.
const REASON: usize = 8;
const ADDRESS: usize = 16;
const SIGSEGV: c_int = 11;
const SIG_IGN: usize = 1;
const SA_SIGINFO: c_int = 4;
const SA_ONSTACK: c_int = 0x0800_0000;
const SA_NODEFER: c_int = 0x4000_0000;

/// `struct sigaction` of glibc and of musl, on 64 bits.
#[repr(C)]
#[derive(Clone, Copy)]
struct Action {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

impl Action {
    const NOTHING: Self = Self { handler: 0, mask: [0; 16], flags: 0, restorer: 0 };
}

#[link(name = "c")]
unsafe extern "C" {
    fn sigaction(signal: c_int, new: *const Action, old: *mut Action) -> c_int;
}

/// The handler that was there before.
static BEFORE: AtomicUsize = AtomicUsize::new(0);

/// Sets the handler.
#[cold]
pub(super) fn begin() {
    let handler = on_fault as extern "C" fn(c_int, *const u8, *mut c_void) as usize;
    let action = Action { handler, flags: SA_SIGINFO | SA_ONSTACK | SA_NODEFER, ..Action::NOTHING };
    let mut before = Action::NOTHING;
    // SAFETY: the handler is a function of ours, which stays mapped.
    unsafe { sigaction(SIGSEGV, &raw const action, &raw mut before) };
    BEFORE.store(before.handler, Ordering::Relaxed);
}

extern "C" fn on_fault(signal: c_int, info: *const u8, context: *mut c_void) {
    // SAFETY: the kernel says why, and where the fault was, in what it passes.
    let (reason, address) =
        unsafe { (info.add(REASON).cast::<c_int>().read(), info.add(ADDRESS).cast::<usize>().read()) };
    // Otherwise a process or a thread sent it, which may be this one.
    let is_a_fault = reason > 0;
    if is_a_fault {
        report::access(address);
    }
    let before = BEFORE.load(Ordering::Relaxed);
    if before <= SIG_IGN {
        if before == SIG_IGN && !is_a_fault {
            return;
        }
        // The default action, at the instruction that faulted, which runs again, or by the signal once more.
        let default = Action::NOTHING;
        // SAFETY: the default action is always one.
        unsafe { sigaction(SIGSEGV, &raw const default, core::ptr::null_mut()) };
        if !is_a_fault {
            sys::raise(SIGSEGV as usize);
        }
        return;
    }
    // SAFETY: the handler that the program had, called as the kernel calls one of either kind: with all three, of which
    // one without SA_SIGINFO looks at the first alone.
    unsafe {
        core::mem::transmute::<usize, extern "C" fn(c_int, *const u8, *mut c_void)>(before)(signal, info, context);
    }
}
