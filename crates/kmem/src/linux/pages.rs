//! Address space and memory.
//!
//! # The window is claimed, not held
//! Objects live in one window of a terabyte, filled from the bottom. Nothing is mapped there beforehand: only a place
//! is chosen, far from where the kernel puts mappings by itself, and each piece is mapped when it is committed, in such
//! a way that an existing mapping refuses it (the engine then goes on behind the obstacle). So the process's size
//! is what it uses, limits of address space hold and leave room for others whenever they are set, and strict overcommit
//! counts no more than what is there. Under a limit at the start the window is as large as the limit, so that its class
//! map is small too.
//!
//! # Memory
//! Committed and mapped memory is anonymous, so it is zero at first, and again after [`purge`] (MADV_DONTNEED). The
//! window is aligned to 2 MiB, so that pieces of that size can become [huge](super::huge) pages.

use core::ptr::NonNull;

use kmem_core::platform::{CommitError, MoveError, Window};
use kmem_core::sync::{AtomicU32, Ordering};

use super::fault::{self, Call};
use super::sys::{self, Errno, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE_ANON, PROT_NONE, PROT_READ, PROT_WRITE};
use super::{first, huge};

/// Bytes of a page. x86-64 has no other base page.
pub const PAGE: usize = 4096;
const ALIGN: usize = huge::STEP;
/// Bytes of the largest window.
pub(super) const LARGEST: usize = 1 << 40;
const READ_WRITE: usize = PROT_READ | PROT_WRITE;

/// Places for a claimed window: between where executables are and where the kernel puts mappings, and apart from
/// where address sanitizers keep their shadow. Each may be moved up by [`SPREAD`].
const PLACES: [usize; 4] = [0x3000_0000_0000, 0x2400_0000_0000, 0x4000_0000_0000, 0x6000_0000_0000];
/// Up to 4 TiB, in steps of 2 MiB: the address says little to an attacker, as with other mappings.
const SPREAD: usize = (1 << 42) - 1;

/// Whether the window is at a place that the kernel chose.
static KERNEL_CHOSE: AtomicU32 = AtomicU32::new(0);

/// Chooses the window.
pub fn reserve() -> Option<Window> {
    if fault::refused(Call::Reserve) {
        return None;
    }
    let window = claim(sys::address_space_limit().unwrap_or(LARGEST).min(LARGEST).next_multiple_of(ALIGN))?;
    huge::begin();
    Some(window)
}

/// Makes a piece of the window usable.
///
/// # Safety
/// The range is inside the window and is not committed.
pub unsafe fn commit(addr: usize, len: usize) -> Result<(), CommitError> {
    if fault::refused(Call::Commit) {
        return Err(CommitError::NoMemory);
    }
    // SAFETY: passed on; taken only where nothing is.
    unsafe { map_at(addr, len, READ_WRITE, 0)? }
    huge::committed(addr, len);
    Ok(())
}

/// Gives the memory of committed pages back.
///
/// # Safety
/// The range is committed and holds nothing anybody needs.
pub unsafe fn purge(addr: usize, len: usize) {
    huge::about_to_purge(addr, len);
    // SAFETY: the caller's promise.
    if unsafe { sys::madvise_dontneed(addr, len) }.is_err() {
        // Locked pages are refused. They are zeroed in place: what is purged reads as zero afterwards.
        // SAFETY: as above, and committed memory is writable.
        unsafe { core::ptr::write_bytes(addr as *mut u8, 0, len) };
    }
}

/// Gives committed pages back, address space and all.
///
/// # Safety
/// As for [`purge`].
#[cold]
pub unsafe fn uncommit(addr: usize, len: usize) {
    // What was huge is not any more; there is nothing that could be huge afterwards.
    huge::about_to_purge(addr, len);
    // SAFETY: passed on.
    if unsafe { sys::munmap(addr, len) }.is_err() {
        // Too many mappings to split one more: an empty mapping takes its place, or nothing does.
        // SAFETY: passed on; the pages stay ours, and will refuse to be committed, which is an obstacle like any other.
        unsafe { purge(addr, len) };
    }
}

