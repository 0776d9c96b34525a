//! x86-64.

use core::arch::{asm, naked_asm};

use super::{Beginning, THREAD_FLAGS};
use crate::process::thread::MAPPING;

/// Numbers of the calls.
pub(crate) mod nr {
    pub(crate) const READ: usize = 0;
    pub(crate) const WRITE: usize = 1;
    pub(crate) const CLOSE: usize = 3;
    pub(crate) const MMAP: usize = 9;
    pub(crate) const MPROTECT: usize = 10;
    pub(crate) const MUNMAP: usize = 11;
    pub(crate) const RT_SIGPROCMASK: usize = 14;
    pub(crate) const SCHED_YIELD: usize = 24;
    pub(crate) const MREMAP: usize = 25;
    pub(crate) const MINCORE: usize = 27;
    pub(crate) const MADVISE: usize = 28;
    pub(crate) const GETPID: usize = 39;
    pub(crate) const SOCKET: usize = 41;
    pub(crate) const RECVFROM: usize = 45;
    pub(crate) const BIND: usize = 49;
    pub(crate) const CLONE: usize = 56;
    pub(crate) const EXIT: usize = 60;
    pub(crate) const UNAME: usize = 63;
    pub(crate) const FCNTL: usize = 72;
    pub(crate) const FTRUNCATE: usize = 77;
    pub(crate) const FCHMOD: usize = 91;
    pub(crate) const CAPSET: usize = 126;
    pub(crate) const SCHED_SETSCHEDULER: usize = 144;
    pub(crate) const PRCTL: usize = 157;
    pub(crate) const GETTID: usize = 186;
    pub(crate) const FUTEX: usize = 202;
    pub(crate) const SCHED_SETAFFINITY: usize = 203;
    pub(crate) const SCHED_GETAFFINITY: usize = 204;
    pub(crate) const GETDENTS64: usize = 217;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const TGKILL: usize = 234;
    pub(crate) const GET_MEMPOLICY: usize = 239;
    pub(crate) const INOTIFY_ADD_WATCH: usize = 254;
    pub(crate) const OPENAT: usize = 257;
    pub(crate) const READLINKAT: usize = 267;
    pub(crate) const PPOLL: usize = 271;
    pub(crate) const INOTIFY_INIT1: usize = 294;
    pub(crate) const PRLIMIT64: usize = 302;
    pub(crate) const GETCPU: usize = 309;
    pub(crate) const PROCESS_VM_READV: usize = 310;
    pub(crate) const MEMFD_CREATE: usize = 319;
    pub(crate) const MEMBARRIER: usize = 324;
    pub(crate) const RSEQ: usize = 334;
    pub(crate) const PIDFD_OPEN: usize = 434;
    pub(crate) const CLOSE_RANGE: usize = 436;
    pub(crate) const PIDFD_GETFD: usize = 438;
}

/// Bytes of the smallest page, and of the largest.
pub(crate) const PAGES: (usize, usize) = (4096, 4096);
pub(crate) const O_DIRECTORY: usize = 0o20_0000;
/// The word before each abort handler, which the kernel compares. The encoding of an instruction that traps, shared
/// with glibc.
pub(crate) const RSEQ_SIGNATURE: usize = 0x5305_3053;
/// Bytes above the thread pointer: libc's block, and its rseq area in it.
pub(crate) const ABOVE: usize = 8 << 10;

/// Makes a system call.
///
/// # Safety
/// The call does nothing to memory that the caller has no right to.
#[inline]
pub(crate) unsafe fn call(number: usize, [a, b, c, d, e, f]: [usize; 6]) -> isize {
    let answer: isize;
    // SAFETY: the kernel clobbers rax, rcx and r11 only; the rest is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => answer,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    answer
}

/// The thread pointer.
#[inline]
pub(crate) fn thread_pointer() -> usize {
    let pointer;
    // SAFETY: the word at the thread pointer is the thread pointer itself, by the x86-64 ABI, as long as the thread
    // lives.
    unsafe { asm!("mov {}, qword ptr fs:[0]", out(reg) pointer, options(nostack, preserves_flags, pure, nomem)) };
    pointer
}

/// The distance of a symbol from the thread pointer. Linkers turn `@GOTTPOFF` into a constant in executables, and into
/// a word that the dynamic linker fills in in shared objects.
macro_rules! own_offset {
    ($($symbol:tt)*) => {{
        let offset: usize;
        // SAFETY: loads a constant of the program.
        unsafe {
            core::arch::asm!(
                concat!("mov {}, qword ptr [rip + ", $($symbol)*, "@GOTTPOFF]"),
                out(reg) offset,
                options(nostack, preserves_flags, readonly),
            );
        }
        offset
    }};
}
pub(crate) use own_offset;

