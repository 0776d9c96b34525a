//! malloc and free in the instructions of x86-64.
//!
//! # The objects to come
//! A pop asks for the memory of the object fifteen below: a thread that allocates one writes to it, mostly soon, and
//! where objects lie far apart and were freed long ago the misses of several then overlap instead of following each
//! other (a third less time an object in a heap of 64 MB; with four below a quarter). The word may be no object, but a
//! mark or what stands before one; a prefetch of nonsense does nothing. A free that asks instead, for the object that
//! it is given, does as well there, but takes the line from the CPU that will write to it where one thread allocates
//! and another frees (11.7 -> 16 ns an object).
//!
//! # Placement
//! The alignment after the last instruction is that of the function's own section, so each begins a cache line. A pop
//! that follows its push finds its cursor in the store queue, if the processor guesses so; with `alloc` a quarter of a
//! line further on it guesses right most of the time, which is all that the bytes in front are for (15.1 instead of
//! 17.5 cycles a pair, floor 12.8; bursts do not care).

/// The body of a naked function `(size) -> address` that jumps to `$slow`, a function of the same signature, where it
/// cannot serve: what [`__entry_alloc_by_id`](crate::__entry_alloc_by_id) made.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_alloc {
    ($slow:path) => {
        $crate::__entry_alloc!(".nops 16", __rseq_begin, HOT, $slow)
    };
    ($first:literal, $begin:ident, $hot:ident, $slow:path $(, $at:ident)?) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            $first,
            "cmp rdi, qword ptr [rip + {hot} + {SMALL}]",   // if (size >= hot.small)
            "jae 7f",                                       //     goto 7
            "lea eax, [rdi + 15]",                          // rax = size + 15
            "shr eax, 4",                                   // rax /= 16
            "lea rcx, [rip + {fine}]",                      // rcx = FINE
            "movzx esi, byte ptr [rcx + rax]",              // rsi = rcx[rax]: the class, times CLASS_STEP
            $crate::$begin!("rdx", "rcx"),                  // rdx = number of the slot's CPU
            "mov rcx, qword ptr [rip + {hot} + {TABLE}]",   // rcx = hot.table
            "mov rcx, qword ptr [rcx + rdx*8]",             // rcx = rcx[rdx]: the area
            "lea r9, [rcx + rsi*8]",                        // r9 = &area.slot
            "mov rdx, qword ptr [r9]",                      // rdx = r9.cursor
            "add rcx, rdx",                                 // rcx = area + rdx
            "mov rax, qword ptr [rcx - 8]",                 // rax = rcx[-1]: the newest object
            "mov r8, qword ptr [rcx - {ahead}]",            // r8 = rcx[-16]: the one fifteen below
            "test al, 1",                                   // if (rax & 1)
            "jnz {slow}",                                   //     miss
            "prefetchw [r8]",                               // ask for *r8
            "add rdx, -8",                                  // rdx -= 8
            "mov qword ptr [r9], rdx",                      // r9.cursor = rdx: commit
            $crate::__rseq_end!("ret", "jmp {slow}"),       // return rax
            "7:",
            "cmp rdi, qword ptr [rip + {hot} + {GENERAL}]", // if (size >= hot.general)
            "jae {slow}",                                   //     miss
            "lea eax, [rdi + 127]",                         // rax = size + 127
            "shr eax, 7",                                   // rax /= 128
            "lea rcx, [rip + {coarse}]",                    // rcx = COARSE
            "movzx esi, byte ptr [rcx + rax]",              // rsi = rcx[rax]
            "jmp 2b",
            ".p2align 6",
            ".cfi_endproc",
            ahead = const $crate::rseq::entry::AHEAD,
            fine = sym $crate::rseq::entry::FINE,
            coarse = sym $crate::rseq::entry::COARSE,
            hot = sym $crate::rseq::hot::$hot,
            slow = sym $slow,
            OFFSET = const $crate::rseq::hot::at::OFFSET,
            TABLE = const $crate::rseq::hot::at::TABLE,
            SMALL = const $crate::rseq::hot::at::SMALL,
            GENERAL = const $crate::rseq::hot::at::GENERAL,
            RSEQ_CS = const $crate::rseq::hot::at::RSEQ_CS,
            CPU_ID = const $crate::rseq::hot::at::CPU_ID,
            $($at = const $crate::rseq::hot::at::$at,)?
        )
    };
}

