//! A thread that libc does not know.
//!
//! A thread of libc's is part of the program: libc broadcasts changes of user and group to it and ends the process
//! where the answers differ, libpsx signals it and waits, libc takes locks that a program with one thread does without,
//! and its start and end run code of the program's. A thread made by the bare system call has nothing of that. It
//! shares memory, and calls no function of libc's but the clock's.
//!
//! # Whose rights it has
//! Those of the thread that makes it, at that moment: its user, its capabilities, its seccomp filters, all of which act
//! on one thread only and are inherited. It puts no filter of its own on, since `seccomp(TSYNC)` demands that every
//! thread's filter is an ancestor of the caller's. So a thread that lives for a moment keeps nothing that the program
//! gives up before or after, and stands in the way of no call that is made to all threads.
//!
//! # What it is made of
//! ```text
//! base        a page that cannot be touched
//!             the stack, growing down
//! stack       ... thread-local storage below the thread pointer: our block, where the linker put it
//! pointer     what the ABI asks for (on x86-64 a word that points to itself, twice, and two guards)
//!             ... zero, as far as libc's own block goes; libc's rseq area in it says 'not registered'
//! ```
//! (On arm64 libc's block lies below the pointer, and our block above it.) One mapping, which the thread ends itself in
//! its last instructions, standing on nothing. Our block and libc's area say CPU -1, so every section of ours misses;
//! zeroes would say CPU 0. The kernel clears [`ALIVE`] when the thread no longer exists, and no other is made before
//! that.
//!
//! # Signals
//! The thread is made with all 64 signals blocked, the two that libc keeps open among them: no handler of the program's
//! ever runs on it. It runs as SCHED_OTHER, whatever the thread that made it runs as.
//!
//! # Flags
//! They are those of pthread_create, no more and no less: sandboxes list them. `CLONE_FILES` too, without which
//! valgrind ends the program.
//!
//! # Fork
//! A child does not have the thread; its mapping, if there was one, is ended there ([`after_fork_in_child`]).

use kmem_core::sync::{AtomicU32, AtomicUsize, Ordering};

use crate::arch::{self, ABOVE, Beginning};
use crate::os::geometry::page;
use crate::os::libc;
use crate::os::sys::{self, MAP_NORESERVE, MAP_PRIVATE_ANON, PROT_NONE, PROT_READ, PROT_WRITE};
use crate::rseq::thread_data::{self, RseqArea, ThreadBlock};

/// Bytes of stack.
const STACK: usize = 64 << 10;

/// The kernel's number of the thread; 0: there is none.
static ALIVE: AtomicU32 = AtomicU32::new(0);
/// Where its mapping begins, and how long it is. The thread itself clears the first, in its last instructions.
pub(crate) static MAPPING: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Whether there is such a thread, or one that has not quite gone.
pub(crate) fn exists() -> bool {
    ALIVE.load(Ordering::Acquire) != 0
}

/// Whether that is the thread with this number of the kernel's.
pub(crate) fn is(number: usize) -> bool {
    ALIVE.load(Ordering::Relaxed) as usize == number
}

/// Makes a thread that runs `run`, and ends when it returns; `false` where it cannot be made, or another still is.
/// Called by one thread at a time.
#[cold]
pub(crate) fn spawn(run: extern "C" fn()) -> bool {
    if exists() {
        return false;
    }
    let Some(memory) = Memory::map() else { return false };
    let before = sys::block_all_signals();
    ALIVE.store(1, Ordering::Release);
    MAPPING[0].store(memory.base, Ordering::Relaxed);
    MAPPING[1].store(memory.len, Ordering::Relaxed);
    // SAFETY: stack and thread-local storage are the new thread's alone; `run` is a function of ours, which stays
    // mapped.
    let made = unsafe {
        arch::spawn(&Beginning {
            base: memory.base,
            len: memory.len,
            stack: memory.stack(),
            pointer: memory.pointer,
            alive: &ALIVE,
            run,
        })
    };
    sys::restore_signals(before);
    if !made {
        forget();
        memory.unmap();
    }
    made
}

/// Ends the mapping of a thread that fork left behind.
#[cold]
pub(crate) fn after_fork_in_child() {
    if exists() {
        let memory =
            Memory { base: MAPPING[0].load(Ordering::Relaxed), len: MAPPING[1].load(Ordering::Relaxed), pointer: 0 };
        forget();
        if memory.base != 0 {
            memory.unmap();
        }
    }
}

fn forget() {
    MAPPING[0].store(0, Ordering::Relaxed);
    ALIVE.store(0, Ordering::Release);
}

/// A thread's stack and thread-local storage.
struct Memory {
    base: usize,
    len: usize,
    /// The thread pointer.
    pointer: usize,
}

impl Memory {
    fn map() -> Option<Self> {
        let (below, above) = thread_data::bytes_around_pointer();
        let below = below.next_multiple_of(page());
        let len = page() + STACK + below + above.next_multiple_of(page()).max(ABOVE);
        // SAFETY: a new mapping is in no one's way, and is opened but for its first page.
        let base = unsafe {
            let base = sys::mmap(0, len, PROT_NONE, MAP_PRIVATE_ANON | MAP_NORESERVE).ok()?;
            if sys::mprotect(base + page(), len - page(), PROT_READ | PROT_WRITE).is_err() {
                let _ = sys::munmap(base, len);
                return None;
            }
            base
        };
        let memory = Self { base, len, pointer: base + page() + STACK + below };
        memory.lay_out();
        Some(memory)
    }

    /// Writes what a thread-local block has to say before its thread runs.
    fn lay_out(&self) {
        // SAFETY: all of it is in the mapping, which is not in use yet.
        unsafe {
            arch::lay_out(self.pointer);
            thread_data::block_at(self.pointer).write(ThreadBlock::closed());
            if let Some(area) = libc::rseq_area() {
                (self.pointer.wrapping_add(area.offset) as *mut RseqArea).write(RseqArea::unregistered());
            }
        }
    }

    /// The top of the stack, as a function finds it that is about to be called.
    fn stack(&self) -> usize {
        self.base + page() + STACK
    }

    fn unmap(&self) {
        // SAFETY: the thread does not exist, so the mapping is not in use.
        let _ = unsafe { sys::munmap(self.base, self.len) };
    }
}
