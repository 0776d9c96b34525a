//! Numbers as text, without memory.

/// `0x` and the digits.
#[cold]
pub(crate) fn hexadecimal(number: usize, into: &mut [u8; 18]) -> &str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut at = into.len();
    let mut rest = number;
    loop {
        at -= 1;
        into[at] = DIGITS[rest & 15];
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    at -= 2;
    into[at..at + 2].copy_from_slice(b"0x");
    core::str::from_utf8(&into[at..]).unwrap_or("?")
}

/// The digits of a number.
#[cold]
pub(crate) fn decimal(number: usize, into: &mut [u8; 20]) -> &str {
    let mut at = into.len();
    let mut rest = number;
    loop {
        at -= 1;
        into[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    core::str::from_utf8(&into[at..]).unwrap_or("?")
}
