//! What `KMEM_PROFILE` says: a file, and perhaps `,rate=` and bytes, which may end in `KiB` or `MiB`.
//!
//! The value is copied, because a program may write over its environment.

use kmem_core::sync::{AtomicU8, AtomicUsize, Ordering};

/// What may be said, in words.
pub(super) const UNDERSTOOD: &str =
    "a file, or a file and ,rate= with bytes from 1 to 128MiB (as in heap.pb.gz,rate=64KiB)";
/// Bytes of a path at most.
const PATH_MAX: usize = 1024;
/// The largest rate.
const RATE_MAX: usize = 128 << 20;

// Large: see `os/bootstrap.rs`.
#[unsafe(link_section = ".sbss")]
static PATH: [AtomicU8; PATH_MAX] = [const { AtomicU8::new(0) }; PATH_MAX];
static RATE: AtomicUsize = AtomicUsize::new(0);

/// Keeps what a value says; `None` if it is not understood.
pub(super) fn parse(value: &[u8]) -> Option<usize> {
    let mut parts = value.split(|byte| *byte == b',');
    let path = parts.next().filter(|path| !path.is_empty() && path.len() < PATH_MAX)?;
    let mut rate = 0;
    for part in parts {
        rate = bytes(part.strip_prefix(b"rate=")?).filter(|rate| (1..=RATE_MAX).contains(rate))?;
    }
    for (place, byte) in PATH.iter().zip(path.iter().chain([&0])) {
        place.store(*byte, Ordering::Relaxed);
    }
    RATE.store(rate, Ordering::Relaxed);
    Some(1)
}

/// A number of bytes: digits, and perhaps a unit.
fn bytes(text: &[u8]) -> Option<usize> {
    let (digits, unit) = match text {
        [digits @ .., b'K', b'i', b'B'] => (digits, 1 << 10),
        [digits @ .., b'M', b'i', b'B'] => (digits, 1 << 20),
        digits => (digits, 1),
    };
    let number = digits.iter().try_fold(0usize, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(usize::from(digit))
    })?;
    number.checked_mul(unit)
}

/// The rate that was said; `None`: none was.
pub(crate) fn rate() -> Option<usize> {
    Some(RATE.load(Ordering::Relaxed)).filter(|rate| *rate > 0)
}

/// The bytes of the path, one after the other.
pub(crate) fn path() -> impl Iterator<Item = u8> {
    PATH.iter().map(|byte| byte.load(Ordering::Relaxed)).take_while(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn files_and_rates_are_understood_and_nothing_else() {
        assert_eq!((parse(b"/tmp/heap.pb.gz"), rate()), (Some(1), None));
        assert_eq!((parse(b"h,rate=64KiB"), rate()), (Some(1), Some(65536)));
        assert_eq!(path().collect::<Vec<_>>(), b"h");
        assert_eq!((parse(b"h,rate=1"), rate()), (Some(1), Some(1)));
        for bad in [&b""[..], b",rate=1", b"h,rate=", b"h,rate=0", b"h,rate=129MiB", b"h,rate=1k", b"h,rat=1", b"h,"] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        assert_eq!(parse(&[b'x'; PATH_MAX]), None);
    }
}
