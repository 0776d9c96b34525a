//! Address space and memory.
//!
//! # Held and claimed windows
//! Objects live in one window, filled from the bottom. Usually the window is *held*: one mapping without rights that costs no memory and
//! keeps everybody else out; committing a piece gives it its rights.
//!
//! Under a limit of address space (`RLIMIT_AS`) such a mapping would use the limit up. There nothing is held, and the window is *claimed*: only a
//! place is chosen, far from where the kernel puts mappings by itself, and each piece is mapped when it is committed, in such a way that
//! an existing mapping refuses it. The same serves where the kernel grants no large reservation. A program that lowers its own limit later keeps what is held; it
//! finds less room for mappings of its own than it may expect.
//!
//! # Memory
//! Committed and mapped memory is anonymous, so it is zero at first, and again after [`purge`](Window::purge) (MADV_DONTNEED). The window is aligned to 2 MiB,
//! so that pieces of that size can become huge pages.

use core::ptr::NonNull;

use kmem_core::platform::{self, CommitError};
use kmem_core::sync::{AtomicU32, Ordering};

use super::fault::{self, Call};
use super::sys::{self, Errno, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE_ANON, PROT_NONE, PROT_READ, PROT_WRITE};

/// Bytes of a page. x86-64 has no other base page.
pub const PAGE: usize = 4096;
const ALIGN: usize = 2 << 20;
const LARGEST: usize = 1 << 40;
const SMALLEST: usize = 64 << 30;
const READ_WRITE: usize = PROT_READ | PROT_WRITE;

/// Places for a claimed window: between where executables are and where the kernel puts mappings, and apart from
/// where address sanitizers keep their shadow. Each may be moved up by [`SPREAD`].
const PLACES: [usize; 4] = [0x3000_0000_0000, 0x2400_0000_0000, 0x4000_0000_0000, 0x6000_0000_0000];
/// Up to 4 TiB, in steps of 2 MiB: the address says little to an attacker, as with other mappings.
const SPREAD: usize = (1 << 42) - 1;

/// How the engine's window is kept; claimed, until a reservation was made.
#[derive(Default)]
pub struct Window {
    /// 1 where it is held.
    held: AtomicU32,
}

impl Window {
    /// Chooses the window.
    pub fn reserve(&self) -> Option<platform::Window> {
        if let Some(limit) = sys::address_space_limit() {
            return claim(limit.min(LARGEST).next_multiple_of(ALIGN));
        }
        let lengths = core::iter::successors(Some(LARGEST), |len| (*len > SMALLEST).then_some(len / 2));
        match lengths.into_iter().find_map(hold) {
            Some(window) => {
                self.held.store(1, Ordering::Release);
                Some(window)
            }
            None => claim(SMALLEST),
        }
    }

    /// Makes a piece of the window usable.
    ///
    /// # Safety
    /// The range is inside the window and was not committed before.
    pub unsafe fn commit(&self, addr: usize, len: usize) -> Result<(), CommitError> {
        if fault::refused(Call::Commit) {
            return Err(CommitError::NoMemory);
        }
        // SAFETY: a held range is ours; a claimed one is taken only where nothing is.
        unsafe {
            if self.held.load(Ordering::Acquire) == 0 {
                return map_at(addr, len, READ_WRITE, 0);
            }
            sys::mprotect(addr, len, READ_WRITE).map(drop).map_err(|_| CommitError::NoMemory)
        }
    }

    /// Gives the memory of committed pages back.
    ///
    /// # Safety
    /// The range is committed and holds nothing anybody needs.
    pub unsafe fn purge(&self, addr: usize, len: usize) {
        // SAFETY: the caller's promise.
        if unsafe { sys::madvise_dontneed(addr, len) }.is_err() {
            // Locked pages are refused. They are zeroed in place: what is purged reads as zero afterwards.
            // SAFETY: as above, and committed memory is writable.
            unsafe { core::ptr::write_bytes(addr as *mut u8, 0, len) };
        }
    }
}

