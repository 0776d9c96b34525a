//! Address space and memory.
//!
//! # The window is claimed, not held
//! Objects live in one window of a terabyte, filled from the bottom. Nothing is mapped there beforehand: only a place
//! is chosen, far from where the kernel puts mappings by itself, and each piece is mapped when it is committed, in such
//! a way that an existing mapping refuses it (the engine then goes on after the obstacle). So the process's size
//! is what it uses, limits of address space hold and leave room for others whenever they are set, and strict overcommit
//! counts no more than what is there. Under a limit at the start the window is as large as the limit.
//!
//! # Small address spaces
//! A place counts only if a page can be mapped at its end: there may be no such address. Where no place for a terabyte
//! counts there is one for 64 GiB; and at last the kernel is asked where it would put a mapping of that length, or of
//! half of it, and so on.
//!
//! # Large pages
//! With pages of 64 KiB four granules share one. What is released there is the pages that lie in the range as a whole;
//! the rest is zeroed, which is what the engine counts on. Steps are multiples of any page, so all that is committed is
//! whole pages.
//!
//! # Memory
//! Committed and mapped memory is anonymous, so it is zero at first, and again after [`purge`] (MADV_DONTNEED).
//!
//! # The place is random
//! Where the window begins varies by 31 bits from run to run, as where mappings begin does: by whole steps of 2 MiB,
//! and by granules in them. The engine commits up to the ends of steps, so that these can become [huge] pages.

use core::ptr::NonNull;

use kmem_core::pages::GRANULE;
use kmem_core::platform::{CommitError, MoveError, Window};
use kmem_core::sync::{AtomicU32, Ordering};

use super::fault::{self, Call};
use super::geometry::{HUGE_PAGE, WINDOW_MAX, page};
use super::sys::{self, Errno, MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_PRIVATE_ANON, PROT_NONE, PROT_READ, PROT_WRITE};
use super::{bootstrap, environment, huge};

/// What a window begins at multiples of, and is long by.
const ALIGN: usize = HUGE_PAGE;
const READ_WRITE: usize = PROT_READ | PROT_WRITE;

/// Places for a claimed window, and how far up from there it may begin: between where executables are (from
/// 0x5555_5555_4000 on, and below 4 GiB) and where the kernel puts mappings (downwards from the end of address space,
/// or with unlimited stacks upwards from 0x2AAA_AAAA_A000, each less a random part of a terabyte), and below the 47
/// bits that a program has without asking for more. An address sanitizer keeps its shadow below 0x1000_8000_0000;
/// others are in the way of the first places, and leave one of the later ones.
const PLACES: [(usize, usize); 4] = [
    (0x3000_0000_0000, 1 << 45),
    (0x2400_0000_0000, 1 << 42),
    (0x4000_0000_0000, 1 << 44),
    (0x6000_0000_0000, 1 << 42),
];
/// The place of a small window, and how far up from there it may begin, for address spaces of 38 bits and more (RISC-V
/// with three levels of page tables; arm64 may have 39 or 42): below where executables are there, at two thirds.
const SMALL_PLACE: (usize, usize) = (1 << 36, 1 << 35);
/// Bytes of that window.
const SMALL_WINDOW: usize = 1 << 36;

/// Whether the window is at a place that the kernel chose.
static KERNEL_CHOSE: AtomicU32 = AtomicU32::new(0);

/// Chooses the window.
pub(crate) fn reserve() -> Option<Window> {
    if fault::refused(Call::Reserve) {
        return None;
    }
    let window = claim(sys::address_space_limit().unwrap_or(WINDOW_MAX).min(WINDOW_MAX).next_multiple_of(ALIGN))?;
    huge::begin(window.base);
    Some(window)
}

/// Makes a piece of the window usable.
///
/// # Safety
/// The range is inside the window and is not committed.
pub(crate) unsafe fn commit(addr: usize, len: usize) -> Result<(), CommitError> {
    // Less than a step is asked for where there is no memory for one: there is none for whole pages then.
    if fault::refused(Call::Commit) || whole_pages(addr, len) != (addr, addr + len) {
        return Err(CommitError::NoMemory);
    }
    // SAFETY: passed on; taken only where nothing is.
    unsafe { map_at(addr, len, READ_WRITE, 0)? }
    huge::committed(addr, len);
    Ok(())
}

/// Releases the memory of committed pages.
///
/// # Safety
/// The range is committed and holds nothing anybody needs.
pub(crate) unsafe fn purge(addr: usize, len: usize) {
    huge::about_to_purge(addr, len);
    let (first, end) = whole_pages(addr, len);
    // What is purged reads as zero afterwards: what is no whole page is zeroed in place, and so are locked pages, which
    // are refused.
    let zero = |from: usize, to: usize| {
        // SAFETY: the caller's promise, and committed memory is writable.
        unsafe { core::ptr::write_bytes(from as *mut u8, 0, to - from) };
    };
    // SAFETY: the caller's promise.
    if first < end && unsafe { sys::madvise_dontneed(first, end - first) }.is_ok() {
        if (first, end) != (addr, addr + len) {
            zero(addr, first);
            zero(end, addr + len);
        }
    } else {
        zero(addr, addr + len);
    }
}

