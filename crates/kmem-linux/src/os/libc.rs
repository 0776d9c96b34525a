//! What the C library says of itself, in names that another one may lack: found at run time, so that one library serves
//! under glibc and under musl. A weak name leaves a null address where it is missing, and no call of dlsym, which may
//! allocate, is needed.

use core::ffi::{c_int, c_void};

use super::sys;
use crate::__weak_address as weak;

/// Where libc's rseq area is, and how many bytes of it are live.
#[derive(Clone, Copy, Debug)]
pub struct LibcArea {
    /// Distance from the thread pointer.
    pub offset: usize,
    /// 0 where libc did not register it.
    pub size: usize,
}

impl LibcArea {
    /// The number of bytes that libc registered it with: at least those of the first kernel with restartable sequences,
    /// also where libc says that it knows of fewer.
    pub fn registered(self) -> usize {
        self.size.max(sys::RSEQ_LEN)
    }
}

/// What libc says of its registration; `None` where it knows nothing of rseq (musl, glibc before 2.35).
pub fn rseq_area() -> Option<LibcArea> {
    let offset = weak!("__rseq_offset").cast::<isize>();
    let size = weak!("__rseq_size").cast::<u32>();
    if offset.is_null() || size.is_null() {
        return None;
    }
    // SAFETY: the symbols are a `ptrdiff_t` and an `unsigned int` that libc sets before the first thread runs.
    unsafe { Some(LibcArea { offset: offset.read() as usize, size: size.read() as usize }) }
}

/// Whether the process has one thread, as far as libc knows: it may have been more, and is one from here on at most
/// until this thread starts another. A libc that does not say has many.
pub fn is_single_threaded() -> bool {
    let single = weak!("__libc_single_threaded").cast::<u8>();
    // SAFETY: libc's variable, a byte.
    !single.is_null() && unsafe { single.read_volatile() } != 0
}

/// The stack as the program found it (the argument count, the arguments, null, the environment), or null where libc
/// does not say.
///
/// For the time before libc has set `environ`.
pub fn initial_stack() -> *const usize {
    let end = weak!("__libc_stack_end").cast::<*const usize>();
    // SAFETY: libc's variable, which holds an address.
    if end.is_null() { core::ptr::null() } else { unsafe { end.read() } }
}

/// A fork handler.
pub type ForkHandler = Option<unsafe extern "C" fn()>;

/// `pthread_atfork`: 0, or an error.
///
/// glibc has that function in a part which is linked into each object, and which needs `__register_atfork`; musl has it
/// in its library, and ends a program where a name is missing. So a shared object that serves under both names neither.
/// A static program that has neither of them does not fork: glibc's `fork` brings the first along. musl's brings
/// nothing, so what is built for musl asks for the function by its name.
///
/// # Safety
/// The handlers stay mapped.
#[cfg(not(target_env = "musl"))]
pub unsafe fn at_fork(prepare: ForkHandler, parent: ForkHandler, child: ForkHandler) -> c_int {
    type Register = unsafe extern "C" fn(ForkHandler, ForkHandler, ForkHandler, *mut c_void) -> c_int;
    let mut register = weak!("__register_atfork");
    if register.is_null() {
        register = weak!("pthread_atfork");
    }
    if register.is_null() {
        return 0;
    }
    // SAFETY: the functions take three handlers, and glibc's the object that they leave with, too: none, for this one
    // stays. The other one does not look at it.
    unsafe { core::mem::transmute::<*const (), Register>(register)(prepare, parent, child, core::ptr::null_mut()) }
}

#[cfg(target_env = "musl")]
#[link(name = "c")]
unsafe extern "C" {
    #[link_name = "pthread_atfork"]
    #[expect(missing_docs, reason = "the same in one name")]
    pub fn at_fork(prepare: ForkHandler, parent: ForkHandler, child: ForkHandler) -> c_int;
}
