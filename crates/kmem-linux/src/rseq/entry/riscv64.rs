//! malloc and free where there are no sections: they leave all to the slow paths.

/// The body of a naked function `(size) -> address` that jumps to `$slow`.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_alloc {
    ($slow:path) => {
        core::arch::naked_asm!(".cfi_startproc", "tail {slow}", ".cfi_endproc", slow = sym $slow)
    };
}

/// The same.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_alloc_by_id {
    ($slow:path) => {
        $crate::__entry_alloc!($slow)
    };
}

/// The body of a naked function `(address)` that jumps to `$slow`.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_free {
    ($slow:path) => {
        $crate::__entry_alloc!($slow)
    };
}

/// The same.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_free_by_id {
    ($slow:path) => {
        $crate::__entry_alloc!($slow)
    };
}

/// The same while a profile counts: here the ordinary function does that.
#[doc(hidden)]
#[macro_export]
macro_rules! __entry_alloc_counted {
    ($slow:path) => {
        $crate::__entry_alloc!($slow)
    };
}
