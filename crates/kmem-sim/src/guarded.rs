//! Memory of the window that is not committed must not be touched. The address sanitizer (`--cfg asan`, see
//! `.ci/sanitize`) reports whoever does; elsewhere nobody looks.

#[cfg(asan)]
unsafe extern "C" {
    /// From here on the range must not be touched.
    safe fn __asan_poison_memory_region(address: usize, len: usize);
    /// It may be touched again.
    safe fn __asan_unpoison_memory_region(address: usize, len: usize);
}

/// From here on nobody may touch these bytes.
pub(crate) fn forbid(_address: usize, _len: usize) {
    #[cfg(asan)]
    __asan_poison_memory_region(_address, _len);
}

/// They may be touched again.
pub(crate) fn allow(_address: usize, _len: usize) {
    #[cfg(asan)]
    __asan_unpoison_memory_region(_address, _len);
}
