//! operator new and operator delete.
//!
//! A C++ program may replace the basic forms by its own, and then the other forms have to come to those: `new[]` to
//! `new`, `delete[]` and the sized forms to `delete`, nothrow `new` to `new` with its exceptions caught. So only the
//! basic forms do work here; every other form *jumps* to its basic form through the global offset table, where a
//! program's own one stands if there is one.
//!
//! Where memory ends, C++ wants the new-handler called until it gives up by throwing, or there is none, and then
//! `std::bad_alloc` thrown. An exception must not pass through a Rust frame. So the throwing forms are a few lines of
//! assembly with unwind information: they call into Rust for memory, for the handler and for the C++ library's thrower,
//! none of which throws, and call handler and thrower themselves. The nothrow forms catch what comes out of the basic
//! form, by a personality of their own, which knows one landing pad.
//!
//! The C++ library may have come with the program, or later by dlopen (a plugin, an extension of an interpreter), or
//! not at all. Its functions are looked for only here, where memory has ended or an exception is on its way
//! (`library`).
//!
//! The bodies are those of a processor, a file each: `cxx/x86_64.rs` and `cxx/aarch64.rs`. On others the C++ library's
//! own operators serve, which call malloc.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr::null_mut;

use core::ptr::NonNull;

use kmem_linux::checks::Form;
use kmem_linux::os::sys;
use kmem_linux::{checks, general};

#[cfg_attr(target_arch = "x86_64", path = "cxx/x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "cxx/aarch64.rs")]
mod processor;

use processor::{
    align_is_second, announced_body, catching_body, jump_body, landing_pad, looking_body, nothrow_body, throwing_body,
};

const RTLD_LAZY: c_int = 1;
const RTLD_NOLOAD: c_int = 4;

#[link(name = "c")]
unsafe extern "C" {
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(library: *mut c_void, name: *const c_char) -> *mut c_void;
}

/// A function of a library that is loaded, however it came; null where it is not.
fn library(file: &CStr, name: &CStr) -> *mut c_void {
    // SAFETY: nothing is loaded by this, and the names are strings.
    unsafe {
        let library = dlopen(file.as_ptr(), RTLD_LAZY | RTLD_NOLOAD);
        if library.is_null() { null_mut() } else { dlsym(library, name.as_ptr()) }
    }
}

/// A function that the program may have brought, or else one of a library that is loaded.
macro_rules! weak {
    ($symbol:literal, $file:literal, $name:literal) => {{
        let address = kmem_linux::__weak_address!($symbol).cast_mut().cast::<c_void>();
        if address.is_null() { library($file, $name) } else { address }
    }};
}

extern "C" fn plain(size: usize) -> *mut c_void {
    general::alloc(size).map_or(null_mut(), made)
}

extern "C" fn aligned(size: usize, align: usize) -> *mut c_void {
    if !align.is_power_of_two() {
        return null_mut();
    }
    general::alloc_aligned(size, align).map_or(null_mut(), made)
}

/// Memory that `operator new` returns.
fn made(address: NonNull<u8>) -> *mut c_void {
    checks::allocated_as(address.as_ptr(), Form::New);
    address.as_ptr().cast()
}

/// The new-handler, or null.
extern "C" fn handler() -> *mut c_void {
    let get = weak!("_ZSt15get_new_handlerv", c"libstdc++.so.6", c"_ZSt15get_new_handlerv");
    if get.is_null() {
        return null_mut();
    }
    // SAFETY: the C++ library's function takes nothing, returns a pointer and does not throw.
    unsafe { core::mem::transmute::<*mut c_void, extern "C" fn() -> *mut c_void>(get)() }
}

/// What throws `std::bad_alloc`.
extern "C" fn thrower() -> *mut c_void {
    let throw = weak!("_ZSt17__throw_bad_allocv", c"libstdc++.so.6", c"_ZSt17__throw_bad_allocv");
    if throw.is_null() {
        sys::fatal(&["kmem: operator new is out of memory, and there is no C++ library to throw std::bad_alloc"]);
    }
    throw
}