/// An instruction that traps.
#[doc(hidden)]
#[macro_export]
macro_rules! __trap {
    () => {
        "ud2"
    };
}

/// The address of a symbol, or null where no library has it.
#[doc(hidden)]
#[macro_export]
macro_rules! __weak_address {
    ($symbol:literal) => {{
        let address: *const ();
        // SAFETY: loads a word of the global offset table, which holds an address or null.
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $symbol),
                concat!("mov {}, qword ptr [rip + ", $symbol, "@GOTPCREL]"),
                out(reg) address,
                options(nostack, preserves_flags, readonly),
            );
        }
        address
    }};
}

/// Writes the words of a thread's block that the ABI asks for: a pointer to itself, twice, and the stack guard and the
/// pointer guard of the calling thread. (musl has other words there, which a thread that calls nothing of it does
/// without.)
///
/// # Safety
/// `pointer` is the thread pointer of a thread that does not exist yet, and its block is writable.
pub(crate) unsafe fn lay_out(pointer: usize) {
    let word = |offset: usize| (pointer + offset) as *mut usize;
    let mine = thread_pointer();
    // SAFETY: the caller's promise; the calling thread's own words are libc's.
    unsafe {
        word(0).write(pointer);
        word(16).write(pointer);
        for guard in [0x28, 0x30] {
            word(guard).write((mine as *const usize).byte_add(guard).read());
        }
    }
}

/// Makes a thread, which begins in [`begin`]; whether it was made.
///
/// # Safety
/// The memory is a new thread's alone, and laid out.
#[inline(never)]
pub(crate) unsafe fn spawn(thread: &Beginning<'_>) -> bool {
    let answer: isize;
    // SAFETY: the new thread has a stack of its own and never comes back here; for this one it is a system call.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jz {begin}",
            begin = sym begin,
            inlateout("rax") nr::CLONE as isize => answer,
            in("rdi") THREAD_FLAGS,
            in("rsi") thread.stack,
            in("rdx") thread.alive.as_ptr(),
            in("r10") thread.alive.as_ptr(),
            in("r8") thread.pointer,
            in("r12") thread.base,
            in("r13") thread.len,
            in("r14") thread.run,
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

/// The frame pointer, where a frame begins with that of its caller and the address to return to, and the stack pointer.
#[inline(always)]
pub(crate) fn frame_and_stack() -> (usize, usize) {
    let (frame, stack): (usize, usize);
    // SAFETY: reads two registers.
    unsafe { asm!("mov {}, rbp", "mov {}, rsp", out(reg) frame, out(reg) stack, options(nomem, nostack)) };
    (frame, stack)
}

/// Registers by their DWARF numbers, for unwinding.
pub(crate) mod dwarf {
    use core::arch::asm;

    /// Registers with a number below this are followed.
    pub(crate) const COUNT: usize = 17;
    /// The stack pointer's.
    pub(crate) const SP: usize = 7;
    /// The frame pointer's.
    pub(crate) const FP: usize = 6;
    /// The number under which a frame's return address is found.
    pub(crate) const RETURN: usize = 16;
    /// What a callee must leave as it was, besides the stack pointer.
    pub(crate) const KEPT: [usize; 6] = [3, 6, 12, 13, 14, 15];

    /// Stores those, as they are in the function that this is in line in; as the return address, where that is.
    #[inline(always)]
    pub(crate) fn store(registers: &mut [usize; COUNT]) {
        // SAFETY: stores into the array, and uses one more register.
        unsafe {
            asm!(
                "mov [{to} + 3*8], rbx",
                "mov [{to} + 6*8], rbp",
                "mov [{to} + 7*8], rsp",
                "mov [{to} + 12*8], r12",
                "mov [{to} + 13*8], r13",
                "mov [{to} + 14*8], r14",
                "mov [{to} + 15*8], r15",
                "lea {t}, [rip]",
                "mov [{to} + 16*8], {t}",
                to = in(reg) registers.as_mut_ptr(),
                t = out(reg) _,
                options(nostack, preserves_flags),
            );
        }
    }
}

/// What stands before the name of a register in the note of a probe.
#[doc(hidden)]
#[macro_export]
macro_rules! __probe_register {
    () => {
        "%"
    };
}
