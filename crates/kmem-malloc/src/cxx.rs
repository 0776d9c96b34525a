//! operator new and operator delete.
//!
//! Where memory ends, C++ wants the new-handler called until it gives up by throwing, or there is none, and then `std::bad_alloc` thrown. An exception must not pass through a Rust
//! frame. So the throwing operators are a few lines of assembly with unwind information: they call into Rust for memory and for the handler, neither of which throws, call the handler
//! themselves, and *jump* to the C++ library's own thrower. The C++ library's functions are weak: a program without one has no use for them.

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

macro_rules! nothrow {
    ($(#[$doc:meta])* $name:ident($size:ident $(, $align:ident)?), $get:path) => {
        $(#[$doc])*
        ///
        /// # Safety
        /// As in C++.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($size: usize, $($align: usize,)? _nothrow: *const c_void) -> *mut c_void {
            $get($size $(, $align)?)
        }
    };
}

nothrow!(/// operator new(size_t, nothrow_t const&)
    _ZnwmRKSt9nothrow_t(size), plain);
nothrow!(/// operator new[](size_t, nothrow_t const&)
    _ZnamRKSt9nothrow_t(size), plain);
nothrow!(/// operator new(size_t, align_val_t, nothrow_t const&)
    _ZnwmSt11align_val_tRKSt9nothrow_t(size, align), aligned);
nothrow!(/// operator new[](size_t, align_val_t, nothrow_t const&)
    _ZnamSt11align_val_tRKSt9nothrow_t(size, align), aligned);

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