/// Ends the exception that arrived at the landing pad.
extern "C" fn forget_exception(exception: *mut c_void) {
    let begin = weak!("__cxa_begin_catch", c"libstdc++.so.6", c"__cxa_begin_catch");
    let end = weak!("__cxa_end_catch", c"libstdc++.so.6", c"__cxa_end_catch");
    if begin.is_null() || end.is_null() {
        sys::fatal(&["kmem: an exception came out of operator new, and there is no C++ library to catch it"]);
    }
    // SAFETY: the C++ library's functions: one takes the exception, the other nothing.
    unsafe {
        core::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void) -> *mut c_void>(begin)(exception);
        core::mem::transmute::<*mut c_void, extern "C" fn()>(end)();
    }
}

/// Memory from `get`, or the handler and once more, or `std::bad_alloc`.
macro_rules! throwing {
    ($(#[$attribute:meta])* $visible:vis $name:ident, $get:path) => {
        $(#[$attribute])*
        ///
        /// # Safety
        /// As in C++.
        #[unsafe(naked)]
        $visible unsafe extern "C" fn $name(size: usize, align: usize) -> *mut c_void {
            throwing_body!($get)
        }
    };
}

throwing! {
    /// What [`_Znwm`] does where the slot of its CPU has no object.
    plain_slow, plain
}
throwing! {
    /// `operator new(size_t, align_val_t)`
    #[unsafe(no_mangle)]
    pub _ZnwmSt11align_val_t, aligned
}

/// `operator new(size_t)`
///
/// # Safety
/// As in C++.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _Znwm(size: usize) -> *mut c_void {
    kmem_linux::__entry_alloc!(plain_by_id)
}

/// The same by concurrency id.
#[unsafe(naked)]
unsafe extern "C" fn plain_by_id(size: usize) -> *mut c_void {
    kmem_linux::__entry_alloc_by_id!(plain_counted)
}

/// The same while a profile counts.
#[unsafe(naked)]
unsafe extern "C" fn plain_counted(size: usize) -> *mut c_void {
    kmem_linux::__entry_alloc_counted!(plain_slow)
}

/// `operator delete(void*)`
///
/// # Safety
/// As in C++.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZdlPv(address: *mut c_void) {
    kmem_linux::__entry_free!(delete_by_id)
}

/// The same by concurrency id.
#[unsafe(naked)]
unsafe extern "C" fn delete_by_id(address: *mut c_void) {
    kmem_linux::__entry_free_by_id!(delete_slow)
}

/// The same, where the slot of the CPU takes no object, or the address has no class.
#[inline(never)]
unsafe extern "C" fn delete_slow(address: *mut c_void) {
    if let Some(address) = NonNull::new(address.cast()) {
        checks::freed_as(address.as_ptr(), Form::New);
        // SAFETY: the caller's promise.
        unsafe { general::free_missed(address) }
    }
}

/// `operator delete(void*, align_val_t)`
///
/// # Safety
/// As in C++.
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn _ZdlPvSt11align_val_t(address: *mut c_void, align: usize) {
    kmem_linux::__entry_free!(delete_by_id)
}

/// Forms that are another form under a further name, or with further arguments after those that it needs.
macro_rules! jumps {
    ($($(#[$doc:meta])* $name:ident -> $basic:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As in C++.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name() {
            jump_body!($basic)
        }
    )*};
}

jumps! {
    /// `operator delete(void*, nothrow_t const&)`
    _ZdlPvRKSt9nothrow_t -> "_ZdlPv";
    /// `operator delete[](void*, nothrow_t const&)`
    _ZdaPvRKSt9nothrow_t -> "_ZdaPv";
    /// `operator delete(void*, align_val_t, nothrow_t const&)`
    _ZdlPvSt11align_val_tRKSt9nothrow_t -> "_ZdlPvSt11align_val_t";
    /// `operator delete[](void*, align_val_t, nothrow_t const&)`
    _ZdaPvSt11align_val_tRKSt9nothrow_t -> "_ZdaPvSt11align_val_t";
}

/// `new[]`: jumps as well, but where memory is checked it is noted that the memory is an array's.
macro_rules! announced {
    ($($(#[$doc:meta])* $name:ident -> $basic:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As in C++.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name() {
            announced_body!($basic)
        }
    )*};
}

/// Returns what is an array's.
extern "C" fn array(address: *mut c_void) -> *mut c_void {
    checks::allocated_as(address.cast(), Form::Array);
    address
}

announced! {
    /// `operator new[](size_t)`
    _Znam -> "_Znwm";
    /// `operator new[](size_t, align_val_t)`
    _ZnamSt11align_val_t -> "_ZnwmSt11align_val_t";
}