/// The same by concurrency id; `$slow` is an ordinary function. Without a table it leaves all to that.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_alloc_by_id {
    ($slow:path) => {
        $crate::__entry_alloc!(
            "cmp qword ptr [rip + {hot} + {TABLE}], 0\nje {slow}",
            __rseq_begin_by_id,
            HOT_BY_ID,
            $slow,
            MM_CID
        )
    };
}

/// The same while a profile counts what is allocated, and sections go by CPU number: the limits of [`HOT`] are 0 then,
/// and this is where malloc comes ([`profile`](crate::profile)). Where the thread's next sample is due, or it has not
/// counted yet, or its slot has no object, it leaves all to `$slow`, an ordinary function, and has counted nothing.
///
/// [`HOT`]: crate::rseq::hot::HOT
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_alloc_counted {
    ($slow:path) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            "cmp dword ptr [rip + {counted}], 0",             // if (counted.session == 0)
            "je {slow}",                                      //     leave
            "cmp rdi, {FINE_MAX}",                            // if (size > FINE_MAX)
            "ja 7f",                                          //     goto 7
            "lea eax, [rdi + 15]",                            // rax = size + 15
            "shr eax, 4",                                     // rax /= 16
            "lea rcx, [rip + {fine}]",                        // rcx = FINE
            "movzx esi, byte ptr [rcx + rax]",                // rsi = rcx[rax]: the class, times CLASS_STEP
            "8:",
            "mov r11, qword ptr [rip + {counted} + {BLOCK}]", // r11 = counted.block
            "movzx eax, byte ptr fs:[r11 + {SESSION}]",       // if (block.session != counted.session)
            "cmp eax, dword ptr [rip + {counted}]",           //     leave
            "jne {slow}",
            "lea rcx, [rip + {sizes}]",                       // r10 = block.left - the size of the class
            "mov r10d, dword ptr fs:[r11 + {LEFT}]",
            "sub r10d, dword ptr [rcx + rsi*2]",              // if (r10 <= 0)
            "jbe {slow}",                                     //     leave
            $crate::__rseq_begin!("rdx", "rcx"),              // rdx = number of the slot's CPU
            "mov rcx, qword ptr [rip + {hot} + {TABLE}]",     // as in `__entry_alloc`
            "mov rcx, qword ptr [rcx + rdx*8]",
            "lea r9, [rcx + rsi*8]",
            "mov rdx, qword ptr [r9]",
            "add rcx, rdx",
            "mov rax, qword ptr [rcx - 8]",
            "mov r8, qword ptr [rcx - {ahead}]",
            "test al, 1",
            "jnz {slow}",
            "prefetchw [r8]",
            "add rdx, -8",
            "mov qword ptr [r9], rdx",                        // commit
            // block.left = r10
            $crate::__rseq_end!("mov dword ptr fs:[r11 + {LEFT}], r10d\nret", "jmp {slow}"),
            "7:",
            "cmp rdi, {SMALL}",                               // if (size > SMALL)
            "ja {slow}",                                      //     leave
            "lea eax, [rdi + 127]",                           // rax = size + 127
            "shr eax, 7",                                     // rax /= 128
            "lea rcx, [rip + {coarse}]",                      // rcx = COARSE
            "movzx esi, byte ptr [rcx + rax]",                // rsi = rcx[rax]
            "jmp 8b",
            ".cfi_endproc",
            ahead = const $crate::rseq::entry::AHEAD,
            fine = sym $crate::rseq::entry::FINE,
            coarse = sym $crate::rseq::entry::COARSE,
            sizes = sym $crate::rseq::entry::SIZES,
            hot = sym $crate::rseq::hot::HOT,
            counted = sym $crate::rseq::entry::COUNTED,
            slow = sym $slow,
            FINE_MAX = const $crate::rseq::entry::FINE_SIZE,
            SMALL = const $crate::rseq::entry::SMALL_SIZE,
            BLOCK = const $crate::rseq::entry::counted::BLOCK,
            SESSION = const $crate::rseq::entry::counted::SESSION,
            LEFT = const $crate::rseq::entry::counted::LEFT,
            OFFSET = const $crate::rseq::hot::at::OFFSET,
            TABLE = const $crate::rseq::hot::at::TABLE,
            RSEQ_CS = const $crate::rseq::hot::at::RSEQ_CS,
            CPU_ID = const $crate::rseq::hot::at::CPU_ID,
        )
    };
}

