//! Which pages of the window are committed. Committing one twice, or uncommitting one that is not committed, breaks the
//! contract of the page source and panics. An access to memory that is not committed is reported by the address
//! sanitizer (`--cfg asan`, see `.ci/sanitize`), and not checked otherwise.

use std::sync::Mutex;

use crate::tsan_lock::taken;

pub(crate) const PAGE: usize = 4096;

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
    /// Whether a page is committed.
    pages: Mutex<Vec<bool>>,
}

impl Guarded {
    pub(crate) fn new(base: usize, len: usize) -> Self {
        forbid(base, len);
        Self { base, pages: Mutex::new(vec![false; len / PAGE]) }
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
        self.set(addr, len, false);
        forbid(addr, len);
    }

    #[track_caller]
    fn set(&self, addr: usize, len: usize, committed: bool) {
        let first = (addr - self.base) / PAGE;
        for page in &mut taken(&self.pages)[first..first + len / PAGE] {
            assert_ne!(*page, committed, "committed twice, or uncommitted without being committed");
            *page = committed;
        }
    }

    /// Panics unless the range is committed.
    #[track_caller]
    pub(crate) fn expect_committed(&self, addr: usize, len: usize) {
        let first = (addr - self.base) / PAGE;
        assert!(taken(&self.pages)[first..first + len / PAGE].iter().all(|page| *page), "it is not committed");
    }

    /// Bytes that are committed.
    pub(crate) fn committed(&self) -> usize {
        taken(&self.pages).iter().filter(|page| **page).count() * PAGE
    }

    /// Makes the whole window accessible again, before it is dropped.
    pub(crate) fn open(&self) {
        allow(self.base, taken(&self.pages).len() * PAGE);
    }
}
