//! What is checked, and of which caches: `KMEM_SECURE`, `KMEM_DEBUG`, and what a build says.
//!
//! ```text
//! KMEM_SECURE=1          all memory, hardened: secrets around objects, zeros in free memory, guards, quarantine
//! KMEM_DEBUG=LETTERS     all memory, for finding bugs: recognisable bytes, who allocated and freed
//! KMEM_DEBUG=LETTERS,NAME,NAME*     only of caches of these names; kmalloc-64 is the cache of a size
//!
//! F  every free looks at what it frees     Z  red zones     P  poison     Q  a long quarantine
//! U  who allocated and who freed           T  each allocation and each free on standard error
//! M  new, new[] and malloc may be mixed: no look at which of them frees (`form`)
//! ```
//! F and a short quarantine are part of all the others. A letter that is none of these is named on standard error, with
//! those that are, and the others count.

use kmem_core::sync::{AtomicU32, AtomicUsize, Ordering};

use super::fill::{self, POISON_FREE, POISON_NEW};
use crate::os::settings::{self, Setting};
use crate::os::sys;
use crate::os::text::decimal;

/// How the names of general caches begin.
const GENERAL: &str = "kmalloc-";

/// What is checked: a set of bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Options(u32);

/// All memory is hardened.
const SECURE: u32 = 1;
/// The letters, in this order, from bit 1 on.
const LETTERS: &[u8] = b"FZPUTQM";
const RED: u32 = 4;
const POISON: u32 = 8;
const USERS: u32 = 16;
const TRACE: u32 = 32;
const PATIENT: u32 = 64;
const MIXED: u32 = 128;
/// What is lost is listed at the end.
const LEAKS: u32 = 256;
/// It is looked at which function frees what another allocated.
const FORMS: u32 = 512;
/// The last byte of poisoned free memory.
const POISON_END: u8 = 0xa5;

static CHOSEN: AtomicU32 = AtomicU32::new(0);
/// The names, as the environment has them: where they begin, and how long they are.
static NAMES: AtomicUsize = AtomicUsize::new(0);
static NAMES_LEN: AtomicUsize = AtomicUsize::new(0);

impl Options {
    /// Those of this process, after [`read`].
    #[inline]
    pub(super) fn chosen() -> Self {
        Self(CHOSEN.load(Ordering::Relaxed))
    }

    pub(super) fn any(self) -> bool {
        self.0 != 0
    }

    pub(super) fn is_secure(self) -> bool {
        self.0 & SECURE != 0
    }

    pub(super) fn has_red_zones(self) -> bool {
        self.0 & RED != 0
    }

    pub(super) fn notes_users(self) -> bool {
        self.0 & USERS != 0
    }

    /// Whether what is lost is listed at the end.
    pub(super) fn lists_leaks(self) -> bool {
        self.0 & LEAKS != 0
    }

    /// Whether it is known which function allocated an object.
    pub(super) fn tells_forms(self) -> bool {
        self.0 & FORMS != 0
    }

    pub(super) fn traces(self) -> bool {
        self.0 & TRACE != 0
    }

    pub(super) fn is_patient(self) -> bool {
        self.0 & PATIENT != 0
    }

    /// Whether new memory reads as zero.
    pub(super) fn fills_with_zero(self) -> bool {
        self.is_secure() && self.0 & POISON == 0
    }

    /// Fills memory that is handed out.
    ///
    /// # Safety
    /// The range is the caller's.
    pub(super) unsafe fn fill_new(self, address: usize, size: usize) {
        if self.0 & POISON != 0 {
            // SAFETY: the caller's promise.
            unsafe { core::ptr::write_bytes(address as *mut u8, POISON_NEW, size) };
        }
    }

