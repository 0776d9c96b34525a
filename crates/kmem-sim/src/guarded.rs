//! Which pages of the window are committed. Committing one twice, uncommitting one that is not committed, or less than
//! a page, breaks the contract of the page source and panics. An access to memory that is not committed is reported by
//! the address sanitizer (`--cfg asan`, see `.ci/sanitize`), and not checked otherwise.

use std::ops::Range;
use std::sync::Mutex;

use kmem_core::pages::GRANULE;

use crate::tsan_lock::taken;

#[cfg(asan)]
unsafe extern "C" {
    /// From here on the range must not be accessed.
    safe fn __asan_poison_memory_region(address: usize, len: usize);
    /// The range may be accessed again.
    safe fn __asan_unpoison_memory_region(address: usize, len: usize);
}

/// From here on these bytes must not be accessed.
fn forbid(_address: usize, _len: usize) {
    #[cfg(asan)]
    __asan_poison_memory_region(_address, _len);
}

/// These bytes may be accessed again.
fn allow(_address: usize, _len: usize) {
    #[cfg(asan)]
    __asan_unpoison_memory_region(_address, _len);
}

/// A window, in which nothing is committed at first.
pub(crate) struct Guarded {
    base: usize,
    page: usize,
    /// What is committed or not: a page, or a granule where that is smaller.
    piece: usize,
    /// Whether a piece is committed.
    pieces: Mutex<Vec<bool>>,
}

impl Guarded {
    pub(crate) fn new(base: usize, len: usize, page: usize) -> Self {
        forbid(base, len);
        let piece = page.min(GRANULE);
        Self { base, page, piece, pieces: Mutex::new(vec![false; len / piece]) }
    }

    /// The range is committed from here on.
    #[track_caller]
    pub(crate) fn commit(&self, addr: usize, len: usize) {
        self.set(addr, len, true);
        allow(addr, len);
    }

    /// The range is no longer committed.
    #[track_caller]
    pub(crate) fn uncommit(&self, addr: usize, len: usize) {
        assert!(self.are_whole(addr, len), "uncommitted by less than a page");
        self.set(addr, len, false);
        forbid(addr, len);
    }

    #[track_caller]
    fn set(&self, addr: usize, len: usize, committed: bool) {
        for piece in &mut taken(&self.pieces)[self.pieces_of(addr, len)] {
            assert_ne!(*piece, committed, "committed twice, or uncommitted without being committed");
            *piece = committed;
        }
    }

    #[track_caller]
    fn pieces_of(&self, addr: usize, len: usize) -> Range<usize> {
        let at = addr - self.base;
        assert!(at.is_multiple_of(self.piece) && len.is_multiple_of(self.piece), "{len} bytes from {at} on");
        at / self.piece..(at + len) / self.piece
    }

    /// Whether the range is one of whole pages.
    pub(crate) fn are_whole(&self, addr: usize, len: usize) -> bool {
        (addr - self.base).is_multiple_of(self.page) && len.is_multiple_of(self.page)
    }

    /// Panics unless the range is committed.
    #[track_caller]
    pub(crate) fn expect_committed(&self, addr: usize, len: usize) {
        assert!(taken(&self.pieces)[self.pieces_of(addr, len)].iter().all(|piece| *piece), "it is not committed");
    }

    /// Bytes that are committed.
    pub(crate) fn committed(&self) -> usize {
        taken(&self.pieces).iter().filter(|piece| **piece).count() * self.piece
    }

    /// Makes the whole window accessible again, before it is dropped.
    pub(crate) fn open(&self) {
        allow(self.base, taken(&self.pieces).len() * self.piece);
    }
}
