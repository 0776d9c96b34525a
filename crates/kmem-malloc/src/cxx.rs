//! operator new and operator delete.
//!
//! Where memory ends, C++ wants the new-handler called until it gives up by throwing, or there is none, and then `std::bad_alloc` thrown. An exception must not pass through a Rust
//! frame. So the throwing operators are a few lines of assembly with unwind information: they call into Rust for memory and for the handler, neither of which throws, call the handler
//! themselves, and call the C++ library's own thrower. The nothrow operators do the same and answer null in the end; where the handler throws, they catch it, by a personality of
//! their own, which knows one landing pad. The C++ library's functions are weak: a program without one has no use for them.

use core::arch::naked_asm;
use core::ffi::c_void;
use core::ptr::null_mut;

use kmem::general;
use kmem::linux::sys;

use crate::c::free;

extern "C" fn plain(size: usize) -> *mut c_void {
    general::alloc(size).map_or(null_mut(), |address| address.as_ptr().cast())
}

extern "C" fn aligned(size: usize, align: usize) -> *mut c_void {
    if !align.is_power_of_two() {
        return null_mut();
    }
    general::alloc_aligned(size, align).map_or(null_mut(), |address| address.as_ptr().cast())
}

extern "C" fn no_library() -> ! {
    sys::fatal(&["kmem: operator new is out of memory, and there is no C++ library to throw std::bad_alloc"])
}

/// Memory from `get`, or the handler and once more, or `std::bad_alloc`. Size and alignment, as the operators get them, are kept in rbx and r14.
macro_rules! throwing {
    ($(#[$doc:meta])* $name:ident, $get:path) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As in C++.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(size: usize, align: usize) -> *mut c_void {
            naked_asm!(
                ".cfi_startproc",
                "push rbx",
                ".cfi_adjust_cfa_offset 8",
                ".cfi_rel_offset rbx, 0",
                "push r14",
                ".cfi_adjust_cfa_offset 8",
                ".cfi_rel_offset r14, 0",
                "sub rsp, 8",
                ".cfi_adjust_cfa_offset 8",
                "mov rbx, rdi",
                "mov r14, rsi",
                "2:",
                "mov rdi, rbx",
                "mov rsi, r14",
                "call {get}",
                "test rax, rax",
                "jnz 4f",
                ".weak _ZSt15get_new_handlerv",
                "mov rax, qword ptr [rip + _ZSt15get_new_handlerv@GOTPCREL]",
                "test rax, rax",
                "jz 3f",
                "call rax",
                "test rax, rax",
                "jz 3f",
                "call rax",
                "jmp 2b",
                "3:",
                ".weak _ZSt17__throw_bad_allocv",
                "mov rax, qword ptr [rip + _ZSt17__throw_bad_allocv@GOTPCREL]",
                "lea rcx, [rip + {none}]",
                "test rax, rax",
                "cmovz rax, rcx",
                "call rax",
                "ud2",
                "4:",
                "add rsp, 8",
                ".cfi_adjust_cfa_offset -8",
                "pop r14",
                ".cfi_adjust_cfa_offset -8",
                ".cfi_restore r14",
                "pop rbx",
                ".cfi_adjust_cfa_offset -8",
                ".cfi_restore rbx",
                "ret",
                ".cfi_endproc",
                get = sym $get,
                none = sym no_library,
            )
        }
    };
}

throwing!(/// operator new(size_t)
    _Znwm, plain);
throwing!(/// operator new[](size_t)
    _Znam, plain);
throwing!(/// operator new(size_t, align_val_t)
    _ZnwmSt11align_val_t, aligned);
throwing!(/// operator new[](size_t, align_val_t)
    _ZnamSt11align_val_t, aligned);

/// What the unwinder asks about [`nothrow`]'s frame: it catches everything but a forced unwind (a thread that is canceled).
extern "C" fn personality(_version: i32, actions: i32, _class: u64, exception: usize, context: *mut c_void) -> i32 {
    const SEARCH: i32 = 1;
    const HANDLER_FRAME: i32 = 4;
    const FORCED: i32 = 8;
    const HANDLER_FOUND: i32 = 6;
    const INSTALL_CONTEXT: i32 = 7;
    const CONTINUE: i32 = 8;
    if actions & FORCED != 0 {
        return CONTINUE;
    }
    if actions & SEARCH != 0 {
        return HANDLER_FOUND;
    }
    if actions & HANDLER_FRAME == 0 {
        return CONTINUE;
    }
    // SAFETY: the unwinder that asks is the one that is called; the landing pad is `nothrow`'s.
    unsafe { install(context, exception) };
    INSTALL_CONTEXT
}

/// Lets the unwinder go on at the landing pad of [`nothrow`], with the exception in rax.
///
/// # Safety
/// Called by [`personality`] in the second phase, for the frame of `nothrow`.
#[unsafe(naked)]
unsafe extern "C" fn install(context: *mut c_void, exception: usize) {
    naked_asm!(
        ".cfi_startproc",
        "push rbx",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset rbx, 0",
        "mov rbx, rdi",
        "mov rdx, rsi",
        "xor esi, esi",
        ".weak _Unwind_SetGR",
        "call qword ptr [rip + _Unwind_SetGR@GOTPCREL]",
        "mov rdi, rbx",
        "lea rsi, [rip + kmem_cxx_landing_pad]",
        ".weak _Unwind_SetIP",
        "call qword ptr [rip + _Unwind_SetIP@GOTPCREL]",
        "pop rbx",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore rbx",
        "ret",
        ".cfi_endproc",
    )
}