/// The body of a naked function `(address)` that jumps to `$slow`, a function of the same signature, where it cannot
/// serve: what [`__entry_free_by_id`](crate::__entry_free_by_id) made.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_free {
    ($slow:path) => {
        $crate::__entry_free!("", __rseq_begin, HOT, $slow)
    };
    ($first:literal, $begin:ident, $hot:ident, $slow:path $(, $at:ident)?) => {
        core::arch::naked_asm!(
            ".cfi_startproc",
            $first,
            "mov rax, rdi",                                    // rax = address
            "shr rax, {shift}",                                // rax = its granule
            "mov rcx, rax",                                    // rcx = rax
            "sub rcx, qword ptr [rip + {hot} + {FIRST}]",      // rcx -= hot.first
            "cmp rcx, qword ptr [rip + {hot} + {GRANULES}]",   // if (rcx >= hot.granules)
            "jae {slow}",                                      //     miss
            "test dil, 15",                                    // if (address & 15)
            "jnz {slow}",                                      //     miss
            "mov rcx, qword ptr [rip + {hot} + {CLASSES}]",    // rcx = hot.classes
            "movzx eax, byte ptr [rcx + rax]",                 // rax = rcx[rax]: the class, times CLASS_STEP
            $crate::$begin!("rdx", "rcx"),                     // rdx = number of the slot's CPU
            "mov rcx, qword ptr [rip + {hot} + {TABLE}]",      // rcx = hot.table
            "mov rcx, qword ptr [rcx + rdx*8]",                // rcx = rcx[rdx]: the area
            "lea r9, [rcx + rax*8]",                           // r9 = &area.slot
            "mov rsi, qword ptr [r9 + {END}]",                 // rsi = r9.end
            "mov rdx, qword ptr [r9]",                         // rdx = r9.cursor
            "cmp rdx, rsi",                                    // if (rdx >= rsi)
            "jae {slow}",                                      //     miss
            "add rcx, rdx",                                    // rcx = area + rdx
            "mov qword ptr [rcx], rdi",                        // *rcx = address
            "add rdx, 8",                                      // rdx += 8
            "mov qword ptr [r9], rdx",                         // r9.cursor = rdx: commit
            $crate::__rseq_end!("ret", "jmp {slow}"),
            ".p2align 6",
            ".cfi_endproc",
            shift = const $crate::rseq::entry::SHIFT,
            hot = sym $crate::rseq::hot::$hot,
            slow = sym $slow,
            END = const $crate::rseq::END,
            OFFSET = const $crate::rseq::hot::at::OFFSET,
            TABLE = const $crate::rseq::hot::at::TABLE,
            FIRST = const $crate::rseq::hot::at::FIRST,
            GRANULES = const $crate::rseq::hot::at::GRANULES,
            CLASSES = const $crate::rseq::hot::at::CLASSES,
            RSEQ_CS = const $crate::rseq::hot::at::RSEQ_CS,
            CPU_ID = const $crate::rseq::hot::at::CPU_ID,
            $($at = const $crate::rseq::hot::at::$at,)?
        )
    };
}

/// The same by concurrency id; `$slow` is an ordinary function. Without a table it leaves all to that.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_free_by_id {
    ($slow:path) => {
        $crate::__entry_free!(
            "cmp qword ptr [rip + {hot} + {TABLE}], 0\nje {slow}",
            __rseq_begin_by_id,
            HOT_BY_ID,
            $slow,
            MM_CID
        )
    };
}
