//! A hint that `core::hint` has since Rust 1.95 only, made of what older compilers know.

/// The branch that this stands in is seldom taken: a call of a cold function is unlikely, and this one does nothing.
#[cold]
#[inline]
pub const fn cold_path() {}
