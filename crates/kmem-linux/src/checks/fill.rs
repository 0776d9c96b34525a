//! What stands in memory that no object uses, and whether it still stands there.
//!
//! ```text
//! secure   free: zeros                     after an object: a zero, then secret bytes
//! debug    free: 0x6b, the last one 0xa5   around an object: 0xcc; in a new object: 0x5a     (as in SLUB)
//! ```
//! The secret is drawn when the process starts, so that an overflow cannot write what is expected. It begins with a
//! zero, so that a string that lacks its end does not tell the rest.

use kmem_core::sync::{AtomicU32, AtomicU64, Ordering};

/// A byte for each free byte, and the one that ends free memory, where poison is wanted.
pub(super) const POISON_FREE: u8 = 0x6b;
/// What a new object reads as, where poison is wanted.
pub(super) const POISON_NEW: u8 = 0x5a;
/// What stands around an object, where red zones are wanted.
pub(super) const RED: u8 = 0xcc;

/// What is around objects, by address modulo 8.
static SECRET: AtomicU64 = AtomicU64::new(0);

/// Whether that is [`RED`] everywhere.
static IS_RED: AtomicU32 = AtomicU32::new(0);

/// Chooses what stands around objects: a secret, or [`RED`].
pub(super) fn begin(secret: Option<u64>) {
    SECRET.store(secret.unwrap_or(u64::from_ne_bytes([RED; 8])), Ordering::Relaxed);
    IS_RED.store(u32::from(secret.is_none()), Ordering::Relaxed);
}

/// The byte that stands just after an object.
pub(super) fn first_after() -> u8 {
    if IS_RED.load(Ordering::Relaxed) != 0 { RED } else { 0 }
}

/// The byte that stands around an object which ends at `end`.
pub(super) fn expected(at: usize, end: usize) -> u8 {
    if at == end { first_after() } else { SECRET.load(Ordering::Relaxed).to_le_bytes()[at & 7] }
}

/// Writes what stands around objects into a range.
///
/// # Safety
/// The range is the caller's.
pub(super) unsafe fn put_around(from: usize, to: usize) {
    let secret = SECRET.load(Ordering::Relaxed);
    let mut at = from;
    // SAFETY: the caller's promise; words are written where they are aligned.
    unsafe {
        while at < to && at & 7 != 0 {
            (at as *mut u8).write(secret.to_le_bytes()[at & 7]);
            at += 1;
        }
        while at + 8 <= to {
            (at as *mut u64).write(secret);
            at += 8;
        }
        while at < to {
            (at as *mut u8).write(secret.to_le_bytes()[at & 7]);
            at += 1;
        }
    }
}

/// The first address of a range at which something else stands than around objects.
///
/// # Safety
/// The range may be read.
pub(super) unsafe fn spoilt_around(from: usize, to: usize) -> Option<usize> {
    // SAFETY: the caller's promise.
    unsafe { spoilt(from, to, SECRET.load(Ordering::Relaxed)) }
}

/// The first address of a range at which another byte stands.
///
/// # Safety
/// The range may be read.
pub(super) unsafe fn spoilt_fill(from: usize, to: usize, byte: u8) -> Option<usize> {
    // SAFETY: the caller's promise.
    unsafe { spoilt(from, to, u64::from_ne_bytes([byte; 8])) }
}

/// The first address of a range whose byte is not that of `pattern` at the address modulo 8.
///
/// # Safety
/// The range may be read.
unsafe fn spoilt(from: usize, to: usize, pattern: u64) -> Option<usize> {
    let mut at = from;
    let bytes = pattern.to_le_bytes();
    // SAFETY: the caller's promise; words are read where they are aligned.
    unsafe {
        let byte_is_spoilt = |at: usize| (at as *const u8).read() != bytes[at & 7];
        while at < to && at & 7 != 0 {
            if byte_is_spoilt(at) {
                return Some(at);
            }
            at += 1;
        }
        let word = |at: usize| (at as *const u64).read() ^ pattern;
        while at + 64 <= to && (0..64).step_by(8).fold(0, |seen, offset| seen | word(at + offset)) == 0 {
            at += 64;
        }
        while at + 8 <= to && (at as *const u64).read() == pattern {
            at += 8;
        }
        while at < to {
            if byte_is_spoilt(at) {
                return Some(at);
            }
            at += 1;
        }
    }
    None
}