    /// Fills a slot that becomes free.
    ///
    /// # Safety
    /// The range is the caller's, and holds nothing that is needed.
    pub(super) unsafe fn fill_free(self, from: usize, to: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            if self.0 & POISON != 0 {
                core::ptr::write_bytes(from as *mut u8, POISON_FREE, to - from);
                ((to - 1) as *mut u8).write(POISON_END);
            } else if self.is_secure() {
                core::ptr::write_bytes(from as *mut u8, 0, to - from);
            }
        }
    }

    /// The first address of a range, part of a free slot that ends at `end`, which is not as `fill_free` left it.
    ///
    /// # Safety
    /// The range may be read.
    pub(super) unsafe fn spoilt_free(self, from: usize, to: usize, end: usize) -> Option<usize> {
        // SAFETY: the caller's promise.
        unsafe {
            if self.0 & POISON != 0 {
                let last = if to == end { to - 1 } else { to };
                fill::spoilt_fill(from, last, POISON_FREE)
                    .or_else(|| (to == end).then(|| fill::spoilt_fill(last, to, POISON_END))?)
            } else if self.is_secure() {
                fill::spoilt_fill(from, to, 0)
            } else {
                None
            }
        }
    }

    /// Whether the general cache of objects of so many bytes is among those that are checked.
    pub(super) fn cover_class(self, size: usize) -> bool {
        let (mut name, mut digits) = ([0; 28], [0; 20]);
        self.cover(general_name(size, &mut name, &mut digits))
    }

    /// What free memory reads as.
    pub(super) fn free_byte(self) -> u8 {
        if self.0 & POISON != 0 { POISON_FREE } else { 0 }
    }

    /// Whether a cache of this name is among those that are checked.
    pub(super) fn cover(self, name: &str) -> bool {
        if self.is_secure() || NAMES_LEN.load(Ordering::Relaxed) == 0 {
            return self.any();
        }
        names().split(|byte| *byte == b',').any(|pattern| matches(pattern, name.as_bytes()))
    }
}

/// The name of the general cache of objects of so many bytes.
pub(super) fn general_name<'a>(size: usize, name: &'a mut [u8; 28], digits: &mut [u8; 20]) -> &'a str {
    let digits = decimal(size, digits);
    let end = GENERAL.len() + digits.len();
    name[..GENERAL.len()].copy_from_slice(GENERAL.as_bytes());
    name[GENERAL.len()..end].copy_from_slice(digits.as_bytes());
    core::str::from_utf8(&name[..end]).unwrap_or(GENERAL)
}

fn names() -> &'static [u8] {
    let (at, len) = (NAMES.load(Ordering::Relaxed), NAMES_LEN.load(Ordering::Relaxed));
    // SAFETY: a part of the environment, which stays as long as the process. A program that changes its variables
    // leaves the old text where it was.
    if len == 0 { &[] } else { unsafe { core::slice::from_raw_parts(at as *const u8, len) } }
}

/// Whether a name is the pattern, or begins with it if that ends with a star.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.strip_suffix(b"*") {
        Some(begin) => name.starts_with(begin),
        None => pattern == name,
    }
}

/// Reads what is wanted, once, before the first allocation.
pub(super) fn read() -> Options {
    let mut bits = 0;
    let said = settings::word(Setting::Secure);
    if said == Some("1") || (said.is_none() && cfg!(feature = "secure")) {
        bits |= SECURE;
    }
    if let Some(text) = settings::text(Setting::Debug) {
        bits |= letters(text);
    }
    if settings::word(Setting::Leaks) == Some("1") {
        bits |= USERS | LEAKS | 2;
    }
    CHOSEN.store(bits, Ordering::Relaxed);
    Options(bits)
}

/// One allocation in so many is to be on a page of its own: `1/N`, or N. 0: none.
pub(super) fn rate() -> usize {
    let Some(text) = settings::text(Setting::Guard) else { return 0 };
    let digits = text.strip_prefix(b"1/").unwrap_or(text);
    let rate = digits.iter().try_fold(0usize, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(usize::from(digit))
    });
    rate.filter(|rate| *rate > 0).unwrap_or_else(|| {
        sys::report(&["kmem: KMEM_GUARD is not understood: 1/N, for one allocation in N"]);
        0
    })
}

/// The bits of the letters in front of the first comma; the names after it are noted.
fn letters(text: &'static [u8]) -> u32 {
    let end = text.iter().position(|byte| *byte == b',').unwrap_or(text.len());
    let mut bits = 0;
    for letter in &text[..end] {
        match LETTERS.iter().position(|known| *known == letter.to_ascii_uppercase()) {
            Some(place) => bits |= 2 << place | 2,
            None => {
                let one = [*letter];
                let shown = core::str::from_utf8(&one).unwrap_or("?");
                sys::report(&["kmem: KMEM_DEBUG: ", shown, " is no letter of it: F, Z, P, U, T, Q, M"]);
            }
        }
    }
    if bits != 0 && bits & MIXED == 0 {
        bits |= FORMS;
    }
    if bits != 0
        && let Some(names) = text.get(end + 1..).filter(|names| !names.is_empty())
    {
        NAMES.store(names.as_ptr() as usize, Ordering::Relaxed);
        NAMES_LEN.store(names.len(), Ordering::Relaxed);
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_whole_or_by_their_beginning() {
        assert!(matches(b"dentry*", b"dentry_small") && matches(b"*", b"x") && matches(b"kmalloc-64", b"kmalloc-64"));
        assert!(!matches(b"dentry", b"dentry_small") && !matches(b"", b"x"));
    }
}
