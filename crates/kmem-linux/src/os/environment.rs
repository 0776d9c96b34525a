//! What the process was started with: its environment, and what the kernel says of it in the auxiliary vector.
//!
//! Both are found without libc's functions, because the dynamic linker allocates before libc has set itself up. They
//! stand on the initial stack one after the other, and libc's `environ` leads to the environment once it is set.
//!
//! A process that has other rights than its caller (`is_secure`) has an environment that another user wrote. It goes
//! by none of ours there: see [`settings`](super::settings).

use core::ffi::{CStr, c_char, c_ulong};

use kmem_core::sync::{AtomicU32, Ordering};

use super::libc;

/// AT_PAGESZ: bytes of a page.
pub(super) const PAGE_SIZE: usize = 6;
/// AT_RANDOM: the address of sixteen random bytes.
const RANDOM: usize = 25;
/// AT_SECURE: not 0 where the process has other rights than its caller.
const SECURE: usize = 23;

#[link(name = "c")]
unsafe extern "C" {
    static environ: *const *const c_char;
    fn getauxval(kind: c_ulong) -> c_ulong;
}

/// Whether libc has set itself up: until then its clock cannot be read.
pub(crate) fn libc_is_ready() -> bool {
    // Once it has, it has: clearenv makes the variable null again.
    if READY.load(Ordering::Relaxed) == 0 {
        // SAFETY: libc's variable; null until libc has set itself up.
        let ready = unsafe { !(&raw const environ).read().is_null() };
        READY.store(u32::from(ready), Ordering::Relaxed);
        return ready;
    }
    true
}

static READY: AtomicU32 = AtomicU32::new(0);

/// Calls `visit` with each entry, `NAME=value`. Must not run beside a `setenv`.
pub(crate) fn for_each_entry(mut visit: impl FnMut(&'static [u8])) {
    // SAFETY: libc's variable; null until libc has set itself up.
    let mut place = unsafe { (&raw const environ).read() };
    if place.is_null() {
        let stack = libc::initial_stack();
        if stack.is_null() {
            return;
        }
        // SAFETY: the stack begins with the count, as many arguments, and a null; the environment follows.
        place = unsafe { stack.add(stack.read() + 2).cast() };
    }
    // SAFETY: the environment is an array of strings that ends with a null.
    unsafe {
        while !(*place).is_null() {
            visit(CStr::from_ptr(*place).to_bytes());
            place = place.add(1);
        }
    }
}

/// Whether the process has other rights than its caller (set-user-ID, file capabilities), as the kernel decided.
pub(crate) fn is_secure() -> bool {
    auxiliary(SECURE).is_none_or(|secure| secure != 0)
}

/// Two words that the kernel chose at random for this process: the same in all of it. 0 where it says nothing.
pub(crate) fn random_words() -> [u64; 2] {
    // SAFETY: the kernel put sixteen bytes there, which stay.
    auxiliary(RANDOM)
        .filter(|bytes| *bytes != 0)
        .map_or([0; 2], |bytes| unsafe { (bytes as *const [u64; 2]).read_unaligned() })
}

/// A value of the auxiliary vector. libc keeps it, once it is set up, but writes errno for a kind that the kernel does
/// not know; so it is asked for what every kernel has. All else is looked for where the kernel put it, after the
/// environment that the program was started with: `None` also where that was made shorter since, for its end seems to
/// be the vector's.
pub(crate) fn auxiliary(kind: usize) -> Option<usize> {
    if libc_is_ready() && matches!(kind, PAGE_SIZE | RANDOM | SECURE) {
        // SAFETY: reads what libc keeps.
        return Some(unsafe { getauxval(kind as c_ulong) as usize });
    }
    let mut place = libc::initial_stack();
    if place.is_null() {
        return None;
    }
    // SAFETY: the stack begins with the count, as many arguments, and a null; the environment follows, and a null; then
    // pairs of words, of which the last is of kind 0.
    unsafe {
        place = place.add(place.read() + 2);
        while place.read() != 0 {
            place = place.add(1);
        }
        place = place.add(1);
        while place.read() != 0 {
            if place.read() == kind {
                return Some(place.add(1).read());
            }
            place = place.add(2);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auxiliary_vector_is_found() {
        const CLOCK_TICKS: usize = 17;
        assert_eq!(auxiliary(CLOCK_TICKS), (!libc::initial_stack().is_null()).then_some(100));
        assert_eq!(auxiliary(PAGE_SIZE), Some(super::super::geometry::page()));
        assert_eq!(auxiliary(usize::MAX), None);
        assert!(!is_secure() && random_words() != [0; 2]);
    }

    #[test]
    fn entries_are_those_of_the_environment() {
        let mut entries = 0;
        for_each_entry(|entry| entries += usize::from(entry.contains(&b'=')));
        assert_eq!(entries, std::env::vars_os().count());
    }
}