/// Moves committed pages to another, longer committed range, by mremap.
///
/// The kernel moves and lengthens one mapping, whole or not at all, and refuses a range that is several: then the caller
/// copies. (With equal lengths a kernel from 6.17 on moves several mappings, and may stop in between.)
///
/// It ends the mapping at `to` first. If it refuses after that, a mapping is put there again, where nothing is: in a
/// window at a place of ours nobody else's mapping comes to lie there meanwhile. In one that the kernel chose it could,
/// so there nothing is moved.
///
/// # Safety
/// Both ranges are committed and apart from each other, nobody uses them meanwhile, and what is at `to` is not needed.
/// `longer` is more than `len`.
#[cold]
pub unsafe fn move_pages(from: usize, len: usize, to: usize, longer: usize) -> Result<(), MoveError> {
    debug_assert!(longer > len);
    if KERNEL_CHOSE.load(Ordering::Relaxed) != 0 || fault::refused(Call::Move) {
        return Err(MoveError::Refused);
    }
    huge::about_to_purge(to, longer);
    // SAFETY: passed on.
    unsafe {
        if sys::mremap_fixed(from, len, to, longer) == Ok(to) {
            return Ok(());
        }
        match map_at(to, longer, READ_WRITE, 0) {
            // Taken: the mapping is still there.
            Ok(()) | Err(CommitError::Taken) => Err(MoveError::Refused),
            Err(CommitError::NoMemory) => Err(MoveError::Lost),
        }
    }
}

/// Maps memory anywhere.
pub fn map(len: usize) -> Option<NonNull<u8>> {
    if fault::refused(Call::Map) {
        return None;
    }
    first::take(len).or_else(|| {
        // SAFETY: a new mapping harms nobody.
        let address = unsafe { sys::mmap(0, len.next_multiple_of(PAGE), READ_WRITE, MAP_PRIVATE_ANON) }.ok()?;
        NonNull::new(address as *mut u8)
    })
}

/// Ends a mapping of [`map`].
///
/// # Safety
/// `ptr` and `len` are those of the mapping, and nobody uses it any more.
pub unsafe fn unmap(ptr: NonNull<u8>, len: usize) {
    let (address, len) = (ptr.as_ptr() as usize, len.next_multiple_of(PAGE));
    // SAFETY: the caller's promise. A refusal (too many mappings, locked pages) leaves the memory where it is, which harms
    // nothing.
    let _ = unsafe { if first::has(ptr) { sys::madvise_dontneed(address, len) } else { sys::munmap(address, len) } };
}

/// Chooses a place of `len` bytes whose two ends are free.
fn claim(len: usize) -> Option<Window> {
    let spread = random() & SPREAD;
    let place = |place: &usize| {
        let base = (place + spread) & !(ALIGN - 1);
        (sys::is_unmapped(base) && sys::is_unmapped(base + len - PAGE)).then_some(Window { base, len })
    };
    PLACES.iter().find_map(place).or_else(|| anywhere(len))
}

/// Where all places are taken (a sanitizer's shadow): wherever the kernel would put a mapping of this length.
fn anywhere(len: usize) -> Option<Window> {
    // SAFETY: a new mapping harms nobody, and just that one is ended.
    let start = unsafe {
        let start = sys::mmap(0, len + ALIGN, PROT_NONE, MAP_PRIVATE_ANON | MAP_NORESERVE).ok()?;
        let _ = sys::munmap(start, len + ALIGN);
        start
    };
    KERNEL_CHOSE.store(1, Ordering::Relaxed);
    Some(Window { base: start.next_multiple_of(ALIGN), len })
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

/// Some bits that differ from process to process, and between two copies of this code in one: the kernel chooses at
/// random where the stack and the code are.
fn random() -> usize {
    let here = 0u8;
    let code = reserve as fn() -> Option<Window> as usize;
    ((&raw const here).addr() ^ code.rotate_left(20)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 8
}
