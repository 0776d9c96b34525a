//! The sizes that memory goes by: pages, steps, and the window.

/// Bytes of a page. x86-64 has no other base page.
pub(crate) const PAGE: usize = 4096;
/// Bytes of a huge page, and of the steps in which the window is committed.
pub(crate) const HUGE_PAGE: usize = 2 << 20;
/// Bytes of the largest window.
pub(crate) const WINDOW_MAX: usize = 1 << 40;