/// Releases committed pages, address space and all.
///
/// # Safety
/// As for [`purge`].
#[cold]
pub(crate) unsafe fn uncommit(addr: usize, len: usize) {
    // What was huge no longer is; there is nothing that could be huge afterwards.
    huge::about_to_purge(addr, len);
    // SAFETY: passed on.
    if whole_pages(addr, len) != (addr, addr + len) || unsafe { sys::munmap(addr, len) }.is_err() {
        // No whole pages, or too many mappings to split one more: an empty mapping takes its place, or nothing does.
        // SAFETY: passed on; the pages stay ours, and will refuse to be committed, which is an obstacle like any other.
        unsafe { purge(addr, len) };
    }
}

/// Moves committed pages to another, longer committed range, by mremap.
///
/// The kernel moves and lengthens one mapping, whole or not at all, and refuses a range that is several: then the
/// caller copies. (With equal lengths a kernel from 6.17 on moves several mappings, and may stop in between.)
///
/// It ends the mapping at `to` first. If it refuses after that, a mapping is put there again, where nothing is: in a
/// window at a place of ours nobody else's mapping comes to lie there meanwhile. In one that the kernel chose it could,
/// so there nothing is moved.
///
/// # Safety
/// Both ranges are committed and apart from each other, not in use meanwhile, and what is at `to` is not needed.
/// `longer` is more than `len`.
#[cold]
pub(crate) unsafe fn move_pages(from: usize, len: usize, to: usize, longer: usize) -> Result<(), MoveError> {
    debug_assert!(longer > len);
    let whole = |addr: usize, len: usize| whole_pages(addr, len) == (addr, addr + len);
    if KERNEL_CHOSE.load(Ordering::Relaxed) != 0
        || !(whole(from, len) && whole(to, longer))
        || fault::refused(Call::Move)
    {
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
pub(crate) fn map(len: usize) -> Option<NonNull<u8>> {
    if fault::refused(Call::Map) {
        return None;
    }
    bootstrap::take(len).or_else(|| {
        // SAFETY: a new mapping covers no other.
        let address = unsafe { sys::mmap(0, len.next_multiple_of(page()), READ_WRITE, MAP_PRIVATE_ANON) }.ok()?;
        NonNull::new(address as *mut u8)
    })
}

/// Ends a mapping of [`map`].
///
/// # Safety
/// `ptr` and `len` are those of the mapping, which is no longer in use.
pub(crate) unsafe fn unmap(ptr: NonNull<u8>, len: usize) {
    let (address, len) = (ptr.as_ptr() as usize, len.next_multiple_of(page()));
    // SAFETY: the caller's promise. A refusal (too many mappings, locked pages) leaves the memory where it is, which
    // harms nothing.
    let _ =
        unsafe { if bootstrap::has(ptr) { sys::madvise_dontneed(address, len) } else { sys::munmap(address, len) } };
}

/// From the first to the end of the whole pages of a range; the end is before the first where there are none.
fn whole_pages(addr: usize, len: usize) -> (usize, usize) {
    let page = page();
    (addr.next_multiple_of(page), (addr + len) & !(page - 1))
}

/// Chooses a place of `len` bytes whose two ends are free. That the steps of 2 MiB up to 32 TiB and the granules, or
/// pages, of a step are as likely as each other makes 31 bits that an attacker would have to guess (in a small address
/// space 21).
fn claim(len: usize) -> Option<Window> {
    let random = random();
    let unit = GRANULE.max(page());
    let later = (random >> 48) as usize % (ALIGN / unit) * unit;
    let place = |(from, spread): &(usize, usize), len: usize| {
        let base = from + (random as usize & (spread - 1) & !(ALIGN - 1)) + later;
        let free = sys::is_unmapped(base) && sys::is_mappable(base + len - page(), page());
        free.then_some(Window { base, len })
    };
    let small = len.min(SMALL_WINDOW);
    PLACES.iter().find_map(|at| place(at, len)).or_else(|| place(&SMALL_PLACE, small)).or_else(|| anywhere(len))
}

/// Where all places are taken (a sanitizer's shadow): wherever the kernel would put a mapping of this length, or of the
/// largest half, quarter and so on of it that it has room for.
fn anywhere(mut len: usize) -> Option<Window> {
    loop {
        // SAFETY: a new mapping covers no other, and just that one is ended.
        let made = unsafe {
            sys::mmap(0, len + ALIGN, PROT_NONE, MAP_PRIVATE_ANON | MAP_NORESERVE)
                .inspect(|start| _ = sys::munmap(*start, len + ALIGN))
        };
        if let Ok(start) = made {
            KERNEL_CHOSE.store(1, Ordering::Relaxed);
            return Some(Window { base: start.next_multiple_of(ALIGN), len });
        }
        len = (len / 2).next_multiple_of(ALIGN);
        if len <= ALIGN {
            return None;
        }
    }
}

/// Maps memory at `addr`, if nothing is mapped there.
///
/// # Safety
/// The range is free, or else belongs to a mapping that stays.
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

/// Bits that cannot be foreseen, and that differ between two copies of this code in one process: the kernel's random
/// bytes, which all of the process shares, and where this code is. libc makes its guards of stacks and pointers of the
/// same bytes; of a mix of all of them, of which an address shows 28 bits, those are not learnt.
fn random() -> u64 {
    let [one, two] = environment::random_words();
    let code = reserve as fn() -> Option<Window> as usize as u64;
    let here = 0u8;
    mixed(mixed(mixed(one ^ code) ^ two) ^ (&raw const here).addr() as u64)
}

/// Each bit of the argument changes half of the bits of the answer (the last steps of SplitMix64).
fn mixed(word: u64) -> u64 {
    let word = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ word >> 31
}