/// Sized forms and `delete[]`: jumps as well, but where memory is checked it is looked at before whether size and form
/// are right.
macro_rules! looking {
    ($($(#[$doc:meta])* $name:ident -> $check:path, $basic:literal, $($first:expr)?;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As in C++.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name() {
            looking_body!($basic, $check, $($first)?)
        }
    )*};
}

/// Ends the program where memory is checked and has not this size.
extern "C" fn check(address: *mut c_void, size: usize) {
    checks::check_size(address.cast(), size);
}

/// Ends the program where memory is checked and is no array's.
extern "C" fn check_array(address: *mut c_void) {
    checks::freed_as(address.cast(), Form::Array);
}

looking! {
    /// `operator delete[](void*)`
    _ZdaPv -> check_array, "_ZdlPv",;
    /// `operator delete[](void*, align_val_t)`
    _ZdaPvSt11align_val_t -> check_array, "_ZdlPvSt11align_val_t",;
    /// `operator delete(void*, size_t)`
    _ZdlPvm -> check, "_ZdlPv",;
    /// `operator delete[](void*, size_t)`
    _ZdaPvm -> check, "_ZdaPv",;
    /// `operator delete(void*, size_t, align_val_t)`
    _ZdlPvmSt11align_val_t -> check, "_ZdlPvSt11align_val_t", align_is_second!();
    /// `operator delete[](void*, size_t, align_val_t)`
    _ZdaPvmSt11align_val_t -> check, "_ZdaPvSt11align_val_t", align_is_second!();
}

/// What the unwinder asks about the frame of a nothrow form: it catches everything but a forced unwind (a thread that
/// is canceled).
extern "C" fn personality(_version: i32, actions: i32, _class: u64, exception: usize, context: *mut c_void) -> i32 {
    const SEARCH: i32 = 1;
    const HANDLER_FRAME: i32 = 4;
    const FORCED: i32 = 8;
    const HANDLER_FOUND: i32 = 6;
    const INSTALL_CONTEXT: i32 = 7;
    const CONTINUE: i32 = 8;
    /// The number of the first register of results in unwind tables.
    const RESULT: i32 = 0;
    if actions & FORCED != 0 {
        return CONTINUE;
    }
    if actions & SEARCH != 0 {
        return HANDLER_FOUND;
    }
    if actions & HANDLER_FRAME == 0 {
        return CONTINUE;
    }
    let set_register = weak!("_Unwind_SetGR", c"libgcc_s.so.1", c"_Unwind_SetGR");
    let set_address = weak!("_Unwind_SetIP", c"libgcc_s.so.1", c"_Unwind_SetIP");
    if set_register.is_null() || set_address.is_null() {
        sys::fatal(&["kmem: an exception came out of operator new, and its unwinder is not to be found"]);
    }
    // SAFETY: these are the functions of the unwinder that asks; the context is its own; the landing pad is in the
    // frame that it asks about.
    unsafe {
        core::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void, i32, usize)>(set_register)(
            context, RESULT, exception,
        );
        core::mem::transmute::<*mut c_void, extern "C" fn(*mut c_void, usize)>(set_address)(context, landing_pad());
    }
    INSTALL_CONTEXT
}

/// Calls the form whose address a nothrow form has put into a register, with the arguments as they are; returns null
/// where it throws.
///
/// # Safety
/// Jumped to by the nothrow forms only.
#[unsafe(naked)]
unsafe extern "C" fn nothrow() {
    nothrow_body!()
}

macro_rules! catching {
    ($($(#[$doc:meta])* $name:ident -> $basic:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// # Safety
        /// As in C++.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name() {
            catching_body!($basic)
        }
    )*};
}

catching! {
    /// `operator new(size_t, nothrow_t const&)`
    _ZnwmRKSt9nothrow_t -> "_Znwm";
    /// `operator new[](size_t, nothrow_t const&)`
    _ZnamRKSt9nothrow_t -> "_Znam";
    /// `operator new(size_t, align_val_t, nothrow_t const&)`
    _ZnwmSt11align_val_tRKSt9nothrow_t -> "_ZnwmSt11align_val_t";
    /// `operator new[](size_t, align_val_t, nothrow_t const&)`
    _ZnamSt11align_val_tRKSt9nothrow_t -> "_ZnamSt11align_val_t";
}