/// Memory from `get`, or the handler and once more, or null; null also where the handler throws.
///
/// # Safety
/// `get` takes the size and the alignment.
#[unsafe(naked)]
unsafe extern "C" fn nothrow(get: extern "C" fn(usize, usize) -> *mut c_void, size: usize, align: usize) -> *mut c_void {
    naked_asm!(
        ".cfi_startproc",
        ".cfi_personality 0x1b, {personality}",
        "push rbx",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset rbx, 0",
        "push r14",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset r14, 0",
        "push r15",
        ".cfi_adjust_cfa_offset 8",
        ".cfi_rel_offset r15, 0",
        "mov r15, rdi",
        "mov rbx, rsi",
        "mov r14, rdx",
        "2:",
        "mov rdi, rbx",
        "mov rsi, r14",
        "call r15",
        "test rax, rax",
        "jnz 3f",
        ".weak _ZSt15get_new_handlerv",
        "mov rax, qword ptr [rip + _ZSt15get_new_handlerv@GOTPCREL]",
        "test rax, rax",
        "jz 3f",
        "call rax",
        "test rax, rax",
        "jz 3f",
        "call rax",
        "jmp 2b",
        ".globl kmem_cxx_landing_pad",
        ".hidden kmem_cxx_landing_pad",
        "kmem_cxx_landing_pad:",
        "mov rdi, rax",
        ".weak __cxa_begin_catch",
        "call qword ptr [rip + __cxa_begin_catch@GOTPCREL]",
        ".weak __cxa_end_catch",
        "call qword ptr [rip + __cxa_end_catch@GOTPCREL]",
        "xor eax, eax",
        "3:",
        "pop r15",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore r15",
        "pop r14",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore r14",
        "pop rbx",
        ".cfi_adjust_cfa_offset -8",
        ".cfi_restore rbx",
        "ret",
        ".cfi_endproc",
        personality = sym personality,
    )
}

macro_rules! nothrow {
    ($(#[$doc:meta])* $name:ident(size $(, $align:ident)?)) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As in C++.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(size: usize, $($align: usize,)? _nothrow: *const c_void) -> *mut c_void {
            let align = general::MIN_ALIGN;
            $(let align = $align.max(align);)?
            let memory = aligned(size, align);
            // SAFETY: the function takes a size and an alignment.
            if memory.is_null() { unsafe { nothrow(aligned, size, align) } } else { memory }
        }
    };
}

nothrow!(/// operator new(size_t, nothrow_t const&)
    _ZnwmRKSt9nothrow_t(size));
nothrow!(/// operator new[](size_t, nothrow_t const&)
    _ZnamRKSt9nothrow_t(size));
nothrow!(/// operator new(size_t, align_val_t, nothrow_t const&)
    _ZnwmSt11align_val_tRKSt9nothrow_t(size, align));
nothrow!(/// operator new[](size_t, align_val_t, nothrow_t const&)
    _ZnamSt11align_val_tRKSt9nothrow_t(size, align));

/// Every delete is `free`: what else its caller knows is not needed, and a wrong size (a class deleted through a base without a virtual destructor) does no harm.
macro_rules! delete {
    ($($(#[$doc:meta])* $name:ident($($more:ty),*);)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As in C++.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(address: *mut c_void $(, _: $more)*) {
            // SAFETY: passed on.
            unsafe { free(address) }
        }
    )*};
}

delete! {
    /// operator delete(void*)
    _ZdlPv();
    /// operator delete[](void*)
    _ZdaPv();
    /// operator delete(void*, size_t)
    _ZdlPvm(usize);
    /// operator delete[](void*, size_t)
    _ZdaPvm(usize);
    /// operator delete(void*, nothrow_t const&)
    _ZdlPvRKSt9nothrow_t(*const c_void);
    /// operator delete[](void*, nothrow_t const&)
    _ZdaPvRKSt9nothrow_t(*const c_void);
    /// operator delete(void*, align_val_t)
    _ZdlPvSt11align_val_t(usize);
    /// operator delete[](void*, align_val_t)
    _ZdaPvSt11align_val_t(usize);
    /// operator delete(void*, size_t, align_val_t)
    _ZdlPvmSt11align_val_t(usize, usize);
    /// operator delete[](void*, size_t, align_val_t)
    _ZdaPvmSt11align_val_t(usize, usize);
    /// operator delete(void*, align_val_t, nothrow_t const&)
    _ZdlPvSt11align_val_tRKSt9nothrow_t(usize, *const c_void);
    /// operator delete[](void*, align_val_t, nothrow_t const&)
    _ZdaPvSt11align_val_tRKSt9nothrow_t(usize, *const c_void);
}