/// Maps memory anywhere.
pub fn map(len: usize) -> Option<NonNull<u8>> {
    if fault::refused(Call::Map) {
        return None;
    }
    // SAFETY: a new mapping harms nobody.
    let address = unsafe { sys::mmap(0, len.next_multiple_of(PAGE), READ_WRITE, MAP_PRIVATE_ANON) }.ok()?;
    NonNull::new(address as *mut u8)
}

/// Ends a mapping of [`map`] or [`remap`].
///
/// # Safety
/// `ptr` and `len` are those of the mapping, and nobody uses it any more.
pub unsafe fn unmap(ptr: NonNull<u8>, len: usize) {
    // SAFETY: the caller's promise. A refusal (too many mappings) leaves the range mapped, which costs memory and harms nothing.
    let _ = unsafe { sys::munmap(ptr.as_ptr() as usize, len.next_multiple_of(PAGE)) };
}

/// Resizes a mapping of [`map`], which may move; `None` leaves it as it was.
///
/// # Safety
/// `ptr` and `old` are those of the mapping, and nobody uses its old address if the call succeeds.
pub unsafe fn remap(ptr: NonNull<u8>, old: usize, new: usize) -> Option<NonNull<u8>> {
    if fault::refused(Call::Map) {
        return None;
    }
    // SAFETY: the caller's promise.
    let address = unsafe { sys::mremap(ptr.as_ptr() as usize, old.next_multiple_of(PAGE), new.next_multiple_of(PAGE)) };
    NonNull::new(address.ok()? as *mut u8)
}

/// Maps a window without rights, aligned.
fn hold(len: usize) -> Option<platform::Window> {
    if fault::refused(Call::Reserve) {
        return None;
    }
    // SAFETY: a new mapping harms nobody; what is cut off was never used.
    unsafe {
        let start = sys::mmap(0, len + ALIGN, PROT_NONE, MAP_PRIVATE_ANON | MAP_NORESERVE).ok()?;
        let base = start.next_multiple_of(ALIGN);
        if base > start {
            let _ = sys::munmap(start, base - start);
        }
        let _ = sys::munmap(base + len, start + ALIGN - base);
        Some(platform::Window { base, len })
    }
}

/// Chooses a place of `len` bytes whose two ends are free.
fn claim(len: usize) -> Option<platform::Window> {
    let spread = random() & SPREAD;
    let place = |place: &usize| {
        let base = (place + spread) & !(ALIGN - 1);
        (is_free(base) && is_free(base + len - PAGE)).then_some(platform::Window { base, len })
    };
    PLACES.iter().find_map(place)
}

fn is_free(addr: usize) -> bool {
    // SAFETY: maps a page only where nothing is, and ends just that mapping.
    unsafe { map_at(addr, PAGE, PROT_NONE, MAP_NORESERVE).is_ok() && sys::munmap(addr, PAGE).is_ok() }
}

/// Maps memory at `addr`, if nothing is mapped there.
///
/// # Safety
/// The range is free, or else belongs to somebody who keeps it.
unsafe fn map_at(addr: usize, len: usize, prot: usize, more: usize) -> Result<(), CommitError> {
    // SAFETY: an existing mapping is not replaced.
    unsafe {
        match sys::mmap(addr, len, prot, MAP_PRIVATE_ANON | MAP_FIXED_NOREPLACE | more) {
            Ok(mapped) if mapped == addr => Ok(()),
            Ok(elsewhere) => {
                // An old kernel took the address for a hint.
                let _ = sys::munmap(elsewhere, len);
                Err(CommitError::Taken)
            }
            Err(Errno::EXIST) => Err(CommitError::Taken),
            Err(_) => Err(CommitError::NoMemory),
        }
    }
}

/// Some bits that differ from process to process: the stack's place is chosen by the kernel at random.
fn random() -> usize {
    let here = 0u8;
    ((&raw const here).addr() >> 4).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 8
}
