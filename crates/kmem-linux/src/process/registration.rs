//! Our own registration with the kernel, where libc makes none: musl, glibc before 2.35, or `KMEM_RSEQ=own` with libc's
//! switched off.
//!
//! The area is part of our thread block. We are not told when a thread begins, and need not be: until it is registered
//! its CPU number is -1 and it misses, and its first miss registers it ([`enter`], called on slow paths). The kernel
//! allows one area a thread. If another part of the process has one registered, ours is refused and the thread is
//! served by slow paths.
//!
//! # The end of a thread
//! The kernel writes the CPU number into the area whenever it moves the thread. If the thread's memory goes away while
//! the area is registered (musl unmaps a detached thread's stack, and the thread-local storage in it, in its last
//! instructions) the next preemption writes into nothing, and the process dies of SIGSEGV. So each registered thread
//! unregisters in a destructor of thread-specific data. Destructors of others run beside ours in any order, several
//! rounds of them, and they allocate and free; ours therefore re-arms itself until the last round. After it the thread
//! is `Closed`: it never registers again, and its few last frees miss.
//!
//! # States of a thread
//! ```text
//! Fresh -> Registered -> Closed      Fresh -> Closed (refused)
//! ```
//! fork: the child's one thread keeps area, state and registration. vfork: the parent is `Closed` while the child runs
//! on its thread-local storage, and then what it was before ([`lent`](super::lent)).
//!
//! # Signal handlers
//! The number becomes valid by a system call in the middle of a thread's life. If that happened in a handler which
//! interrupted the thread's very first section between bind and the load of the number, the section would go on
//! unbound. A handler that allocates breaks the rule of malloc(3) already (it is not async-signal-safe), so no further
//! defence is made.

use core::ffi::{c_int, c_uint, c_void};
use core::ptr;

use kmem_core::sync::{AtomicU32, Ordering};

use crate::os::fault::{self, Call};
use crate::os::sys::{self, RSEQ_LEN};
use crate::rseq::hot;
use crate::rseq::thread_data::{self, CLOSED, FRESH, REGISTERED, RseqArea};

/// What a thread has given up while a child has its thread-local data: see [`lent`](super::lent).
#[repr(u8)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum GivenUp {
    /// Nothing: it was not registered.
    Nothing,
    /// That it will register at its next miss.
    Chance,
    /// Its registration.
    Registration,
}

/// How often libc runs destructors that leave data behind (PTHREAD_DESTRUCTOR_ITERATIONS of glibc and musl).
const ROUNDS: u8 = 4;

/// The key of the destructor, plus one; 0: there is none.
static KEY: AtomicU32 = AtomicU32::new(0);

#[link(name = "c")]
unsafe extern "C" {
    fn pthread_key_create(key: *mut c_uint, destructor: Option<unsafe extern "C" fn(*mut c_void)>) -> c_int;
    fn pthread_setspecific(key: c_uint, value: *const c_void) -> c_int;
}

/// Whether the kernel takes an area of ours from the calling thread. Tried with an area on the stack, so that no
/// section sees a CPU number yet.
pub(crate) fn possible() -> bool {
    let mut probe = RseqArea::unregistered();
    let area = (&raw mut probe).cast();
    // SAFETY: the area outlives its registration, which ends here.
    unsafe {
        if fault::refused(Call::Thread) || sys::rseq_register(area, RSEQ_LEN).is_err() {
            return false;
        }
        if sys::rseq_unregister(area, RSEQ_LEN).is_err() {
            sys::fatal(&["kmem: the kernel does not give an rseq area back"]);
        }
    }
    true
}

/// Makes the key whose destructor ends a thread's registration, if it was not made before; `false` where libc has none
/// left. Called by one thread at a time.
pub(crate) fn prepare_thread_exit() -> bool {
    if KEY.load(Ordering::Acquire) != 0 {
        return true;
    }
    let mut key = 0;
    // SAFETY: the destructor is a function of ours, which stays mapped.
    let made = unsafe { pthread_key_create(&raw mut key, Some(thread_exit)) } == 0;
    if made {
        KEY.store(key + 1, Ordering::Release);
    }
    made
}

/// Registers the calling thread if it is fresh. To be called on slow paths, holding no lock: libc may allocate in here,
/// once a thread.
#[inline]
pub(crate) fn enter() {
    let block = thread_data::block();
    // SAFETY: the block is the calling thread's own.
    if unsafe { (*block).registration.get() } == FRESH {
        register();
    }
}

#[cold]
fn register() {
    // A thread may have a CPU number only after it has seen the table (see `hot`).
    if !hot::is_published() {
        return;
    }
    let block = thread_data::block();
    // SAFETY: the block is the calling thread's own and lives until the thread has ended; the destructor unregisters it
    // before.
    unsafe {
        // Closed first: an allocation of libc's comes back here.
        (*block).registration.set(CLOSED);
        if fault::refused(Call::Thread) || !arm() {
            return;
        }
        if sys::rseq_register((&raw mut (*block).rseq).cast(), RSEQ_LEN).is_ok() {
            (*block).registration.set(REGISTERED);
        }
    }
}

/// Sees to it that the destructor runs at the end of the thread, or in the next round.
fn arm() -> bool {
    let key = KEY.load(Ordering::Acquire);
    // SAFETY: the key is ours; the value is any but null.
    key != 0 && unsafe { pthread_setspecific(key - 1, ptr::without_provenance(1)) } == 0
}

unsafe extern "C" fn thread_exit(_: *mut c_void) {
    let block = thread_data::block();
    // SAFETY: the block is the calling thread's own, and alive: destructors run on the thread.
    unsafe {
        let round = (*block).rounds.get() + 1;
        (*block).rounds.set(round);
        if round < ROUNDS && arm() {
            return;
        }
        if (*block).registration.replace(CLOSED) == REGISTERED {
            let area = (&raw mut (*block).rseq).cast();
            if sys::rseq_unregister(area, RSEQ_LEN).is_err() {
                sys::fatal(&["kmem: the kernel does not give the rseq area of an ending thread back"]);
            }
        }
    }
}

/// Closes the thread while a child runs on its data.
pub(crate) fn lend() -> GivenUp {
    let block = thread_data::block();
    // SAFETY: the block is the calling thread's own; its area stays where it is.
    unsafe {
        match (*block).registration.replace(CLOSED) {
            FRESH => GivenUp::Chance,
            REGISTERED if sys::rseq_unregister((&raw mut (*block).rseq).cast(), RSEQ_LEN).is_ok() => {
                GivenUp::Registration
            }
            as_it_was => {
                (*block).registration.set(as_it_was);
                GivenUp::Nothing
            }
        }
    }
}

/// Returns to the thread what it had given up. A refusal of the kernel leaves it `Closed`.
///
/// # Safety
/// The calling thread has given up this, by [`lend`], and has not taken it back since.
pub(crate) unsafe fn take_back(given_up: GivenUp) {
    let block = thread_data::block();
    // SAFETY: as above; the destructor that unregisters it before the thread ends is armed still, for it was this
    // thread's registration.
    unsafe {
        match given_up {
            GivenUp::Nothing => {}
            GivenUp::Chance => (*block).registration.set(FRESH),
            GivenUp::Registration => {
                if sys::rseq_register((&raw mut (*block).rseq).cast(), RSEQ_LEN).is_ok() {
                    (*block).registration.set(REGISTERED);
                }
            }
        }
    }
}
