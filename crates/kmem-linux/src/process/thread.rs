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
//! pointer     a word that points to itself (twice), the stack guard and the pointer guard of the thread that made it
//!             ... zero, as far as libc's own block goes; libc's rseq area in it says 'not registered'
//! ```
//! One mapping, which the thread ends itself in its last instructions, standing on nothing. Our block and libc's area
//! say CPU -1, so every section of ours misses; zeroes would say CPU 0. The kernel clears [`ALIVE`] when the thread no
//! longer exists, and no other is made before that.
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

use core::arch::{asm, naked_asm};

use kmem_core::sync::{AtomicU32, AtomicUsize, Ordering};

use crate::os::geometry::PAGE;
use crate::os::libc;
use crate::os::sys::{self, MAP_NORESERVE, MAP_PRIVATE_ANON, PROT_NONE, PROT_READ, PROT_WRITE, nr};
use crate::rseq::thread_data::{self, RseqArea, ThreadBlock};

/// Bytes of stack.
const STACK: usize = 64 << 10;
/// Bytes above the thread pointer: libc's block, and its rseq area in it.
const ABOVE: usize = 8 << 10;
/// CLONE_VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, PARENT_SETTID, CHILD_CLEARTID.
const FLAGS: usize = 0x3d_0f00;

/// The kernel's number of the thread; 0: there is none.
static ALIVE: AtomicU32 = AtomicU32::new(0);
/// Where its mapping begins, and how long it is.
static MAPPING: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

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
    let made = unsafe { clone(&memory, run) };
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
        let below = thread_data::bytes_below_pointer().next_multiple_of(PAGE);
        let len = PAGE + STACK + below + ABOVE;
        // SAFETY: a new mapping is in no one's way, and is opened but for its first page.
        let base = unsafe {
            let base = sys::mmap(0, len, PROT_NONE, MAP_PRIVATE_ANON | MAP_NORESERVE).ok()?;
            if sys::mprotect(base + PAGE, len - PAGE, PROT_READ | PROT_WRITE).is_err() {
                let _ = sys::munmap(base, len);
                return None;
            }
            base
        };
        let memory = Self { base, len, pointer: base + PAGE + STACK + below };
        memory.lay_out();
        Some(memory)
    }

    /// Writes what a thread-local block has to say before its thread runs.
    fn lay_out(&self) {
        let word = |offset: usize| (self.pointer + offset) as *mut usize;
        let mine = thread_data::pointer();
        // SAFETY: the words are in the mapping, which is not in use yet; the calling thread's own words are libc's, by
        // the ABI: a pointer to itself, the stack guard and the pointer guard.
        unsafe {
            word(0).write(self.pointer);
            word(16).write(self.pointer);
            for guard in [0x28, 0x30] {
                word(guard).write((mine as *const usize).byte_add(guard).read());
            }
            thread_data::block_at(self.pointer).write(ThreadBlock::closed());
            if let Some(area) = libc::rseq_area() {
                (self.pointer.wrapping_add(area.offset) as *mut RseqArea).write(RseqArea::unregistered());
            }
        }
    }

    /// The top of the stack, as a function finds it that is about to be called.
    fn stack(&self) -> usize {
        self.base + PAGE + STACK
    }

    fn unmap(&self) {
        // SAFETY: the thread does not exist, so the mapping is not in use.
        let _ = unsafe { sys::munmap(self.base, self.len) };
    }
}

/// Makes the thread, which begins in [`begin`].
///
/// # Safety
/// The memory is a new thread's alone, and laid out.
#[inline(never)]
unsafe fn clone(memory: &Memory, run: extern "C" fn()) -> bool {
    let answer: isize;
    // SAFETY: the new thread has a stack of its own and never comes back here; for this one it is a system call.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jz {begin}",
            begin = sym begin,
            inlateout("rax") nr::CLONE as isize => answer,
            in("rdi") FLAGS,
            in("rsi") memory.stack(),
            in("rdx") ALIVE.as_ptr(),
            in("r10") ALIVE.as_ptr(),
            in("r8") memory.pointer,
            in("r12") memory.base,
            in("r13") memory.len,
            in("r14") run,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer > 0
}

/// The first and the last instructions of the thread: runs `r14`, ends its mapping, of which it uses nothing from there
/// on, and itself.
#[unsafe(naked)]
unsafe extern "C" fn begin() {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_undefined rip",
        "xor ebp, ebp",                         // no frame before this one
        "call r14",                             // run()
        "mov qword ptr [rip + {mapping}], 0",   // MAPPING[0] = 0
        "mov eax, {MUNMAP}",                    // munmap(base, len): the stack is gone
        "mov rdi, r12",
        "mov rsi, r13",
        "syscall",
        "mov eax, {EXIT}",                      // exit(0): the kernel clears ALIVE
        "xor edi, edi",
        "syscall",
        "ud2",                                  // not reached
        ".cfi_endproc",
        mapping = sym MAPPING,
        MUNMAP = const nr::MUNMAP,
        EXIT = const nr::EXIT,
    )
}
